"""
The baseline of recovery: the patches that a row needs, sent by whoever knows beforehand what to do.

They go out at the moment that the API server has the Event of a failed pull: from the same watch that the clock is read
by, without a look at anything else, without guards and without a record. Nothing that reacts to Events can be faster.
"""

from http import HTTPStatus

from playground.api import ApiError, Manifest
from testkit.api.workloads import pod_spec_of
from testkit.node.namespace_fixture import tells_of_failure
from testkit.node.recovery_run import RecoveryRun

_TEMPLATES = {"CronJob": "/spec/jobTemplate/spec/template/spec", "Pod": "/spec"}
_TEMPLATE = "/spec/template/spec"


async def free(play: RecoveryRun) -> None:
    """Send the patches of a row that is played without Saffire, as its pods fail, and new ones again; never return."""
    done: set[tuple[str, str]] = set()
    seen = 0
    while True:
        await play.namespace.until(lambda: len(play.namespace.seen) > seen)  # noqa: B023 -- awaited before it changes
        news = [manifest for _, manifest in play.namespace.seen[seen:]]
        seen += len(news)
        for event in filter(tells_of_failure, news):
            for target, field in await _targets(play, event):
                if (target["metadata"]["uid"], field) not in done:
                    done.add((target["metadata"]["uid"], field))
                    await _move(play, target, field)


async def _targets(play: RecoveryRun, event: Manifest) -> list[tuple[Manifest, str]]:
    """Return what is to be patched because of an Event, in order, with the path of the container that failed."""
    failed = event["involvedObject"]
    pod = play.namespace.pods.get(failed["uid"]) or await _read(play, failed)
    targets = (play.live if step == "template" else pod for step in play.row.steps)
    return [(target, failed["fieldPath"]) for target in targets if target]


async def _read(play: RecoveryRun, failed: Manifest) -> Manifest | None:
    """Return a pod of which the watch of Events told before that of pods; `None` if it is gone."""
    api = play.namespace.api
    try:
        pod: Manifest = await api.get(await api.path({"apiVersion": "v1", "kind": "Pod", "metadata": failed}))
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return None
    return pod if failed["uid"] == pod["metadata"]["uid"] else None


async def _move(play: RecoveryRun, target: Manifest, field: str) -> None:
    """Patch the image of the container at `field`, such as `spec.containers{web}`, unless its pod is gone by now."""
    role, _, name = field.removeprefix("spec.").rstrip("}").partition("{")
    containers = pod_spec_of(target)[role]
    index = next(index for index, container in enumerate(containers) if container["name"] == name)
    path = f"{_TEMPLATES.get(target['kind'], _TEMPLATE)}/{role}/{index}/image"
    change = {"op": "replace", "path": path, "value": play.repositories.moved(containers[index]["image"])}
    try:
        await play.namespace.api.patch(await play.namespace.api.path({"apiVersion": "v1"} | target), [change], "json")
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
