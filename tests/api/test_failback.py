"""Workloads return to an original that was healthy for long enough: a few at a time, and not into trouble."""

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
class Home:
    """
    A stage, and two registries that have the image; nodes do not reach the first one while it is `down`.

    Args:
        stage: the namespace.
        original: where workloads want to be.
        alternative: where they are moved to.

    """

    namespace: NamespaceFixture
    original: Registry
    alternative: Registry

    def image(self, registry: Registry, suffix: str = DIGEST) -> str:
        """Return the reference of the image there."""
        return f"{registry.domain}/{PATH}:{suffix}"

    @property
    def here(self) -> dict[str, str]:
        """The images of a template that is at its original."""
        return {"web": self.image(self.original)}

    @property
    def there(self) -> dict[str, str]:
        """The images of a template on the alternative."""
        return {"web": self.image(self.alternative)}

    def workload(self, name: str = "web", suffix: str = DIGEST, **fields: Any) -> Manifest:
        """Return a Deployment that is at its original, and always pulls."""
        image = container(image=self.image(self.original, suffix), imagePullPolicy="Always")
        return deployment(pod_spec(image), name=name, **fields)

    async def declare(self, after: str = "1s", **spec: Any) -> None:
        """Declare both equivalent, and that workloads return."""
        wanted = {"failBack": {"policy": "Automatic", "after": after}, **spec}
        await self.namespace.source(f"{self.original.domain}/*", f"{self.alternative.domain}/*", **wanted)

    async def lose(self, *workloads: Manifest) -> None:
        """Have the original go down on the nodes, create these, have them moved, and the original come back."""
        self.namespace.dead.add(self.original.domain)
        await asyncio.gather(*map(self.namespace.apply, workloads))
        await self.namespace.failing(len(workloads))
        await self.namespace.sweep()
        assert len(workloads) == len(await self.active())
        await self.calm()
        self.namespace.dead.discard(self.original.domain)
        self.namespace.mark()

    async def calm(self) -> None:
        """Wait until every pod runs."""

        async def look() -> bool:
            return all(
                "running" in entry["state"] for pod in await self.namespace.pods() for entry in statuses(pod).values()
            )

        await until(look)

    async def active(self) -> list[Manifest]:
        """Return who is away, as the source's status tells."""
        entries: list[Manifest] = (await self.namespace.status()).get("active", [])
        return entries

    async def prove(self, since: timedelta = 2 * HOUR, last: timedelta = MINUTE) -> None:
        """Write that the originals of all that are away have been healthy since, and when that was last written."""
        now = datetime.now(UTC)
        times = {"healthySince": rfc3339(now - since), "provenAt": rfc3339(now - last)}
        status = {"active": [{**entry, **times} for entry in await self.active()]}
        path = await self.namespace.api.path(await self.namespace.read(SOURCE))
        await self.namespace.api.patch(f"{path}/status", {"status": status})

    async def sweep(self, times: int = 1) -> None:
        """Sweep."""
        for _ in range(times):
            assert 200 == (await self.namespace.sweep()).status

    async def template(self, workload: Manifest) -> dict[str, str]:
        """Return the images of a template as it is now."""
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
    """Give a function that asks nobody but for a reason: what is asked in calm weather would be written down too."""
    async with FunctionProcess(kubeconfig, SAFFIRE_PROBES_PER_MINUTE="0", **pool.environ) as served:
        yield served


@pytest.fixture
async def home(checking_namespace: NamespaceFixture, pool: RegistryPool) -> AsyncIterator[Home]:
    """Give a namespace of its own, and registries nobody had before."""
    home = Home(checking_namespace, pool.filled(), pool.filled())
    yield home
    checking_namespace.dead.discard(home.original.domain)
    await checking_namespace.api.delete(checking_namespace.sources)


# Return.


