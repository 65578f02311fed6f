"""Kinds that Kubernetes does not have, reduced to what Saffire reads, and pods that objects of these kinds own."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from playground.cluster.api import Api, ApiError, Manifest
from testkit.api.clusters import NOT_YET
from testkit.api.namespace_fixture import NamespaceFixture, until
from testkit.api.workloads import (
    DEAD,
    LABELS,
    OLD,
    container,
    deployment,
    owner_reference,
    pod,
    pod_spec,
    replica_set,
    replication_controller,
    stateful_set,
    template,
)

DIGEST = f"{DEAD}/acme/web@sha256:{64 * 'a'}"
_USER = "user-container"


@dataclass(frozen=True, kw_only=True)
class CustomKind:
    """A custom kind, in the version that its controller writes today."""

    group: str
    version: str
    kind: str
    plural: str

    def definition(self) -> Manifest:
        """Return the CustomResourceDefinition, which accepts every field."""
        names = {"kind": self.kind, "listKind": f"{self.kind}List", "plural": self.plural}
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        version = {"name": self.version, "served": True, "storage": True, "schema": schema}
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"{self.plural}.{self.group}",
                "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
            },
            "spec": {
                "group": self.group,
                "scope": "Namespaced",
                "names": {**names, "singular": self.kind.lower()},
                "versions": [version],
            },
        }

    def manifest(self, **fields: Any) -> Manifest:
        """Return an object of this kind, named `web`."""
        return {"apiVersion": f"{self.group}/{self.version}", "kind": self.kind, "metadata": {"name": "web"}, **fields}


ROLLOUT = CustomKind(group="argoproj.io", version="v1alpha1", kind="Rollout", plural="rollouts")
CLONE_SET = CustomKind(group="apps.kruise.io", version="v1alpha1", kind="CloneSet", plural="clonesets")
STATEFUL_SET = CustomKind(group="apps.kruise.io", version="v1beta1", kind="StatefulSet", plural="statefulsets")
DAEMON_SET = CustomKind(group="apps.kruise.io", version="v1alpha1", kind="DaemonSet", plural="daemonsets")
SERVICE = CustomKind(group="serving.knative.dev", version="v1", kind="Service", plural="services")
CONFIGURATION = CustomKind(group="serving.knative.dev", version="v1", kind="Configuration", plural="configurations")
REVISION = CustomKind(group="serving.knative.dev", version="v1", kind="Revision", plural="revisions")
WIDGET = CustomKind(group="example.com", version="v1", kind="Widget", plural="widgets")
SPROCKET = CustomKind(group="example.com", version="v1", kind="Sprocket", plural="sprockets")
DEPLOYMENT_CONFIG = CustomKind(
    group="apps.openshift.io", version="v1", kind="DeploymentConfig", plural="deploymentconfigs"
)
POD_SET = CustomKind(group="core.strimzi.io", version="v1beta2", kind="StrimziPodSet", plural="strimzipodsets")
CLUSTER = CustomKind(group="postgresql.cnpg.io", version="v1", kind="Cluster", plural="clusters")
POSTGRESQL = CustomKind(group="acid.zalan.do", version="v1", kind="postgresql", plural="postgresqls")
KINDS = (
    ROLLOUT,
    CLONE_SET,
    STATEFUL_SET,
    DAEMON_SET,
    SERVICE,
    CONFIGURATION,
    REVISION,
    WIDGET,
    SPROCKET,
    DEPLOYMENT_CONFIG,
    POD_SET,
    CLUSTER,
    POSTGRESQL,
)


async def define(api: Api) -> None:
    """Create every custom kind, and return when the API server serves all of them."""
    for kind in KINDS:
        await api.apply(kind.definition())
    for kind in KINDS:
        await until(lambda kind=kind: _is_served(api, kind))  # type: ignore[misc]  # mypy sees no default


async def _is_served(api: Api, kind: CustomKind) -> bool:
    try:
        await api.get(f"/apis/{kind.group}/{kind.version}/namespaces/default/{kind.plural}")
    except ApiError as error:
        if error.status not in NOT_YET:
            raise
        return False
    return True


def owned(manifest: Manifest, owner: Manifest) -> Manifest:
    """Return an object with a live object as its controller."""
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner_reference(owner)]}}


async def make_pod(namespace: NamespaceFixture, kind: CustomKind, **spec: Any) -> Manifest:
    """Create an object of a kind whose controller creates pods itself, and one of its pods; return the object."""
    live = await namespace.apply(kind.manifest(spec=spec or {"template": template()}))
    await namespace.apply(owned(pod(), live))
    return live


async def make_rollout(namespace: NamespaceFixture) -> Manifest:
    """Create an Argo Rollout with a template of its own, and its ReplicaSet; return the Rollout."""
    live = await namespace.apply(ROLLOUT.manifest(spec={"replicas": 2, "template": template()}))
    await namespace.apply(owned(replica_set(), live))
    return live


async def make_referring_rollout(namespace: NamespaceFixture) -> Manifest:
    """Create an Argo Rollout with the template of a Deployment without pods; return the Deployment."""
    idle = await namespace.apply(deployment(name="template", replicas=0))
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "template"}
    live = await namespace.apply(ROLLOUT.manifest(spec={"replicas": 2, "workloadRef": reference}))
    await namespace.apply(owned(replica_set(), live))
    return idle


async def _make_revision(namespace: NamespaceFixture, configuration: Manifest) -> None:
    """Create what Knative creates for a Configuration: a Revision with the tag resolved, and its Deployment."""
    revision = REVISION.manifest(
        spec={"containers": [container(_USER)]},
        status={"containerStatuses": [{"name": _USER, "imageDigest": DIGEST}]},
    )
    live = await namespace.apply(owned(revision, configuration))
    await namespace.apply(owned(deployment(pod_spec(container(_USER, DIGEST))), live))


async def make_service(namespace: NamespaceFixture) -> Manifest:
    """Create a Knative Service, and what Knative creates for it; return the Service."""
    spec = {"template": {"spec": {"containers": [{"image": OLD}]}}}
    live = await namespace.apply(SERVICE.manifest(spec=spec))
    await _make_revision(namespace, await namespace.apply(owned(CONFIGURATION.manifest(spec=spec), live)))
    return live


async def make_configuration(namespace: NamespaceFixture) -> Manifest:
    """Create a Knative Configuration without a Service, and what Knative creates for it; return the Configuration."""
    live = await namespace.apply(
        CONFIGURATION.manifest(spec={"template": {"spec": {"containers": [container(_USER)]}}})
    )
    await _make_revision(namespace, live)
    return live


async def make_deployment_config(namespace: NamespaceFixture) -> Manifest:
    """Create a DeploymentConfig of OpenShift, and its ReplicationController; return the DeploymentConfig."""
    live = await namespace.apply(
        DEPLOYMENT_CONFIG.manifest(spec={"replicas": 2, "selector": LABELS, "template": template()})
    )
    await namespace.apply(owned(replication_controller(), live))
    return live


async def make_postgresql(namespace: NamespaceFixture) -> Manifest:
    """Create an object of Zalando's postgres-operator, and its StatefulSet; return the object."""
    live = await namespace.apply(POSTGRESQL.manifest(spec={"dockerImage": OLD}))
    await namespace.apply(owned(stateful_set(), live))
    return live


Make = Callable[[NamespaceFixture], Awaitable[Manifest]]

MAKERS: dict[str, Make] = {
    "Argo Rollout": make_rollout,
    "Argo Rollout with workloadRef": make_referring_rollout,
    "OpenKruise CloneSet": lambda namespace: make_pod(namespace, CLONE_SET),
    "OpenKruise StatefulSet": lambda namespace: make_pod(namespace, STATEFUL_SET),
    "OpenKruise DaemonSet": lambda namespace: make_pod(namespace, DAEMON_SET),
    "Knative Service": make_service,
    "Knative Configuration": make_configuration,
    "OpenShift DeploymentConfig": make_deployment_config,
}
"""How to create each kind with a failing pod. Each function returns the object whose template has to be patched."""

OPERATORS: dict[str, Make] = {
    "StrimziPodSet": lambda namespace: make_pod(
        namespace, POD_SET, selector={"matchLabels": LABELS}, pods=[{"spec": pod_spec()}]
    ),
    "CloudNativePG Cluster": lambda namespace: make_pod(namespace, CLUSTER, imageName=OLD),
    "Zalando postgresql": make_postgresql,
}
"""How to create each kind without a template, with a failing pod. Each function returns the object of that kind."""
