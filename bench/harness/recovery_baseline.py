"""
The baseline of recovery: a script that knows beforehand which patches a row needs.

It sends them at the moment the API server has the Event of a failed pull, from the watch that the clock is read by too.
It reads nothing else, and sends no guards and no record. Nothing that reacts to Events can be faster.
"""

from http import HTTPStatus

from playground.cluster.api import ApiError, Manifest
from testkit.api.workloads import pod_spec_of
from testkit.node.namespace_fixture import tells_of_failure
from testkit.node.recovery_run import RecoveryRun

_TEMPLATES = {"CronJob": "/spec/jobTemplate/spec/template/spec", "Pod": "/spec"}
_TEMPLATE = "/spec/template/spec"


async def patch_as_pods_fail(run: RecoveryRun) -> None:
    """Send the patches of a row whenever a pod of it fails, in place of Saffire; never return."""
    done: set[tuple[str, str]] = set()
    seen = 0
    while True:
        await run.namespace.until(lambda: len(run.namespace.seen) > seen)  # noqa: B023 -- awaited before `seen` changes
        news = [manifest for _, manifest in run.namespace.seen[seen:]]
        seen += len(news)
        for event in filter(tells_of_failure, news):
            for target, field in await _targets(run, event):
                if (target["metadata"]["uid"], field) not in done:
                    done.add((target["metadata"]["uid"], field))
                    await _move(run, target, field)


async def _targets(run: RecoveryRun, event: Manifest) -> list[tuple[Manifest, str]]:
    """Return what has to be patched because of an Event, in order, with the path of the container that failed."""
    failed = event["involvedObject"]
    pod = run.namespace.pods.get(failed["uid"]) or await _read(run, failed)
    targets = (run.live if step == "template" else pod for step in run.row.steps)
    return [(target, failed["fieldPath"]) for target in targets if target]


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


async def _move(run: RecoveryRun, target: Manifest, field: str) -> None:
    """Patch the image of the container at `field`, such as `spec.containers{web}`; do nothing if the object is gone."""
    role, _, name = field.removeprefix("spec.").rstrip("}").partition("{")
    containers = pod_spec_of(target)[role]
    index = next(index for index, container in enumerate(containers) if container["name"] == name)
    path = f"{_TEMPLATES.get(target['kind'], _TEMPLATE)}/{role}/{index}/image"
    change = {"op": "replace", "path": path, "value": run.repositories.moved(containers[index]["image"])}
    try:
        await run.namespace.api.patch(await run.namespace.api.path({"apiVersion": "v1"} | target), [change], "json")
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