async def test_a_workload_returns_once_its_original_was_healthy_for_long_enough(
    home: Home, checking_function: FunctionProcess
) -> None:
    """Its template is patched, with the record inside, its pods follow, and every place of a record tells."""
    await home.declare()
    await home.lose(home.workload())
    assert ["web"] == await home.swept_until(1)
    live = await home.namespace.read(home.workload())
    assert home.here == images(pod_spec_of(live))
    entries = json.loads(live["metadata"]["annotations"][HISTORY])["failovers"]
    before, after = home.image(home.alternative), home.image(home.original)
    assert [(after, before), (before, after)] == [(entry["from"], entry["to"]) for entry in entries]
    assert ("FailedBack", "equal digest") == (entries[-1]["reason"], entries[-1]["proof"])
    status = await home.namespace.status()
    assert ([], 0) == (status["active"], status["activeCount"])
    switch = status["switches"][-1]
    assert (before, after, "FailedBack") == (switch["oldImage"], switch["newImage"], switch["reason"])
    said = f"moved web of Deployment/web back from {before} to {after} (its original is healthy again; equal digest; "
    for manifest in (live, await home.namespace.read(SOURCE)):
        messages = [
            message for reason, message in await home.namespace.saffire_events(manifest) if reason == "FailBack"
        ]
        assert [said] == [message[: len(said)] for message in messages]
    plans = [
        plan for line in checking_function.log() for plan in line.get("plans", ()) if plan.get("candidate") == after
    ]
    assert [("FailBack", "Deployment/web", "template")] == [
        (plan["plan"], plan["workload"], plan["steps"]) for plan in plans
    ]

    async def followed() -> bool:
        return all(home.here == images(pod["spec"]) for pod in await home.namespace.pods())

    await until(followed)
    home.namespace.mark()
    await home.sweep(SWEEPS)
    assert [] == home.namespace.writes_but_status()  # which tells of readiness again


async def test_one_question_is_asked_for_all_that_have_an_original(home: Home) -> None:
    """Three workloads of one image cost one HEAD a sweep, which no registry counts, and one change of the status."""
    await home.declare("1h")
    await home.lose(*(home.workload(f"web-{number}") for number in range(3)))
    home.alternative.requests.clear()
    await home.sweep()
    assert 3 == len([entry for entry in await home.active() if "healthySince" in entry])
    home.namespace.mark()
    await home.sweep(SWEEPS)
    assert {f"HEAD /v2/{PATH}/manifests/{WEB.digest}"} == set(home.original.requests)
    assert len(home.original.requests) <= SWEEPS
    assert [] == home.alternative.requests
    assert [] == home.namespace.writes_but_status()  # which tells of readiness again


async def test_nobody_returns_unless_that_is_wanted(home: Home) -> None:
    """`Never` is the default: the original is not even asked for."""
    await home.declare()
    await home.lose(home.workload())
    await home.namespace.source(f"{home.original.domain}/*", f"{home.alternative.domain}/*")
    home.original.requests.clear()
    await home.sweep(SWEEPS)
    assert ([], []) == (home.namespace.patches(), home.original.requests)
    assert home.there == await home.template(home.workload())


# The proof.


@pytest.mark.parametrize(
    ("image", "returns"), [(WEB, True), (OTHER, False)], ids=["the same image", "another build under the same tag"]
)
async def test_an_original_has_to_be_the_image_that_runs(
    image: Image, pool: RegistryPool, home: Home, *, returns: bool
) -> None:
    """A tag alone proves nothing: the digest that a running pod tells decides, and the entry says what was found."""
    replaced = Home(home.namespace, pool.filled(image), home.alternative)
    await replaced.declare("1h")
    await replaced.lose(replaced.workload(suffix="v1"))
    (running,) = await replaced.namespace.pods()
    reported = [{**entry, "imageID": f"x@{WEB.digest}"} for entry in running["status"]["containerStatuses"]]
    path = await replaced.namespace.api.path(running)
    await replaced.namespace.api.patch(f"{path}/status", {"status": {"containerStatuses": reported}})
    await replaced.prove()
    await replaced.sweep()
    assert ([("deployments", "web")] if returns else []) == replaced.namespace.patches()
    if not returns:
        (entry,) = await replaced.active()
        original = replaced.image(replaced.original, "v1")
        assert f"{original}: it is another image than the one that runs" == entry["blockedBy"]
        assert "healthySince" not in entry


