"""
Looks up what decisions need: the platforms of nodes, pull secrets, registries' answers and the digests of images.

Within one repair, Saffire asks a registry about each image once with the same credentials. It asks about all candidates
of a pod at the same time, within one time budget. It reads platforms and pull secrets from the cluster. If it may not
read them, less is proven, and everything else works.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from saffire.errors import SaffireError, TransientError
from saffire.kube.manifest import Manifest
from saffire.kube.resources import Cluster
from saffire.policy.pull_secrets import compare_answers
from saffire.policy.running_images import ImagesInUse
from saffire.policy.verification import Evidence
from saffire.pulls.failure import containers_of
from saffire.reconcile.node_lookup import NodeLookup
from saffire.record.status import RegistryAnswers
from saffire.registry.availability import Availability, Unreachable, is_silent
from saffire.registry.check import ImageChecker, Question
from saffire.registry.credentials import Credential, Keyring
from saffire.registry.platforms import Platform
from saffire.registry.reachability import SilentRegistries
from saffire.registry.reference import Reference, Repository, account_of
from saffire.sources.candidates import Candidate
from saffire.sources.spec import Verification
from saffire.ttl_cache import TtlCache

# Digests of running images

Digests = dict[str, set[str]]
"""The digests under which pods run each image, by the reference of the image."""
# A user of a namespace may write anything as an image. No reference has more than 255 characters, a tag and a digest.
_MAX_IMAGE_LENGTH = 512
_MAX_NAMESPACES = 2048
_MAX_IMAGES = 2000
# Sweeps come once a minute: digests are kept from one sweep to the next.
_DIGEST_SECONDS = 120
# If Saffire frees pods one by one, as they fail, it need not list the pods beside them each time.
_OBSERVED_SECONDS = 5


def add_digests(digests: Digests, pod: Manifest) -> None:
    """Add the digests of the images that a pod runs (`imageID`); skip an image that is too long for a reference."""
    for container in containers_of(pod):
        if len(container.image) <= _MAX_IMAGE_LENGTH and (digest := container.digest):
            digests.setdefault(container.image, set()).add(digest)


class DigestCache:
    """The digests of many namespaces' images, kept between repairs; `clock` returns seconds since any start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._digests: TtlCache[str, TtlCache[str, frozenset[str]]] = TtlCache(_MAX_NAMESPACES, clock)
        self._observed: TtlCache[str, bool] = TtlCache(_MAX_NAMESPACES, clock)

    def of(self, namespace: str, image: str) -> frozenset[str]:
        """Return the digests under which pods of a namespace ran an image within the last two minutes; may be empty."""
        digests = self._digests.get(namespace)
        return (digests.get(image) if digests else None) or frozenset()

    def were_observed(self, namespace: str) -> bool:
        """Tell whether pods of a namespace were observed in the last 5 seconds, so that another read is of no use."""
        return self._observed.get(namespace) is not None

    def keep(self, namespace: str, digests: Digests) -> None:
        """Keep the digests of the images of a namespace whose pods Saffire has just observed."""
        kept = self._digests.get(namespace) or TtlCache(_MAX_IMAGES, self._clock)
        for image, of_image in digests.items():
            kept.put(image, frozenset(of_image), _DIGEST_SECONDS)
        self._digests.put(namespace, kept, _DIGEST_SECONDS)
        self._observed.put(namespace, True, _OBSERVED_SECONDS)  # noqa: FBT003 - a set with expiry

    def keep_new(self, namespace: str, digests: Digests) -> None:
        """
        Keep the digests of those images for which none are kept yet.

        Digests that are kept already stay: `digests` are of pods that Saffire read as they were some time ago.
        """
        self.keep(namespace, {image: of_image for image, of_image in digests.items() if not self.of(namespace, image)})


# Platforms, pull secrets and registries' answers, kept by the instance

# If no registry answered for this long, Saffire's own network may be down.
_MINUTES_SECONDS = 300
# A Secret that Saffire may not read may be allowed soon.
_SECRET_SECONDS = 30
_KEPT_SECRETS = 2048
# If a registry did not answer in time, the second question about it may take so many times the budget.
_TIMES_LONGER = 3


