"""What a source declares, and what is wrong with one that cannot be used."""

from typing import Any

import pytest
from hypothesis import given

from saffire.sources.spec import Mode, Strategy, Verification, faults_of, source_of
from testkit.builders import cluster_source, cluster_source_manifest, declared, source, source_manifest
from testkit.strategies import json_values, paths_into, replaced

QUOTE_OFF = 'put "Off" in quotes: YAML reads a bare Off as false'
EXAMPLE = source_manifest(mode="Observe", strategy="Pods", verification="Off")
SETS = "spec.imageSourceReplacements"


def test_a_source_is_read_with_its_defaults() -> None:
    """Mode, strategy and verification may be left out."""
    parsed = source(["nginx", "q.io/nginx"])
    assert (Mode.ENFORCE, Strategy.CONTROLLER, Verification.BEST_EFFORT) == (
        parsed.mode,
        parsed.strategy,
        parsed.verification,
    )
    assert ("shop", None) == (parsed.name, parsed.fail_back_after)
    written = [(entry.written, entry.key, entry.is_prefix) for entry in parsed.sets[0]]
    assert [("nginx", "docker.io/library/nginx", False), ("q.io/nginx", "q.io/nginx", False)] == written


def test_a_source_is_read_with_its_choices() -> None:
    """Mode, strategy and verification are those of the spec."""
    parsed = declared(EXAMPLE)
    assert (Mode.OBSERVE, Strategy.PODS, Verification.OFF) == (parsed.mode, parsed.strategy, parsed.verification)


@pytest.mark.parametrize(
    ("expected", "manifest"),
    [
        pytest.param([f"{SETS}: wants 1 to 64 entries"], {"spec": {}}, id="no-set"),
        pytest.param([f"{SETS}: wants 1 to 64 entries"], source_manifest(*[["a.io/a", "b.io/b"]] * 65), id="65-sets"),
        pytest.param([f"{SETS}: not a list of objects"], {"spec": {"imageSourceReplacements": "nginx"}}, id="no-list"),
        pytest.param(
            [f"{SETS}[0].equivalentRepositories: wants 2 to 32 entries"], source_manifest(["nginx"]), id="one-entry"
        ),
        pytest.param(
            [f"{SETS}[1].equivalentRepositories: wants 2 to 32 entries"],
            source_manifest(["a.io/a", "b.io/b"], [f"a.io/{number}" for number in range(33)]),
            id="33-entries",
        ),
        pytest.param(
            [f"{SETS}[0].equivalentRepositories: names a repository twice"],
            source_manifest(["nginx", "docker.io/library/nginx"]),
            id="twice-in-two-spellings",
        ),
        pytest.param(
            [f"{SETS}[0].equivalentRepositories: names a repository twice"],
            source_manifest(["docker.io/*", "index.docker.io/*"]),
            id="one-registry-twice",
        ),
        pytest.param(
            [f"{SETS}[0].equivalentRepositories: names a repository twice"],
            source_manifest(["quay.io/acme/web", "QUAY.io:443/acme/web"]),
            id="one-registry-in-two-spellings",
        ),
        pytest.param(
            [f"{SETS}[0].equivalentRepositories: either all entries end in /* or none"],
            source_manifest(["a.io/*", "b.io/b"]),
            id="prefix-and-repository",
        ),
        pytest.param(
            [f"{SETS}[0].equivalentRepositories[1]: a repository has no tag and no digest"],
            source_manifest(["a.io/a", "b.io/b:1", "c.io/c"]),
            id="tag",
        ),
        pytest.param(["spec.mode: wants one of Enforce, Observe, Paused"], source_manifest(mode="enforce"), id="mode"),
        pytest.param(["spec.strategy: wants one of Controller, Pods"], source_manifest(strategy="Job"), id="strategy"),
        pytest.param(
            ["spec.failBack.after: wants a length of time such as 90s, 30m or 1h30m"],
            source_manifest(failBack={"policy": "Automatic", "after": "soon"}),
            id="fail-back",
        ),
        pytest.param(
            [f"spec.verification: wants one of Strict, BestEffort, Off; {QUOTE_OFF}"],
            source_manifest(verification=False),
            id="yaml-reads-off",
        ),
        pytest.param(["spec.verification: not a string"], source_manifest(verification=True), id="yaml-reads-on"),
        pytest.param(["spec.mode: not a string"], source_manifest(mode=False), id="off-is-no-mode"),
    ],
)
def test_a_fault_is_named_with_its_path(expected: list[str], manifest: dict[str, Any]) -> None:
    """The path leads the author of the source to the field."""
    assert (expected, None) == (list(faults_of(manifest)), source_of(manifest))


