"""The cluster-wide kind: the same schema as the other kind, and a selector; which selectors are accepted."""

import ssl
from copy import deepcopy
from typing import Any

import aiohttp
import pytest

from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from saffire.kube.selector import InvalidSelector, parse_selector
from testkit.manifests import CLUSTER_WIDE, VALID, cluster_source, fields, load, serve


@pytest.fixture(scope="session")
async def api(plane: ControlPlane) -> Api:
    """Give a client of an API server that has both kinds."""
    return await serve(plane, "saffire-cluster-crd")


def version(name: str) -> Manifest:
    """Return the only version of a definition."""
    (only_version,) = load(name)["spec"]["versions"]
    result: Manifest = only_version
    return result


def schema(name: str) -> Any:
    """Return the schema of a definition."""
    return deepcopy(version(name)["schema"]["openAPIV3Schema"])


def test_both_kinds_have_one_schema() -> None:
    """What both kinds have is the same to the letter, so that users learn it once."""
    own, wide = schema("crd.yaml"), schema("cluster-crd.yaml")
    spec, wide_spec = (kind_schema["properties"]["spec"] for kind_schema in (own, wide))
    assert "kubernetes.io/metadata.name" in wide_spec["properties"].pop("namespaceSelector")["description"]
    assert wide_spec["required"].pop(0) == "namespaceSelector"
    # A Secret belongs to a namespace.
    del spec["properties"]["credentials"]
    for name in ("description",):
        assert own.pop(name) != wide.pop(name)
    for kind_schema in (own, wide):
        kind_schema["properties"].pop("kind")
        for entries in ("active", "switches"):
            target = kind_schema["properties"]["status"]["properties"][entries]["items"]["properties"]["target"]
            target["properties"]["namespace"].pop("description", None)
    assert own == wide


def test_both_kinds_look_alike() -> None:
    """Columns, and everything else beside names and schema, are the same."""
    own, wide = (deepcopy(version(name)) for name in ("crd.yaml", "cluster-crd.yaml"))
    for kind_version in (own, wide):
        del kind_version["schema"]
    assert own == wide


def test_every_field_is_described() -> None:
    """`kubectl explain` has a sentence for every field."""
    described = dict(fields(schema("cluster-crd.yaml"), ""))
    del described[".metadata"]  # the API server's own
    assert not [name for name, sentence in described.items() if not sentence.endswith(".")]


@pytest.mark.api
async def test_short_name_and_columns(api: Api) -> None:
    """`kubectl get cais` shows the same columns as the other kind; `kubectl get all` leaves it out."""
    served = await api.get("/apis/saffire.fairwinds.com/v1alpha1")
    (kind,) = [resource for resource in served["resources"] if resource["name"] == "clusteralternateimagesources"]
    assert (["cais"], False, False) == (kind["shortNames"], kind["namespaced"], "categories" in kind)
    await api.apply(cluster_source("columns", VALID | {"namespaceSelector": {}}))
    headers = {
        "Accept": "application/json;as=Table;v=v1;g=meta.k8s.io",
        "Authorization": f"Bearer {api.token}",
    }
    tls = ssl.create_default_context(cafile=api.authority)
    url = f"{api.server}{CLUSTER_WIDE}/columns"
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url, ssl=tls) as response:
        table = await response.json()
    assert ["Name", "Mode", "Ready", "Active", "Stuck", "Reverted", "Last-Failover", "Age"] == [
        column["name"] for column in table["columnDefinitions"]
    ]
    await api.delete(f"{CLUSTER_WIDE}/columns")


def expression(operator: str, *values: str, key: str = "team") -> Manifest:
    """Return a selector of one expression."""
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": [*values]} if values else {})}]}


TAKEN: dict[str, Any] = {
    "empty": {},
    "labels": {"matchLabels": {"team": "shop", "example.com/stage": ""}},
    "In": expression("In", "shop", ""),
    "NotIn": expression("NotIn", "shop"),
    "Exists": expression("Exists", key="kubernetes.io/metadata.name"),
    "DoesNotExist": expression("DoesNotExist"),
}


