"""The examples: a real API server takes each, and they belong together."""

import json
from typing import Any

import pytest
import yaml
from manifests import ROOT, create_namespace, serve

from playground.api import Api, Manifest
from playground.controlplane import ControlPlane
from saffire.triage import Hint, triage

EXAMPLES = ROOT / "examples"


def read(name: str) -> list[Manifest]:
    """Return the objects of an example."""
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


@pytest.fixture(scope="session")
async def api(plane: ControlPlane) -> Api:
    """Give a client of an API server that knows AlternateImageSource."""
    return await serve(plane, "saffire-examples")


@pytest.fixture(scope="session")
def event() -> dict[str, Any]:
    """Give the recorded event: the data of a CloudEvent."""
    data: dict[str, Any] = json.loads((EXAMPLES / "event.json").read_text())
    return data


@pytest.mark.api
@pytest.mark.parametrize("example", sorted(file.name for file in EXAMPLES.glob("*.yaml")))
async def test_applied(api: Api, example: str) -> None:
    """`kubectl apply` takes the example as it is, once its namespace exists."""
    for manifest in read(example):
        if namespace := manifest["metadata"].get("namespace"):
            await create_namespace(api, namespace)
        applied = await api.apply(manifest)
        assert manifest.get("spec", {}).items() <= applied.get("spec", {}).items() or manifest["kind"] == "Deployment"


def test_event_is_about_the_failing_deployment(event: dict[str, Any]) -> None:
    """The recorded event tells of a pull that fails for a pod of the example Deployment."""
    _, source, deployment = read("failing-deployment.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    repository, _ = container["image"].rsplit(":", 1)
    assert event["involvedObject"]["namespace"] == deployment["metadata"]["namespace"]
    assert event["involvedObject"]["name"].startswith(f"{deployment['metadata']['name']}-")
    assert event["involvedObject"]["fieldPath"] == f"spec.containers{{{container['name']}}}"
    assert f'Failed to pull image "{container["image"]}"' in event["message"]
    assert repository in source["spec"]["imageSourceReplacements"][0]["equivalentRepositories"]


def test_event_is_worth_a_look(event: dict[str, Any]) -> None:
    """The function looks at the pod that the recorded event names."""
    hint = triage("dev.knative.apiserver.resource.add", event)
    assert isinstance(hint, Hint)
    assert hint.pod == event["involvedObject"]["name"]


@pytest.mark.api
async def test_event_is_an_event(api: Api, event: dict[str, Any]) -> None:
    """The API server takes the recorded event for an Event of its own, to the last field."""
    namespace = event["metadata"]["namespace"]
    await create_namespace(api, namespace)
    given = {name: event["metadata"][name] for name in ("name", "namespace")}
    stored = await api.post(f"/api/v1/namespaces/{namespace}/events", {**event, "metadata": given})
    assert event | {"metadata": None} == stored | {"metadata": None}
