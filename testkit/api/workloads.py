"""Manifests of every kind that runs pods, with the images that a test gives."""

from collections.abc import Iterable
from typing import Any

from playground.cluster.api import Manifest

DEAD, ALIVE = "quay.io", "ghcr.io"
OLD, NEW = f"{DEAD}/acme/web:v1", f"{ALIVE}/acme/web:v1"
LABELS = {"app": "web"}
_SELECTED = {"matchLabels": LABELS}


def container(name: str = "web", image: str = OLD, **fields: Any) -> Manifest:
    """Return a container of a pod's spec."""
    return {"name": name, "image": image, **fields}


def pod_spec(*containers: Manifest, init: Iterable[Manifest] = (), **fields: Any) -> Manifest:
    """Return a pod's spec. Its pods are gone at once when they are deleted."""
    spec: Manifest = {"containers": list(containers) or [container()], "terminationGracePeriodSeconds": 0, **fields}
    return {**spec, "initContainers": list(init)} if init else spec


def template(spec: Manifest | None = None) -> Manifest:
    """Return a pod template."""
    return {"metadata": {"labels": LABELS}, "spec": spec or pod_spec()}


def _manifest(api_version: str, kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def deployment(spec: Manifest | None = None, *, name: str = "web", **fields: Any) -> Manifest:
    """Return a Deployment. It keeps its failing pods until their successors run, unless `fields` say otherwise."""
    wanted = {"replicas": 1, "selector": _SELECTED, "template": template(spec), **fields}
    return _manifest("apps/v1", "Deployment", name, wanted)


def deployments(count: int) -> list[Manifest]:
    """Return that many Deployments, each with labels of its own."""
    made = []
    for number in range(count):
        manifest, labels = deployment(name=f"web-{number}"), {"app": f"web-{number}"}
        manifest["spec"] |= {"selector": {"matchLabels": labels}}
        manifest["spec"]["template"] |= {"metadata": {"labels": labels}}
        made.append(manifest)
    return made


def replica_set(spec: Manifest | None = None) -> Manifest:
    """Return a ReplicaSet."""
    return _manifest("apps/v1", "ReplicaSet", "web", {"replicas": 2, "selector": _SELECTED, "template": template(spec)})


def replication_controller(spec: Manifest | None = None) -> Manifest:
    """Return a ReplicationController."""
    wanted = {"replicas": 2, "selector": LABELS, "template": template(spec)}
    return _manifest("v1", "ReplicationController", "web", wanted)


def stateful_set(spec: Manifest | None = None, *, name: str = "web") -> Manifest:
    """Return a StatefulSet whose pods start one after the other."""
    wanted = {"replicas": 2, "serviceName": "web", "selector": _SELECTED, "template": template(spec)}
    return _manifest("apps/v1", "StatefulSet", name, wanted)


def daemon_set(spec: Manifest | None = None) -> Manifest:
    """Return a DaemonSet."""
    return _manifest("apps/v1", "DaemonSet", "web", {"selector": _SELECTED, "template": template(spec)})


def job(spec: Manifest | None = None) -> Manifest:
    """Return a Job."""
    once = {**(spec or pod_spec()), "restartPolicy": "Never"}
    return _manifest("batch/v1", "Job", "web", {"template": {"spec": once}})


def cron_job(spec: Manifest | None = None) -> Manifest:
    """Return a CronJob whose schedule is never due: tests create its Jobs."""
    wanted = {"schedule": "0 0 30 2 *", "jobTemplate": {"spec": job(spec)["spec"]}}
    return _manifest("batch/v1", "CronJob", "web", wanted)


def job_of(cron: Manifest) -> Manifest:
    """Return a Job of a live CronJob, as `kubectl create job --from` creates it."""
    made = _manifest("batch/v1", "Job", f"{cron['metadata']['name']}-now", cron["spec"]["jobTemplate"]["spec"])
    made["metadata"] |= {
        "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
        "ownerReferences": [owner_reference(cron)],
    }
    return made


def pod(spec: Manifest | None = None, *, name: str = "web", **metadata: Any) -> Manifest:
    """Return a bare Pod."""
    made = _manifest("v1", "Pod", name, spec or pod_spec())
    made["metadata"] |= {"labels": LABELS, **metadata}
    return made


def owner_reference(owner: Manifest) -> Manifest:
    """Return the reference that names a live object as the controller."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }


def images(spec: Manifest) -> dict[str, str]:
    """Return the image of each container of a pod's spec, by name."""
    return {entry["name"]: entry["image"] for role in ("initContainers", "containers") for entry in spec.get(role, ())}


def pod_spec_of(manifest: Manifest) -> Manifest:
    """Return the pod's spec of a pod, or of an object with a template."""
    spec: Manifest = manifest["spec"]
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    spec_of_pods: Manifest = spec.get("template", {}).get("spec", spec)
    return spec_of_pods
