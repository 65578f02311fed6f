"""Pods of which Events tell what their status does not say yet."""

from contextlib import suppress

from saffire.cluster import Cluster
from saffire.errors import SaffireError
from saffire.event import read_event
from saffire.failure import Case, find
from saffire.manifest import Manifest


async def told(cluster: Cluster, namespace: str, unclear: dict[str, Manifest]) -> list[Case]:
    """
    Return those of the `unclear` pods of which live Events tell that they failed, and leave the others.

    A kubelet writes the Event of a failed pull up to a second before the pod's status. They are by the uid that Events
    call them by; whatever keeps their Events from being read, each has one of its own to come.
    """
    reports = {}
    if unclear:
        with suppress(SaffireError):
            async for event in cluster.failures(namespace):
                report = read_event(event)
                if report and report.error and report.pod_uid in unclear:
                    reports[report.pod_uid] = report
    found = {uid: find(unclear[uid], report) for uid, report in reports.items()}
    return [Case(pod=unclear.pop(uid), failures=failures) for uid, failures in found.items() if failures]
