"""Fail back: workloads return to an original that was healthy for long enough, in batches, while none fails."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from playground.simulated.events import rfc3339
from testkit.api.fault_cases import CaseRunner
from testkit.api.fault_proxy import Fault, Harm
from testkit.api.namespace_fixture import (
    GROUP,
    HISTORY,
    IGNORE,
    PULL_REASONS,
    NamespaceFixture,
    statuses,
    until,
    waiting,
)
from testkit.api.registry_pool import PATH, RegistryPool
from testkit.api.workloads import (
    container,
    cron_job,
    deployment,
    images,
    job_of,
    pod,
    pod_spec,
    pod_spec_of,
    replica_set,
    stateful_set,
)
from testkit.check_registry import WEB
from testkit.oci_images import Image, index
from testkit.scripted_registry import Registry

SOURCE = {"apiVersion": GROUP, "kind": "AlternateImageSource", "metadata": {"name": "shop"}}
DIGEST = f"v1@{WEB.digest}"
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
OTHER = index("linux/amd64", build="2")
SWEEPS = 3
"""So many of them do nothing more than the first one did."""


@dataclass(frozen=True)
class FailBackFixture:
    """
    A namespace, and two registries that have the image. Nodes cannot reach the first while it is `down`.

    Args:
        namespace: the namespace.
        original: the registry that the manifests name.
        alternative: the registry that workloads are moved to.

    """

    namespace: NamespaceFixture
    original: Registry
    alternative: Registry

    def image(self, registry: Registry, suffix: str = DIGEST) -> str:
        """Return the reference of the image in a registry."""
        return f"{registry.domain}/{PATH}:{suffix}"

    @property
    def at_original(self) -> dict[str, str]:
        """The images of a template at its original."""
        return {"web": self.image(self.original)}

    @property
    def on_alternative(self) -> dict[str, str]:
        """The images of a template on the alternative."""
        return {"web": self.image(self.alternative)}

    def workload(self, name: str = "web", suffix: str = DIGEST, **fields: Any) -> Manifest:
        """Return a Deployment that is at its original and always pulls."""
        image = container(image=self.image(self.original, suffix), imagePullPolicy="Always")
        return deployment(pod_spec(image), name=name, **fields)

    async def declare(self, after: str = "1s", **spec: Any) -> None:
        """
        Create a source with both registries as equivalents, which lets workloads return.

        The original answers Saffire all the time, so the word of a kubelet has to be enough to move a workload away.
        """
        wanted = {"failBack": {"policy": "Automatic", "after": after}, "trigger": "AnyFailure", **spec}
        await self.namespace.source(f"{self.original.domain}/*", f"{self.alternative.domain}/*", **wanted)

    async def move_to_alternative(self, *workloads: Manifest) -> None:
        """Fail the original, create these workloads, have them moved, and let the original work again."""
        self.namespace.dead.add(self.original.domain)
        await asyncio.gather(*map(self.namespace.apply, workloads))
        await self.namespace.failing(len(workloads))
        await self.namespace.sweep()
        assert len(workloads) == len(await self.active())
        await self.all_running()
        self.namespace.dead.discard(self.original.domain)
        self.namespace.mark()

    async def all_running(self) -> None:
        """Wait until every pod runs."""

        async def look() -> bool:
            return all(
                "running" in entry["state"] for pod in await self.namespace.pods() for entry in statuses(pod).values()
            )

        await until(look)

    async def active(self) -> list[Manifest]:
        """Return the entries of the source's status for workloads on an alternative."""
        entries: list[Manifest] = (await self.namespace.status()).get("active", [])
        return entries

    async def write_healthy_since(self, since: timedelta = 2 * HOUR, last: timedelta = MINUTE) -> None:
        """Write into the status since when the originals are healthy, and when that was last confirmed."""
        now = datetime.now(UTC)
        times = {"healthySince": rfc3339(now - since), "provenAt": rfc3339(now - last)}
        status = {"active": [{**entry, **times} for entry in await self.active()]}
        path = await self.namespace.api.path(await self.namespace.read(SOURCE))
        await self.namespace.api.patch(f"{path}/status", {"status": status})

    async def sweep(self, times: int = 1) -> None:
        """Have the function sweep."""
        for _ in range(times):
            assert 200 == (await self.namespace.sweep()).status

    async def template(self, workload: Manifest) -> dict[str, str]:
        """Return the current images of a template."""
        return images(pod_spec_of(await self.namespace.read(workload)))

    async def swept_until(self, count: int) -> list[str]:
        """Sweep until so many workloads were patched since the last mark, and return their names."""

        async def look() -> list[str] | None:
            await self.sweep()
            names = [name for _, name in self.namespace.patches()]
            return names if len(names) >= count else None

        return sorted(await until(look))


