"""
What is found out about candidates before one of them is chosen.

In one repair a registry is asked about each image once with the same credentials, all images together and within one
budget. The platforms of nodes and the pull secrets are read from the cluster for that; without permission to read them
there is less proof, and everything else works as well. Running pods say which digest an image has (`imageID`);
`DigestCache` keeps that between repairs.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from saffire.errors import SaffireError, TransientError
from saffire.kube.manifest import Manifest, text
from saffire.kube.resources import Cluster
from saffire.policy.pull_secrets import compare_answers, pull_secrets
from saffire.policy.running_images import ImagesInUse
from saffire.policy.verification import Evidence
from saffire.pulls import failure
from saffire.registry.availability import Availability, Unreachable
from saffire.registry.check import ImageChecker, Question
from saffire.registry.credentials import Credential, Keyring, closest
from saffire.registry.platforms import Platform
from saffire.registry.reference import Reference, Repository
from saffire.sources.candidates import Candidate
from saffire.sources.spec import Verification
from saffire.ttl_cache import TtlCache

Digests = dict[str, set[str]]
"""By image, under which digests it runs."""
# From one sweep to the next.
_KNOWN_SECONDS = 120
# Pods that are freed one by one, as they fail, need not have their siblings listed each time.
_SEEN_SECONDS = 5
_NAMESPACES = 2048
# A namespace's owner writes what he likes as an image; a reference of more than 255 characters, tag and digest is none.
_LONGEST = 512
_MOST_IMAGES = 2000


def add_digests(found: Digests, pod: Manifest) -> None:
    """Add what images stand for where a pod runs them; none that is too long for a reference."""
    for image, digest in failure.image_digests(pod):
        if len(image) <= _LONGEST:
            found.setdefault(image, set()).add(digest)


class DigestCache:
    """The digests of many namespaces, and when their pods were last seen; `clock` tells seconds from any start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: TtlCache[str, TtlCache[str, frozenset[str]]] = TtlCache(_NAMESPACES, clock)
        self._seen: TtlCache[str, bool] = TtlCache(_NAMESPACES, clock)

    def of(self, namespace: str, image: str) -> frozenset[str]:
        """Return what is known of a namespace's image, for two minutes since it was seen running; nothing else."""
        known = self._known.get(namespace)
        return (known.get(image) if known else None) or frozenset()

    def were_seen(self, namespace: str) -> bool:
        """Tell whether pods of a namespace were seen so lately that another look would tell nothing new."""
        return self._seen.get(namespace) is not None

    def keep(self, namespace: str, found: Digests) -> None:
        """Keep what images of a namespace stand for, whose pods were seen now."""
        known = self._known.get(namespace) or TtlCache(_MOST_IMAGES, self._clock)
        for image, digests in found.items():
            known.put(image, frozenset(digests), _KNOWN_SECONDS)
        self._known.put(namespace, known, _KNOWN_SECONDS)
        self._seen.put(namespace, True, _SEEN_SECONDS)  # noqa: FBT003 - that it is so is the value

    def keep_new(self, namespace: str, found: Digests) -> None:
        """Keep that of images of which nothing is known: its pods were seen as they were before."""
        self.keep(namespace, {image: digests for image, digests in found.items() if not self.of(namespace, image)})


# A node's platform never changes; what may not be read may be allowed soon.
_NODE_SECONDS = 600
_SECRET_SECONDS = 30
# A registry that gave no answer is not waited for again by every repair of a storm.
_SILENT_SECONDS = 5
_ROOM = 2048
_MAX_SECRETS = 16


