"""
Events arrive before the pod's status.

Saffire acts on one if the live Event confirms it, never on the claim alone.
"""

from collections.abc import Awaitable, Callable

import pytest

from playground.cluster.api import Manifest
from testkit.api.namespace_fixture import NamespaceFixture, reference, until, waiting
from testkit.api.workloads import ALIVE, NEW, OLD, deployment, images, pod_spec, pod_spec_of

REFUSED = "dial tcp 192.0.2.1:443: connect: connection refused"
OTHER_UID = "00000000-0000-4000-8000-000000000000"


def alive(namespace: NamespaceFixture) -> str:
    """Return an image in a registry that only this test uses, and that works until the test makes it fail."""
    return f"{namespace.name}.example/acme/web:v1"


async def created(namespace: NamespaceFixture, slow_node: str, image: str) -> Manifest:
    """Return the pod of a new Deployment whose status only says that its container is being created."""
    await namespace.source(f"{image.partition('/')[0]}/acme/*", f"{ALIVE}/acme/*")
    spec = pod_spec(nodeName=slow_node)
    spec["containers"][0]["image"] = image
    await namespace.apply(deployment(spec))

    async def look() -> Manifest | None:
        return next((pod for pod in await namespace.pods() if waiting(pod) == {"ContainerCreating"}), None)

    return await until(look)


async def test_the_first_event_is_enough_when_the_live_event_backs_it(
    namespace: NamespaceFixture, slow_node: str
) -> None:
    """The first Event of a failed pull moves the workload, long before the pod's status shows the failure."""
    pod = await created(namespace, slow_node, OLD)
    event = await namespace.event(pod)
    answer = await namespace.post(event)
    assert {"ContainerCreating"} == waiting(await namespace.read(pod))
    assert (200, f"moved web of Deployment/web to {NEW}") == (answer.status, answer.text)
    assert [("deployments", "web")] == namespace.patches()


async def test_an_event_without_the_image_is_not_enough(namespace: NamespaceFixture, slow_node: str) -> None:
    """`Error: ErrImagePull` names no image: as long as the status says nothing more, nothing moves."""
    pod = await created(namespace, slow_node, OLD)
    await namespace.event(pod)

    async def second() -> Manifest | None:
        failures = await namespace.events(pod["metadata"]["uid"], reason="Failed")
        return next((event for event in failures if event["message"] == "Error: ErrImagePull"), None)

    answer = await namespace.post(await until(second))
    assert (200, "NoPullFailure") == (answer.status, answer.text)
    assert [] == namespace.writes_but_status()


async def nothing(namespace: NamespaceFixture, pod: Manifest) -> Manifest:
    """Claim an Event that does not exist."""
    genuine = await namespace.write_kubelet_event(pod, "containers", "web", alive(namespace))
    await namespace.api.delete(await namespace.api.path(genuine))
    return genuine


def lie(
    suffix: str = "", message: str = "", **fields: object
) -> Callable[[NamespaceFixture, Manifest], Awaitable[Manifest]]:
    """
    Return a function that claims an Event that was written otherwise.

    That Event has another `suffix` of the image, another `message` before the image, or other `fields`.
    """

    async def claim(namespace: NamespaceFixture, pod: Manifest) -> Manifest:
        involved = fields.get("involvedObject", {})
        assert isinstance(involved, dict)
        image, at = alive(namespace), reference(pod) | {"fieldPath": "spec.containers{web}"}
        said = f'{message or "Failed to pull image"} "{image}{suffix}"'
        about = {"involvedObject": at | involved, "message": said if message else f"{said}: {REFUSED}"}
        written = await namespace.write_kubelet_event(pod, "containers", "web", image, **(fields | about))
        claimed = f'Failed to pull image "{image}": {REFUSED}'
        return {**written, "type": "Warning", "reason": "Failed", "involvedObject": at, "message": claimed}

    return claim


FORGERIES = {
    "no such Event": nothing,
    "an Event about another image": lie(suffix="2"),
    "an Event about an image of which it is a part": lie(suffix="1"),
    "an Event about another container": lie(involvedObject={"fieldPath": "spec.containers{other}"}),
    "an Event about the whole pod": lie(involvedObject={"fieldPath": ""}),
    "an Event about an earlier pod of that name": lie(involvedObject={"uid": OTHER_UID}),
    "an Event about a pull that starts": lie(type="Normal", reason="Pulling", message="Pulling image"),
    "a normal Event": lie(type="Normal"),
}


@pytest.mark.parametrize("claim", FORGERIES.values(), ids=FORGERIES)
async def test_a_forged_event_changes_nothing(
    namespace: NamespaceFixture, slow_node: str, claim: Callable[[NamespaceFixture, Manifest], Awaitable[Manifest]]
) -> None:
    """A claim about a pod that is being created moves nothing unless the live Event says exactly the same."""
    image = alive(namespace)
    domain = image.partition("/")[0]
    pod = await created(namespace, slow_node, image)
    forged = await claim(namespace, pod)
    namespace.mark()
    answer = await namespace.post(forged)
    assert (200, "NoPullFailure") == (answer.status, answer.text)
    assert [] == namespace.patches()
    assert {"web": image} == images(pod_spec_of(await namespace.read(deployment())))
    # Once the same claim is true, and the registry is dead for Saffire too, Saffire acts on it.
    namespace.dead.add(domain)
    await namespace.post(await namespace.write_kubelet_event(pod, "containers", "web", image))
    namespace.dead.discard(domain)
    assert [("deployments", "web")] == namespace.patches()


async def test_an_event_about_an_earlier_pod_of_that_name_changes_nothing(namespace: NamespaceFixture) -> None:
    """A pod with the name of the claim and another uid is another pod: nothing moves, even if it fails too."""
    await namespace.source()
    _, event = await namespace.fail(deployment())
    namespace.mark()
    answer = await namespace.post(event | {"involvedObject": event["involvedObject"] | {"uid": OTHER_UID}})
    assert (200, "NoSuchPod") == (answer.status, answer.text)
    assert [] == namespace.patches()


async def test_a_pod_that_runs_is_left_whatever_is_told_of_it(namespace: NamespaceFixture) -> None:
    """If the status says that the container runs, not even a live Event that says otherwise moves it."""
    await namespace.source()
    spec = pod_spec()
    spec["containers"][0]["image"] = NEW
    await namespace.apply(deployment(spec))

    async def look() -> Manifest | None:
        pods = await namespace.pods()
        return next((pod for pod in pods if pod["status"]["phase"] == "Running"), None)

    pod = await until(look)
    namespace.mark()
    answer = await namespace.post(await namespace.write_kubelet_event(pod, "containers", "web", NEW))
    assert (200, "NoPullFailure") == (answer.status, answer.text)
    assert [] == namespace.patches()