async def test_of_what_does_not_run_the_alternative_tells(home: Home) -> None:
    """A CronJob runs nothing between its times: both registries name one digest, and it returns."""
    await home.declare("1h")
    home.namespace.dead.add(home.original.domain)
    cron = await home.namespace.apply(cron_job(pod_spec(container(image=home.image(home.original, "v1")))))
    await home.namespace.apply(job_of(cron))
    await home.namespace.failing()
    await home.sweep()

    async def over() -> bool:
        return {"Succeeded"} == {pod["status"]["phase"] for pod in await home.namespace.pods()}

    await until(over)
    home.namespace.dead.discard(home.original.domain)
    home.namespace.mark()
    await home.prove()
    await home.sweep()
    assert [("cronjobs", "web")] == home.namespace.patches()
    assert {"web": home.image(home.original, "v1")} == await home.template(cron_job())


async def test_an_original_that_is_gone_again_has_to_be_proven_anew(home: Home) -> None:
    """The registry answers, and has no such image any more: whatever was known of it ends."""
    await home.declare("1h")
    home.original.lose(WEB.digest)
    await home.lose(home.workload())
    await home.prove()
    await home.sweep()
    (entry,) = await home.active()
    assert not {"healthySince", "provenAt"} & entry.keys()
    assert f"{home.image(home.original)}: the registry has no such image" == entry["blockedBy"]
    home.original.push(f"{PATH}:v1", WEB)
    await home.sweep()
    (entry,) = await home.active()
    assert datetime.now(UTC) - datetime.fromisoformat(entry["healthySince"]) < MINUTE
    assert "blockedBy" not in entry
    assert [] == home.namespace.patches()


async def test_a_time_in_which_nobody_looked_proves_nothing(home: Home) -> None:
    """The function was away for an hour: what it finds in the status is no proof of that hour."""
    await home.declare("1h")
    await home.lose(home.workload())
    await home.prove(since=2 * HOUR, last=HOUR)
    await home.sweep()
    (entry,) = await home.active()
    assert datetime.now(UTC) - datetime.fromisoformat(entry["healthySince"]) < MINUTE
    assert [] == home.namespace.patches()
    await home.prove(since=2 * HOUR, last=14 * MINUTE)
    await home.sweep()
    assert [("deployments", "web")] == home.namespace.patches()


# Batches, and what stops them.


SLUGGISH = {"replicas": 1, "updateStrategy": {"type": "OnDelete"}}


@pytest.mark.parametrize(("count", "batch"), [(12, 1), (25, 2)])
async def test_no_more_than_a_tenth_is_on_its_way_at_once(home: Home, count: int, batch: int) -> None:
    """StatefulSets whose pods follow only when they are deleted: the next go once the first have arrived."""
    await home.declare("1h")
    spec = pod_spec(container(image=home.image(home.original), imagePullPolicy="Always"))
    sets = [stateful_set(spec, name=f"web-{number:02}") for number in range(count)]
    await home.lose(*({**workload, "spec": {**workload["spec"], **SLUGGISH}} for workload in sets))
    await home.prove()
    await home.sweep()
    first = [name for _, name in home.namespace.patches()]
    assert batch == len(first)
    await home.sweep(SWEEPS)
    assert first == [name for _, name in home.namespace.patches()]
    assert count - batch == (await home.namespace.status())["activeCount"]
    for name in first:
        await home.namespace.api.delete(await home.namespace.api.path(await home.namespace.read(pod(name=f"{name}-0"))))
    home.namespace.mark()
    second = await home.swept_until(batch)
    assert batch == len(second)
    assert not set(first) & set(second)


async def relapse(home: Home) -> str:
    """Have one of two workloads return, and fail again; return its name."""
    await home.declare("1h")
    await home.lose(home.workload("one"), home.workload("two"))
    await home.prove()
    await home.sweep()
    ((_, name),) = home.namespace.patches()
    home.namespace.dead.add(home.original.domain)
    # Its rollout may have been faster than the registry's second death.
    live = await home.namespace.read(home.workload(name))
    again = {"spec": {"template": {"metadata": {"annotations": {"rolled": "again"}}}}}
    await home.namespace.api.patch(await home.namespace.api.path(live), again)
    return name


