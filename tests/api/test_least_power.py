"""The API server itself holds the function to what README promises, whatever its role and its token would allow."""

import functools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from testkit.api.audit_log import AuditLog
from testkit.api.clusters import USER, hold, make_user, manifest, rule_for
from testkit.api.custom_kinds import (
    CLONE_SET,
    CONFIGURATION,
    DAEMON_SET,
    DEPLOYMENT_CONFIG,
    ROLLOUT,
    SERVICE,
    STATEFUL_SET,
    WIDGET,
    define,
)
from testkit.api.namespace_fixture import HISTORY, NamespaceFixture, until
from testkit.api.policy import Answers, Operation, add, edited
from testkit.api.workloads import (
    NEW,
    OLD,
    container,
    cron_job,
    daemon_set,
    deployment,
    pod,
    pod_spec,
    replica_set,
    replication_controller,
    stateful_set,
    template,
)

YES, NO = True, False
ANNOTATIONS = {"example.com/team": "shop", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
LAST_APPLIED = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"
HISTORY_PATH = f"/metadata/annotations/{HISTORY.replace('/', '~1')}"


def full_spec() -> Manifest:
    """Return a pod's spec in which something can be taken away, too."""
    return pod_spec(
        container("web", resources={"limits": {"memory": "64Mi"}}),
        container("proxy"),
        init=[container("prepare")],
        imagePullSecrets=[{"name": "present"}],
        securityContext={"runAsUser": 1000},
        volumes=[{"name": "data", "emptyDir": {}}, {"name": "model", "image": {"reference": OLD}}],
    )


def full_template() -> Manifest:
    """Return a pod template with such a spec, and with an annotation."""
    made = template(full_spec())
    return {**made, "metadata": {**made["metadata"], "annotations": {"example.com/inject": "true"}}}


@dataclass(frozen=True)
class Kind:
    """
    A kind of object that the function may patch.

    Args:
        manifest: an object of the kind. None of its pods ever runs.
        template: the JSON Pointer of its pod template; `""` for a pod.
        others: JSON Patches of fields that only this kind has.

    """

    manifest: Manifest
    template: str = "/spec/template"
    others: tuple[Operation, ...] = ()


def idle(manifest: Manifest) -> Manifest:
    """Return a workload without pods, with all that can be taken away. No other kind has its labels."""
    labels = {"app": manifest["kind"].lower()}
    spec = {**manifest["spec"], "template": full_template(), "replicas": 0}
    spec["template"]["metadata"]["labels"] = labels
    if "selector" in spec:
        spec["selector"] = labels if manifest["kind"] == "ReplicationController" else {"matchLabels": labels}
    metadata = {**manifest["metadata"], "labels": {**labels, "tier": "web"}, "annotations": ANNOTATIONS}
    return {**manifest, "metadata": metadata, "spec": spec}


def cron() -> Manifest:
    """Return a CronJob that is never due, with all that can be taken away."""
    made = idle(cron_job())
    del made["spec"]["template"], made["spec"]["replicas"]
    made["spec"]["jobTemplate"]["spec"]["template"] = full_template()
    made["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    return made


def daemons() -> Manifest:
    """Return a DaemonSet that suits no node, with all that can be taken away."""
    made = idle(daemon_set())
    del made["spec"]["replicas"]
    made["spec"]["template"]["spec"]["nodeSelector"] = {"example.com/nowhere": "true"}
    return made


def bare_pod() -> Manifest:
    """Return a pod that suits no node and that no workload of `KINDS` selects."""
    spec = {**full_spec(), "nodeSelector": {"example.com/nowhere": "true"}}
    labels = {"app": "bare", "controller-revision-hash": "web-1"}
    return pod(spec, labels=labels, annotations=ANNOTATIONS)


MORE_REPLICAS = add("/spec/replicas", 5)
FOREIGN = (MORE_REPLICAS, add("/spec/strategy", {"canary": {}}), add("/status", {"phase": "Healthy"}))
KINDS = {
    "Pod": Kind(
        bare_pod(),
        template="",
        others=(
            add("/spec/tolerations/-", {"operator": "Exists"}),
            add("/spec/activeDeadlineSeconds", 60),
            add("/metadata/labels/team", "other"),
            add("/metadata/annotations/iam.amazonaws.com~1role", "admin"),
        ),
    ),
    "Deployment": Kind(idle(deployment()), others=(MORE_REPLICAS, add("/spec/paused", YES))),
    "ReplicaSet": Kind(idle(replica_set()), others=(MORE_REPLICAS, add("/spec/minReadySeconds", 5))),
    "StatefulSet": Kind(
        idle(stateful_set()), others=(MORE_REPLICAS, add("/spec/updateStrategy", {"type": "OnDelete"}))
    ),
    "DaemonSet": Kind(daemons(), others=(add("/spec/updateStrategy", {"type": "OnDelete"}),)),
    "ReplicationController": Kind(
        idle(replication_controller()), others=(MORE_REPLICAS, add("/spec/minReadySeconds", 5))
    ),
    "CronJob": Kind(
        cron(),
        template="/spec/jobTemplate/spec/template",
        others=(
            add("/spec/schedule", "* * * * *"),
            add("/spec/jobTemplate/metadata/labels", {"team": "other"}),
            add("/spec/jobTemplate/spec/parallelism", 5),
        ),
    ),
    "Argo Rollout": Kind(idle(ROLLOUT.manifest(spec={})), others=FOREIGN),
    "OpenKruise CloneSet": Kind(idle(CLONE_SET.manifest(spec={})), others=FOREIGN),
    "OpenKruise StatefulSet": Kind(idle(STATEFUL_SET.manifest(spec={})), others=FOREIGN),
    "OpenKruise DaemonSet": Kind(idle(DAEMON_SET.manifest(spec={})), others=FOREIGN),
    "Knative Service": Kind(idle(SERVICE.manifest(spec={})), others=(*FOREIGN, add("/spec/traffic", []))),
    "Knative Configuration": Kind(idle(CONFIGURATION.manifest(spec={})), others=FOREIGN),
    "OpenShift DeploymentConfig": Kind(idle(DEPLOYMENT_CONFIG.manifest(spec={})), others=FOREIGN),
}


def template_abuses(spec: str, metadata: str) -> Iterator[tuple[str, Operation]]:
    """Yield patches of a template that give its pods power, or take them out of their owner's hands."""
    web = f"{spec}/containers/0"
    image, host_path = {"reference": NEW}, {"name": "model", "hostPath": {"path": "/"}}
    yield "privileged", add(f"{web}/securityContext", {"privileged": True})
    yield "root", add(f"{web}/securityContext", {"runAsUser": 0})
    yield "capability", add(f"{web}/securityContext", {"capabilities": {"add": ["SYS_ADMIN"]}})
    yield "unconfined", add(f"{web}/securityContext", {"seccompProfile": {"type": "Unconfined"}})
    yield "root for all containers", add(f"{spec}/securityContext", {"runAsUser": 0})
    yield "no security context", {"op": "remove", "path": f"{spec}/securityContext"}
    yield "hostPath", add(f"{spec}/volumes/-", {"name": "root", "hostPath": {"path": "/"}})
    yield (
        "Secret",
        {"op": "replace", "path": f"{spec}/volumes/0", "value": {"name": "data", "secret": {"secretName": "admin"}}},
    )
    yield "image volume", {"op": "replace", "path": f"{spec}/volumes/0", "value": {"name": "data", "image": image}}
    yield "hostPath for an image", {"op": "replace", "path": f"{spec}/volumes/1", "value": host_path}
    yield "image's pull policy", add(f"{spec}/volumes/1/image/pullPolicy", "Never")
    yield "one volume less", {"op": "remove", "path": f"{spec}/volumes/0"}
    yield "mount", add(f"{web}/volumeMounts", [{"name": "data", "mountPath": "/etc"}])
    yield "service account", add(f"{spec}/serviceAccountName", "admin")
    yield "token", add(f"{spec}/automountServiceAccountToken", YES)
    yield "host network", add(f"{spec}/hostNetwork", YES)
    yield "host processes", add(f"{spec}/hostPID", YES)
    yield "host IPC", add(f"{spec}/hostIPC", YES)
    yield "host port", add(f"{web}/ports", [{"containerPort": 80, "hostPort": 80}])
    yield "node", add(f"{spec}/nodeName", "control-plane")
    yield "node selector", add(f"{spec}/nodeSelector", {"node-role.kubernetes.io/control-plane": ""})
    yield "tolerations", add(f"{spec}/tolerations", [{"operator": "Exists"}])
    yield "priority", add(f"{spec}/priorityClassName", "system-node-critical")
    yield "runtime", add(f"{spec}/runtimeClassName", "unsafe")
    yield "host names", add(f"{spec}/hostAliases", [{"ip": "192.0.2.1", "hostnames": ["ghcr.io"]}])
    yield "command", add(f"{web}/command", ["sh"])
    yield "arguments", add(f"{web}/args", ["-c", "true"])
    yield "environment", add(f"{web}/env", [{"name": "LD_PRELOAD", "value": "/data/lib.so"}])
    yield "environment from a Secret", add(f"{web}/envFrom", [{"secretRef": {"name": "admin"}}])
    yield "probe", add(f"{web}/livenessProbe", {"exec": {"command": ["sh"]}})
    yield "lifecycle", add(f"{web}/lifecycle", {"postStart": {"exec": {"command": ["sh"]}}})
    yield "device", add(f"{web}/resources", {"limits": {"memory": "64Mi", "example.com/kvm": "1"}})
    yield "no limit", {"op": "remove", "path": f"{web}/resources"}
    yield "pull policy", add(f"{web}/imagePullPolicy", "Never")
    yield "one container more", add(f"{spec}/containers/-", container("miner"))
    yield "one container less", {"op": "remove", "path": f"{spec}/containers/1"}
    yield "another container", add(f"{spec}/containers/1/name", "miner")
    yield "one init container more", add(f"{spec}/initContainers/-", container("miner"))
    yield "no init container", {"op": "remove", "path": f"{spec}/initContainers"}
    yield "a sidecar", add(f"{spec}/initContainers/0/restartPolicy", "Always")
    yield "one pull secret less", {"op": "remove", "path": f"{spec}/imagePullSecrets/0"}
    yield "label of pods", add(f"{metadata}/labels/team", "other")
    yield "annotation of pods", add(f"{metadata}/annotations/iam.amazonaws.com~1role", "admin")
    yield "no annotation of pods", {"op": "remove", "path": f"{metadata}/annotations/example.com~1inject"}


def object_abuses() -> Iterator[tuple[str, Operation]]:
    """Yield patches of an object's metadata that have effects beyond it."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0b9a"}
    yield "owner", add("/metadata/ownerReferences", [owner])
    yield "finalizer", add("/metadata/finalizers", ["example.com/stay"])
    yield "another label", add("/metadata/labels/app", "other")
    yield "no label", {"op": "remove", "path": "/metadata/labels/app"}
    yield "no annotation", {"op": "remove", "path": "/metadata/annotations/example.com~1team"}
    yield "what kubectl applied last", add(LAST_APPLIED, '{"spec":{}}')


def abuses(kind: Kind) -> Iterator[tuple[str, Operation]]:
    """Yield all patches of an object that the function must not be able to make."""
    if kind.template:
        yield from template_abuses(f"{kind.template}/spec", f"{kind.template}/metadata")
    yield from object_abuses()
    yield from ((operation["path"], operation) for operation in kind.others)


@pytest.fixture(scope="module")
async def opened(cluster: ControlPlane, audit_log: AuditLog) -> AsyncIterator[NamespaceFixture]:
    """Give a namespace without a source, with one object of each kind."""
    await define(cluster.admin)
    async with NamespaceFixture(cluster.admin, "", audit_log, set()) as namespace:
        for kind in KINDS.values():
            await namespace.apply(kind.manifest)
        yield namespace


@pytest.fixture(scope="module")
async def answers(cluster: ControlPlane, opened: NamespaceFixture) -> AsyncIterator[Answers]:
    """Give the answers to the function's account."""
    async with Api(cluster.server, str(cluster.authority), cluster.admin.token, user=USER) as api:
        yield Answers(as_function=api, as_admin=cluster.admin, namespace=opened.name)


@pytest.mark.parametrize("name", KINDS)
async def test_every_abuse_is_refused(answers: Answers, name: str) -> None:
    """Nothing but images moves, whatever the function's token is used for; an administrator may do all of it."""
    kind = KINDS[name]
    table = dict(abuses(kind))
    assert dict.fromkeys(table, YES) == {
        abuse: await answers.changes(kind.manifest, operation) for abuse, operation in table.items()
    }
    refused = {abuse: await answers.refusal(kind.manifest, operation) for abuse, operation in table.items()}
    assert [] == [abuse for abuse, why in refused.items() if not why]


async def test_an_abuse_behind_a_moved_image_is_refused(answers: Answers) -> None:
    """A patch that also does what the function may do is refused for the rest, and the refusal names the fields."""
    spec = "/spec/template/spec"
    why = await answers.refusal(
        KINDS["DaemonSet"].manifest,
        add(f"{spec}/containers/0/image", NEW),
        add(f"{spec}/hostNetwork", YES),
        add(f"{spec}/containers/0/securityContext", {"privileged": True}),
    )
    assert "template.spec.hostNetwork; container.securityContext.privileged" == why


@pytest.mark.parametrize("name", KINDS)
async def test_what_the_function_does_is_accepted(answers: Answers, name: str) -> None:
    """Images of containers and volumes, the history annotation, a pull secret more in a template, a pod's revision."""
    kind = KINDS[name]
    spec = f"{kind.template}/spec"
    allowed = {
        "image": [add(f"{spec}/containers/1/image", NEW)],
        "every image": [add(f"{spec}/{part}/0/image", NEW) for part in ("containers", "initContainers")],
        "history": [add(f"{spec}/containers/0/image", NEW), add(HISTORY_PATH, "[]")],
        "pull secret": [add(f"{spec}/imagePullSecrets/-", {"name": "added"})],
        "image volume": [add(f"{spec}/volumes/1/image/reference", NEW)],
        "revision": [add("/metadata/labels/controller-revision-hash", "web-2")],
    }
    for impossible in ("revision",) if kind.template else ("pull secret", "image volume"):
        del allowed[impossible]
    refused = {act: await answers.refusal(kind.manifest, *operations) for act, operations in allowed.items()}
    assert dict.fromkeys(allowed, "") == refused


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.template])
async def test_what_admission_webhooks_change_is_accepted(answers: Answers, name: str) -> None:
    """A webhook's stamp on the workload, its labels, and what takes power away from the pods do not stop a failover."""
    kind = KINDS[name]
    spec = f"{kind.template}/spec"
    hardened = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod_hardened = {"runAsUser": 1000, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    allowed = {
        "new stamp": [add("/metadata/annotations/serving.knative.dev~1lastModifier", USER)],
        "changed stamp": [add("/metadata/annotations/example.com~1team", USER)],
        "label": [add("/metadata/labels/team", "shop")],
        "hardened container": [add(f"{spec}/containers/0/securityContext", hardened)],
        "hardened pod": [add(f"{spec}/securityContext", pod_hardened)],
        "pull policy": [add(f"{spec}/containers/0/imagePullPolicy", "Always")],
        "no token": [add(f"{spec}/automountServiceAccountToken", NO)],
    }
    refused = {act: await answers.refusal(kind.manifest, *operations) for act, operations in allowed.items()}
    assert dict.fromkeys(allowed, "") == refused


# Every field of Kubernetes's API

_OWN_RULES = {
    "PodSpec": {"containers", "initContainers", "volumes", "imagePullSecrets", "securityContext"},
    "Volume": {"name", "image"},
    "ImageVolumeSource": {"reference"},
    "Container": {"image", "name", "securityContext"},
    "PodTemplateSpec": {"metadata", "spec"},
    "DeploymentSpec": {"template"},
}
"""The fields that have rules of their own, which the tables above try."""
_PLACES = {
    ("api/v1", "core.v1.PodTemplateSpec"): "/spec/template",
    ("api/v1", "core.v1.PodSpec"): "/spec/template/spec",
    ("api/v1", "core.v1.PodSecurityContext"): "/spec/template/spec/securityContext",
    ("api/v1", "core.v1.Container"): "/spec/template/spec/containers/0",
    ("api/v1", "core.v1.Volume"): "/spec/template/spec/volumes/0",
    ("api/v1", "core.v1.ImageVolumeSource"): "/spec/template/spec/volumes/0/image",
    ("api/v1", "core.v1.SecurityContext"): "/spec/template/spec/containers/0/securityContext",
    ("apis/apps/v1", "apps.v1.DeploymentSpec"): "/spec",
    ("apis/apps/v1", "apps.v1.StatefulSetSpec"): "/spec",
    ("apis/apps/v1", "apps.v1.DaemonSetSpec"): "/spec",
    ("apis/apps/v1", "apps.v1.ReplicaSetSpec"): "/spec",
    ("apis/batch/v1", "batch.v1.CronJobSpec"): "/spec",
}


@pytest.mark.parametrize(("document", "schema"), _PLACES)
async def test_no_field_of_the_api_slips_by(answers: Answers, document: str, schema: str) -> None:
    """Each field that this Kubernetes has, and one of a newer, may be changed only if a rule names it."""
    schemas = (await answers.as_admin.get(f"/openapi/v3/{document}"))["components"]["schemas"]
    fields = {*schemas[f"io.k8s.api.{schema}"]["properties"], "fieldOfTomorrow"}
    spec = {"containers": [container(securityContext={})], "securityContext": {}, "volumes": [{"image": {}}]}
    bare = CLONE_SET.manifest(spec={"template": {"spec": spec}})
    bare["metadata"] |= {"name": "bare", "namespace": answers.namespace}
    await answers.as_admin.apply(bare)
    place = _PLACES[document, schema]
    compared = fields - _OWN_RULES.get(schema.rpartition(".")[2], {"template"})
    refused = {field: await answers.refusal(bare, add(f"{place}/{field}", "changed")) for field in compared}
    assert [] == [field for field, why in refused.items() if not why.endswith(f".{field}")]


async def test_the_budget_of_cel_is_enough(answers: Answers) -> None:
    """A workload with many containers and annotations can be moved, and not be changed otherwise."""
    many = [container(f"web-{number}") for number in range(300)]
    large = idle(deployment(name="large"))
    large["metadata"]["namespace"] = answers.namespace
    large["metadata"]["annotations"] = {**ANNOTATIONS, **{f"example.com/{number}": "" for number in range(2000)}}
    large["spec"]["template"]["spec"]["containers"] = many
    await answers.as_admin.apply(large)
    spec = "/spec/template/spec/containers"
    every = [add(f"{spec}/{number}/image", NEW) for number in range(len(many))]
    assert "" == await answers.refusal(large, *every)
    assert "container.command" == await answers.refusal(large, *every, add(f"{spec}/299/command", ["sh"]))


SHAPELESS: tuple[Manifest, ...] = (
    {},
    {"template": None},
    {"template": "web"},
    {"template": {"metadata": {"annotations": None}, "spec": None}},
    {"template": {"spec": {"containers": 7}}},
    {"template": {"spec": {"containers": [7, None, {"name": None}], "initContainers": None}}},
    {"template": {"spec": {"containers": [{"securityContext": None}], "securityContext": 7}}},
)


@pytest.mark.parametrize("spec", SHAPELESS, ids=repr)
async def test_a_shapeless_object_opens_no_door(answers: Answers, spec: Manifest) -> None:
    """A foreign kind may hold anything; what the policy cannot compare, it does not let pass."""
    shapeless = CLONE_SET.manifest(spec=spec)
    shapeless["metadata"] |= {"name": "shapeless", "namespace": answers.namespace}
    path = await answers.path(shapeless)
    await answers.as_admin.apply(shapeless)
    for abuse in (add("/spec/size", 2), add("/spec/template", template(pod_spec(hostNetwork=True)))):
        with pytest.raises(ApiError, match="ValidatingAdmissionPolicy 'saffire'"):
            await answers.as_function.patch(path, [abuse], "json", dryRun="All")
    await answers.as_admin.delete(path)


async def test_a_kind_that_an_operator_added_is_held_too(answers: Answers, cluster: ControlPlane) -> None:
    """With one rule and one path more, the policy holds the function in objects of any other kind."""
    policy = edited(
        path="""
            request.resource.resource == "pods" ? [] : {
              "cronjobs.batch": ["spec", "jobTemplate", "spec", "template"],
              "widgets.example.com": ["spec", "workload"]
            }[?request.resource.resource + "." + request.resource.group].orValue(["spec", "template"])
            """
    )
    rule = {"apiGroups": ["example.com"], "apiVersions": ["*"], "resources": ["widgets"], "operations": ["UPDATE"]}
    policy["spec"]["matchConstraints"]["resourceRules"].append(rule)
    rules = [*manifest("function-clusterrole")["rules"], rule_for("example.com", "widgets", "get", "patch")]
    user, _ = await make_user(cluster, "added", rules)
    await hold(cluster, "added", policy)
    widget = WIDGET.manifest(spec={"workload": full_template(), "size": 1})
    widget["metadata"]["namespace"] = answers.namespace
    await answers.as_admin.apply(widget)
    async with Api(cluster.server, str(cluster.authority), cluster.admin.token, user=user) as api:
        added = Answers(as_function=api, as_admin=cluster.admin, namespace=answers.namespace)
        await until(functools.partial(added.refusal, widget, add("/spec/size", 2)))
        assert "" == await added.refusal(widget, add("/spec/workload/spec/containers/0/image", NEW))
        assert await added.refusal(widget, add("/spec/workload/spec/hostNetwork", YES))
