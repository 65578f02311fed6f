"""
The images in use, and what registries answer about their equivalents.

An image is in use if a pod or the template of a workload names it: a workload that is scaled to zero pulls its images
tomorrow. Which equivalents an image has, and in which state a pair of them is, the function's own modules say
(`sources.candidates`, `policy.readiness`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from kubectl_saffire.estate import Estate
from saffire.kube.kinds import Kinds
from saffire.kube.manifest import InvalidManifest, Manifest, mapping, name_of
from saffire.policy.readiness import ImagePair, ReadinessState
from saffire.policy.running_images import ImagesInUse, ImageUse
from saffire.reconcile.candidate_lookup import Lookup, LookupCache
from saffire.registry.availability import Availability, Available, Proof, proof_of
from saffire.registry.check import Question
from saffire.registry.reference import Reference
from saffire.sources.candidates import applicable, candidates
from saffire.sources.spec import Source, opted_out

T = TypeVar("T")

# So many namespaces are looked at at the same time, and registries are asked about so many pairs of each.
_NAMESPACES = 8
_AT_ONCE = 32
Answered = tuple[ImagePair, ReadinessState]
"""A pair with its state, by the registry's answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """The pods and workloads of an estate, by namespace."""

    kinds: Kinds
    pods: Mapping[str, Sequence[Manifest]]
    workloads: Mapping[str, Sequence[Manifest]]

    @classmethod
    async def read(cls, estate: Estate, progress: Callable[[str], None]) -> Self:
        """Read the inventory; raise `UsageError` if the user may not list pods."""
        pods = await estate.pods_by_namespace(progress)
        return cls(kinds=estate.kinds, pods=pods, workloads=await estate.workloads_by_namespace())

    @property
    def namespaces(self) -> frozenset[str]:
        """The namespaces that have pods or workloads."""
        return frozenset(self.pods) | frozenset(self.workloads)

    def uses(self, namespace: Manifest) -> tuple[ImageUse, ...]:
        """
        Return the images in use in a namespace, sorted by name.

        What Saffire would not move is left out: what a user has opted out, and static pods.
        """
        in_use, name = ImagesInUse(), name_of(namespace)
        in_use.namespace = namespace
        for pod in self.pods.get(name, ()):
            in_use.observe(pod)
        for workload in self.workloads.get(name, ()):
            kind = self.kinds.of(workload)
            if kind and kind.template and not opted_out(workload):
                with suppress(InvalidManifest):  # the schema of a foreign kind may allow anything
                    in_use.observe(mapping(workload, *kind.template))
        return in_use.uses()


async def in_every(
    namespaces: Collection[str], look: Callable[[str], Awaitable[T]], progress: Callable[[str], None]
) -> list[T]:
    """Return what `look` returns for each namespace, in the order of the alphabet, some namespaces at a time."""
    slots, done = asyncio.Semaphore(_NAMESPACES), 0

    async def look_in(namespace: str) -> T:
        nonlocal done
        async with slots:
            result = await look(namespace)
        done += 1
        progress(f"looked at {done} of {len(namespaces)} namespaces")
        return result

    return await asyncio.gather(*map(look_in, sorted(namespaces)))


def pairs_of(uses: Iterable[ImageUse], sources: Iterable[Source]) -> Iterator[ImagePair]:
    """Yield each image in use with each of its equivalents, by the sources that apply to its namespace."""
    of_namespace = tuple(sources)
    for use in uses:
        if reference := Reference.parse_if_valid(use.image):
            for candidate in candidates(reference, applicable(reference, of_namespace)):
                yield ImagePair.of(use, candidate)


async def ask(cache: LookupCache, namespace: str, pairs: Sequence[ImagePair]) -> list[Answered]:
    """Ask the registries of the equivalents about all pairs of a namespace, with the credentials of a failover."""
    lookup = Lookup(cache=cache, namespace=namespace)
    answered: list[Answered] = []
    for start in range(0, len(pairs), _AT_ONCE):
        answered += await _ask(lookup, pairs[start : start + _AT_ONCE])
    return answered


async def _ask(lookup: Lookup, pairs: Sequence[ImagePair]) -> list[Answered]:
    """
    Ask about some pairs at the same time.

    The first question sends HEAD, which no registry counts as a pull. If the digest that it tells proves the pair, the
    manifest is not read.
    """
    questions = await asyncio.gather(*(_question(lookup, pair) for pair in pairs))
    answers = await lookup.cache.check(tuple(dict.fromkeys(questions)), lookup.namespace)
    full = {
        pair.key: await _full_question(lookup, pair, question)
        for pair, question in zip(pairs, questions, strict=True)
        if not _is_settled(pair, answers[question])
    }
    full_answers = await lookup.cache.check(tuple(dict.fromkeys(full.values())), lookup.namespace)
    return [
        (pair, pair.state_for(full_answers[full[pair.key]] if pair.key in full else answers[question]))
        for pair, question in zip(pairs, questions, strict=True)
    ]


def _is_settled(pair: ImagePair, answer: Availability) -> bool:
    """Tell whether the answer to the first question tells all that the state of a pair depends on."""
    if not isinstance(answer, Available):
        return True
    return not pair.is_strict and proof_of(answer, pair.expected_digests()) is Proof.EQUAL


async def _question(lookup: Lookup, pair: ImagePair) -> Question:
    credentials = await lookup.every_credential(pair.use.secrets, pair.candidate)
    return Question(reference=pair.candidate.reference, credentials=credentials)


async def _full_question(lookup: Lookup, pair: ImagePair, question: Question) -> Question:
    """Return the question for the platforms of the nodes that use the image."""
    by_node = [await lookup.cache.nodes.platforms_of(node) for node in pair.use.nodes]
    platforms = tuple(dict.fromkeys(platform for of_node in by_node for platform in of_node))
    return replace(question, platforms=platforms, strict=pair.is_strict)