class LookupCache:
    """
    What one instance knows of nodes, pull secrets and silent registries.

    Args:
        cluster: where nodes and Secrets are.
        registries: whom to ask.
        budget_seconds: the longest that one repair's questions may take, all together.

    """

    def __init__(self, cluster: Cluster, registries: ImageChecker, *, budget_seconds: float) -> None:
        self.cluster = cluster
        self.registries = registries
        self.budget_seconds = budget_seconds
        self.platforms: TtlCache[str, tuple[Platform, ...]] = TtlCache(_ROOM, time.monotonic)
        self.unread: TtlCache[tuple[str, str], bool] = TtlCache(_ROOM, time.monotonic)
        self.silent: TtlCache[str, Unreachable] = TtlCache(_ROOM, time.monotonic)
        self.digests = DigestCache(time.monotonic)

    def known_platforms(self, pod: Manifest) -> tuple[Platform, ...] | None:
        """Return what is known of the platform of the pod's node, which may be nothing; `None` if nobody has asked."""
        return self.platforms.get(text(pod, "spec", "nodeName"))

    async def platforms_of(self, pod: Manifest) -> tuple[Platform, ...]:
        """Return the platform of the pod's node, if it is known."""
        name = text(pod, "spec", "nodeName")
        known = self.platforms.get(name)
        if known is None:
            try:
                node = await self.cluster.node(name) if name else None
            except TransientError:
                return ()  # less is proven then, and nothing else is lost
            platform = Platform.of_node(node) if node else None
            known = (platform,) if platform else ()
            self.platforms.put(name, known, _NODE_SECONDS)
        return known

    async def secret(self, namespace: str, name: str) -> Manifest | None:
        """Return a Secret, which is never kept; `None` where it is gone, or not for us to read."""
        if self.unread.get((namespace, name)):
            return None
        try:
            found = await self.cluster.secret(namespace, name)
        except TransientError:
            return None
        if found is None:
            self.unread.put((namespace, name), True, _SECRET_SECONDS)  # noqa: FBT003 - that it is so is the value
        return found

    def known(self, questions: Iterable[Question]) -> dict[Question, Availability]:
        """Return the answers that were given a moment ago, and are good."""
        asked = (one for one in questions if not self.silent.get(one.reference.repository.domain))
        found = {one: self.registries.known(one) for one in asked}
        return {one: answer for one, answer in found.items() if answer}

    async def check(self, questions: tuple[Question, ...]) -> dict[Question, Availability]:
        """Ask registries, but those that were silent a moment ago."""
        known = {one: self.silent.get(one.reference.repository.domain) for one in questions}
        answers: dict[Question, Availability] = {one: answer for one, answer in known.items() if answer}
        asked = [one for one in questions if one not in answers]
        answers |= await self.registries.check(asked, budget_seconds=self.budget_seconds)
        for one in asked:
            answer = answers[one]
            if isinstance(answer, Unreachable) and answer.is_silent:
                self.silent.put(one.reference.repository.domain, answer, _SILENT_SECONDS)
        return answers


