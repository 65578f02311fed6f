"""Kubernetes objects as the API server returns them, reduced to what Saffire reads."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from saffire.kube.workload import Owners
from saffire.policy.history import Entry
from saffire.pulls.kubelet_event import PullReport, read_event
from saffire.sources.spec import IGNORE, Source, faults_of, source_of
from testkit import RECORDINGS

Object = dict[str, Any]

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
FAILING = "quay.io/acme/web:1.2"
SECOND = "ghcr.io/acme/web:1.2"
THIRD = "registry.example:5000/mirror/web:1.2"
OPT_OUT = {IGNORE: "true"}
REFUSED = "dial tcp 127.0.0.1:5001: connect: connection refused"
FAILED = f'Failed to pull image "{FAILING}": {REFUSED}'

_STATUSES = {
    "containers": "containerStatuses",
    "initContainers": "initContainerStatuses",
    "ephemeralContainers": "ephemeralContainerStatuses",
}
_API_VERSIONS = {
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "CronJob": "batch/v1",
    "Job": "batch/v1",
    "Rollout": "argoproj.io/v1alpha1",
    "CloneSet": "apps.kruise.io/v1alpha1",
    "Revision": "serving.knative.dev/v1",
    "Configuration": "serving.knative.dev/v1",
    "Service": "serving.knative.dev/v1",
    "Widget": "example.com/v1",
    "DeploymentConfig": "apps.openshift.io/v1",
    "StrimziPodSet": "core.strimzi.io/v1beta2",
    "Cluster": "postgresql.cnpg.io/v1",
    "postgresql": "acid.zalan.do/v1",
}
_BETWEEN = {
    "Deployment": "ReplicaSet",
    "Rollout": "ReplicaSet",
    "CronJob": "Job",
    "DeploymentConfig": "ReplicationController",
}


def recorded(file: str) -> list[Object]:
    """Return the objects of a recorded Kubernetes list; `file` is its name in `recordings/`."""
    items: list[Object] = json.loads((RECORDINGS / file).read_text())["items"]
    return items


def recorded_pod(name: str) -> Object:
    """Return the pod of this name that was recorded on a node of Kubernetes 1.34."""
    return next(pod for pod in recorded("pods-1.34.json") if pod["metadata"]["name"] == name)


def waiting(name: str = "web", image: str = FAILING, reason: str = "ErrImagePull", message: str = "") -> Object:
    """Return the status of a container that never ran, and waits for `reason` (`state.waiting.reason`)."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": name, "image": image, "imageID": "", "lastState": {}, "state": state}


def running(name: str = "web", image: str = FAILING) -> Object:
    """Return the status of a container that runs; its image has the digest `sha256:d03c`."""
    state = {"running": {"startedAt": "2026-11-23T00:40:21Z"}}
    return {"name": name, "image": image, "imageID": f"{image}@sha256:d03c", "lastState": {}, "state": state}


def pod(*statuses: Object, section: str = "containers", **images: str) -> Object:
    """
    Return a pod with these container statuses, and with a container for each image in `images`, by container name.

    By default, the pod has one container `web` with the image `FAILING`.
    """
    containers = [{"name": name, "image": image} for name, image in (images or {"web": FAILING}).items()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "pod-uid", "resourceVersion": "6"},
        "spec": {section: containers},
        "status": {_STATUSES[section]: list(statuses)},
    }


def workload(kind: str, *, section: str = "containers", **images: str) -> Object:
    """
    Return a workload whose template has a container for each image in `images`, by container name.

    By default, the template has one container `web` with the image `FAILING`.
    """
    containers = [{"name": name, "image": image} for name, image in (images or {"web": FAILING}).items()]
    spec: Object = {"template": {"metadata": {"labels": {"app": "web"}}, "spec": {section: containers}}}
    if kind == "CronJob":
        spec = {"schedule": "* * * * *", "jobTemplate": {"spec": spec}}
    return {
        "apiVersion": _API_VERSIONS.get(kind, "v1"),
        "kind": kind,
        "metadata": {
            "name": f"a-{kind.lower()}",
            "namespace": "shop",
            "uid": f"{kind.lower()}-uid",
            "resourceVersion": "5",
        },
        "spec": spec,
    }


