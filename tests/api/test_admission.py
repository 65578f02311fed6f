"""Admission that changes pods: it injects containers, and rewrites images."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playground.cluster.api import Manifest
from testkit.api.mutation import mutating
from testkit.api.namespace_fixture import NamespaceFixture, statuses, until
from testkit.api.workloads import ALIVE, DEAD, NEW, OLD, container, deployment, images, pod, pod_spec, pod_spec_of

PLAIN = "docker.io/acme/web:v1"
HEALTHY = f"{ALIVE}/acme/healthy:v1"
REWRITES = f"""
object.spec.containers.all(each, each.image.startsWith("{DEAD}")) ? [] :
[JSONPatch{{op: "replace", path: "/spec/containers/0/image", value: "{OLD}"}}]
"""
INJECTS = f"""
object.spec.containers.exists(each, each.name == "proxy") ? [] :
[JSONPatch{{
  op: "add", path: "/spec/containers/-",
  value: Object.spec.containers{{name: "proxy", image: "{OLD}"}}
}}]
"""


PUTS_BACK = f"""
object.spec.template.spec.containers.all(each, each.image == "{OLD}") ? [] :
[JSONPatch{{op: "replace", path: "/spec/template/spec/containers/0/image", value: "{OLD}"}}]
"""


@asynccontextmanager
async def admitted(namespace: NamespaceFixture, expression: str, *operations: str) -> AsyncIterator[None]:
    """Have admission change pods, and return once it does."""
    async with mutating(namespace, expression, *operations):
        await until(lambda: changes_pods(namespace))
        yield


async def changes_pods(namespace: NamespaceFixture) -> bool:
    """Say whether admission changes a pod at its creation."""
    plain = pod(pod_spec(container(image=PLAIN)))
    tried = await namespace.api.request("POST", f"/api/v1/namespaces/{namespace.name}/pods", plain, dryRun="All")
    return {"web": PLAIN} != images(tried["spec"])


async def until_runs(namespace: NamespaceFixture, pod: Manifest) -> None:
    """Wait until all containers of a pod run."""

    async def look() -> bool:
        return all("running" in status["state"] for status in statuses(await namespace.read(pod)).values())

    await until(look)


async def test_a_container_that_admission_injects_moves_in_place(namespace: NamespaceFixture) -> None:
    """No template names the container, so each pod is patched in place, and the workload stays unchanged."""
    await namespace.source()
    async with admitted(namespace, INJECTS, "CREATE"):
        failing, event = await namespace.fail(deployment(pod_spec(container(image=HEALTHY))))
        before = await namespace.read(deployment())
        await namespace.post(event)
        assert [("pods", failing["metadata"]["name"])] == namespace.patches()
        assert before["spec"] == (await namespace.read(deployment()))["spec"]
        await until_runs(namespace, failing)
    assert {"web": HEALTHY, "proxy": NEW} == images((await namespace.read(failing))["spec"])


async def test_an_image_that_admission_rewrites_moves_in_place(namespace: NamespaceFixture) -> None:
    """If the template names another registry, only the pod moves, to the template's image if a source lists it."""
    await namespace.source(f"{DEAD}/acme/*", f"{ALIVE}/acme/*", "docker.io/acme/*")
    async with admitted(namespace, REWRITES, "CREATE"):
        failing, event = await namespace.fail(deployment(pod_spec(container(image=PLAIN))))
        await namespace.post(event)
        assert [("pods", failing["metadata"]["name"])] == namespace.patches()
        assert {"web": PLAIN} == images(pod_spec_of(await namespace.read(deployment())))
        await until_runs(namespace, failing)
    assert {"web": PLAIN} == images((await namespace.read(failing))["spec"])


async def test_an_image_that_admission_puts_back_at_once_is_no_failover(namespace: NamespaceFixture) -> None:
    """If admission restores the old image during the patch, the pod's Event says so; the source lists no failover."""
    await namespace.source(f"{DEAD}/acme/*", f"{ALIVE}/acme/*", "docker.io/acme/*")
    async with admitted(namespace, REWRITES, "CREATE", "UPDATE"):
        failing, event = await namespace.fail(deployment(pod_spec(container(image=PLAIN))))
        answer = await namespace.post(event)
        assert 403 == answer.status
        assert {"web": OLD} == images((await namespace.read(failing))["spec"])
        ((reason, message),) = await namespace.saffire_events(failing)
        assert ("FailoverRefused", f"admission put {OLD} in place of the alternative") == (reason, message)
    assert "switches" not in await namespace.status()


async def test_if_admission_puts_back_the_image_of_a_template_its_stuck_pod_is_freed(
    namespace: NamespaceFixture,
) -> None:
    """The workload's Event says what admission did, and no rollout follows."""
    await namespace.source()
    failing, event = await namespace.fail(deployment())
    live = await namespace.read(deployment())
    moved = {"spec": {"template": {"spec": {"containers": [container(image=NEW)]}}}}

    async def is_put_back() -> bool:
        tried = await namespace.api.patch(await namespace.api.path(live), moved, dryRun="All")
        return {"web": OLD} == images(pod_spec_of(tried))

    async with mutating(namespace, PUTS_BACK, "UPDATE", resource="deployments.apps"):
        await until(is_put_back)
        assert 403 == (await namespace.post(event)).status
        await until_runs(namespace, failing)
        ((reason, message),) = await namespace.saffire_events(live)
        assert ("FailoverRefused", f"admission put {OLD} in place of the alternative") == (reason, message)
        namespace.mark()
        await namespace.sweep()
    assert [] == namespace.patches()
    assert {"web": OLD} == images(pod_spec_of(await namespace.read(deployment())))
    [switch] = (await namespace.status())["switches"]
    assert [failing["metadata"]["name"]] == switch["pods"]
    assert [failing["metadata"]["uid"]] == [pod["metadata"]["uid"] for pod in await namespace.pods()]
