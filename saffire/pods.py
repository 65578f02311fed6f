"""Pods of which Events tell what their status does not say yet."""

from collections.abc import Iterable
from contextlib import suppress

from saffire.cluster import Cluster
from saffire.errors import SaffireError
from saffire.event import read_event
from saffire.failure import Case, PullFailure, find, waits_for
from saffire.incident import domain_of
from saffire.manifest import Manifest


async def told(
    cluster: Cluster, namespace: str, unclear: dict[str, Manifest], failures: Iterable[PullFailure]
) -> list[Case]:
    """
    Return those of the `unclear` pods of which live Events tell that they failed too, and leave the others.

    Only pods that wait for a registry of known `failures` count: what a rollout has just started waits for another.
    A kubelet writes the Event of a failed pull up to a second before the pod's status. Pods are by the uid that Events
    call them by; whatever keeps their Events from being read, each has one of its own to come.
    """
    registries = {domain_of(failure.image) for failure in failures}
    reports = {}
    if any(domain_of(image) in registries for pod in unclear.values() for image in waits_for(pod)):
        with suppress(SaffireError):
            async for event in cluster.failures(namespace):
                report = read_event(event)
                if report and report.error and report.pod_uid in unclear:
                    reports[report.pod_uid] = report
    found = {uid: find(unclear[uid], report) for uid, report in reports.items()}
    return [Case(pod=unclear.pop(uid), failures=failures) for uid, failures in found.items() if failures]