def chain(kind: str, **images: str) -> Owners:
    """Return the owners of a pod whose workload is of this kind; the templates of all owners have the same images."""
    if kind == "Pod":
        return Owners()
    kinds = [_BETWEEN[kind], kind] if kind in _BETWEEN else [kind]
    return Owners(chain=tuple(workload(name, **images) for name in kinds))


def annotated(manifest: Object, annotations: dict[str, str]) -> Object:
    """Return a copy of the object with `annotations` added to the annotations that it has."""
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), **annotations}}}


def source_manifest(*equivalents: list[str], name: str = "shop", **spec: Any) -> Object:
    """
    Return an AlternateImageSource with these sets of equivalent repositories.

    By default, it has one set: the repositories of `FAILING`, `SECOND` and `THIRD`.
    """
    sets = equivalents or (["quay.io/acme/web", "ghcr.io/acme/web", "registry.example:5000/mirror/web"],)
    replacements = [{"equivalentRepositories": entries} for entries in sets]
    return {
        "apiVersion": "saffire.fairwinds.com/v1alpha1",
        "kind": "AlternateImageSource",
        "metadata": {"name": name, "namespace": "shop", "uid": f"{name}-uid", "generation": 3, "resourceVersion": "7"},
        "spec": {"imageSourceReplacements": replacements, **spec},
    }


def cluster_source_manifest(*equivalents: list[str], name: str = "shop", **spec: Any) -> Object:
    """Return a ClusterAlternateImageSource for every namespace, by default with the set of `source_manifest`."""
    manifest = source_manifest(*equivalents, name=name, **{"namespaceSelector": {}, **spec})
    del manifest["metadata"]["namespace"]
    return {**manifest, "kind": "ClusterAlternateImageSource"}


def cluster_source(*equivalents: list[str], name: str = "shop", **spec: Any) -> Source:
    """Return a ClusterAlternateImageSource, parsed."""
    return declared(cluster_source_manifest(*equivalents, name=name, **spec))


def source(*equivalents: list[str], name: str = "shop", **spec: Any) -> Source:
    """Return an AlternateImageSource, parsed."""
    return declared(source_manifest(*equivalents, name=name, **spec))


def declared(manifest: Object) -> Source:
    """Return the source that a manifest without faults declares."""
    source = source_of(manifest)
    assert source, faults_of(manifest)
    return source


def event(
    message: str, reason: str = "Failed", kind: str = "Warning", field_path: str = "spec.containers{web}"
) -> Object:
    """Return an Event of core/v1 that a kubelet wrote about the pod that the function `pod` returns."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "web-0.18ea85bf40cf1191", "namespace": "shop", "uid": "event-uid"},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": "shop",
            "name": "web-0",
            "uid": "pod-uid",
            "fieldPath": field_path,
        },
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": "kubelet", "host": "node1"},
    }


def moved(before: str, after: str, at: datetime = NOW, container: str = "web", **fields: Any) -> Entry:
    """Return an entry of an object's history: a failover of a container from the image `before` to `after`."""
    values: dict[str, Any] = {"source": "shop", "proof": "unverified", **fields}
    return Entry(container=container, before=before, after=after, at=at, **values)


def report(message: str = FAILED, *, uid: str = "pod-uid", **fields: str) -> PullReport:
    """Return what Saffire reads from a kubelet's Event with this message, about the pod with this uid."""
    live = event(message, **fields)
    parsed = read_event({**live, "involvedObject": {**live["involvedObject"], "uid": uid}})
    assert parsed
    return parsed


def kubeconfig(folder: Path, server: str) -> str:
    """Write a kubeconfig without credentials for the API server at the URL `server`; return the file's path."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)
