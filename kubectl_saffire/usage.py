"""
The images in use, and what registries answer about their equivalents.

An image is in use if a pod or the template of a workload names it: a workload that is scaled to zero pulls its images
tomorrow. Which equivalents an image has, and in which state a pair of them is, the function's own modules say
(`sources.candidates`, `policy.readiness`).
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from kubectl_saffire.estate import Estate
from kubectl_saffire.rehearsal import Rehearsal
from saffire.kube.manifest import InvalidManifest, Manifest, mapping
from saffire.policy.readiness import ImagePair, ReadinessState
from saffire.policy.running_images import ImagesInUse, ImageUse
from saffire.reconcile.candidate_lookup import Lookup
from saffire.registry.availability import Availability, Available, Proof, proof_of
from saffire.registry.check import Question
from saffire.registry.reference import Reference
from saffire.sources.candidates import applicable, candidates
from saffire.sources.spec import Source, opted_out

# Registries are asked about so many pairs at the same time.
_AT_ONCE = 32
Answered = tuple[ImagePair, ReadinessState]
"""A pair with its state, by the registry's answer."""


async def images_in_use(
    estate: Estate, namespace: str, pods: Iterable[Manifest], manifest: Manifest
) -> tuple[ImageUse, ...]:
    """
    Return the images in use in a namespace, sorted by name.

    `pods` are the pods of the namespace, and `manifest` is the Namespace. What Saffire would not move is left out: what
    a user has opted out, and static pods.
    """
    in_use = ImagesInUse()
    in_use.namespace = manifest
    for pod in pods:
        in_use.observe(pod)

    def missed(_: str, kind: str) -> None:
        estate.hidden.add(f"objects of the kind {kind}")

    async for workload in estate.workloads(namespace, (), missed=missed):
        with suppress(InvalidManifest):  # the schema of a foreign kind may allow anything
            if not opted_out(workload):
                in_use.observe(_template_of(workload, estate))
    return in_use.uses()


def _template_of(workload: Manifest, estate: Estate) -> Manifest:
    """Return the pod template of a workload; `{}` if its kind has none."""
    kind = estate.kinds.of(workload)
    return mapping(workload, *kind.template) if kind and kind.template else {}


def pairs_of(uses: Iterable[ImageUse], sources: Iterable[Source]) -> Iterator[ImagePair]:
    """Yield each image in use with each of its equivalents, by the sources that apply to its namespace."""
    of_namespace = tuple(sources)
    for use in uses:
        if reference := Reference.parse_if_valid(use.image):
            for candidate in candidates(reference, applicable(reference, of_namespace)):
                yield ImagePair.of(use, candidate)


async def ask(rehearsal: Rehearsal, namespace: str, pairs: Sequence[ImagePair]) -> list[Answered]:
    """Ask the registries of the equivalents about all pairs of a namespace, as a failover would."""
    lookup = Lookup(cache=rehearsal.cache, namespace=namespace)
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
