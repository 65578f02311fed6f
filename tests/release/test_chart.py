"""The Helm chart, linted and rendered by Helm: without values it installs what `kubectl apply -k` does."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from release import ROOT
from release.chart import WAYS, files, package
from release.commands import BuildError, run
from release.manifests import go, render

IMAGE = "ghcr.io/acme/saffire"
DIGEST = f"sha256:{'0' * 64}"
HELM = ROOT / "release/helm"
KUBERNETES = ("--kube-version", "1.30.0")  # as built here, Helm takes the cluster for one of 1.20

Objects = dict[tuple[str, str], dict[str, Any]]


def objects(text: str) -> Objects:
    """Return manifests by kind and name."""
    return {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(text) if item}


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    """Give the manifests of each way. Without Go to build kustomize, skip the test, or fail it under `CI=true`."""
    try:
        return {way: render(ROOT / folder, IMAGE, DIGEST) for way, folder in WAYS.items()}
    except BuildError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def chart(rendered: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the packaged chart."""
    path = tmp_path_factory.mktemp("chart") / "saffire.tgz"
    path.write_bytes(package(files(rendered, f"{IMAGE}@{DIGEST}")))
    return path


def helm(*arguments: str | Path) -> str:
    """Run Helm, built at the version that its go.mod pins; return what it prints, or raise `BuildError`."""
    return run(go(), "tool", "helm", *arguments, cwd=HELM)


def installed(chart: Path, *options: str, namespace: str = "saffire") -> Objects:
    """Return what an installation of the chart creates, without its CRDs."""
    return objects(helm("template", "saffire", chart, *KUBERNETES, "--namespace", namespace, *options))


@pytest.mark.parametrize("way", WAYS)
def test_without_values_it_installs_what_kustomize_renders(chart: Path, rendered: dict[str, str], way: str) -> None:
    """All objects are the same, field by field; Helm makes the namespace, and installs the CRDs from their folder."""
    expected = objects(rendered[way])
    apart = {key for key in expected if key[0] in {"Namespace", "CustomResourceDefinition"}}
    assert {key: item for key, item in expected.items() if key not in apart} == installed(chart, "--set", f"way={way}")
    crds = objects(helm("show", "crds", chart))
    assert {key: expected[key] for key in apart if key[0] == "CustomResourceDefinition"} == crds


def strings(value: object) -> Iterator[str]:
    """Yield every string in a manifest that is no key."""
    match value:
        case dict():
            for inner in value.values():
                yield from strings(inner)
        case list():
            for inner in value:
                yield from strings(inner)
        case str():
            yield value


@pytest.mark.parametrize("way", WAYS)
def test_it_goes_into_any_namespace(chart: Path, way: str) -> None:
    """Accounts, the admission policy, the Lease and the NetworkPolicy follow."""
    made = installed(chart, "--set", f"way={way}", namespace="registries")
    namespaces = {item["metadata"].get("namespace", "registries") for item in made.values()}
    assert {"registries"} == namespaces
    (binding,) = made["ClusterRoleBinding", "saffire"]["subjects"]
    assert "registries" == binding["namespace"]
    texts = set(strings(list(made.values())))
    assert any("system:serviceaccount:registries:saffire" in text for text in texts)
    left = {text for text in texts if "serviceaccount:saffire" in text or "saffire/saffire" in text}
    assert set() == left
    if way == "eventing-only":
        (rule,) = made["NetworkPolicy", "saffire"]["spec"]["ingress"]
        (values,) = rule["from"][0]["namespaceSelector"]["matchExpressions"]
        assert ["knative-eventing", "registries"] == values["values"]


def test_values_reach_the_pods(chart: Path, tmp_path: Path) -> None:
    """Settings, resources, pull secrets, and where pods run."""
    values: dict[str, Any] = {
        "image": "quay.io/acme/saffire:v2",
        "imagePullSecrets": [{"name": "quay"}],
        "settings": {"SAFFIRE_SWEEP_INTERVAL_SECONDS": "30", "HTTPS_PROXY": 'http://proxy:3128/{{ "}}": x'},
        "resources": {"requests": {"cpu": "1"}},
        "pod": {"priorityClassName": "system-cluster-critical", "tolerations": [{"operator": "Exists"}]},
    }
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    made = installed(chart, "--values", str(file))
    spec = made["Deployment", "saffire"]["spec"]["template"]["spec"]
    function, source = sorted(spec["containers"], key=lambda container: container["name"] == "eventsource")
    assert {"quay.io/acme/saffire:v2"} == {function["image"], source["image"]}
    assert values["settings"].items() <= {entry["name"]: entry["value"] for entry in function["env"]}.items()
    assert "1" == function["resources"]["requests"]["cpu"] != source["resources"]["requests"]["cpu"]
    assert values["pod"].items() <= spec.items()
    assert [{"name": "quay"}] == made["ServiceAccount", "saffire"]["imagePullSecrets"]


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("way=serving", "way"),
        ("settings.SAFFIRE_SWEEP_INTERVAL_SECONDS=30", "string"),  # --set makes it a number
        ("pod.containers=", "containers"),
        ("replicas=3", "replicas"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(chart: Path, option: str, named: str) -> None:
    """Helm says which value is wrong before it sends anything."""
    with pytest.raises(BuildError, match=named):
        installed(chart, "--set", option)


def test_helm_finds_no_fault(chart: Path) -> None:
    """`helm lint` warns of nothing that a user could meet."""
    assert "0 chart(s) failed" in helm("lint", "--strict", *KUBERNETES, chart)


def test_a_manifest_that_helm_would_read_is_refused() -> None:
    """Two braces in a manifest would be evaluated."""
    manifest = yaml.safe_dump({"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "{{ .Values.image }}"}})
    with pytest.raises(BuildError, match=r"has \{\{ in it"):
        files({"standalone": manifest}, IMAGE)


def test_two_packages_of_a_chart_are_one(rendered: dict[str, str]) -> None:
    """Its checksum can be compared."""
    assert package(files(rendered, IMAGE)) == package(files(rendered, IMAGE))