async def create(api: Api, selector: Any) -> Manifest:
    """Ask the API server, by a dry run, to create a source with that selector."""
    wanted = VALID | {"namespaceSelector": selector}
    made: Manifest = await api.request("POST", CLUSTER_WIDE, cluster_source("wish", wanted), dryRun="All")
    return made


@pytest.mark.api
@pytest.mark.parametrize("selector", TAKEN.values(), ids=TAKEN)
async def test_selectors_that_are_taken(api: Api, selector: Any) -> None:
    """They are stored as written, with the defaults of the other kind."""
    made = await create(api, selector)
    assert (selector, "Enforce") == (made["spec"]["namespaceSelector"], made["spec"]["mode"])


AT = "spec.namespaceSelector"


@pytest.mark.api
@pytest.mark.parametrize(
    ("selector", "field", "message"),
    [
        (None, AT, "Required value"),
        ("all", AT, "must be of type object"),
        ({"matchLabels": {"team": "a b"}}, f"{AT}.matchLabels[team]", "must be what the value of a label can be"),
        ({"matchLabels": {"a b": "x"}}, f"{AT}.matchLabels", "must have keys that labels can have"),
        ({"matchLabels": {"x" * 64: "x"}}, f"{AT}.matchLabels", "must have keys that labels can have"),
        (expression("Is", "x"), f"{AT}.matchExpressions[0].operator", 'supported values: "In", "NotIn"'),
        (expression("In"), f"{AT}.matchExpressions[0]", "In and NotIn want values"),
        (expression("Exists", "x"), f"{AT}.matchExpressions[0]", "Exists and DoesNotExist take none"),
        (expression("In", "-"), f"{AT}.matchExpressions[0].values[0]", "must be what the value of a label can be"),
        (expression("Exists", key="/team"), f"{AT}.matchExpressions[0].key", "must be a key that a label can have"),
        ({"matchExpressions": [{"operator": "Exists"}]}, f"{AT}.matchExpressions[0].key", "Required value"),
        ({"matchLabels": {f"a{n}": "" for n in range(33)}}, f"{AT}.matchLabels", "must have at most 32 items"),
    ],
)
async def test_selectors_that_are_refused(api: Api, selector: Any, field: str, message: str) -> None:
    """`kubectl apply` names the field. What the API server refuses, Saffire's parser refuses too."""
    with pytest.raises(ApiError) as refused:
        await create(api, selector)
    causes = {cause["field"]: cause["message"] for cause in refused.value.body["details"]["causes"]}
    assert message in causes[field]
    if message != "must have at most 32 items":
        with pytest.raises(InvalidSelector):
            parse_selector({"spec": {"namespaceSelector": selector}}, "spec", "namespaceSelector")


@pytest.mark.api
async def test_it_has_no_credentials(api: Api) -> None:
    """Only a namespace's own source says which of its Secrets is sent where."""
    wanted = VALID | {"namespaceSelector": {}, "credentials": [{"registry": "ghcr.io", "secretName": "pull"}]}
    manifest = cluster_source("wish", wanted)
    with pytest.raises(ApiError, match=r'unknown field \\"spec.credentials\\"|unknown field'):
        await api.request("POST", CLUSTER_WIDE, manifest, dryRun="All", fieldValidation="Strict")


@pytest.mark.api
async def test_the_largest_selector_is_affordable(api: Api) -> None:
    """A selector at all its limits is validated within the API server's budget."""
    labels = {f"{'a' * 200}.example/{'b' * 60}{n}": "x" * 63 for n in range(32)}
    expressions = [{"key": key, "operator": "In", "values": ["y" * 63] * 64} for key in labels]
    made = await create(api, {"matchLabels": labels, "matchExpressions": expressions})
    assert labels == made["spec"]["namespaceSelector"]["matchLabels"]
