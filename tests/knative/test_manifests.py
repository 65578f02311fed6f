"""The manifests of knative/: complete, one object each, accepted by Knative's own code and by a real API server."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from playground.cluster.api import ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from saffire.function import HEALTH_PATH
from saffire.settings import Settings
from testkit import ROOT
from testkit.manifests import FOLDER, load
from tests.knative.conftest import BUILT_IN, RESOURCES, Check

KNATIVE = [name for name in RESOURCES if name not in BUILT_IN]


def test_kustomization_is_complete() -> None:
    """`kubectl apply -k` applies every file of the folder."""
    files = {path.name for path in FOLDER.iterdir()} - {"kustomization.yaml"}
    assert set(RESOURCES) == files


@pytest.mark.parametrize("name", RESOURCES)
def test_one_object_per_file(name: str) -> None:
    """A file holds one object, and its name says which kind."""
    (manifest,) = yaml.safe_load_all((FOLDER / name).read_text())
    kind = manifest["kind"].lower()
    kind = {"customresourcedefinition": "crd"}.get(kind, kind)
    assert name.removesuffix(".yaml").endswith(kind)


def test_the_image_is_named_in_the_kustomization() -> None:
    """The image is the only thing that a user has to edit, in the kustomization."""
    (image,) = load("kustomization.yaml")["images"]
    (container,) = load("service.yaml")["spec"]["template"]["spec"]["containers"]
    assert image["name"] == container["image"]


def test_service_is_private_and_always_awake() -> None:
    """The Service has no address outside the cluster, and one pod is left if a node fails."""
    service = load("service.yaml")
    assert "cluster-local" == service["metadata"]["labels"]["networking.knative.dev/visibility"]
    assert "2" == service["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"]


def test_an_instance_gets_no_requests_long_before_it_is_restarted() -> None:
    """Both probes ask what the function answers without a cluster. A restart is for what does not pass."""
    (container,) = load("service.yaml")["spec"]["template"]["spec"]["containers"]
    readiness, liveness = container["readinessProbe"], container["livenessProbe"]
    assert [HEALTH_PATH] * 2 == [probe["httpGet"]["path"] for probe in (readiness, liveness)]
    patience = [
        probe["failureThreshold"] * max(probe["periodSeconds"], probe["timeoutSeconds"])
        for probe in (readiness, liveness)
    ]
    assert 3 * patience[0] <= patience[1]


def test_sink_and_service_accounts_exist() -> None:
    """The manifests contain every object that they name."""
    service, source = load("service.yaml"), load("apiserversource.yaml")
    accounts = {load(name)["metadata"]["name"] for name in RESOURCES if "serviceaccount" in name}
    named = {service["spec"]["template"]["spec"]["serviceAccountName"], source["spec"]["serviceAccountName"]}
    assert accounts == named
    sink = source["spec"]["sink"]["ref"]
    assert {"apiVersion": service["apiVersion"], "kind": "Service", "name": service["metadata"]["name"]} == sink
    assert sink == load("pingsource.yaml")["spec"]["sink"]["ref"]


def test_the_source_may_watch_what_it_is_to_watch() -> None:
    """Before it starts, Knative checks three verbs on each resource; nothing else is allowed."""
    names = [load(file)["spec"]["names"] for file in ("crd.yaml", "cluster-crd.yaml")]
    plurals = {"Event": "events", **{kind_names["kind"]: kind_names["plural"] for kind_names in names}}
    watched = [
        {
            "apiGroups": [resource["apiVersion"].rpartition("/")[0]],
            "resources": [plurals[resource["kind"]]],
            "verbs": ["get", "list", "watch"],
        }
        for resource in load("apiserversource.yaml")["spec"]["resources"]
    ]
    assert watched == load("source-clusterrole.yaml")["rules"]
    for number, file in enumerate(("crd.yaml", "cluster-crd.yaml"), 1):
        served = [version["name"] for version in load(file)["spec"]["versions"] if version["served"]]
        watched_version = load("apiserversource.yaml")["spec"]["resources"][number]["apiVersion"]
        assert f"{load(file)['spec']['group']}/{served[-1]}" == watched_version


def test_the_sweep_comes_every_minute_and_is_over_before_the_next() -> None:
    """The schedule and the default budget fit together."""
    assert "* * * * *" == load("pingsource.yaml")["spec"]["schedule"]
    assert Settings().sweep_seconds < 60


def test_whatever_may_be_patched_is_held() -> None:
    """The admission policy covers each resource that the function's role allows to patch, but the status of sources."""
    patched = {
        (group, resource)
        for rule in load("function-clusterrole.yaml")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if "patch" in rule["verbs"]
    }
    statuses = {("saffire.fairwinds.com", f"{kind}alternateimagesources/status") for kind in ("", "cluster")}
    constraints = load("function-validatingadmissionpolicy.yaml")["spec"]["matchConstraints"]
    held = {
        (group, resource)
        for rule in constraints["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if (rule["apiVersions"], rule["operations"]) == (["*"], ["UPDATE"])
    }
    assert patched - statuses == held


def test_the_function_itself_is_held() -> None:
    """The policy names the account that the Service runs under, and its binding refuses what the policy finds."""
    policy, binding = (load(f"function-validatingadmissionpolicy{part}.yaml") for part in ("", "binding"))
    service = load("service.yaml")
    account = service["spec"]["template"]["spec"]["serviceAccountName"]
    (condition,) = policy["spec"]["matchConditions"]
    user = f"system:serviceaccount:{service['metadata']['namespace']}:{account}"
    assert f'request.userInfo.username == "{user}"' == condition["expression"]
    assert "Fail" == policy["spec"]["failurePolicy"]
    assert {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]} == binding["spec"]