@dataclass(kw_only=True, slots=True)
class Lookup:
    """One repair's questions, and the answers so far."""

    cache: LookupCache
    namespace: str
    images_in_use: ImagesInUse = field(default_factory=ImagesInUse, init=False)
    """Which images are in use, as far as pods were seen."""
    _answers: dict[Question, Availability] = field(default_factory=dict, init=False)
    _checking: dict[Question, asyncio.Task[dict[Question, Availability]]] = field(default_factory=dict, init=False)
    _checked: dict[tuple[object, ...], Evidence] = field(default_factory=dict, init=False)
    _keyrings: dict[str, asyncio.Task[Keyring]] = field(default_factory=dict, init=False)
    _digests: Digests = field(default_factory=dict, init=False)
    _observing_siblings: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _has_observed_siblings: bool = field(default=False, init=False)

    def observe(self, pod: Manifest) -> None:
        """Take note of what images a pod uses, and what they stand for where it runs them."""
        self.images_in_use.observe(pod)
        add_digests(self._digests, pod)

    def all_pods_observed(self) -> None:
        """Keep what images stand for in this namespace, every pod of which was seen."""
        self.cache.digests.keep(self.namespace, self._digests)

    async def observe_siblings(self, pod: Manifest) -> None:
        """
        Have the pods beside one seen, unless they were a moment ago, for what its images stand for.

        That is tried once in a repair; should it fail, less is proven.
        """
        async with self._observing_siblings:
            if not self._has_observed_siblings and not self.cache.digests.were_seen(self.namespace):
                self._has_observed_siblings = True
                with suppress(SaffireError):
                    found: Digests = {}
                    for each in await self.cache.cluster.pods_beside(pod):
                        add_digests(found, each)
                    self.cache.digests.keep_new(self.namespace, found)

    def digests_of(self, image: str) -> frozenset[str]:
        """Return what an image stands for, as far as pods were seen that run it, in this repair or some time before."""
        return frozenset(self._digests.get(image, ())) or self.cache.digests.of(self.namespace, image)

    async def check_candidates(self, pod: Manifest, candidates: Iterable[Candidate]) -> Evidence:
        """
        Return what registries say of candidates for a pod, and what it lacks; whoever wants no answer does not ask.

        Where a source has a pull secret that the pod has not, a registry is asked with it and without it, at once.
        """
        wanted = tuple(candidates)
        platforms, has = await self.cache.platforms_of(pod), pull_secrets(pod)
        # All pods of a workload want the same, and mostly have the same platform.
        key = (platforms, has, *((one.image, one.source.name) for one in wanted))
        if key not in self._checked:
            self._checked[key] = await self._check_candidates(has, platforms, wanted)
        return self._checked[key]

    async def _check_candidates(
        self, has: tuple[str, ...], platforms: tuple[Platform, ...], wanted: tuple[Candidate, ...]
    ) -> Evidence:
        """Ask about candidates, for a pod that has some pull secrets, and return what registries say."""
        secrets = {candidate.image: _secret_for(candidate) for candidate in wanted}
        keyrings = await self._read_all((*has[:_MAX_SECRETS], *secrets.values()))
        alone, helped = {}, {}
        for candidate in wanted:
            repository, image = candidate.reference.repository, candidate.image
            question = Question(
                reference=candidate.reference,
                platforms=platforms,
                strict=candidate.source.verification is Verification.STRICT,
                credentials=_credentials(keyrings, has, repository),
            )
            every = _credentials(keyrings, (*has, secrets[image]), repository)
            alone[image], helped[image] = question, replace(question, credentials=every)
        answers = await self._check((*alone.values(), *helped.values()))
        missing = {image: secret for image, secret in secrets.items() if secret not in has}
        said_alone, said = ({image: answers[one] for image, one in each.items()} for each in (alone, helped))
        return compare_answers(said_alone, said, missing)

    async def silent(self, images: Iterable[str]) -> frozenset[str]:
        """Return those of the images whose registry does not answer us, or with errors of its own only."""
        questions = {image: Question(reference=Reference.parse(image)) for image in images}
        answers = await self._check(questions.values())
        said = {image: answers[one] for image, one in questions.items()}
        return frozenset(image for image, one in said.items() if isinstance(one, Unreachable) and one.is_silent)

    async def _check(self, questions: Iterable[Question]) -> dict[Question, Availability]:
        """Return the answers; what was asked already in this repair is not asked again."""
        asked = tuple(dict.fromkeys(questions))
        self._answers |= self.cache.known(one for one in asked if one not in self._answers)
        new = tuple(one for one in asked if one not in self._answers and one not in self._checking)
        if new:
            self._checking |= dict.fromkeys(new, asyncio.create_task(self.cache.check(new)))
        for one in asked:
            if one not in self._answers:
                self._answers |= await self._checking[one]
        return {one: self._answers[one] for one in asked}

    async def every_credential(self, secrets: Iterable[str], candidate: Candidate) -> tuple[Credential, ...]:
        """Return what those pull secrets say of a candidate's repository, and after that what its source may add."""
        names = (*itertools.islice(secrets, _MAX_SECRETS), _secret_for(candidate))
        return _credentials(await self._read_all(names), names, candidate.reference.repository)

    async def _read_all(self, secrets: Iterable[str]) -> dict[str, Keyring]:
        """Return the credentials of Secrets by name, each read once in this repair, and all at once."""
        names = [name for name in secrets if name]
        for name in names:
            if name not in self._keyrings:
                self._keyrings[name] = asyncio.create_task(self._read(name))
        if names:
            await asyncio.gather(*(self._keyrings[name] for name in names))
        return {name: self._keyrings[name].result() for name in names}

    async def _read(self, secret: str) -> Keyring:
        found = await self.cache.secret(self.namespace, secret)
        return Keyring.of([found] if found else [])


def _credentials(
    keyrings: Mapping[str, Keyring], secrets: Iterable[str], repository: Repository
) -> tuple[Credential, ...]:
    """Return what Secrets that were read say of a repository, those of the first before those of the next."""
    read = (keyrings[name] for name in secrets if name in keyrings)
    return tuple(dict.fromkeys(one for keyring in read for one in keyring.credentials_for(repository)))


def _secret_for(candidate: Candidate) -> str:
    """Return the pull secret that a candidate's source has for it; `""` if it has none."""
    own = dict(candidate.source.credentials)
    location = closest(own, candidate.reference.repository)
    return own[location] if location else ""