class LookupCache:
    """
    What one instance keeps between repairs: `nodes`, and the digests of images.

    It also keeps, for some seconds, which Secrets it cannot read, and which registries were silent.

    Args:
        cluster: reads nodes and Secrets.
        registries: asks registries about images.
        budget_seconds: how long all questions that are asked together may take.

    """

    def __init__(self, cluster: Cluster, registries: ImageChecker, *, budget_seconds: float) -> None:
        self.cluster = cluster
        self.registries = registries
        self.budget_seconds = budget_seconds
        self.digests = DigestCache(time.monotonic)
        self._unreadable_secrets: TtlCache[tuple[str, str], bool] = TtlCache(_KEPT_SECRETS, time.monotonic)
        self._silent_registries = SilentRegistries(time.monotonic)
        self.nodes = NodeLookup(cluster)

    def any_registry_answers(self, namespace: str) -> bool:
        """Tell whether registries have answered questions of this namespace, or of two others, within five minutes."""
        return self.registries.reachability.any_within(_MINUTES_SECONDS, namespace)

    def registry_answers(self, namespace: str, now: datetime) -> RegistryAnswers:
        """Return what this instance knows of registries at the time `now`, in UTC, by the questions of a namespace."""
        answered_at = self.registries.reachability.answered_at(now)
        is_blind = self.registries.reachability.none_within(_MINUTES_SECONDS, namespace)
        return RegistryAnswers(answered_at=answered_at, is_blind=is_blind)

    @property
    def is_blind(self) -> bool:
        """Whether registries were asked within the last five minutes, and none has answered."""
        return bool(self.registries.reachability.none_within(_MINUTES_SECONDS))

    async def secret(self, namespace: str, name: str) -> Manifest | None:
        """Return a Secret; `None` if it is gone, or if Saffire cannot read it. The instance never keeps a Secret."""
        if self._unreadable_secrets.get((namespace, name)):
            return None
        try:
            secret = await self.cluster.secret(namespace, name)
        except TransientError:
            return None
        if secret is None:
            self._unreadable_secrets.put((namespace, name), True, _SECRET_SECONDS)  # noqa: FBT003 - a set with expiry
        return secret

    def recent_answers(self, questions: Iterable[Question], namespace: str) -> dict[Question, Availability]:
        """
        Return the cached answers to those questions that a registry answered with `Available` in the last 2 seconds.

        If a registry is known to be silent for this namespace, its answers are left out.
        """
        live = (question for question in questions if not self._silence(namespace, question))
        answers = {question: self.registries.cached(question) for question in live}
        return {question: answer for question, answer in answers.items() if answer}

    async def check(
        self, questions: tuple[Question, ...], namespace: str, *, again: bool = False
    ) -> dict[Question, Availability]:
        """
        Ask registries for a namespace, and return their answers.

        If a registry is known to be silent for this namespace, do not ask that registry again: return that
        `Unreachable` for each question about it. With `again`, ask all the same, and wait three times as long.
        """
        known = () if again else questions
        silent = {question: self._silence(namespace, question) for question in known}
        answers: dict[Question, Availability] = {question: answer for question, answer in silent.items() if answer}
        unanswered = [question for question in questions if question not in answers]
        budget_seconds = self.budget_seconds * (_TIMES_LONGER if again else 1)
        answers |= await self.registries.check(unanswered, budget_seconds=budget_seconds, asker=namespace)
        for question in unanswered:
            answer = answers[question]
            if is_silent(answer):
                # A registry that responds may fail for one account alone, such as one that mirrors a dead registry.
                place = account_of(str(question.reference)) if answer.is_server_error else _domain(question)
                self._silent_registries.put(namespace, place, answer)
        return answers

    def _silence(self, namespace: str, question: Question) -> Unreachable | None:
        """Return the answer of a registry that is known to be silent, as a whole or for the account of a question."""
        silent = self._silent_registries
        return silent.get(namespace, _domain(question)) or silent.get(namespace, account_of(str(question.reference)))


def _domain(question: Question) -> str:
    return question.reference.repository.domain


# The lookups of one repair

_MAX_SECRETS = 16