@pytest.mark.knative
def test_the_network_policy_is_for_the_functions_pods(check: Check) -> None:
    """It selects the pod that Knative makes of the Service, and lets in what Knative's queue-proxy serves."""
    function, adapter = pods(check)
    policy = load("function-networkpolicy.yaml")["spec"]
    selected = policy["podSelector"]["matchLabels"].items()
    assert selected <= function["metadata"]["labels"].items()
    assert not selected <= adapter["metadata"]["labels"].items()
    (proxy,) = (container for container in function["spec"]["containers"] if container["name"] == "queue-proxy")
    served = {port["name"]: port["containerPort"] for port in proxy["ports"]}
    # The kubelet alone asks http-queueadm. Metrics for people are theirs to open.
    wanted = {number for name, number in served.items() if name not in {"http-queueadm", "http-usermetric"}}
    (ingress,) = policy["ingress"]
    assert wanted <= {port["port"] for port in ingress["ports"]}


def test_the_ports_that_may_have_to_be_edited_are_named() -> None:
    """docs/install.md names each port that the function may connect to. Long answers of DNS come over TCP."""
    section = (ROOT / "docs" / "install.md").read_text().partition("## Who may post to the function")[2]
    (egress,) = load("function-networkpolicy.yaml")["spec"]["egress"]
    ports = {(port["protocol"], port["port"]) for port in egress["ports"]}
    assert {53, 5353} == {number for protocol, number in ports if protocol == "UDP"}
    assert {53, 5353} <= {number for protocol, number in ports if protocol == "TCP"}
    assert {number for _, number in ports} <= set(map(int, re.findall(r"[0-9]+", section.partition("\n## ")[0])))


