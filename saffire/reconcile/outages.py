"""
Finds what waits for a registry that is down, before each of its pulls has failed by itself.

`pulls.outage` defines an outage. Here the pods of one namespace are observed while they are listed, and the registries
in question are asked: none counts as down on the word of a runtime, or of a clock, alone. Events of failed pulls tell
of pods whose status does not say so yet.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta

from saffire.errors import SaffireError
from saffire.kube.manifest import Manifest, uid_of
from saffire.kube.resources import Cluster
from saffire.pulls.cause import Cause
from saffire.pulls.failure import (
    ANTICIPATED,
    STALLED,
    FailingPod,
    PullFailure,
    find_pull_failures,
    images_maybe_failing,
)
from saffire.pulls.kubelet_event import read_event
from saffire.pulls.outage import (
    RegistryDown,
    anticipate,
    containers_pulling,
    images_maybe_stalled,
    other_images_from,
    registries_reported_down,
)
from saffire.reconcile.lookup import Lookup
from saffire.registry.reference import domain_of


async def failures_only_in_events(
    cluster: Cluster, namespace: str, unclear: dict[str, Manifest], failures: Iterable[PullFailure]
) -> list[FailingPod]:
    """
    Return those of the `unclear` pods of which live Events tell that they failed too, and leave the others.

    Only pods that wait for a registry of known `failures` count: what a rollout has just started waits for another.
    A kubelet writes the Event of a failed pull up to a second before the pod's status. Pods are by the uid that Events
    call them by; whatever keeps their Events from being read, each has one of its own to come.
    """
    registries = {domain_of(failure.image) for failure in failures}
    reports = {}
    if any(domain_of(image) in registries for pod in unclear.values() for image in images_maybe_failing(pod)):
        with suppress(SaffireError):
            async for event in cluster.failed_events(namespace):
                report = read_event(event)
                if report and report.error and report.pod_uid in unclear:
                    reports[report.pod_uid] = report
    found = {uid: find_pull_failures(unclear[uid], report) for uid, report in reports.items()}
    return [FailingPod(pod=unclear.pop(uid), failures=failures) for uid, failures in found.items() if failures]


class OutageDetector:
    """
    Watches the pods of one namespace at the time `now`.

    Args:
        survey: asks registries.
        stalls_after: how long a pull may take from a registry that does not answer us; `None` to ask nobody about that.

    """

    def __init__(self, survey: Lookup, *, now: datetime, stalls_after: timedelta | None) -> None:
        self._lookup = survey
        self._now = now
        self._stalls_after = stalls_after
        self._pulling: list[Manifest] = []

    def observe(self, pod: Manifest) -> None:
        """Take note of a pod that is at a pull."""
        if containers_pulling(pod):
            self._pulling.append(pod)

    async def extend(self, cases: Iterable[FailingPod], failures: Iterable[PullFailure]) -> list[FailingPod]:
        """Return the cases with what is anticipated to fail, or has stalled; `failures` are known of other pods."""
        known: dict[str, FailingPod] = {}
        for case in cases:
            known[uid_of(case.pod)] = _merged(known.get(uid_of(case.pod)), case.pod, case.failures)
        down = await self._down([*failures, *(failure for case in known.values() for failure in case.failures)])
        for case in list(known.values()) if down else ():
            if any(domain_of(failure.image) in down for failure in case.failures):
                known[uid_of(case.pod)] = _merged(case, case.pod, other_images_from(case.pod, down))
        for pod in self._pulling if down else ():
            if expected := anticipate(pod, down, now=self._now):
                known[uid_of(pod)] = _merged(known.get(uid_of(pod)), pod, expected)
        return list(known.values())

    async def _down(self, failures: Iterable[PullFailure]) -> dict[str, RegistryDown]:
        """Return the registries that do not answer us, of those that are down in a runtime's words, or seem to hang."""
        told = registries_reported_down(failures)
        hanging = {}
        if self._stalls_after is not None:
            images = (
                image
                for pod in self._pulling
                for image in images_maybe_stalled(pod, now=self._now, after=self._stalls_after)
            )
            hanging = {domain_of(image): image for image in images if domain_of(image)}
        asked = hanging | {domain: failure.image for domain, failure in told.items()}
        silent = await self._lookup.silent(asked.values())
        return {
            domain: RegistryDown(reason=ANTICIPATED, cause=told[domain].cause)
            if domain in told
            else RegistryDown(reason=STALLED, cause=Cause.TIMEOUT)
            for domain, image in asked.items()
            if image in silent
        }


def _merged(case: FailingPod | None, pod: Manifest, failures: Iterable[PullFailure]) -> FailingPod:
    """Return a case with further failures of its pod, but for containers that it has already."""
    before = case.failures if case else ()
    have = {(one.section, one.container) for one in before}
    return FailingPod(
        pod=pod, failures=(*before, *(one for one in failures if (one.section, one.container) not in have))
    )


async def with_images_of_same_registry(case: FailingPod, survey: Lookup) -> FailingPod:
    """
    Return a case with all that its pod needs from a registry that is down: moved later, it would cost another rollout.

    An init container and the one behind it are often from one registry.
    """
    down = {
        name: RegistryDown(reason=ANTICIPATED, cause=one.cause)
        for name, one in registries_reported_down(case.failures).items()
    }
    more = _merged(case, case.pod, other_images_from(case.pod, down)).failures[len(case.failures) :]
    silent = {domain_of(image) for image in await survey.silent({one.image for one in more})}
    return _merged(case, case.pod, (one for one in more if domain_of(one.image) in silent))
