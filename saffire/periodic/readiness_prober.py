"""
Asks registries, while nothing fails, what a failover would have to know, and writes that into the sources' status.

At the end of each sweep, Saffire sends a few probes at the same time; `probe_schedule` says which. Each question of a
probe may take as long as the questions of a failover. The probes come last: all repairs have begun, and only slow ones
may still be under way. So if a registry hangs, it delays nothing else. A failover uses none of the answers, and asks
again.

A probe sends HEAD first, since no registry counts HEAD as a pull. If HEAD returns a digest under which pods run the
image, that is enough, unless `verification` is Strict. If HEAD returns the digest of a manifest that Saffire has read
before, that is enough, too. Otherwise Saffire reads the manifest.

Saffire also asks the registries of the images in use themselves, one image each, every ten minutes. If such a registry
does not answer later, that is news: it has answered before (`registry.reachability`).
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from saffire import logs
from saffire.concurrency import in_turns
from saffire.kube.manifest import Manifest, mapping
from saffire.periodic.probe_schedule import Probe, ProbeSchedule
from saffire.policy.readiness import ImagePair, ReadinessState
from saffire.policy.running_images import ImageUse
from saffire.reconcile.candidate_lookup import Lookup, LookupCache
from saffire.record.readiness_status import ProbeResults, answers_of
from saffire.record.writer import RecordWriter
from saffire.registry.availability import Availability, Available, Proof, is_silent, is_unknown, proof_of
from saffire.registry.check import Question
from saffire.registry.reference import domain_of
from saffire.sources.candidates import parse_valid

# How long all that follows a sweep may take: some reads of nodes and Secrets, the probes, and the writes.
_SECONDS = 10
# If a registry answered within this time, it need not be asked again only to know that it answers.
_ANSWERED_LATELY = 600
# Of so many images in use of a namespace, Saffire looks for registries to ask.
_MAX_USES = 500


@dataclass(frozen=True, slots=True)
class _CalmNamespace:
    """A namespace where nothing fails, as the sweep left it: its sources, and the images in use there."""

    sources: tuple[Manifest, ...]
    probe_results: ProbeResults


@dataclass(frozen=True, slots=True)
class _ProbeResult:
    """
    A probe with the registry's answer; `answer` is `None` if there is none.

    `state` is the state of the pair to write into the source's status; `None` if the state is not news.
    """

    probe: Probe
    answer: Availability | None
    state: ReadinessState | None


class ReadinessProber:
    """
    Probes registries and writes readiness, for one instance.

    Args:
        lookup_cache: asks registries, and reads nodes and Secrets.
        writer: writes the status of sources.
        probes_per_minute: how many probes may be sent in a minute. With 0, Saffire does not count images in use.

    """

    def __init__(self, lookup_cache: LookupCache, writer: RecordWriter, *, probes_per_minute: int) -> None:
        self._cache = lookup_cache
        self._writer = writer
        self._schedule = ProbeSchedule(probes_per_minute)
        self._calm_namespaces: dict[str, _CalmNamespace] = {}
        # By registry: a namespace that uses an image from there, and the image.
        self._originals: dict[str, tuple[str, ImageUse]] = {}

    async def count(self, namespace: str, sources: tuple[Manifest, ...], uses: tuple[ImageUse, ...]) -> ProbeResults:
        """
        Return the images in use in a namespace where nothing fails.

        Return with them the registries of their equivalents that went down, or answer again, since the last count.
        """
        if not self._schedule.probes_per_minute:
            return ProbeResults.of(sources, None)
        listed = frozenset[str]().union(*(source.registries for source in parse_valid(sources)))
        by_domain = {domain_of(use.image): (namespace, use) for use in uses[:_MAX_USES]}
        self._originals |= {domain: original for domain, original in by_domain.items() if domain in listed}
        results = await in_turns(ProbeResults.in_steps(sources, uses))
        hosts = {pair.host for source in sources for pair in results.pairs(source)}
        return replace(results, hosts=self._schedule.news(namespace, hosts, time.monotonic()))

    def enqueue(self, namespace: str, sources: tuple[Manifest, ...], probe_results: ProbeResults) -> None:
        """
        Offer the pairs of a calm namespace to the schedule, for the probes after the sweep.

        A pair is an image in use and one of its equivalents. A namespace is calm if nothing fails there.
        """
        pairs: dict[bytes, ImagePair] = {}
        without_state: set[bytes] = set()
        counted = tuple(source for source in sources if probe_results.is_of(source))
        for source in counted:
            of_source = {pair.key: pair for pair in probe_results.pairs(source)}
            pairs |= of_source
            without_state |= of_source.keys() - answers_of(mapping(source, "status").get("readiness")).keys()
        probes = (Probe(namespace, pair, key not in without_state) for key, pair in pairs.items())
        self._schedule.offer(namespace, probes, time.monotonic())
        self._calm_namespaces[namespace] = _CalmNamespace(counted, replace(probe_results, hosts={}))
        self._calm_namespaces = {
            name: calm for name, calm in self._calm_namespaces.items() if name in self._schedule.waiting
        }

    async def run(self, now: datetime) -> None:
        """
        Send the probes that are due, and write what is new into the status of the sources.

        After 10 seconds, the rest waits for the next sweep.
        """
        originals = self._due_originals()
        probes = self._schedule.take(time.monotonic())
        calm_namespaces, self._calm_namespaces = self._calm_namespaces, {}
        lookups = {probe.namespace: Lookup(cache=self._cache, namespace=probe.namespace) for probe in probes}
        try:
            async with asyncio.timeout(_SECONDS):
                asking_originals = asyncio.gather(*(self._ask_original(*original) for original in originals))
                answered = await asyncio.gather(*(self._probe(probe, lookups[probe.namespace]) for probe in probes))
                await asking_originals
                await asyncio.gather(*(self._write(name, calm_namespaces[name], answered, now=now) for name in lookups))
        except TimeoutError:
            logs.failed("Could not ask registries in time", {"questions": len(probes)})

    def _due_originals(self) -> tuple[tuple[str, ImageUse], ...]:
        """Return the images in use whose registries have to be asked whether they answer, and count them as probes."""
        originals, self._originals = self._originals, {}
        since = self._cache.registries.reachability.seconds_since
        ages = {domain: since(domain) for domain in originals if domain}
        due = (domain for domain, age in ages.items() if age is None or age > _ANSWERED_LATELY)
        return tuple(originals[domain] for domain in due if self._schedule.spend(domain, time.monotonic()))

    async def _ask_original(self, namespace: str, use: ImageUse) -> None:
        """Ask the registry of an image in use about the image; only that it answers is kept."""
        lookup = Lookup(cache=self._cache, namespace=namespace)
        try:
            await lookup.check_original(use.image, use.secrets)
        except Exception as fault:  # noqa: BLE001 - no image that a user can write keeps others from being probed
            logs.crashed(fault, {"namespace": namespace})

    async def _probe(self, probe: Probe, lookup: Lookup) -> _ProbeResult:
        """Send a probe, and record its answer in the schedule."""
        try:
            answer, state = await self._probe_pair(probe, lookup)
        except Exception as fault:  # noqa: BLE001 - no image that a user can write keeps others from being probed
            logs.crashed(fault, {"namespace": probe.namespace})
            answer, state = None, ReadinessState.UNASKED
        logs.asked(probe.namespace, probe.pair.use.image, probe.pair.candidate.image, state)
        return _ProbeResult(probe, answer, self._schedule.record(probe, answer, state, time.monotonic()))

    async def _probe_pair(self, probe: Probe, lookup: Lookup) -> tuple[Availability | None, ReadinessState]:
        """Return a registry's answer, `None` if no manifest may be read there now, and the state of the pair."""
        pair = probe.pair
        credentials = await lookup.every_credential(pair.use.secrets, pair.candidate)
        question = Question(reference=pair.candidate.reference, credentials=credentials)
        answer = await self._answer(question, probe.namespace)
        if not isinstance(answer, Available):
            return answer, pair.state_for(answer)
        if not pair.is_strict and proof_of(answer, pair.expected_digests()) is Proof.EQUAL:
            return answer, ReadinessState.READY
        if earlier_state := self._schedule.state_when_read(probe, answer.digest):
            return answer, earlier_state
        if not self._schedule.may_read(pair.host, time.monotonic()):
            return None, ReadinessState.UNASKED
        by_node = await asyncio.gather(*map(self._cache.nodes.platforms_of, pair.use.nodes))
        platforms = tuple(dict.fromkeys(platform for of_node in by_node for platform in of_node))
        full_answer = await self._answer(replace(question, platforms=platforms, strict=pair.is_strict), probe.namespace)
        state = pair.state_for(full_answer)
        if not is_unknown(full_answer):
            self._schedule.manifest_read(probe, answer.digest, state, time.monotonic())
        return full_answer, state

    async def _answer(self, question: Question, namespace: str) -> Availability:
        budget = self._cache.budget_seconds
        return (await self._cache.registries.check([question], budget_seconds=budget, asker=namespace))[question]

    async def _write(
        self, namespace: str, calm: _CalmNamespace, answered: Iterable[_ProbeResult], *, now: datetime
    ) -> None:
        """Write the new states and registries that the probes of a namespace found into the status of its sources."""
        settled = [result for result in answered if result.probe.namespace == namespace and result.answer is not None]
        answers = {result.probe.pair.key: result.state for result in settled if result.state}
        answering = {result.probe.pair.host for result in settled if not is_silent(result.answer)}
        hosts = dict.fromkeys(answering, False) | {
            result.probe.pair.host: True for result in settled if self._schedule.is_down(result.probe.pair.host)
        }
        probe_results = replace(calm.probe_results, answers=answers, hosts=hosts)
        updates = (
            self._writer.write_status(source, (), now=now, probe_results=probe_results) for source in calm.sources
        )
        for end in await asyncio.gather(*updates, return_exceptions=True):
            if isinstance(end, Exception):  # no object that a user can write keeps others from being written
                logs.crashed(end, {"namespace": namespace})
