"""
Looks up the evidence about the fault behind each pull failure, for one repair of a namespace.

A decision first gets what costs nothing: the answer of the original's registry, which Saffire asks together with the
candidates. If that proves no outage, the repair reads more: how often each pod has failed to pull, and how many nodes
cannot pull from the registry. So a proven outage costs no further request.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from saffire.concurrency import Turn
from saffire.errors import SaffireError, TransientError
from saffire.kube.manifest import InvalidManifest, Manifest, items, moment, number, text
from saffire.kube.workload import event_uid
from saffire.policy.reach import CONNECTION, FaultEvidence, may_be_taken_down
from saffire.pulls.cause import Cause
from saffire.pulls.failure import FailingPod, PullFailure
from saffire.pulls.kubelet_event import read_event
from saffire.pulls.outage import pulling_since
from saffire.reconcile.candidate_lookup import Lookup
from saffire.registry.availability import Availability, Available, Unreachable
from saffire.registry.reference import domain_of

_DAY = timedelta(days=1)
# A node that joined lately, or that is not ready, may not pull yet for reasons of its own. So Saffire waits for more
# tries of its kubelet.
_YOUNG = timedelta(minutes=2)
_TRIES, _TRIES_OF_YOUNG_NODE = 2, 3
# About so many other images of a namespace Saffire asks a registry that refuses one.
_OTHER_IMAGES = 2


@dataclass(slots=True)
class _FailedPulls:
    """How often a pod failed to pull one image, and when it failed first, by the kubelet's Events."""

    tries: int = 0
    since: datetime | None = None