@pytest.mark.knative
def test_knative_takes_the_example_with_sender_identity(check: Check, tmp_path: Path) -> None:
    """The policy that docs/install.md shows is valid, is for the Broker of deploy/, and names Saffire's own sources."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "install.md").read_text(), re.DOTALL)
    (block,) = (block for block in blocks if "kind: EventPolicy" in block)
    manifests = list(yaml.safe_load_all(block))
    files = [tmp_path / f"{manifest['kind']}.yaml" for manifest in manifests]
    for file, manifest in zip(files, manifests, strict=True):
        file.write_text(yaml.safe_dump(manifest))
    result = check(*files)
    assert not result.stderr
    (policy,) = manifests
    broker = yaml.safe_load((ROOT / "deploy" / "broker" / "broker.yaml").read_text())
    assert broker["metadata"]["name"] == policy["spec"]["to"][0]["ref"]["name"]
    sources = {(load(name)["kind"], load(name)["metadata"]["name"]) for name in KNATIVE if "source" in name}
    assert sources == {(sender["ref"]["kind"], sender["ref"]["name"]) for sender in policy["spec"]["from"]}


@pytest.mark.knative
def test_knative_takes_the_manifests(check: Check) -> None:
    """Knative's own types decode the manifests without an unknown field, and its validation finds no fault."""
    result = check(*(FOLDER / name for name in KNATIVE))
    assert not result.stderr
    assert 0 == result.returncode


@pytest.mark.knative
@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("apiserversource.yaml", "mode: Resource -> mode: Resorce", "invalid value: Resorce: spec.mode"),
        ("apiserversource.yaml", 'kind: Event -> kind: ""', "missing field(s): spec.resources[0].kind"),
        ("apiserversource.yaml", "kind: ClusterAlternateImageSource -> plural: x", 'unknown field "plural"'),
        ("pingsource.yaml", 'schedule: "* * * * *" -> schedule: "* * * *"', "invalid value"),
        ("pingsource.yaml", "schedule: -> cron:", 'unknown field "cron"'),
        ("pingsource.yaml", "name: saffire\n -> nom: saffire\n", 'unknown field "nom"'),
        ("apiserversource.yaml", "namespaceSelector -> namespaceSelectors", 'unknown field "namespaceSelectors"'),
        ("service.yaml", 'min-scale: "2" -> min-scale: "two"', "autoscaling.knative.dev/min-scale"),
        ("service.yaml", "timeoutSeconds: 60 -> timeoutSeconds: 6000", "expected 0 <= 6000 <= 600"),
        ("service.yaml", "mountPath: /tmp -> mountPath: /dev/log", 'mountPath "/dev/log" is a reserved path'),
        ("service.yaml", "path: /healthz -> command: [x]", 'unknown field "command"'),
        ("service.yaml", "periodSeconds: 2 -> periodSeconds: 0", "disallowed when periodSeconds is zero"),
        ("service.yaml", "XDG_RUNTIME_DIR -> K_SERVICE", '"K_SERVICE" is a reserved environment variable'),
    ],
)
def test_knative_refuses_a_broken_manifest(check: Check, tmp_path: Path, name: str, change: str, fault: str) -> None:
    """A mistake in a manifest is found, which shows that the test above can fail."""
    before, _, after = change.partition(" -> ")
    text = (FOLDER / name).read_text()
    assert before in text
    broken = tmp_path / name
    broken.write_text(text.replace(before, after))
    result = check(broken)
    assert fault in result.stderr
    assert 1 == result.returncode


def pods(check: Check) -> list[Manifest]:
    """Return the pods that Knative creates for the Service and for the ApiServerSource."""
    made: list[Manifest] = json.loads(check(FOLDER / "service.yaml", FOLDER / "apiserversource.yaml").stdout)
    return made


async def dry_run(plane: ControlPlane, pod: Manifest) -> Any:
    """Ask the API server, by a dry run, to create a pod."""
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods"
    return await plane.admin.request("POST", path, pod, dryRun="All")


@pytest.mark.knative
def test_the_pod_of_the_function_is_probed(check: Check) -> None:
    """The kubelet asks the function whether it lives; Knative's queue-proxy asks whether it is ready."""
    function, _ = pods(check)
    container, queue_proxy = function["spec"]["containers"]
    assert {"path": HEALTH_PATH, "port": 8080} == container["livenessProbe"]["httpGet"]
    (encoded,) = (env["value"] for env in queue_proxy["env"] if env["name"] == "SERVING_READINESS_PROBE")
    readiness = json.loads(encoded)
    assert (HEALTH_PATH, 8080) == (readiness["httpGet"]["path"], readiness["httpGet"]["port"])
    assert 5 == readiness["timeoutSeconds"]