async def failing_there(home: Home) -> Manifest:
    """Wait for a pod that fails at the original, and return its Event."""

    async def look() -> Manifest | None:
        for candidate in await home.namespace.pods():
            if waiting(candidate) & PULL_REASONS and home.here == images(candidate["spec"]):
                return candidate
        return None

    return await home.namespace.event(await until(look))


async def test_the_first_that_fails_again_stops_the_others(home: Home, checking_function: FunctionProcess) -> None:
    """It is moved away at once, as if it had never returned, and all wait for the whole time once more."""
    name = await relapse(home)
    event = await failing_there(home)
    home.namespace.mark()
    answer = await home.namespace.post(event)
    assert (200, f"moved web of Deployment/{name} to {home.image(home.alternative)}") == (answer.status, answer.text)
    status = await home.namespace.status()
    assert 2 == status["activeCount"]
    assert [] == [entry for entry in status["active"] if "healthySince" in entry]
    assert ["FailedBack", False] == [status["switches"][-2]["reason"], "note" in status["switches"][-1]]
    await home.calm()
    home.namespace.dead.discard(home.original.domain)
    home.namespace.mark()
    await home.sweep(SWEEPS)
    assert [] == home.namespace.patches()
    since = [datetime.fromisoformat(entry["healthySince"]) for entry in await home.active()]
    assert 2 == len(since)
    assert max(datetime.now(UTC) - at for at in since) < MINUTE
    assert "Crashed on an event" not in checking_function.output()


async def test_what_fails_and_cannot_be_moved_stops_the_others_too(home: Home) -> None:
    """The alternative has lost the image meanwhile: nobody returns to where something hangs, and the entry says so."""
    name = await relapse(home)
    await failing_there(home)
    live = await home.namespace.read(home.workload(name))
    await home.namespace.api.patch(await home.namespace.api.path(live), {"metadata": {"annotations": {IGNORE: "true"}}})
    home.namespace.mark()
    await home.prove()
    await home.sweep(SWEEPS)
    assert [] == home.namespace.patches()
    (entry,) = await home.active()
    assert f"{home.image(home.original)} cannot be pulled" == entry["blockedBy"]
    assert "healthySince" not in entry


# Whoever does not want it.


async def pause(home: Home) -> None:
    """Pause the source."""
    await home.declare("1h", mode="Paused")


async def in_place(home: Home) -> None:
    """Have templates left alone."""
    await home.declare("1h", strategy="Pods")


async def unverified(home: Home) -> None:
    """Have nobody asked."""
    await home.declare("1h", verification="Off")


async def opt_out(home: Home) -> None:
    """Annotate the workload."""
    await home.namespace.annotate(await home.namespace.read(home.workload()), IGNORE, "true")


async def opt_all_out(home: Home) -> None:
    """Annotate the namespace."""
    path = f"/api/v1/namespaces/{home.namespace.name}"
    await home.namespace.api.patch(path, {"metadata": {"annotations": {IGNORE: "true"}}})


async def move(home: Home) -> None:
    """Give the workload a third image, as its owner may."""
    live = await home.namespace.read(home.workload())
    changed = {"spec": {"template": {"spec": {"containers": [container(image="ghcr.io/acme/web:v2")]}}}}
    await home.namespace.api.patch(await home.namespace.api.path(live), changed, "strategic")


async def forget(home: Home) -> None:
    """Remove the history of the workload."""
    live = await home.namespace.read(home.workload())
    await home.namespace.api.patch(await home.namespace.api.path(live), {"metadata": {"annotations": {HISTORY: None}}})


async def remove(home: Home) -> None:
    """Delete the source."""
    await home.namespace.api.delete(await home.namespace.api.path(await home.namespace.read(SOURCE)))


@pytest.mark.parametrize("want", [pause, in_place, unverified, opt_out, opt_all_out, move, forget, remove])
async def test_who_does_not_want_it_is_left_alone(home: Home, want: Callable[[Home], Awaitable[None]]) -> None:
    """At the next sweep, however long the original has been healthy."""
    await home.declare("1h")
    await home.lose(home.workload())
    await home.prove()
    await want(home)
    home.namespace.mark()
    await home.sweep(SWEEPS)
    assert [] == home.namespace.patches()