@dataclass(kw_only=True, slots=True)
class FaultLookup:
    """
    What one repair knows about the faults of a namespace.

    Args:
        lookup: asks registries, and reads nodes.
        answered_at: when each registry last answered any instance of Saffire, by domain, as the sources' status says.
        now: the time of the repair, in UTC.

    """

    lookup: Lookup
    answered_at: Mapping[str, datetime]
    now: datetime
    _nodes: dict[str, set[str]] = field(default_factory=dict, init=False)
    _registries: dict[str, dict[str, str]] = field(default_factory=dict, init=False)
    _failed_pulls: dict[tuple[str, str], _FailedPulls] | None = field(default=None, init=False)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def observe(self, failing_pods: Iterable[FailingPod]) -> None:
        """Take note of the nodes of failing pods, and of the registries from which these nodes cannot pull."""
        for failing_pod in failing_pods:
            node = text(failing_pod.pod, "spec", "nodeName")
            for failure in failing_pod.failures:
                registry = domain_of(failure.image)
                if node and registry and failure.in_status:
                    self._nodes.setdefault(registry, set()).add(node)
                    if failure.cause in CONNECTION:
                        self._registries.setdefault(node, {})[registry] = failure.image

    async def answers(self, pod: Manifest, failures: Iterable[PullFailure]) -> dict[PullFailure, Availability]:
        """Ask the originals' registries about failing images, each with the pod's own pull secrets."""
        asked = tuple(failures)
        answers = await asyncio.gather(*(self._answer(pod, failure) for failure in asked))
        return dict(zip(asked, answers, strict=True))

    def first_evidence(self, answers: Mapping[PullFailure, Availability]) -> dict[PullFailure, FaultEvidence]:
        """Return the evidence that `answers` gives. Call this once the candidates' registries have answered, too."""
        return {
            failure: FaultEvidence(
                answer=answer,
                has_answered_before=self.has_answered_before(domain_of(failure.image)),
                any_registry_answers=self.lookup.cache.any_registry_answers,
                in_status=failure.in_status,
            )
            for failure, answer in answers.items()
        }

    async def full_evidence(
        self, pod: Manifest, first: Mapping[PullFailure, FaultEvidence], spec: Manifest
    ) -> dict[PullFailure, FaultEvidence]:
        """
        Return the evidence with what the repair has to read for it: failed tries, and nodes.

        Args:
            pod: the failing pod.
            first: the evidence of `first_evidence`, by failure.
            spec: the spec of the pod, or of the template that its workload has.

        """
        (tries_to_wait_for, nodes), failed_pulls = await asyncio.gather(self._node_facts(pod, spec), self._pulls())
        node = text(pod, "spec", "nodeName")
        evidence, turn = {}, Turn()
        for failure, before in first.items():
            await turn.give_way()
            registry = domain_of(failure.image)
            failing_nodes = self._nodes.get(registry, set()) | ({node} if node and failure.in_status else set())
            pulls = failed_pulls.get((event_uid(pod), failure.image), _FailedPulls())
            since = pulls.since or self._failing_since(pod)
            evidence[failure] = replace(
                before,
                tries=max(1, pulls.tries),
                failing_for=max(timedelta(), self.now - since) if since else timedelta(),
                tries_to_wait_for=tries_to_wait_for,
                nodes=len(failing_nodes),
                is_every_node=bool(nodes) and nodes <= failing_nodes,
                other_registries=await self._others_answering(node, failure, pod),
                other_image_is_there=await self._other_image_is_there(failure, before, pod),
            )
        return evidence

    async def from_dead_registries(self, images: Iterable[str]) -> frozenset[str]:
        """Return those of the images whose registry gives no response, or 5xx, and has answered Saffire before."""
        silent = await self.lookup.from_silent_registries(images)
        return frozenset(image for image in silent if self.has_answered_before(domain_of(image)))

    async def _answer(self, pod: Manifest, failure: PullFailure) -> Availability:
        # The manifest alone may be fine, so Saffire asks for the blobs, too.
        return await self.lookup.check_original(pod, failure.image, strict=failure.cause is Cause.PARTIAL)

    def has_answered_before(self, registry: str) -> bool:
        """Tell whether a registry has answered within the last day: this instance, or another by the status."""
        if self.lookup.cache.registries.reachability.seconds_since(registry) is not None:
            return True
        at = self.answered_at.get(registry)
        return at is not None and timedelta() <= self.now - at < _DAY

    async def _others_answering(self, node: str, failure: PullFailure, pod: Manifest) -> frozenset[str]:
        """Return the other registries to which the node gets no connection, and which answer Saffire."""
        if failure.cause not in CONNECTION:
            return frozenset()
        own = domain_of(failure.image)
        others = {registry: image for registry, image in self._registries.get(node, {}).items() if registry != own}
        answers = await asyncio.gather(
            *(self.lookup.check_original(pod, image, strict=False) for image in others.values())
        )
        pairs = zip(others, answers, strict=True)
        return frozenset(registry for registry, answer in pairs if not isinstance(answer, Unreachable))

    async def _other_image_is_there(self, failure: PullFailure, before: FaultEvidence, pod: Manifest) -> bool | None:
        """Tell whether the registry has another image of the namespace; `None` if that decides nothing."""
        if not may_be_taken_down(failure, before):
            return None
        registry = domain_of(failure.image)
        uses = (use.image for use in self.lookup.images_in_use.uses() if use.image != failure.image)
        others = [image for image in uses if domain_of(image) == registry][:_OTHER_IMAGES]
        answers = await asyncio.gather(*(self.lookup.check_original(pod, image, strict=False) for image in others))
        return any(isinstance(answer, Available) for answer in answers)

    async def _node_facts(self, pod: Manifest, spec: Manifest) -> tuple[int, frozenset[str]]:
        """Return for how many tries of the pod's node Saffire waits, and the names of all nodes for the `spec`."""
        nodes = await self.lookup.cache.nodes.nodes_for(spec)
        name = text(pod, "spec", "nodeName")
        node = None
        if name:
            with suppress(TransientError):
                node = await self.lookup.cache.cluster.node(name)
        tries = _TRIES_OF_YOUNG_NODE if node and _is_settling(node, self.now) else _TRIES
        return tries, frozenset(node_labels.name for node_labels in nodes)

    async def _pulls(self) -> dict[tuple[str, str], _FailedPulls]:
        """
        Return the failed pulls of the namespace, by the uid that Events use for the pod and by image.

        The Events are read once in a repair. If Saffire cannot read them, the result is empty.
        """
        async with self._reading:
            if self._failed_pulls is None:
                self._failed_pulls = {}
                with suppress(SaffireError):
                    async for event in self.lookup.cache.cluster.events(self.lookup.namespace, "Failed"):
                        self._count(event)
        return self._failed_pulls

    def _count(self, event: Manifest) -> None:
        report = read_event(event)
        if report is None or not (report.image and report.error) or self._failed_pulls is None:
            return
        pulls = self._failed_pulls.setdefault((report.pod_uid, report.image), _FailedPulls())
        try:
            pulls.tries += max(1, number(event, "count"), number(event, "series", "count"))
            since = moment(text(event, "firstTimestamp") or text(event, "eventTime"))
        except InvalidManifest:
            return
        pulls.since = min(filter(None, (pulls.since, since)), default=None)

    def _failing_since(self, pod: Manifest) -> datetime | None:
        """Return the latest time at which the pod's pull can have failed first, if no Event says so."""
        began = pulling_since(pod)
        return began + timedelta(seconds=30) if began else None


def _is_settling(node: Manifest, now: datetime) -> bool:
    """Tell whether a node joined lately, or is not ready (`status.conditions` of a Node)."""
    created = moment(text(node, "metadata", "creationTimestamp"))
    if created and now - created < _YOUNG:
        return True
    ready = [text(condition, "status") for condition in items(node, "status", "conditions") if _is_ready(condition)]
    return bool(ready) and ready[0] != "True"


def _is_ready(condition: Manifest) -> bool:
    return text(condition, "type") == "Ready"