@pytest.fixture(scope="module")
async def checking_function(kubeconfig: Path, pool: RegistryPool) -> AsyncIterator[FunctionProcess]:
    """Give a function without readiness probes, whose results would be written to the status too."""
    async with FunctionProcess(kubeconfig, SAFFIRE_PROBES_PER_MINUTE="0", **pool.environ) as served:
        yield served


@pytest.fixture
async def failback(checking_namespace: NamespaceFixture, pool: RegistryPool) -> AsyncIterator[FailBackFixture]:
    """Give a namespace, and registries that no other test used."""
    failback = FailBackFixture(checking_namespace, pool.filled(), pool.filled())
    yield failback
    checking_namespace.dead.discard(failback.original.domain)
    await checking_namespace.api.delete(checking_namespace.sources)


# The return.


async def test_a_workload_returns_once_its_original_was_healthy_for_long_enough(
    failback: FailBackFixture, checking_function: FunctionProcess
) -> None:
    """The patch of the template contains the record; its pods follow, and log, Events and status say so."""
    await failback.declare()
    await failback.move_to_alternative(failback.workload())
    assert ["web"] == await failback.swept_until(1)
    live = await failback.namespace.read(failback.workload())
    assert failback.at_original == images(pod_spec_of(live))
    entries = json.loads(live["metadata"]["annotations"][HISTORY])["failovers"]
    before, after = failback.image(failback.alternative), failback.image(failback.original)
    assert [(after, before), (before, after)] == [(entry["from"], entry["to"]) for entry in entries]
    assert ("FailedBack", "equal digest") == (entries[-1]["reason"], entries[-1]["proof"])
    status = await failback.namespace.status()
    assert ([], 0) == (status["active"], status["activeCount"])
    switch = status["switches"][-1]
    assert (before, after, "FailedBack") == (switch["oldImage"], switch["newImage"], switch["reason"])
    said = (
        f"moved web of Deployment/web back from {before} to {after}: the original is healthy again at "
        f"{failback.original.domain}; original has the same digest; by AlternateImageSource/"
    )
    for manifest in (live, await failback.namespace.read(SOURCE)):
        messages = [
            message for reason, message in await failback.namespace.saffire_events(manifest) if reason == "FailBack"
        ]
        assert [said] == [message[: len(said)] for message in messages]
    plans = [
        plan for line in checking_function.log() for plan in line.get("plans", ()) if plan.get("candidate") == after
    ]
    assert [("FailBack", "Deployment/web", "template")] == [
        (plan["plan"], plan["workload"], plan["steps"]) for plan in plans
    ]

    async def followed() -> bool:
        return all(failback.at_original == images(pod["spec"]) for pod in await failback.namespace.pods())

    await until(followed)
    failback.namespace.mark()
    await failback.sweep(SWEEPS)
    assert [] == failback.namespace.writes_but_status()  # which writes the readiness again


async def test_one_question_is_asked_for_all_that_have_an_original(failback: FailBackFixture) -> None:
    """For three workloads with one image, a sweep sends one HEAD, which is no pull, and changes the status once."""
    await failback.declare("1h")
    await failback.move_to_alternative(*(failback.workload(f"web-{number}") for number in range(3)))
    failback.alternative.requests.clear()
    await failback.sweep()
    assert 3 == len([entry for entry in await failback.active() if "healthySince" in entry])
    failback.namespace.mark()
    await failback.sweep(SWEEPS)
    assert {f"HEAD /v2/{PATH}/manifests/{WEB.digest}"} == set(failback.original.requests)
    assert len(failback.original.requests) <= SWEEPS
    assert [] == failback.alternative.requests
    assert [] == failback.namespace.writes_but_status()  # which writes the readiness again


