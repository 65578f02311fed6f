"""Many pods fail at once, as in an outage: each object is patched once, whichever delivery is first."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from playground.function_process import FunctionProcess
from testkit.api.namespace_fixture import NamespaceFixture, until
from testkit.api.workloads import NEW, OLD, deployment, deployments, images, pod_spec_of, replica_set

PODS = 50


@pytest.mark.parametrize("functions", [1, 2])
async def test_fifty_failing_pods_of_one_deployment_make_one_patch(
    namespace: NamespaceFixture, kubeconfig: Path, environ: dict[str, str], functions: int
) -> None:
    """However many pods fail and functions get each Event, the Deployment is patched and recorded once."""
    await namespace.source()
    await namespace.apply(deployment(replicas=PODS))
    events = await asyncio.gather(*(namespace.event(failing) for failing in await namespace.failing(PODS)))
    async with asyncio.TaskGroup() as group, FunctionProcess(kubeconfig, **environ) as second:
        namespace.mark()
        urls = [namespace.url, second.url][:functions]
        posts = [group.create_task(namespace.post(event, url=url)) for event in events for url in urls]
        await asyncio.wait(posts)
    answers = [post.result() for post in posts]
    assert {200: PODS * functions} == Counter(answer.status for answer in answers)
    assert [("deployments", "web")] == namespace.patches()
    assert NEW == images(pod_spec_of(await namespace.read(deployment())))["web"]
    assert 1 == sum(answer.text.startswith("moved ") for answer in answers)
    # Only the delivery that has something to record has to write the source's status.
    assert 8 * functions >= sum(
        f"{call.verb} {call.resource}" == "get alternateimagesources" for call in namespace.calls()
    )
    status = await namespace.status()
    assert ([(OLD, NEW)], 1) == ([(s["oldImage"], s["newImage"]) for s in status["switches"]], status["activeCount"])

    async def healed() -> bool:
        pods = await namespace.pods()
        return [{"web": NEW}] * PODS == [images(pod["spec"]) for pod in pods]

    await until(healed)


async def test_every_failing_pod_of_a_replica_set_is_patched_once(namespace: NamespaceFixture) -> None:
    """Pods that have to be patched are patched once each, and the template once, with one record."""
    workload = replica_set()
    workload["spec"]["replicas"] = PODS
    await namespace.source()
    await namespace.apply(workload)
    failing = await namespace.failing(PODS)
    events = await asyncio.gather(*(namespace.event(pod) for pod in failing))
    namespace.mark()
    answers = await asyncio.gather(*(namespace.post(event) for event in events))
    assert {200: PODS} == Counter(answer.status for answer in answers)
    patched = Counter(namespace.patches())
    assert {("replicasets", "web"): 1, **{("pods", pod["metadata"]["name"]): 1 for pod in failing}} == patched
    status = await namespace.status()
    assert (1, 1) == (len(status["switches"]), status["activeCount"])


@pytest.mark.parametrize(("count", "listed"), [(4, 0), (6, 1)])
async def test_owners_of_many_are_listed(namespace: NamespaceFixture, count: int, listed: int) -> None:
    """The owners of a few pods are read by name, those of many are listed; all workloads move in both cases."""
    await namespace.source()
    workloads = [await namespace.apply(workload) for workload in deployments(1 + count)]
    names = [workload["metadata"]["name"] for workload in workloads]
    failing, *_ = await namespace.failing(1 + count)
    event = await namespace.event(failing)
    namespace.mark()
    answer = await namespace.post(event)
    assert 200 == answer.status
    assert sorted(("deployments", name) for name in names) == sorted(namespace.patches())
    assert names == sorted(entry["target"]["name"] for entry in (await namespace.status())["switches"])
    calls = Counter(f"{call.verb} {call.resource}" for call in namespace.calls())
    owners = ("replicasets", "deployments")
    assert [listed] * 2 == [calls[f"list {resource}"] for resource in owners]
    assert [1 if listed else 1 + count] * 2 == [calls[f"get {resource}"] for resource in owners]
