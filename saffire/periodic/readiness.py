"""
Asks registries on a calm day what a failover would need to know, and writes the answers into the sources.

After each sweep a few registries are asked (`probe_schedule` says which), all together and within the time that a
failover's questions have too. The probes come last: by then every record is written, and a registry that hangs keeps
nothing else waiting. A failover believes none of it, and asks again.

HEAD comes first, which no registry counts as a pull. If it gives a digest that the image runs with here, or one whose
manifest was read before, that is all there is to know. Otherwise the manifest is read.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from saffire import logs
from saffire.kube.manifest import Manifest, mapping
from saffire.periodic.probe_schedule import Probe, ProbeSchedule
from saffire.policy.readiness import ImagePair, ReadinessState
from saffire.policy.running_images import ImageUse
from saffire.reconcile.lookup import Lookup, LookupCache
from saffire.record.readiness import ProbeResults, answers_of
from saffire.record.writer import RecordWriter
from saffire.registry.availability import Availability, Available, Proof, Unreachable, is_unknown, proof_of
from saffire.registry.check import Question

# For everything that comes after a sweep: some reads of nodes and Secrets, the questions, and the writes.
_SECONDS = 10


@dataclass(frozen=True, slots=True)
class _CalmNamespace:
    """A namespace as the sweep has just seen it."""

    sources: tuple[Manifest, ...]
    inspection: ProbeResults


@dataclass(frozen=True, slots=True)
class _Probed:
    """What came of a turn: the answer, if it was settled, and the state to write, if it is news."""

    turn: Probe
    answer: Availability | None
    state: ReadinessState | None


class ReadinessProber:
    """
    Asks and writes, for one instance.

    Args:
        surveyor: whose registries are asked, with what it knows of nodes and Secrets.
        recorder: writes the status of sources.
        questions: how many there may be in a minute.

    """

    def __init__(self, surveyor: LookupCache, recorder: RecordWriter, *, questions: int) -> None:
        self._cache = surveyor
        self._writer = recorder
        self._schedule = ProbeSchedule(questions)
        self._calm_namespaces: dict[str, _CalmNamespace] = {}

    def count(self, namespace: str, sources: tuple[Manifest, ...], uses: tuple[ImageUse, ...]) -> ProbeResults:
        """Return what a look at a calm namespace has found, with what it was not told yet of its registries."""
        if not self._schedule.a_minute:
            return ProbeResults.of(sources, None)
        found = ProbeResults.of(sources, uses)
        hosts = {pair.host for source in sources for pair in found.pairs(source)}
        return replace(found, hosts=self._schedule.news(namespace, hosts, time.monotonic()))

    def enqueue(self, namespace: str, sources: tuple[Manifest, ...], inspection: ProbeResults) -> None:
        """Take note of a calm namespace, for the questions that come after the sweep."""
        pairs: dict[bytes, ImagePair] = {}
        unknown: set[bytes] = set()
        told = tuple(source for source in sources if inspection.is_of(source))
        for source in told:
            mine = {pair.key: pair for pair in inspection.pairs(source)}
            pairs |= mine
            unknown |= mine.keys() - answers_of(mapping(source, "status").get("readiness")).keys()
        turns = (Probe(namespace, pair, key not in unknown) for key, pair in pairs.items())
        self._schedule.offer(namespace, turns, time.monotonic())
        self._calm_namespaces[namespace] = _CalmNamespace(told, replace(inspection, hosts={}))
        self._calm_namespaces = {
            name: place for name, place in self._calm_namespaces.items() if name in self._schedule.waiting
        }

    async def run(self, now: datetime) -> None:
        """Ask what is due, and write what is new; whatever goes wrong is left for another time."""
        turns = self._schedule.take(time.monotonic())
        places, self._calm_namespaces = self._calm_namespaces, {}
        surveys = {turn.namespace: Lookup(cache=self._cache, namespace=turn.namespace) for turn in turns}
        try:
            async with asyncio.timeout(_SECONDS):
                found = await asyncio.gather(*(self._probe(turn, surveys[turn.namespace]) for turn in turns))
                await asyncio.gather(*(self._write(name, places[name], found, now=now) for name in surveys))
        except TimeoutError:
            logs.failed("Could not ask registries in time", {"questions": len(turns)})

    async def _probe(self, turn: Probe, survey: Lookup) -> _Probed:
        """Take a turn, and learn from it."""
        try:
            answer, state = await self._probe_pair(turn, survey)
        except Exception as fault:  # noqa: BLE001 - nobody can use an image that keeps others from being asked about
            logs.crashed(fault, {"namespace": turn.namespace})
            answer, state = None, ReadinessState.UNASKED
        logs.asked(turn.namespace, turn.pair.use.image, turn.pair.candidate.image, state)
        return _Probed(turn, answer, self._schedule.record(turn, answer, state, time.monotonic()))

    async def _probe_pair(self, turn: Probe, survey: Lookup) -> tuple[Availability | None, ReadinessState]:
        """Return a registry's answer, and what it comes to; no answer where that cannot be settled now."""
        pair = turn.pair
        credentials = await survey.every_credential(pair.use.secrets, pair.candidate)
        question = Question(reference=pair.candidate.reference, credentials=credentials)
        answer = await self._answer(question)
        if not isinstance(answer, Available):
            return answer, pair.state_for(answer)
        if not pair.is_strict and proof_of(answer, pair.expected_digests()) is Proof.EQUAL:
            return answer, ReadinessState.READY
        if recalled := self._schedule.recall(turn, answer.digest):
            return answer, recalled
        if not self._schedule.may_read(pair.host, time.monotonic()):
            return None, ReadinessState.UNASKED
        found = await asyncio.gather(
            *(self._cache.platforms_of({"spec": {"nodeName": node}}) for node in pair.use.nodes)
        )
        platforms = tuple(dict.fromkeys(platform for each in found for platform in each))
        read = await self._answer(replace(question, platforms=platforms, strict=pair.is_strict))
        state = pair.state_for(read)
        if not is_unknown(read):
            self._schedule.read(turn, answer.digest, state, time.monotonic())
        return read, state

    async def _answer(self, question: Question) -> Availability:
        answers = await self._cache.registries.check([question], budget_seconds=self._cache.budget_seconds)
        return answers[question]

    async def _write(self, namespace: str, place: _CalmNamespace, found: Iterable[_Probed], *, now: datetime) -> None:
        """Write what is new to a namespace into the status of its sources."""
        mine = [one for one in found if one.turn.namespace == namespace and one.answer is not None]
        answers = {one.turn.pair.key: one.state for one in mine if one.state}
        answering = {one.turn.pair.host for one in mine if not _is_silent(one.answer)}
        hosts = dict.fromkeys(answering, False) | {
            one.turn.pair.host: True for one in mine if self._schedule.is_down(one.turn.pair.host)
        }
        inspection = replace(place.inspection, answers=answers, hosts=hosts)
        updates = (self._writer.write_status(one, (), now=now, inspection=inspection) for one in place.sources)
        for end in await asyncio.gather(*updates, return_exceptions=True):
            if isinstance(end, Exception):  # nobody can write an object that keeps others from being written
                logs.crashed(end, {"namespace": namespace})


def _is_silent(answer: Availability | None) -> bool:
    return isinstance(answer, Unreachable) and answer.is_silent