async def test_nobody_returns_unless_that_is_wanted(failback: FailBackFixture) -> None:
    """With `Never`, the default, the original is not even checked."""
    await failback.declare()
    await failback.move_to_alternative(failback.workload())
    await failback.namespace.source(f"{failback.original.domain}/*", f"{failback.alternative.domain}/*")
    failback.original.requests.clear()
    await failback.sweep(SWEEPS)
    assert ([], []) == (failback.namespace.patches(), failback.original.requests)
    assert failback.on_alternative == await failback.template(failback.workload())


# The proof.


@pytest.mark.parametrize(
    ("image", "returns"), [(WEB, True), (OTHER, False)], ids=["the same image", "another build under the same tag"]
)
async def test_an_original_has_to_be_the_image_that_runs(
    image: Image, pool: RegistryPool, failback: FailBackFixture, *, returns: bool
) -> None:
    """A tag alone proves nothing: the digest of a running pod decides, and the entry says what was found instead."""
    replaced = FailBackFixture(failback.namespace, pool.filled(image), failback.alternative)
    await replaced.declare("1h")
    await replaced.move_to_alternative(replaced.workload(suffix="v1"))
    (running,) = await replaced.namespace.pods()
    reported = [{**entry, "imageID": f"x@{WEB.digest}"} for entry in running["status"]["containerStatuses"]]
    path = await replaced.namespace.api.path(running)
    await replaced.namespace.api.patch(f"{path}/status", {"status": {"containerStatuses": reported}})
    await replaced.write_healthy_since()
    await replaced.sweep()
    assert ([("deployments", "web")] if returns else []) == replaced.namespace.patches()
    if not returns:
        (entry,) = await replaced.active()
        original = replaced.image(replaced.original, "v1")
        assert f"{original}: it is another image than the one that runs" == entry["blockedBy"]
        assert "healthySince" not in entry


async def test_of_what_does_not_run_the_alternative_tells(failback: FailBackFixture) -> None:
    """A CronJob without running pods returns if both registries have one digest."""
    await failback.declare("1h")
    failback.namespace.dead.add(failback.original.domain)
    cron = await failback.namespace.apply(cron_job(pod_spec(container(image=failback.image(failback.original, "v1")))))
    await failback.namespace.apply(job_of(cron))
    await failback.namespace.failing()
    await failback.sweep()

    async def over() -> bool:
        return {"Succeeded"} == {pod["status"]["phase"] for pod in await failback.namespace.pods()}

    await until(over)
    failback.namespace.dead.discard(failback.original.domain)
    failback.namespace.mark()
    await failback.write_healthy_since()
    await failback.sweep()
    assert [("cronjobs", "web")] == failback.namespace.patches()
    assert {"web": failback.image(failback.original, "v1")} == await failback.template(cron_job())


async def test_an_original_that_is_gone_again_has_to_be_proven_anew(failback: FailBackFixture) -> None:
    """If the registry answers that the image is missing, the healthy time starts anew."""
    await failback.declare("1h")
    failback.original.lose(WEB.digest)
    await failback.move_to_alternative(failback.workload())
    await failback.write_healthy_since()
    await failback.sweep()
    (entry,) = await failback.active()
    assert not {"healthySince", "provenAt"} & entry.keys()
    why = f"{failback.original.domain} has no such image"
    assert f"{failback.image(failback.original)}: {why}" == entry["blockedBy"]
    failback.original.push(f"{PATH}:v1", WEB)
    await failback.sweep()
    (entry,) = await failback.active()
    assert datetime.now(UTC) - datetime.fromisoformat(entry["healthySince"]) < MINUTE
    assert "blockedBy" not in entry
    assert [] == failback.namespace.patches()


