"""
Finds pulls that wait for a registry that is down, before each of them has failed by itself.

`pulls.outage` defines an outage. Saffire observes the pods of one namespace while it lists them, and asks the
registries in question. A registry counts as down only if it gives no response to Saffire either, and has answered
Saffire before: a runtime's error, or a pull that takes long, is not enough.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta

from saffire.concurrency import with_pauses
from saffire.errors import SaffireError
from saffire.kube.manifest import Manifest, text, uid_of
from saffire.kube.workload import event_uid
from saffire.pulls.cause import Cause
from saffire.pulls.failure import ANTICIPATED, STALLED, FailingPod, PullFailure
from saffire.pulls.outage import (
    RegistryDown,
    anticipate,
    containers_pulling,
    images_maybe_stalled,
    may_wait_for_sandbox,
    other_images_from,
    registries_reported_down,
)
from saffire.reconcile.candidate_lookup import Lookup
from saffire.reconcile.fault_lookup import FaultLookup
from saffire.registry.reference import domain_of


class OutageDetector:
    """
    Observes the pods of one namespace, and finds those whose pulls will fail or hang.

    Args:
        faults: asks registries, and knows which of them have answered Saffire before.
        now: the time of the repair, in UTC.
        stalls_after: how long a pull may take before Saffire asks its registry; `None` to ask no registry for that.

    """

    def __init__(self, faults: FaultLookup, *, now: datetime, stalls_after: timedelta | None) -> None:
        self._faults = faults
        self._now = now
        self._stalls_after = stalls_after
        self._pulling: list[Manifest] = []
        # The uids of the pods that pull, by Events; `None` until these are read.
        self._pulling_by_events: frozenset[str] | None = None

    def observe(self, pod: Manifest) -> None:
        """Take note of a pod, if its node may be pulling the image of one of its containers now."""
        if containers_pulling(pod):
            self._pulling.append(pod)

    async def extend(
        self, failing_pods: Iterable[FailingPod], other_failures: Iterable[PullFailure]
    ) -> list[FailingPod]:
        """
        Return the failing pods, with the pulls that will fail or hang added: their own, and those of observed pods.

        `other_failures` are the pull failures of further pods; they too tell which registries may be down.
        """
        by_uid: dict[str, FailingPod] = {}
        async for failing in with_pauses(failing_pods):
            by_uid[uid_of(failing.pod)] = _merged(by_uid.get(uid_of(failing.pod)), failing.pod, failing.failures)
        failures = (failure for failing in by_uid.values() for failure in failing.failures)
        down = await self._registries_down([*other_failures, *failures])
        for failing in list(by_uid.values()) if down else ():
            if any(domain_of(failure.image) in down for failure in failing.failures):
                by_uid[uid_of(failing.pod)] = _merged(failing, failing.pod, other_images_from(failing.pod, down))
        pulling = self._pulling if down else ()
        expected = [(pod, of_pod) for pod in pulling if (of_pod := anticipate(pod, down, now=self._now))]
        waiting = await self._waiting_for_sandbox(pod for pod, _ in expected)
        for pod, anticipated in expected:
            if event_uid(pod) not in waiting:
                by_uid[uid_of(pod)] = _merged(by_uid.get(uid_of(pod)), pod, anticipated)
        return list(by_uid.values())

    async def _registries_down(self, failures: Iterable[PullFailure]) -> dict[str, RegistryDown]:
        """
        Return the registries that are down, by domain, with the reason and cause for the failures of their pulls.

        Runtimes report these registries as down, or a pull from them seems to hang. They give Saffire no response, and
        have answered Saffire before: a registry that only nodes can reach never does.
        """
        reported = registries_reported_down(failures)
        hanging = {}
        if self._stalls_after is not None:
            stalled = [
                (pod, images)
                for pod in self._pulling
                if (images := tuple(images_maybe_stalled(pod, now=self._now, after=self._stalls_after)))
            ]
            waiting = await self._waiting_for_sandbox(pod for pod, _ in stalled)
            images_pulled = (image for pod, images in stalled if event_uid(pod) not in waiting for image in images)
            hanging = {domain: image for image in images_pulled if (domain := domain_of(image))}
        suspected = hanging | {domain: failure.image for domain, failure in reported.items()}
        timed_out = {failure.image for failure in reported.values() if failure.cause is Cause.TIMEOUT}
        silent = await self._faults.from_dead_registries(suspected.values(), timed_out=timed_out)
        return {
            domain: RegistryDown(reason=ANTICIPATED, cause=reported[domain].cause)
            if domain in reported
            else RegistryDown(reason=STALLED, cause=Cause.TIMEOUT)
            for domain, image in suspected.items()
            if image in silent
        }

    async def _waiting_for_sandbox(self, pods: Iterable[Manifest]) -> frozenset[str]:
        """Return the uids of those pods that may wait for a volume, a Secret or their network, and not pull yet."""
        unclear = frozenset(event_uid(pod) for pod in pods if may_wait_for_sandbox(pod))
        if unclear and self._pulling_by_events is None:
            self._pulling_by_events = await self._read_pulling_by_events()
        return unclear - (self._pulling_by_events or frozenset())

    async def _read_pulling_by_events(self) -> frozenset[str]:
        """Return the uids of the pods that pull, by their kubelets' Events; none if Saffire cannot read Events."""
        lookup = self._faults.lookup
        with suppress(SaffireError):
            return frozenset(
                [
                    text(event, "involvedObject", "uid")
                    async for event in lookup.cache.cluster.events(lookup.namespace, "Pulling")
                ]
            )
        return frozenset()


async def with_images_of_same_registry(failing: FailingPod, lookup: Lookup) -> FailingPod:
    """
    Return a failing pod, with a failure added for each of its other images from a registry that is down.

    An init container and the container after it often have images from one registry. If Saffire moved the second image
    later, that would cost another rollout.
    """
    down = {
        domain: RegistryDown(reason=ANTICIPATED, cause=failure.cause)
        for domain, failure in registries_reported_down(failing.failures).items()
    }
    others = _merged(failing, failing.pod, other_images_from(failing.pod, down)).failures[len(failing.failures) :]
    silent = {domain_of(image) for image in await lookup.from_silent_registries({other.image for other in others})}
    return _merged(failing, failing.pod, (other for other in others if domain_of(other.image) in silent))


def _merged(failing: FailingPod | None, pod: Manifest, failures: Iterable[PullFailure]) -> FailingPod:
    """Return a failing pod with further failures, but with none for a container that has a failure already."""
    before = failing.failures if failing else ()
    containers = {(failure.section, failure.container) for failure in before}
    new = (failure for failure in failures if (failure.section, failure.container) not in containers)
    return FailingPod(pod=pod, failures=(*before, *new))