@dataclass(kw_only=True, slots=True)
class Lookup:
    """What one repair of `namespace` has looked up. The repair looks up nothing twice."""

    cache: LookupCache
    namespace: str
    images_in_use: ImagesInUse = field(default_factory=ImagesInUse, init=False)
    """The images that the observed pods name in their spec."""
    _answers: dict[Question, Availability] = field(default_factory=dict, init=False)
    _checking: dict[Question, asyncio.Task[dict[Question, Availability]]] = field(default_factory=dict, init=False)
    _evidence: dict[tuple[object, ...], Evidence] = field(default_factory=dict, init=False)
    _keyrings: dict[str, asyncio.Task[Keyring]] = field(default_factory=dict, init=False)
    _digests: Digests = field(default_factory=dict, init=False)
    _observing_siblings: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _has_observed_siblings: bool = field(default=False, init=False)

    def observe(self, pod: Manifest) -> None:
        """Take note of the images that a pod names in its spec, and of the digests of the images that it runs."""
        self.images_in_use.observe(pod)
        add_digests(self._digests, pod)

    def all_pods_observed(self) -> None:
        """Keep the digests of the namespace's images for later repairs; call this once every pod there was observed."""
        self.cache.digests.keep(self.namespace, self._digests)

    async def observe_siblings(self, pod: Manifest) -> None:
        """
        Read other pods of this pod's namespace, and keep the digests of the images that they run.

        Do so once in a repair, and not if Saffire observed pods of the namespace within the last 5 seconds. If Saffire
        cannot read the pods, less is proven.
        """
        async with self._observing_siblings:
            if not self._has_observed_siblings and not self.cache.digests.were_observed(self.namespace):
                self._has_observed_siblings = True
                with suppress(SaffireError):
                    digests: Digests = {}
                    for sibling in await self.cache.cluster.pods_beside(pod):
                        add_digests(digests, sibling)
                    self.cache.digests.keep_new(self.namespace, digests)

    def digests_of(self, image: str) -> frozenset[str]:
        """
        Return the digests under which pods of the namespace run an image; may be empty.

        If this repair has observed such pods, return the digests that they have. Otherwise return the digests that
        earlier repairs observed within the last two minutes.
        """
        return frozenset(self._digests.get(image, ())) or self.cache.digests.of(self.namespace, image)

    async def check_candidates(
        self, candidates: Iterable[Candidate], pod_secrets: tuple[str, ...], node: str, template: Manifest | None = None
    ) -> Evidence:
        """
        Ask registries about candidates for a pod with these pull secrets, on the node of this name.

        Return their answers, and the pull secrets that the pod lacks. If the source of a candidate names a pull secret
        that the pod lacks, ask with that secret and without it, at the same time. `template` is the spec of the pod
        template that a failover would patch; `None` if it would patch none. If the template's pods may run on nodes of
        several platforms, ask about all of these, too.
        """
        asked = tuple(candidates)
        own = await self.cache.nodes.platforms_of(node)
        of_all_nodes = own if template is None else await self.cache.nodes.platforms_for(template, own)
        # All pods of a workload ask about the same candidates, and most of them are on the same platform.
        images = tuple((candidate.image, candidate.source.name) for candidate in asked)
        evidence = []
        for platforms in (own, of_all_nodes) if of_all_nodes != own else (own,):
            key = (platforms, pod_secrets, *images)
            if key not in self._evidence:
                self._evidence[key] = await self._check_candidates(asked, platforms, pod_secrets)
            evidence.append(self._evidence[key])
        return replace(evidence[0], on_all_nodes=evidence[1].answers) if len(evidence) > 1 else evidence[0]

    async def check_original(
        self, image: str, pod_secrets: tuple[str, ...], node: str = "", *, strict: bool = False, again: bool = False
    ) -> Availability:
        """
        Ask the registry of a failing image about that image, with the pull secrets that its pod has.

        With `strict`, ask about every part of the image, for the platform of the node of this name. With `again`, ask
        although the registry did not answer in time, and wait longer; the new answer counts for the rest of the repair.
        """
        reference = Reference.parse(image)
        secrets = pod_secrets[:_MAX_SECRETS]
        keyrings = await self._read_all(secrets)
        question = Question(
            reference=reference,
            platforms=await self.cache.nodes.platforms_of(node) if strict else (),
            strict=strict,
            credentials=_credentials(keyrings, secrets, reference.repository),
        )
        if again:
            self._answers |= await self.cache.check((question,), self.namespace, again=True)
        return (await self._check([question]))[question]

    async def _check_candidates(
        self, candidates: tuple[Candidate, ...], platforms: tuple[Platform, ...], pod_secrets: tuple[str, ...]
    ) -> Evidence:
        source_secrets = {candidate.image: candidate.source_secret for candidate in candidates}
        keyrings = await self._read_all((*pod_secrets[:_MAX_SECRETS], *source_secrets.values()))
        with_pod_secrets, with_all_secrets = {}, {}
        for candidate in candidates:
            repository, image = candidate.reference.repository, candidate.image
            question = Question(
                reference=candidate.reference,
                platforms=platforms,
                strict=candidate.source.verification is Verification.STRICT,
                credentials=_credentials(keyrings, pod_secrets, repository),
            )
            credentials = _credentials(keyrings, (*pod_secrets, source_secrets[image]), repository)
            with_pod_secrets[image] = question
            with_all_secrets[image] = replace(question, credentials=credentials)
        answers = await self._check((*with_pod_secrets.values(), *with_all_secrets.values()))
        return compare_answers(
            {image: answers[question] for image, question in with_pod_secrets.items()},
            {image: answers[question] for image, question in with_all_secrets.items()},
            {image: secret for image, secret in source_secrets.items() if secret not in pod_secrets},
        )

    async def from_silent_registries(self, images: Iterable[str]) -> dict[str, Unreachable]:
        """Return the answers about those images whose registry gives Saffire no response, or only errors (5xx)."""
        questions = {image: Question(reference=Reference.parse(image)) for image in images}
        answers = await self._check(questions.values())
        return {image: answer for image, question in questions.items() if is_silent(answer := answers[question])}

    async def _check(self, questions: Iterable[Question]) -> dict[Question, Availability]:
        """Return the answers of registries to questions; ask no question twice in this repair."""
        asked = tuple(dict.fromkeys(questions))
        unanswered = [question for question in asked if question not in self._answers]
        self._answers |= self.cache.recent_answers(unanswered, self.namespace)
        new = tuple(question for question in asked if question not in self._answers and question not in self._checking)
        if new:
            self._checking |= dict.fromkeys(new, asyncio.create_task(self.cache.check(new, self.namespace)))
        for question in asked:
            if question not in self._answers:
                self._answers |= await self._checking[question]
        return {question: self._answers[question] for question in asked}

    async def every_credential(self, secrets: Iterable[str], candidate: Candidate) -> tuple[Credential, ...]:
        """
        Return the credentials for a candidate's repository.

        Those in the first 16 of these pull secrets come before those in the pull secret that the candidate's source
        names.
        """
        names = (*itertools.islice(secrets, _MAX_SECRETS), candidate.source_secret)
        return _credentials(await self._read_all(names), names, candidate.reference.repository)

    async def _read_all(self, secrets: Iterable[str]) -> dict[str, Keyring]:
        """Read the credentials of Secrets by name, all at the same time; read no Secret twice in this repair."""
        names = [name for name in secrets if name]
        for name in names:
            if name not in self._keyrings:
                self._keyrings[name] = asyncio.create_task(self._read(name))
        if names:
            await asyncio.gather(*(self._keyrings[name] for name in names))
        return {name: self._keyrings[name].result() for name in names}

    async def _read(self, name: str) -> Keyring:
        secret = await self.cache.secret(self.namespace, name)
        return Keyring.of([secret] if secret else [])


def _credentials(
    keyrings: Mapping[str, Keyring], secrets: Iterable[str], repository: Repository
) -> tuple[Credential, ...]:
    """Return the credentials that Secrets have for a repository, in the order of the Secrets."""
    in_order = (keyrings[name] for name in secrets if name in keyrings)
    return tuple(
        dict.fromkeys(credential for keyring in in_order for credential in keyring.credentials_for(repository))
    )
