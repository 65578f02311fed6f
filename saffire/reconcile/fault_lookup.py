"""
Looks up the evidence about the fault behind each pull failure, for one repair of a namespace.

A decision first gets what costs nothing: the answer of the original's registry, which Saffire asks together with the
candidates. If that proves no outage, the repair reads more: how often each pod has failed to pull, and how many nodes
report the same of the registry or the image. So a proven outage costs no further request.

A repair lists the kubelets' Events at most once. They tell how often a pull has failed, and of failures that the status
of a pod does not show yet.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from saffire.concurrency import Turn
from saffire.errors import SaffireError, TransientError
from saffire.kube.manifest import Manifest, items, mapping, moment, text
from saffire.kube.workload import event_uid, is_ending
from saffire.policy.pull_secrets import pull_secrets
from saffire.policy.reach import (
    CONNECTION,
    Fault,
    FaultEvidence,
    diagnose,
    is_down,
    may_be_taken_down,
    shared_facts,
)
from saffire.pulls.cause import Remedy
from saffire.pulls.failure import (
    ANTICIPATED,
    STALLED,
    FailingPod,
    PullFailure,
    containers_of,
    find_pull_failures,
    images_maybe_failing,
)
from saffire.pulls.kubelet_event import PullReport, read_event
from saffire.pulls.outage import pulling_since
from saffire.reconcile.candidate_lookup import Lookup
from saffire.registry.availability import Availability, Available, Unreachable, is_late, is_silent
from saffire.registry.reference import account_of, domain_of

_DAY = timedelta(days=1)
# A node that joined lately, or that is not ready, may not pull yet for reasons of its own. So Saffire waits for more
# tries of its kubelet.
_YOUNG = timedelta(minutes=2)
_TRIES, _TRIES_OF_YOUNG_NODE = 2, 3
# If a registry refuses an image, Saffire asks it about so many other images of the namespace. If a node gets no
# connection to a registry, Saffire asks so many other registries. More would let whoever creates pods cause many
# questions.
_OTHER_IMAGES = _OTHER_REGISTRIES = 2
# Reasons of failures that Saffire expects of a pull, and that no node has reported.
_EXPECTED = frozenset({ANTICIPATED, STALLED})
# A pull under way may take so long until it fails: a connection is given up after 30 s.
_PULL_FAILS_AFTER = timedelta(seconds=30)
# Whoever may create Events of a namespace could keep a repair reading until its time is over.
_MAX_EVENTS = 5000
# If a container has ended, its kubelet waits so long at most before it pulls the image again (CrashLoopBackOff).
_LONGEST_RESTART = timedelta(minutes=5)


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
    # By fact (`shared_facts`): the nodes that report it.
    _nodes: dict[tuple[str, ...], set[str]] = field(default_factory=dict, init=False)
    # By node: the registries to which it gets no connection, and a failure at each.
    _registries: dict[str, dict[str, PullFailure]] = field(default_factory=dict, init=False)
    # By registry whose answer was late: the second question to it.
    _asked_again: dict[str, asyncio.Task[Availability]] = field(default_factory=dict, init=False)
    # The registries that were silent once more.
    _silent_again: set[str] = field(default_factory=set, init=False)
    # By node: for how many tries of it Saffire waits.
    _tries_to_wait_for: dict[str, asyncio.Task[int]] = field(default_factory=dict, init=False)
    # The uids that Events use for pods that fail, or may fail.
    _failing: set[str] = field(default_factory=set, init=False)
    # What Events report of these, by uid and image, without the error texts; `None` until the Events are read.
    _reports: dict[tuple[str, str], list[PullReport]] | None = field(default=None, init=False)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def observe(self, failing_pods: Iterable[FailingPod]) -> None:
        """
        Take note of what the nodes of failing pods report (`shared_facts`), and of registries out of their reach.

        Pods that are ending report nothing. Nor does a failure whose cause no other repository can help with: a full
        disk says nothing of a registry.
        """
        for failing_pod in failing_pods:
            if is_ending(failing_pod.pod):
                continue
            pod, secrets = failing_pod.pod, pull_secrets(failing_pod.pod)
            node = text(pod, "spec", "nodeName")
            self._failing.add(event_uid(pod))
            for failure in failing_pod.failures:
                registry = domain_of(failure.image)
                is_of_node = failure.cause.remedy is Remedy.LEAVE
                if node and registry and failure.in_status and not is_of_node and failure.reason not in _EXPECTED:
                    for fact in shared_facts(failure, secrets):
                        self._nodes.setdefault(fact, set()).add(node)
                    if failure.cause in CONNECTION:
                        self._registries.setdefault(node, {})[registry] = failure

    async def failures_only_in_events(
        self, failing_pods: Iterable[FailingPod], unclear: dict[str, Manifest], failures: Iterable[PullFailure] | None
    ) -> list[FailingPod]:
        """
        Remove from the `unclear` pods those whose pull failed according to a live Event, and return them.

        A kubelet writes the Event of a failed pull up to a second before the pod's status. Saffire reads the Events
        only if an unclear pod waits for an image from the registry of one of the `failures`: a pod that a rollout has
        just started waits for another registry. If Saffire cannot read the Events, it returns no pod: the event source
        will deliver an Event about each failed pod.

        Args:
            failing_pods: the pods whose status shows a failure; the same list of Events tells how often they failed.
            unclear: the pods whose status does not show yet whether a pull failed, by the uid that Events use for them.
            failures: the pull failures that are known in the namespace; `None` if any unclear pod may have failed.

        """
        registries = None if failures is None else {domain_of(failure.image) for failure in failures}
        images = (image for pod in unclear.values() for image in images_maybe_failing(pod))
        if not any(registries is None or domain_of(image) in registries for image in images):
            return []
        self._failing.update(unclear, (event_uid(failing_pod.pod) for failing_pod in failing_pods))
        reports = await self._read_events()
        by_uid = {uid: find_pull_failures(unclear[uid], reports[uid]) for uid in unclear if uid in reports}
        return [FailingPod(pod=unclear.pop(uid), failures=proven) for uid, proven in by_uid.items() if proven]

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
                any_registry_answers=self.lookup.cache.any_registry_answers(self.lookup.namespace),
                in_status=failure.in_status,
            )
            for failure, answer in answers.items()
        }

    def known_down(self, answers: Mapping[str, Availability]) -> frozenset[str]:
        """Return those of the images whose registry is down, by the answers about them (`reach.is_down`)."""
        any_answers = self.lookup.cache.any_registry_answers(self.lookup.namespace)
        return frozenset(
            image
            for image, answer in answers.items()
            if is_down(answer, has_baseline=any_answers and self.has_answered_before(domain_of(image)))
        )

    async def full_evidence(
        self, pod: Manifest, first: Mapping[PullFailure, FaultEvidence], spec: Manifest
    ) -> dict[PullFailure, FaultEvidence]:
        """
        Return the evidence with what the repair has to read for it: failed tries, and nodes.

        If the registry's answer was late, and its silence would prove an outage, ask the registry once more.

        Args:
            pod: the failing pod.
            first: the evidence of `first_evidence`, by failure.
            spec: the spec of the pod, or of the template that its workload has.

        """
        (tries_to_wait_for, nodes), reports = await asyncio.gather(self._node_facts(pod, spec), self._read_reports())
        node, secrets = text(pod, "spec", "nodeName"), pull_secrets(pod)
        evidence, turn, node_lookup = {}, Turn(), self.lookup.cache.nodes
        for failure, before in first.items():
            await turn.give_way()
            answer = before.answer
            if is_late(answer) and before.can_silence_prove and diagnose(failure, before) is not Fault.OUTAGE:
                await self._ask_again(failure.image, secrets, node, strict=failure.is_of_part)
                answer = await self._answer(pod, failure)
            failing_nodes = {node} if node and failure.in_status else set()
            failing_nodes.update(*(self._nodes.get(fact, ()) for fact in shared_facts(failure, secrets)))
            tries, since = tries_since(pod, failure, reports.get((event_uid(pod), failure.image), ()))
            evidence[failure] = replace(
                before,
                answer=answer,
                tries=tries,
                failing_for=max(timedelta(), self.now - since) if since else timedelta(),
                tries_to_wait_for=tries_to_wait_for,
                nodes=len(failing_nodes),
                # Pods stay on a node that is tainted against them later: if an operator cordons it, for instance.
                is_every_node=bool(nodes)
                and self.lookup.images_in_use.nodes_of(failure.image) <= failing_nodes
                and not await node_lookup.any_tolerated(spec, nodes - failing_nodes),
                other_registries=await self._others_answering(node, failure, pod),
                other_image_is_there=await self._other_image_is_there(failure, replace(before, answer=answer), pod),
            )
        return evidence

    async def from_dead_registries(self, images: Iterable[str], *, timed_out: Collection[str] = ()) -> frozenset[str]:
        """
        Return those of the images whose registry gives no response, or 5xx, and has answered Saffire before.

        If the registry only was late, ask it once more, unless the image is in `timed_out`: then a node has waited too.
        While no registry answers, Saffire's own network may be down: then none is returned.
        """
        answers = await self.lookup.from_silent_registries(images)
        if not self.lookup.cache.any_registry_answers(self.lookup.namespace):
            return frozenset()
        known = {image: answer for image, answer in answers.items() if self.has_answered_before(domain_of(image))}
        late = {image for image, answer in known.items() if answer.is_late and image not in timed_out}
        await asyncio.gather(*map(self._ask_again, late))
        return frozenset(image for image in known if image not in late or domain_of(image) in self._silent_again)

    async def _answer(self, pod: Manifest, failure: PullFailure) -> Availability:
        # If the pull failed at a part of the image, the manifest alone may be fine. So Saffire asks for every part.
        node = text(pod, "spec", "nodeName")
        answer = await self.lookup.check_original(failure.image, pull_secrets(pod), node, strict=failure.is_of_part)
        if is_late(answer) and domain_of(failure.image) in self._silent_again:
            return replace(answer, is_late=False)
        return answer

    async def _ask_again(
        self, image: str, secrets: tuple[str, ...] = (), node: str = "", *, strict: bool = False
    ) -> None:
        """
        Ask the registry of an image once more, for longer, since its answer was late.

        Saffire does that once for each registry in a repair: if the registry is silent again, it is so for all images.
        """
        registry = domain_of(image)
        if registry not in self._asked_again:
            asking = self.lookup.check_original(image, secrets, node, strict=strict, again=True)
            self._asked_again[registry] = asyncio.create_task(asking)
        if is_silent(await self._asked_again[registry]):
            self._silent_again.add(registry)

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
        failures = self._registries.get(node, {})
        known_first = sorted(failures.keys() - {own}, key=lambda registry: not self.has_answered_before(registry))
        others = known_first[:_OTHER_REGISTRIES]
        answers = await asyncio.gather(*(self._answer(pod, failures[registry]) for registry in others))
        pairs = zip(others, answers, strict=True)
        return frozenset(registry for registry, answer in pairs if not isinstance(answer, Unreachable))

    async def _other_image_is_there(self, failure: PullFailure, before: FaultEvidence, pod: Manifest) -> bool | None:
        """
        Tell whether the registry has another image of the same account; `None` if that decides nothing.

        The namespace uses that image. Images of other accounts prove nothing: if a password has expired, the registry
        still has the public ones.
        """
        if not may_be_taken_down(failure, before):
            return None
        account = account_of(failure.image)
        uses = (use.image for use in self.lookup.images_in_use.uses() if use.image != failure.image)
        others = [image for image in uses if account_of(image) == account][:_OTHER_IMAGES]
        answers = await asyncio.gather(*(self.lookup.check_original(image, pull_secrets(pod)) for image in others))
        return any(isinstance(answer, Available) for answer in answers)

    async def _node_facts(self, pod: Manifest, spec: Manifest) -> tuple[int, frozenset[str]]:
        """Return for how many tries of the pod's node Saffire waits, and which nodes the selectors of `spec` allow."""
        nodes = await self.lookup.cache.nodes.nodes_for(spec)
        name = text(pod, "spec", "nodeName")
        if name not in self._tries_to_wait_for:
            self._tries_to_wait_for[name] = asyncio.create_task(self._read_tries_to_wait_for(name))
        return await self._tries_to_wait_for[name], frozenset(node_labels.name for node_labels in nodes)

    async def _read_tries_to_wait_for(self, name: str) -> int:
        """Read the node of this name, if there is a name, and return for how many tries of it Saffire waits."""
        node = None
        if name:
            with suppress(TransientError):
                node = await self.lookup.cache.cluster.node(name)
        return _TRIES_OF_YOUNG_NODE if node and _is_settling(node, self.now) else _TRIES

    async def _read_reports(self) -> dict[tuple[str, str], list[PullReport]]:
        """Return what Events report of the observed pods, by the uid that Events use for the pod and by image."""
        async with self._reading:
            if self._reports is None:
                await self._read_events()
        return self._reports or {}

    async def _read_events(self) -> dict[str, PullReport]:
        """
        Read what Events report of the observed pods; return the last report of each pod, by the uid in the Event.

        If Saffire cannot read the Events, the repair does without them; if there are very many, without the rest.
        """
        self._reports, last, number = {}, {}, 0
        with suppress(SaffireError):
            async for event in self.lookup.cache.cluster.events(self.lookup.namespace, "Failed"):
                number += 1
                if number > _MAX_EVENTS:
                    break
                report = read_event(event)
                # Whoever creates Events may write any number of texts: keep one of each pod that fails.
                if report and report.error and report.pod_uid in self._failing:
                    reports = self._reports.setdefault((report.pod_uid, report.image), [])
                    reports.append(replace(report, error=""))
                    last[report.pod_uid] = report
        return last


