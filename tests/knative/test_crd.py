"""What users write: AlternateImageSources that are accepted, those that are refused and why, and the defaults."""

import json

import pytest

from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from testkit import RECORDINGS
from testkit.manifests import VALID, fields, load, path, serve, source, spec

VECTORS = json.loads((RECORDINGS / "reference-vectors.json").read_text())
NAMESPACE = "saffire-crd"
MAX_LENGTH = 255


@pytest.fixture(scope="session")
async def api(plane: ControlPlane) -> Api:
    """Give a client of an API server that has AlternateImageSource."""
    return await serve(plane, NAMESPACE)


async def create(api: Api, wanted: Manifest) -> Manifest:
    """Ask the API server, by a dry run, to create a source with that spec."""
    made: Manifest = await api.request("POST", path(NAMESPACE), source(NAMESPACE, "wish", wanted), dryRun="All")
    return made


async def refusals(api: Api, wanted: Manifest) -> dict[str, str]:
    """Return the message of each field for which the API server refuses a spec."""
    with pytest.raises(ApiError) as refused:
        await create(api, wanted)
    assert 422 == refused.value.status
    return {cause["field"]: cause["message"] for cause in refused.value.body["details"]["causes"]}


@pytest.mark.api
@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(spec("nginx", "quay.io/acme/nginx"), id="short name"),
        pytest.param(spec("localhost:5000/team/app", "[::1]:5000/app", "10.0.0.1:5000/app"), id="ports"),
        pytest.param(spec("quay.io/acme/*", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mirror/*"), id="prefixes"),
        pytest.param(
            spec("docker.io/*", "docker.io/library/*", "index.docker.io/acme/*"), id="prefixes in one registry"
        ),
        pytest.param(spec("a/b", verification="Off", mode="Observe", strategy="Pods") | VALID, id="choices"),
        pytest.param(VALID | {"failBack": {"policy": "Automatic", "after": "1h30m"}}, id="fail back"),
        pytest.param(
            VALID | {"credentials": [{"registry": "ghcr.io/acme", "secretName": "pull.v2"}]}, id="credentials"
        ),
    ],
)
async def test_accepted(api: Api, wanted: Manifest) -> None:
    """What the reference shows as valid is stored as written."""
    made = await create(api, wanted)
    assert wanted.items() <= made["spec"].items()


IN_SET = "spec.imageSourceReplacements[0].equivalentRepositories"
FIRST = f"{IN_SET}[0]"
OTHER = "quay.io/other"


@pytest.mark.api
@pytest.mark.parametrize(
    ("wanted", "field", "message"),
    [
        ({}, "spec.imageSourceReplacements", "Required value"),
        ({"imageSourceReplacements": []}, "spec.imageSourceReplacements", "should have at least 1 items"),
        ({"imageSourceReplacements": [{}]}, IN_SET, "Required value"),
        (spec("quay.io/a"), IN_SET, "should have at least 2 items"),
        (spec(*(f"quay.io/a/{n}" for n in range(33))), IN_SET, "must have at most 32 items"),
        (spec("quay.io/a:v1", OTHER), FIRST, "quay.io/a:v1 must not carry a tag"),
        (spec("localhost:5000/a:v1", OTHER), FIRST, "must not carry a tag"),
        (spec("localhost:5000", OTHER), FIRST, "must not carry a tag"),
        (spec("nginx@sha256:" + "0" * 64, OTHER), FIRST, "must not carry a digest"),
        (spec("https://quay.io/a", OTHER), FIRST, "https://quay.io/a must not have a scheme: write quay.io/acme/web"),
        (spec("quay.io/a b", OTHER), FIRST, "must not contain whitespace"),
        (spec("quay.io/a\n", OTHER), FIRST, "must not contain whitespace"),
        (spec("quay.io/Acme/web", OTHER), FIRST, "must be lower-case, all but the registry"),
        (spec("NGINX", OTHER), FIRST, "must be lower-case"),
        (spec("quay.io/acme/", OTHER), FIRST, "must not start with /, end with / or contain //"),
        (spec("quay.io//acme", OTHER), FIRST, "must not start with /, end with / or contain //"),
        (spec("quay.io/-acme", OTHER), FIRST, "is not a repository such as quay.io/acme/web"),
        (spec("*", OTHER), FIRST, "may have * only as its whole last part"),
        (spec("quay.io/acme*", OTHER), FIRST, "may have * only as its whole last part"),
        (spec("quay.io/*/web", OTHER), FIRST, "may have * only as its whole last part"),
        (spec("", OTHER), FIRST, "must not be empty"),
        (spec("quay.io/" + "a" * 250, OTHER), FIRST, "may not be more than 255"),
        (spec("quay.io/a/*", OTHER), IN_SET, "either every entry ends in /* or none does"),
        (spec("quay.io/a", "quay.io/a"), IN_SET, "the same repository is named twice"),
        (spec("nginx", "docker.io/library/nginx"), IN_SET, "nginx is docker.io/library/nginx"),
        (spec("index.docker.io/nginx", "library/nginx"), IN_SET, "the same repository is named twice"),
        (spec("acme/*", "docker.io/acme/*"), IN_SET, "the same repository is named twice"),
        (VALID | {"mode": "Dry"}, "spec.mode", 'supported values: "Enforce", "Observe", "Paused"'),
        (VALID | {"strategy": "Nodes"}, "spec.strategy", 'supported values: "Controller", "Pods"'),
        (VALID | {"verification": "No"}, "spec.verification", 'supported values: "Strict", "BestEffort", "Off"'),
        # YAML reads a bare Off as false. The API server checks types before any rule of the CRD, so its own message is
        # the one that kubectl shows. It has "Off" in quotes, and `kubectl explain` says why.
        (
            VALID | {"verification": False},
            "spec.verification",
            'Unsupported value: false: supported values: "Strict", ',
        ),
        (VALID | {"failBack": {"after": "30m"}}, "spec.failBack", "after needs policy: Automatic"),
        (
            VALID | {"failBack": {"policy": "Automatic", "after": "3d"}},
            "spec.failBack.after",
            "must be a length of time such as 90s, 30m or 1h30m",
        ),
        (
            VALID | {"failBack": {"policy": "Automatic", "after": "0m"}},
            "spec.failBack.after",
            "must be a length of time",
        ),
        (
            VALID | {"credentials": [{"registry": "ghcr.io", "secretName": name} for name in "ab"]},
            "spec.credentials[1]",
            "Duplicate value",
        ),
        (
            VALID | {"credentials": [{"registry": "ghcr.io", "secretName": "Pull_Secret"}]},
            "spec.credentials[0].secretName",
            "must be the name of a Secret",
        ),
        (
            VALID | {"credentials": [{"registry": "https://ghcr.io", "secretName": "pull"}]},
            "spec.credentials[0].registry",
            "must be a registry such as ghcr.io",
        ),
    ],
)
async def test_refused(api: Api, wanted: Manifest, field: str, message: str) -> None:
    """`kubectl apply` refuses a mistake at its field, with a message that says what to write."""
    refused = await refusals(api, wanted)
    assert message in refused[field]
    assert field == next(iter(refused))


