"""
The baseline of recovery: a script that knows beforehand which patches a row needs, and in which order it settles first.

It sends them at the moment the API server has the Event of a failed pull, from the watch that the clock is read by too.
It reads nothing else, and sends no guards and no record. Nothing that reacts to Events can be faster.
"""

from http import HTTPStatus
from typing import Any

from playground.cluster.api import ApiError, Manifest
from testkit.api.workloads import pod_spec_of
from testkit.node.namespace_fixture import tells_of_failure
from testkit.node.recovery_rows import Step
from testkit.node.recovery_run import RecoveryRun

_TEMPLATES = {"CronJob": "/spec/jobTemplate/spec/template/spec", "Pod": "/spec"}
_TEMPLATE = "/spec/template/spec"
_REVISION = "/metadata/labels/controller-revision-hash"


async def patch_as_pods_fail(run: RecoveryRun) -> None:
    """Send the patches of a row whenever a pod of it fails, in place of Saffire; never return."""
    done: set[tuple[str, str]] = set()
    seen = 0
    generation = 0
    while True:
        await run.namespace.until(lambda: len(run.namespace.seen) > seen)  # noqa: B023 -- awaited before `seen` changes
        news = [manifest for _, manifest in run.namespace.seen[seen:]]
        seen += len(news)
        for event in filter(tells_of_failure, news):
            for step, target, field in await _targets(run, event):
                if (target["metadata"]["uid"], field) in done:
                    continue
                done.add((target["metadata"]["uid"], field))
                also = await _adoption(run, generation) if step == "adopt" else []
                patched = await _move(run, target, field, also)
                generation = patched if step == "template" else generation


async def _targets(run: RecoveryRun, event: Manifest) -> list[tuple[Step, Manifest, str]]:
    """Return what has to be patched because of an Event, in order: step, object, path of the container that failed."""
    failed = event["involvedObject"]
    pod = run.namespace.pods.get(failed["uid"]) or await _read(run, failed)
    targets = ((step, run.live if step == "template" else pod) for step in run.row.steps)
    return [(step, target, failed["fieldPath"]) for step, target in targets if target]


async def _read(run: RecoveryRun, failed: Manifest) -> Manifest | None:
    """Return a pod whose Event arrived before the pod itself; `None` if the pod is gone."""
    api = run.namespace.api
    try:
        pod: Manifest = await api.get(await api.path({"apiVersion": "v1", "kind": "Pod", "metadata": failed}))
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return None
    return pod if failed["uid"] == pod["metadata"]["uid"] else None


async def _adoption(run: RecoveryRun, generation: int) -> list[Any]:
    """Return the change that makes a pod one of the revision of the template's `generation`, once there is one."""
    live: Manifest = {}

    def is_observed() -> bool:
        nonlocal live
        live = run.namespace.objects["StatefulSet"][run.live["metadata"]["uid"]]
        return bool(live["status"].get("observedGeneration", 0) >= generation)

    await run.namespace.until(is_observed)
    return [{"op": "replace", "path": _REVISION, "value": live["status"]["updateRevision"]}]


async def _move(run: RecoveryRun, target: Manifest, field: str, also: list[Any]) -> int:
    """
    Patch the image of the container at `field`, such as `spec.containers{web}`, and what is to change besides.

    Return the generation of the object after that; 0 if the object is gone.
    """
    role, _, name = field.removeprefix("spec.").rstrip("}").partition("{")
    containers = pod_spec_of(target)[role]
    index = next(index for index, container in enumerate(containers) if container["name"] == name)
    path = f"{_TEMPLATES.get(target['kind'], _TEMPLATE)}/{role}/{index}/image"
    change = {"op": "replace", "path": path, "value": run.repositories.moved(containers[index]["image"])}
    api = run.namespace.api
    try:
        patched = await api.patch(await api.path({"apiVersion": "v1"} | target), [change, *also], "json")
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return 0
    return int(patched["metadata"].get("generation", 0))