@pytest.mark.parametrize(
    "entry",
    [
        *("", "*", "/*", "a.io/a/", "https://a.io/a", "a.io/A", "a.io/a*", "a.io/*/a", "a.io/a/**", "a.io/a:1/*"),
        *("a.io/a /*", "a.io/a\n", "a.io/a/*\n", "a.io/../b", "a.io/./*", "*.io/a", "a.io/" + "p" * 256),
    ],
)
def test_an_entry_is_a_repository_or_a_prefix(entry: str) -> None:
    """Anything else is refused rather than guessed at."""
    faults = faults_of(source_manifest(["b.io/b", entry]))
    assert any(fault.startswith(f"{SETS}[0].equivalentRepositories[1]: ") for fault in faults)


def test_all_faults_are_reported_at_once() -> None:
    """The status names every fault at once, a wrong type included."""
    manifest = source_manifest(["UPPER", "a.io/a:1"], ["b.io/b"], mode="Off", strategy="?", verification=1)
    faulty_paths = [fault.partition(":")[0] for fault in faults_of(manifest)]
    entries = [f"{SETS}[0].equivalentRepositories[0]", f"{SETS}[0].equivalentRepositories[1]"]
    fields = ["spec.mode", "spec.strategy", "spec.verification"]
    assert [*entries, f"{SETS}[1].equivalentRepositories", *fields] == faulty_paths


@given(paths_into(EXAMPLE), json_values())
def test_any_manifest_is_a_source_or_has_faults(path: tuple[Any, ...], value: Any) -> None:
    """An older schema may have let anything pass; to read it is no error."""
    manifest = replaced(EXAMPLE, path, value)
    if isinstance(manifest, dict):
        assert (source_of(manifest) is None) == bool(faults_of(manifest))


# Cluster-wide sources.


def test_a_cluster_wide_source_has_a_selector_and_no_credentials() -> None:
    """Only a namespace decides where its Secrets go; an older schema may have let `credentials` pass."""
    parsed = cluster_source(
        namespaceSelector={"matchLabels": {"team": "shop"}},
        credentials=[{"registry": "ghcr.io", "secretName": "pull"}],
    )
    assert parsed.selector is not None
    assert (True, False) == (parsed.selector.matches({"team": "shop"}), parsed.selector.matches({}))
    assert ((), "ClusterAlternateImageSource/shop") == (parsed.credentials, parsed.name)


def test_a_selector_in_a_namespace_s_own_source_is_ignored() -> None:
    """The source applies to its own namespace, whatever its selector says."""
    assert source(namespaceSelector={"matchLabels": {"team": "shop"}}).selector is None


def test_all_faults_of_a_cluster_wide_source_are_reported() -> None:
    """The faults of the selector come with the others."""
    selector = {"matchLabels": {"team": "-"}}
    faults = faults_of(cluster_source_manifest(["quay.io/a"], mode="Bold", namespaceSelector=selector))
    texts = ("equivalentRepositories: wants 2", "spec.mode: wants one of", "spec.namespaceSelector.matchLabels.team: ")
    assert all(any(text in fault for fault in faults) for text in texts)
    assert 3 == len(faults)