@pytest.mark.api
@pytest.mark.knative
async def test_the_namespace_admits_knatives_pods(applied: ControlPlane, check: Check) -> None:
    """The namespace's pod security accepts the function beside Knative's queue-proxy, and the event adapter."""
    admitted = [await dry_run(applied, pod) for pod in pods(check)]
    names = [container["name"] for pod in admitted for container in pod["spec"]["containers"]]
    assert ["saffire", "queue-proxy", "receive-adapter"] == names


@pytest.mark.api
@pytest.mark.knative
async def test_the_namespace_refuses_less_secure_pods(applied: ControlPlane, check: Check) -> None:
    """A pod that could gain privileges is refused, which shows that the test above can fail."""
    function, _ = pods(check)
    function["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(ApiError, match='violates PodSecurity "restricted'):
        await dry_run(applied, function)


@pytest.mark.api
async def test_applying_twice_changes_nothing(applied: ControlPlane) -> None:
    """The API server accepts namespace, CRDs, accounts, roles and policies, and a second apply changes nothing."""
    first = [without_status(await applied.admin.apply(load(name))) for name in BUILT_IN]
    second = [without_status(await applied.admin.apply(load(name))) for name in BUILT_IN]
    assert first == second


def without_status(manifest: Manifest) -> Manifest:
    """Return an object without what a controller may write meanwhile, as one does that checks the types of a policy."""
    metadata = {
        key: value for key, value in manifest["metadata"].items() if key not in {"managedFields", "resourceVersion"}
    }
    return {**manifest, "metadata": metadata, "status": None}


@pytest.mark.api
@pytest.mark.parametrize(
    ("account", "wish", "allowed"),
    [
        ("saffire-source", "watch events", True),
        ("saffire-source", "watch alternateimagesources.saffire.fairwinds.com", True),
        ("saffire-source", "patch alternateimagesources.saffire.fairwinds.com", False),
        ("saffire-source", "watch clusteralternateimagesources.saffire.fairwinds.com", True),
        ("saffire-source", "patch clusteralternateimagesources.saffire.fairwinds.com", False),
        ("saffire-source", "get pods", False),
        ("saffire-source", "create events", False),
        ("saffire", "patch pods", True),
        ("saffire", "list pods", True),
        ("saffire", "list alternateimagesources.saffire.fairwinds.com", True),
        ("saffire", "list namespaces", True),
        ("saffire", "watch namespaces", False),
        ("saffire", "patch namespaces", False),
        ("saffire", "list clusteralternateimagesources.saffire.fairwinds.com", True),
        ("saffire", "patch clusteralternateimagesources/status.saffire.fairwinds.com", True),
        ("saffire", "patch clusteralternateimagesources.saffire.fairwinds.com", False),
        ("saffire", "watch pods", False),
        ("saffire", "patch daemonsets.apps", True),
        ("saffire", "patch alternateimagesources/status.saffire.fairwinds.com", True),
        ("saffire", "patch alternateimagesources.saffire.fairwinds.com", False),
        ("saffire", "update deployments.apps", False),
        ("saffire", "patch deployments/scale.apps", False),
        ("saffire", "patch pods/ephemeralcontainers", False),
        ("saffire", "patch pods/resize", False),
        ("saffire", "patch pods/status", False),
        ("saffire", "delete pods", False),
        ("saffire", "watch events", False),
        ("saffire", "get secrets", False),
        ("saffire", "list secrets", False),
    ],
)
async def test_accounts_are_bound_to_their_roles(
    applied: ControlPlane, account: str, wish: str, *, allowed: bool
) -> None:
    """The source may watch Events in every namespace, the function may patch; neither may do more."""
    verb, kind = wish.split()
    kind, _, group = kind.partition(".")
    resource, _, subresource = kind.partition("/")
    attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:saffire:{account}",
            "resourceAttributes": {**attributes, "namespace": "default"},
        },
    }
    answer = await applied.admin.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    assert allowed == answer["status"]["allowed"]