async def test_a_time_in_which_nobody_looked_proves_nothing(failback: FailBackFixture) -> None:
    """If the function was down for an hour, what the status says about that hour does not count."""
    await failback.declare("1h")
    await failback.move_to_alternative(failback.workload())
    await failback.write_healthy_since(since=2 * HOUR, last=HOUR)
    await failback.sweep()
    (entry,) = await failback.active()
    assert datetime.now(UTC) - datetime.fromisoformat(entry["healthySince"]) < MINUTE
    assert [] == failback.namespace.patches()
    await failback.write_healthy_since(since=2 * HOUR, last=14 * MINUTE)
    await failback.sweep()
    assert [("deployments", "web")] == failback.namespace.patches()


# Batches, and what stops them.


SLUGGISH = {"replicas": 1, "updateStrategy": {"type": "OnDelete"}}


@pytest.mark.parametrize(("count", "batch"), [(12, 1), (25, 2)])
async def test_no_more_than_a_tenth_is_on_its_way_at_once(failback: FailBackFixture, count: int, batch: int) -> None:
    """The next batch returns once the first has arrived; these StatefulSets' pods follow only when they are deleted."""
    await failback.declare("1h")
    spec = pod_spec(container(image=failback.image(failback.original), imagePullPolicy="Always"))
    sets = [stateful_set(spec, name=f"web-{number:02}") for number in range(count)]
    await failback.move_to_alternative(*({**workload, "spec": {**workload["spec"], **SLUGGISH}} for workload in sets))
    await failback.write_healthy_since()
    await failback.sweep()
    first = [name for _, name in failback.namespace.patches()]
    assert batch == len(first)
    await failback.sweep(SWEEPS)
    assert first == [name for _, name in failback.namespace.patches()]
    assert count - batch == (await failback.namespace.status())["activeCount"]
    for name in first:
        await failback.namespace.api.delete(
            await failback.namespace.api.path(await failback.namespace.read(pod(name=f"{name}-0")))
        )
    failback.namespace.mark()
    second = await failback.swept_until(batch)
    assert batch == len(second)
    assert not set(first) & set(second)


async def relapse(failback: FailBackFixture) -> str:
    """Have one of two workloads return and fail again; return its name."""
    await failback.declare("1h")
    await failback.move_to_alternative(failback.workload("one"), failback.workload("two"))
    await failback.write_healthy_since()
    await failback.sweep()
    ((_, name),) = failback.namespace.patches()
    failback.namespace.dead.add(failback.original.domain)
    # Its rollout may have been faster than the registry's second failure.
    live = await failback.namespace.read(failback.workload(name))
    again = {"spec": {"template": {"metadata": {"annotations": {"rolled": "again"}}}}}
    await failback.namespace.api.patch(await failback.namespace.api.path(live), again)
    return name


async def failing_there(failback: FailBackFixture) -> Manifest:
    """Wait for a pod that fails at the original, and return its Event."""

    async def look() -> Manifest | None:
        for candidate in await failback.namespace.pods():
            if waiting(candidate) & PULL_REASONS and failback.at_original == images(candidate["spec"]):
                return candidate
        return None

    return await failback.namespace.event(await until(look))


async def test_the_first_that_fails_again_stops_the_others(
    failback: FailBackFixture, checking_function: FunctionProcess
) -> None:
    """A workload that fails at its original is moved away at once. All others wait for the whole healthy time again."""
    name = await relapse(failback)
    event = await failing_there(failback)
    failback.namespace.mark()
    answer = await failback.namespace.post(event)
    assert (200, f"moved web of Deployment/{name} to {failback.image(failback.alternative)}") == (
        answer.status,
        answer.text,
    )
    status = await failback.namespace.status()
    assert 2 == status["activeCount"]
    assert [] == [entry for entry in status["active"] if "healthySince" in entry]
    assert ["FailedBack", False] == [status["switches"][-2]["reason"], "note" in status["switches"][-1]]
    await failback.all_running()
    failback.namespace.dead.discard(failback.original.domain)
    failback.namespace.mark()
    await failback.sweep(SWEEPS)
    assert [] == failback.namespace.patches()
    since = [datetime.fromisoformat(entry["healthySince"]) for entry in await failback.active()]
    assert 2 == len(since)
    assert max(datetime.now(UTC) - at for at in since) < MINUTE
    assert "Crashed on an event" not in checking_function.output()


