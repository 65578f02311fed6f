"""The overlays of deploy/: made of the files of knative/, accepted by Knative's own code and by a real API server."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from playground.cluster.api import ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from saffire.function import METRICS_PATH
from saffire.triage import Ignored, triage
from testkit import ROOT
from testkit.manifests import FOLDER
from tests.knative.conftest import Check

DEPLOY = ROOT / "deploy"
OVERLAYS = ("broker", "eventing-only", "standalone")
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path

pytestmark = pytest.mark.knative


def render(check: Check, folder: Path) -> dict[tuple[str, str], Manifest]:
    """Return the objects that `kubectl apply -k` applies, by kind and name."""
    done = check("render", folder)
    assert not done.stderr
    manifests = list(yaml.safe_load_all(done.stdout))
    objects = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}
    assert len(manifests) == len(objects)
    return objects


def pod_of(objects: dict[tuple[str, str], Manifest]) -> Manifest:
    """Return a pod of the Deployment."""
    template = objects["Deployment", "saffire"]["spec"]["template"]
    metadata = {**template["metadata"], "name": "saffire", "namespace": "saffire"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def containers(pod: Manifest) -> dict[str, Any]:
    """Return the containers of a pod by name."""
    return {container["name"]: container for container in pod["spec"]["containers"]}


async def dry_run(plane: ControlPlane, manifest: Manifest) -> Manifest:
    """Apply an object by a dry run."""
    path = await plane.admin.path(manifest)
    applied: Manifest = await plane.admin.patch(
        path, manifest, "apply", fieldManager="test", force="true", dryRun="All"
    )
    return applied


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_keeps_what_holds_the_function(check: Check, overlay: str) -> None:
    """CRDs, roles, accounts and the admission policy are those of knative/, unchanged."""
    base, made = render(check, FOLDER), render(check, DEPLOY / overlay)
    kept = {
        key: manifest
        for key, manifest in base.items()
        if "knative.dev" not in manifest["apiVersion"] and key[0] != "NetworkPolicy"
    }
    assert kept.items() <= made.items()


@pytest.mark.parametrize("overlay", ["broker", "eventing-only"])
def test_knative_takes_an_overlay(check: Check, tmp_path: Path, overlay: str) -> None:
    """Knative's own types decode its objects without an unknown field, and its validation finds no fault."""
    files = []
    for (kind, name), manifest in render(check, DEPLOY / overlay).items():
        if "knative.dev" in manifest["apiVersion"]:
            files.append(tmp_path / f"{kind}-{name}.yaml")
            files[-1].write_text(yaml.safe_dump(manifest))
    result = check(*files)
    assert (0, "") == (result.returncode, result.stderr)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_that_is_named_exists(check: Check, overlay: str) -> None:
    """The sinks of sources, Triggers and dead letters are objects of the overlay."""
    objects = render(check, DEPLOY / overlay)
    named = list(references(list(objects.values())))
    assert [] == [
        ref for ref in named if objects.get((ref["kind"], ref["name"]), {}).get("apiVersion") != ref["apiVersion"]
    ]
    assert bool(named) == (overlay != "standalone")


def references(value: Any) -> Any:
    """Yield each `ref` in manifests."""
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key == "ref" and isinstance(child, dict) and "kind" in child:
            yield child
        elif key != "openAPIV3Schema":
            yield from references(child)


def test_the_trigger_lets_through_what_the_function_reads(check: Check) -> None:
    """A type that the Trigger names is not ignored for its type, and one that the function ignores is not named."""
    (condition,) = render(check, DEPLOY / "broker")["Trigger", "saffire"]["spec"]["filters"]
    types = {alternative["exact"]["type"] for alternative in condition["any"]}
    resource = "dev.knative.apiserver.resource."
    known = {"dev.knative.sources.ping", *(f"{resource}{change}" for change in ("add", "update", "delete"))}
    source = {
        "apiVersion": "saffire.fairwinds.com/v1alpha1",
        "kind": "AlternateImageSource",
        "metadata": {"name": "shop", "namespace": "shop"},
    }
    assert {ce_type for ce_type in known if not isinstance(triage(ce_type, source), Ignored)} == types