async def test_a_source_that_observes_tells_what_it_would_do_once(home: Home) -> None:
    """Nothing is patched, and the status tells it beside what was done."""
    await home.declare("1h")
    await home.lose(home.workload("one"), home.workload("two"))
    await home.prove()
    await home.declare("1h", mode="Observe")
    home.namespace.mark()
    await home.sweep(SWEEPS)
    assert [] == home.namespace.patches()
    status = await home.namespace.status()
    returned = [
        (switch["target"]["name"], switch["newImage"])
        for switch in status["switches"]
        if switch["reason"] == "FailedBack"
    ]
    assert [("one", home.image(home.original)), ("two", home.image(home.original))] == sorted(returned)
    assert 2 == status["activeCount"]
    reasons = Counter(
        reason for reason, _ in await home.namespace.saffire_events(await home.namespace.read(home.workload("one")))
    )
    assert 1 == reasons["FailBackObserved"]


async def test_what_has_no_template_of_its_own_stays(home: Home) -> None:
    """A bare pod was moved in place: nothing is restarted."""
    await home.declare("1h")
    spec = pod_spec(container(image=home.image(home.original), imagePullPolicy="Always"))
    await home.lose(pod(spec, name="bare"))
    await home.prove()
    await home.sweep(SWEEPS)
    assert [] == home.namespace.patches()
    (entry,) = await home.active()
    assert "the template of a Pod cannot be changed" == entry["blockedBy"]


async def test_a_replica_set_returns_for_the_pods_to_come(home: Home) -> None:
    """No rollout replaces its pods: those that run stay as they are."""
    await home.declare("1h")
    spec = pod_spec(container(image=home.image(home.original), imagePullPolicy="Always"))
    home.namespace.dead.add(home.original.domain)
    await home.namespace.apply(replica_set(spec))
    await home.namespace.failing(2)
    await home.sweep()
    await home.calm()
    home.namespace.dead.discard(home.original.domain)
    await home.prove()
    home.namespace.mark()
    await home.sweep(SWEEPS)
    assert [("replicasets", "web")] == home.namespace.patches()
    assert home.here == await home.template(replica_set())
    assert [home.there] * 2 == [images(pod["spec"]) for pod in await home.namespace.pods()]


# Killed.


async def test_a_return_that_was_never_recorded_is_told_by_the_next_sweep(
    home: Home, cluster: ControlPlane, kubeconfig: Path, tmp_path: Path, pool: RegistryPool
) -> None:
    """A process that ends between the patch and its record leaves one entry after the next sweep, and one patch."""
    await home.declare("1h")
    await home.lose(home.workload("one"), home.workload("two"))
    await home.prove()
    async with CaseRunner(cluster, kubeconfig, tmp_path, **pool.environ) as runner:
        runner.proxy.arm(Fault(Harm.KILLED, "PATCH alternateimagesources/status"), home.namespace.name)
        with suppress(EOFError):
            await home.namespace.sweep(url=runner.function.url)
        assert runner.proxy.has_harmed
        runner.proxy.arm(None)
        await runner.restart()
        ((_, name),) = home.namespace.patches()
        assert 2 == len(await home.active())
        for _ in range(SWEEPS):
            await home.namespace.sweep(url=runner.function.url)
    assert 1 == named(await home.namespace.status(), "switches", "FailedBack").count(name)
    assert 1 == [patched for _, patched in home.namespace.patches()].count(name)
    history = json.loads((await home.namespace.read(home.workload(name)))["metadata"]["annotations"][HISTORY])
    assert 2 == len(history["failovers"])
    assert name not in named(await home.namespace.status(), "active")


def named(status: Manifest, field: str, reason: str = "") -> list[str]:
    """Return the names of the workloads in a list of the status, of those with that reason."""
    entries: Iterable[Manifest] = status[field]
    return [entry["target"]["name"] for entry in entries if not reason or entry["reason"] == reason]