async def test_what_fails_and_cannot_be_moved_stops_the_others_too(failback: FailBackFixture) -> None:
    """If the alternative no longer has the image, no other workload returns while one fails, and the entry says so."""
    name = await relapse(failback)
    await failing_there(failback)
    live = await failback.namespace.read(failback.workload(name))
    await failback.namespace.api.patch(
        await failback.namespace.api.path(live), {"metadata": {"annotations": {IGNORE: "true"}}}
    )
    failback.namespace.mark()
    await failback.write_healthy_since()
    await failback.sweep(SWEEPS)
    assert [] == failback.namespace.patches()
    (entry,) = await failback.active()
    assert f"{failback.image(failback.original)} cannot be pulled" == entry["blockedBy"]
    assert "healthySince" not in entry


# What prevents a return.


async def pause(failback: FailBackFixture) -> None:
    """Pause the source."""
    await failback.declare("1h", mode="Paused")


async def in_place(failback: FailBackFixture) -> None:
    """Set `strategy: Pods`."""
    await failback.declare("1h", strategy="Pods")


async def unverified(failback: FailBackFixture) -> None:
    """Set `verification: "Off"`."""
    await failback.declare("1h", verification="Off")


async def opt_out(failback: FailBackFixture) -> None:
    """Annotate the workload."""
    await failback.namespace.annotate(await failback.namespace.read(failback.workload()), IGNORE, "true")


async def opt_all_out(failback: FailBackFixture) -> None:
    """Annotate the namespace."""
    path = f"/api/v1/namespaces/{failback.namespace.name}"
    await failback.namespace.api.patch(path, {"metadata": {"annotations": {IGNORE: "true"}}})


async def move(failback: FailBackFixture) -> None:
    """Give the workload a third image, as its owner might."""
    live = await failback.namespace.read(failback.workload())
    changed = {"spec": {"template": {"spec": {"containers": [container(image="ghcr.io/acme/web:v2")]}}}}
    await failback.namespace.api.patch(await failback.namespace.api.path(live), changed, "strategic")


async def forget(failback: FailBackFixture) -> None:
    """Remove the history of the workload."""
    live = await failback.namespace.read(failback.workload())
    await failback.namespace.api.patch(
        await failback.namespace.api.path(live), {"metadata": {"annotations": {HISTORY: None}}}
    )


async def remove(failback: FailBackFixture) -> None:
    """Delete the source."""
    await failback.namespace.api.delete(await failback.namespace.api.path(await failback.namespace.read(SOURCE)))


@pytest.mark.parametrize("want", [pause, in_place, unverified, opt_out, opt_all_out, move, forget, remove])
async def test_who_does_not_want_it_is_left_alone(
    failback: FailBackFixture, want: Callable[[FailBackFixture], Awaitable[None]]
) -> None:
    """The next sweep leaves the workload, however long the original has been healthy."""
    await failback.declare("1h")
    await failback.move_to_alternative(failback.workload())
    await failback.write_healthy_since()
    await want(failback)
    failback.namespace.mark()
    await failback.sweep(SWEEPS)
    assert [] == failback.namespace.patches()


async def test_a_source_that_observes_tells_what_it_would_do_once(failback: FailBackFixture) -> None:
    """In mode Observe nothing is patched, and the status says once what would have been done."""
    await failback.declare("1h")
    await failback.move_to_alternative(failback.workload("one"), failback.workload("two"))
    await failback.write_healthy_since()
    await failback.declare("1h", mode="Observe")
    failback.namespace.mark()
    await failback.sweep(SWEEPS)
    assert [] == failback.namespace.patches()
    status = await failback.namespace.status()
    returned = [
        (switch["target"]["name"], switch["newImage"])
        for switch in status["switches"]
        if switch["reason"] == "FailedBack"
    ]
    assert [("one", failback.image(failback.original)), ("two", failback.image(failback.original))] == sorted(returned)
    assert 2 == status["activeCount"]
    reasons = Counter(
        reason
        for reason, _ in await failback.namespace.saffire_events(
            await failback.namespace.read(failback.workload("one"))
        )
    )
    assert 1 == reasons["FailBackObserved"]