@pytest.mark.parametrize("overlay", ["eventing-only", "standalone"])
def test_the_deployment_runs_the_container_of_the_knative_service(check: Check, overlay: str) -> None:
    """Image, settings, limits and security are written once; a plain Deployment only names its port."""
    service = render(check, FOLDER)["Service", "saffire"]["spec"]["template"]["spec"]
    pod = pod_of(render(check, DEPLOY / overlay))
    function = containers(pod)["saffire"]
    (port,) = function.pop("ports")
    assert 8080 == port["containerPort"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert port["name"] == function[probe]["httpGet"].pop("port")
    assert service["containers"] == [function]
    assert service["serviceAccountName"] == pod["spec"]["serviceAccountName"]


@pytest.mark.parametrize("overlay", ["eventing-only", "standalone"])
def test_a_drain_leaves_one_pod(check: Check, overlay: str) -> None:
    """Of the Deployment's two pods, one is evicted at a time; one that is not ready holds up no drain."""
    objects = render(check, DEPLOY / overlay)
    budget = objects["PodDisruptionBudget", "saffire"]["spec"]
    assert budget["selector"]["matchLabels"].items() <= pod_of(objects)["metadata"]["labels"].items()
    assert (1, "AlwaysAllow") == (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"])


@pytest.mark.parametrize("overlay", ["eventing-only", "standalone"])
def test_the_network_policy_is_for_the_deployments_pods(check: Check, overlay: str) -> None:
    """It selects them. Without Knative nobody may connect; with Eventing, its sources may."""
    objects = render(check, DEPLOY / overlay)
    policy = objects["NetworkPolicy", "saffire"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod_of(objects)["metadata"]["labels"].items()
    ports = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert ([] if overlay == "standalone" else [8080]) == ports


def test_the_service_leads_to_the_function(check: Check) -> None:
    """The Service of eventing-only selects the Deployment's pods, and a port that the function has."""
    objects = render(check, DEPLOY / "eventing-only")
    service, pod = objects["Service", "saffire"]["spec"], pod_of(objects)
    assert service["selector"].items() <= pod["metadata"]["labels"].items()
    assert [port["targetPort"] for port in service["ports"]] == [
        port["name"] for port in containers(pod)["saffire"]["ports"]
    ]


def test_standalone_needs_no_knative(check: Check) -> None:
    """No object is of a kind that Knative brings."""
    objects = render(check, DEPLOY / "standalone")
    assert [] == [key for key, manifest in objects.items() if "knative.dev" in manifest["apiVersion"]]


def test_the_event_source_has_the_settings_of_the_function(check: Check) -> None:
    """Proxy, certificates and intervals are set once, in knative/service.yaml."""
    function, source = containers(pod_of(render(check, DEPLOY / "standalone"))).values()
    assert function["env"] == source["env"] != []


@pytest.mark.api
async def test_a_bare_cluster_takes_standalone(applied: ControlPlane, check: Check) -> None:
    """An API server accepts each object."""
    for manifest in render(check, DEPLOY / "standalone").values():
        await dry_run(applied, manifest)


@pytest.mark.api
@pytest.mark.parametrize("overlay", ["eventing-only", "standalone"])
async def test_the_namespace_admits_the_pods(applied: ControlPlane, check: Check, overlay: str) -> None:
    """The pods meet the strictest standard, with each of their containers."""
    pod = pod_of(render(check, DEPLOY / overlay))
    await dry_run(applied, pod)
    for container in pod["spec"]["containers"]:
        container["securityContext"]["allowPrivilegeEscalation"] = True
        with pytest.raises(ApiError, match='violates PodSecurity "restricted'):
            await dry_run(applied, pod)
        container["securityContext"]["allowPrivilegeEscalation"] = False


@pytest.mark.api
async def test_each_container_has_the_token_of_its_own_account(applied: ControlPlane, check: Check) -> None:
    """The API server mounts the function's token into the function alone; the source has that of its Secret."""
    objects = render(check, DEPLOY / "standalone")
    pod = await dry_run(applied, pod_of(objects))
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    mounted = {
        name: [volumes[mount["name"]] for mount in container["volumeMounts"] if mount["mountPath"] == TOKEN]
        for name, container in containers(pod).items()
    }
    (own,), (secret,) = mounted["saffire"], mounted["eventsource"]
    assert "projected" in own
    account = objects["Secret", secret["secret"]["secretName"]]["metadata"]["annotations"]
    assert {"kubernetes.io/service-account.name": "saffire-source"} == account


@pytest.mark.parametrize("overlay", ["knative", "deploy/eventing-only", "deploy/standalone"])
def test_prometheus_finds_the_function(check: Check, overlay: str) -> None:
    """Whichever way it is installed, PodMonitor and NetworkPolicy select its pods, and one port that they have."""
    objects, monitoring = render(check, ROOT / overlay), render(check, DEPLOY / "monitoring")
    if ("Deployment", "saffire") in objects:
        pod = pod_of(objects)
        ports = {port["name"] for port in containers(pod)["saffire"]["ports"]}
    else:
        pod, ports = objects["Service", "saffire"]["spec"]["template"], {"user-port"}  # Knative's, v1.UserPortName
    monitor = monitoring["PodMonitor", "saffire"]["spec"]
    policy = monitoring["NetworkPolicy", "saffire-metrics"]["spec"]
    for selector in (monitor["selector"], policy["podSelector"]):
        assert selector["matchLabels"].items() <= pod["metadata"]["labels"].items()
    scraped = [endpoint for endpoint in monitor["podMetricsEndpoints"] if endpoint["port"] in ports]
    assert [METRICS_PATH] == [endpoint["path"] for endpoint in scraped]


@pytest.mark.api
async def test_a_bare_cluster_takes_what_monitoring_has_of_its_own(applied: ControlPlane, check: Check) -> None:
    """An API server accepts the policy and the dashboard; the other kinds are those of the Prometheus Operator."""
    objects = render(check, DEPLOY / "monitoring")
    kinds = {kind for kind, _ in objects}
    assert {"NetworkPolicy", "ConfigMap", "PodMonitor", "PrometheusRule"} == kinds
    for key in (("NetworkPolicy", "saffire-metrics"), ("ConfigMap", "saffire-dashboard")):
        await dry_run(applied, objects[key])