def is_repository(vector: dict[str, str]) -> bool:
    """Say whether a vector of distribution/reference is a repository alone."""
    # 64 hexadecimal digits are an image's identity only to a runtime; as a repository they are well-formed.
    identity = "64-byte hexadecimal" in vector.get("error", "")
    return identity or not any(vector.get(part) for part in ("error", "tag", "digest"))


@pytest.mark.api
async def test_grammar_is_that_of_references(api: Api) -> None:
    """Of the recorded references, repositories alone are accepted, and all others are refused."""
    vectors = [vector for vector in VECTORS if 1 <= len(vector["input"]) <= MAX_LENGTH]
    sets = [[vector["input"] for vector in vectors[start : start + 30]] for start in range(0, len(vectors), 30)]
    refusals_by_path = await refusals(
        api, {"imageSourceReplacements": [{"equivalentRepositories": batch} for batch in sets]}
    )
    refused = {
        entry
        for n, batch in enumerate(sets)
        for m, entry in enumerate(batch)
        if f"spec.imageSourceReplacements[{n}].equivalentRepositories[{m}]" in refusals_by_path
    }
    assert {vector["input"] for vector in vectors if not is_repository(vector)} == refused


def longest(number: int, ending: str) -> str:
    """Return an entry of the greatest allowed length."""
    return f"{number}.example/".ljust(MAX_LENGTH - len(ending), "a") + ending


@pytest.mark.api
@pytest.mark.parametrize("ending", ["a", "/*"])
async def test_largest_spec_is_affordable(api: Api, ending: str) -> None:
    """A spec at all its limits is validated within the API server's budget."""
    entries = [longest(number, ending) for number in range(32)]
    wanted = {"imageSourceReplacements": [{"equivalentRepositories": entries}] * 64}
    made = await create(api, wanted)
    assert wanted["imageSourceReplacements"] == made["spec"]["imageSourceReplacements"]


@pytest.mark.api
async def test_defaults(api: Api) -> None:
    """What a user leaves out is filled in, so that it can be seen in the object."""
    made = await create(api, VALID)
    expected = {
        **VALID,
        "mode": "Enforce",
        "trigger": "Outage",
        "strategy": "Controller",
        "verification": "BestEffort",
        "allowDifferentDigest": False,
        "failBack": {"policy": "Never"},
    }
    assert expected == made["spec"]


def test_every_field_is_described() -> None:
    """`kubectl explain` has a sentence for every field."""
    (version,) = load("crd.yaml")["spec"]["versions"]
    described = dict(fields(version["schema"]["openAPIV3Schema"], ""))
    del described[".metadata"]  # the API server's own
    assert not [name for name, sentence in described.items() if not sentence.endswith(".")]