async def test_what_has_no_template_of_its_own_stays(failback: FailBackFixture) -> None:
    """A bare pod was moved in place and does not return: that would restart it."""
    await failback.declare("1h")
    spec = pod_spec(container(image=failback.image(failback.original), imagePullPolicy="Always"))
    await failback.move_to_alternative(pod(spec, name="bare"))
    await failback.write_healthy_since()
    await failback.sweep(SWEEPS)
    assert [] == failback.namespace.patches()
    (entry,) = await failback.active()
    assert "the template of a Pod cannot be changed" == entry["blockedBy"]


async def move_replica_set(failback: FailBackFixture) -> None:
    """Have a bare ReplicaSet of two pods moved, and let the original work again."""
    await failback.declare("1h")
    spec = pod_spec(container(image=failback.image(failback.original), imagePullPolicy="Always"))
    failback.namespace.dead.add(failback.original.domain)
    await failback.namespace.apply(replica_set(spec))
    await failback.namespace.failing(2)
    await failback.sweep()
    await failback.all_running()
    failback.namespace.dead.discard(failback.original.domain)


async def test_a_replica_set_that_had_no_pods_for_a_while_returns_too(failback: FailBackFixture) -> None:
    """A sweep lists no ReplicaSets. Without pods, only the template tells that one is on the alternative."""
    await move_replica_set(failback)
    live = await failback.namespace.read(replica_set())
    await failback.namespace.api.patch(await failback.namespace.api.path(live), {"spec": {"replicas": 0}})

    async def is_empty() -> bool:
        return not await failback.namespace.pods()

    await until(is_empty)
    await failback.sweep()
    assert ["ReplicaSet"] == [entry["target"]["type"]["kind"] for entry in await failback.active()]
    await failback.write_healthy_since()
    await failback.sweep()
    assert failback.at_original == await failback.template(replica_set())
    assert [] == await failback.active()


async def test_a_replica_set_returns_for_the_pods_to_come(failback: FailBackFixture) -> None:
    """The template of a ReplicaSet returns; no rollout replaces its pods, so running pods stay unchanged."""
    await move_replica_set(failback)
    await failback.write_healthy_since()
    failback.namespace.mark()
    await failback.sweep(SWEEPS)
    assert [("replicasets", "web")] == failback.namespace.patches()
    assert failback.at_original == await failback.template(replica_set())
    assert [failback.on_alternative] * 2 == [images(pod["spec"]) for pod in await failback.namespace.pods()]


# A function that is killed.


async def test_a_return_that_was_never_recorded_is_told_by_the_next_sweep(
    failback: FailBackFixture, cluster: ControlPlane, kubeconfig: Path, tmp_path: Path, pool: RegistryPool
) -> None:
    """If the process ends between patch and record, the next sweep writes one entry, and no second patch is sent."""
    await failback.declare("1h")
    await failback.move_to_alternative(failback.workload("one"), failback.workload("two"))
    await failback.write_healthy_since()
    async with CaseRunner(cluster, kubeconfig, tmp_path, **pool.environ) as runner:
        runner.proxy.arm(Fault(Harm.KILLED, "PATCH alternateimagesources/status"), failback.namespace.name)
        with suppress(EOFError):
            await failback.namespace.sweep(url=runner.function.url)
        assert runner.proxy.has_harmed
        runner.proxy.arm(None)
        await runner.restart()
        ((_, name),) = failback.namespace.patches()
        assert 2 == len(await failback.active())
        for _ in range(SWEEPS):
            await failback.namespace.sweep(url=runner.function.url)
    assert 1 == named(await failback.namespace.status(), "switches", "FailedBack").count(name)
    assert 1 == [patched for _, patched in failback.namespace.patches()].count(name)
    history = json.loads((await failback.namespace.read(failback.workload(name)))["metadata"]["annotations"][HISTORY])
    assert 2 == len(history["failovers"])
    assert name not in named(await failback.namespace.status(), "active")


def named(status: Manifest, field: str, reason: str = "") -> list[str]:
    """Return the names of the workloads in a list of the status, of entries with that reason."""
    entries: Iterable[Manifest] = status[field]
    return [entry["target"]["name"] for entry in entries if not reason or entry["reason"] == reason]
