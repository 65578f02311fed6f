"""The examples, and those in the reference: a real API server accepts each, and they fit together."""

import json
import re
from typing import Any

import pytest
import yaml

from playground.cluster.api import Api, Manifest
from playground.cluster.controlplane import ControlPlane
from saffire.reconcile.request import PodFailed
from saffire.triage import triage
from testkit import ROOT
from testkit.manifests import CRDS, create_namespace, fields, load, serve

EXAMPLES = ROOT / "examples"
REFERENCE = ROOT / "docs" / "configuration.md"


def read(name: str) -> list[Manifest]:
    """Return the objects of an example."""
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


@pytest.fixture(scope="session")
async def api(plane: ControlPlane) -> Api:
    """Give a client of an API server that has AlternateImageSource."""
    return await serve(plane, "saffire-examples")


@pytest.fixture(scope="session")
def event() -> dict[str, Any]:
    """Give the recorded event: the data of a CloudEvent."""
    data: dict[str, Any] = json.loads((EXAMPLES / "event.json").read_text())
    return data


@pytest.mark.api
@pytest.mark.parametrize("example", sorted(file.name for file in EXAMPLES.glob("*.yaml")))
async def test_applied(api: Api, example: str) -> None:
    """`kubectl apply` accepts the example unchanged, once its namespace exists."""
    for manifest in read(example):
        if namespace := manifest["metadata"].get("namespace"):
            await create_namespace(api, namespace)
        applied = await api.apply(manifest)
        assert manifest["metadata"].items() <= applied["metadata"].items()


def test_event_is_about_the_failing_deployment(event: dict[str, Any]) -> None:
    """The recorded event is about a failed pull of a pod of the example Deployment."""
    _, source, deployment = read("failing-deployment.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    repository, _ = container["image"].rsplit(":", 1)
    assert deployment["metadata"]["namespace"] == event["involvedObject"]["namespace"]
    assert event["involvedObject"]["name"].startswith(f"{deployment['metadata']['name']}-")
    assert f"spec.containers{{{container['name']}}}" == event["involvedObject"]["fieldPath"]
    assert f'Failed to pull image "{container["image"]}"' in event["message"]
    assert repository in source["spec"]["imageSourceReplacements"][0]["equivalentRepositories"]


def test_event_is_worth_a_look(event: dict[str, Any]) -> None:
    """The function reads the pod that the recorded event names."""
    pod_failed = triage("dev.knative.apiserver.resource.add", event)
    assert isinstance(pod_failed, PodFailed)
    assert event["involvedObject"]["name"] == pod_failed.pod


@pytest.mark.api
async def test_event_is_an_event(api: Api, event: dict[str, Any]) -> None:
    """The API server accepts every field of the recorded event as one of its own Events."""
    namespace = event["metadata"]["namespace"]
    await create_namespace(api, namespace)
    given = {name: event["metadata"][name] for name in ("name", "namespace")}
    stored = await api.post(f"/api/v1/namespaces/{namespace}/events", {**event, "metadata": given})
    assert event | {"metadata": None} == stored | {"metadata": None}


def documented() -> list[Manifest]:
    """Return the manifests that the reference of AlternateImageSource shows."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", REFERENCE.read_text(), re.MULTILINE | re.DOTALL)
    manifests = [manifest for block in blocks for manifest in yaml.safe_load_all(block)]
    return [manifest for manifest in manifests if manifest["kind"].endswith("AlternateImageSource")]


@pytest.mark.api
@pytest.mark.parametrize(
    "manifest", [pytest.param(example, id=example["metadata"]["name"]) for example in documented()]
)
async def test_reference_shows_what_is_taken(api: Api, manifest: Manifest) -> None:
    """A manifest copied from the reference is accepted unchanged."""
    if namespace := manifest["metadata"].get("namespace"):
        await create_namespace(api, namespace)
    applied = await api.apply(manifest)
    assert manifest["spec"].items() <= applied["spec"].items()


def test_reference_is_complete() -> None:
    """The reference has a row for every field of the spec and for every first-level field of the status."""
    status, leaves = set(), set()
    for crd in CRDS:
        (version,) = load(crd)["spec"]["versions"]
        properties = version["schema"]["openAPIV3Schema"]["properties"]
        status |= {f"status.{name}" for name in properties["status"]["properties"]}
        leaves |= {name for name, _ in fields(properties["spec"], "spec") if not name.endswith("[]")}
    rows = set(re.findall(r"^\| `((?:spec|status)[^`]+)`", REFERENCE.read_text(), re.MULTILINE))
    assert leaves | status == rows