def tries_since(pod: Manifest, failure: PullFailure, reports: Iterable[PullReport]) -> tuple[int, datetime | None]:
    """
    Return the number of failed pulls since the container last ran, at least 1, and the time of the first, in UTC.

    `reports` are those of the pod and the image. If none of them has the time, it is the latest at which the pull can
    have failed first: its start plus 30 s, when a node gives up a connection. If the start is unknown, it is `None`.
    """
    tries = 0
    firsts: list[datetime | None] = []
    ended = _last_run_ended(pod, failure.container)
    for report in reports:
        # How often an image failed before its container ran says nothing of the pull that fails now.
        if ended and report.first and report.first < ended:
            if report.last is None or report.last >= ended:
                tries += 1
                firsts.append(report.last)
            continue
        tries += report.tries
        firsts.append(report.first)
    began = pulling_since(pod)
    if began and ended:
        began = max(began, ended + _LONGEST_RESTART)
    latest = began + _PULL_FAILS_AFTER if began else None
    return max(1, tries), min(filter(None, firsts), default=latest)


def _last_run_ended(pod: Manifest, container: str) -> datetime | None:
    """Return when the last run of a container ended; `None` if it has not run, or if the time cannot be read."""
    statuses = (other.status for other in containers_of(pod) if other.name == container)
    return moment(text(mapping(next(statuses, {}), "lastState", "terminated"), "finishedAt"))


def _is_settling(node: Manifest, now: datetime) -> bool:
    """Tell whether a node joined lately, or is not ready (`status.conditions` of a Node)."""
    created = moment(text(node, "metadata", "creationTimestamp"))
    if created and now - created < _YOUNG:
        return True
    ready = [text(condition, "status") for condition in items(node, "status", "conditions") if _is_ready(condition)]
    return bool(ready) and ready[0] != "True"


def _is_ready(condition: Manifest) -> bool:
    return text(condition, "type") == "Ready"
