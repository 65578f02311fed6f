"""
Checks images at registries: whether an image is there, has builds for the nodes' platforms, and is complete.

`ImageChecker` checks many images at once and returns all answers within one time budget. Each answer is an
`Availability`: no failure of a registry, however odd or hostile, raises an exception here.

A `Check` of one image has three steps: resolve the reference, compare the platforms, then look for the config and the
layers (`blob_check`). Each step stores its result in `Check.answer`, since the time may be up during any step. If the
registry says that a part of the image is absent, the check ends. If the registry refuses to show a part, the check ends
only if the question is strict.

A check sends as few requests as its question needs:

- If the question names no platforms, the check sends only HEAD for the manifest, which no registry counts as a pull.
- If the question names platforms, the check sends GET for the manifest at once, since HEAD before GET would only cost a
  round trip. Once the manifest is cached, the check sends HEAD to see whether the digest is still the same.

If the time is up while every request still waits for one of the connections or threads that Saffire allows itself
(`shares`), the registry was not asked: the answer then says nothing about the registry.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Self

from saffire.registry.auth import TokenStore
from saffire.registry.availability import (
    Availability,
    Available,
    Denied,
    Incomplete,
    KnownBad,
    NotFound,
    Unreachable,
    WrongPlatform,
    is_silent,
)
from saffire.registry.blob_check import BlobCheck, about_part
from saffire.registry.connections import NOT_TOLD
from saffire.registry.credentials import Credential
from saffire.registry.manifests import ImageManifest, Index, InvalidImage, digest_of, parse_platform
from saffire.registry.platforms import Platform, match_platform
from saffire.registry.reachability import Reachability
from saffire.registry.reference import Reference
from saffire.registry.repository import RepositoryClient
from saffire.registry.shares import Progress, progress
from saffire.registry.transport import MAX_BODY, Answered, RegistryTransport
from saffire.ttl_cache import TtlCache

# How many answers `Available` and how many resolved references are cached, and for how many seconds. An answer also
# says that the original's registry is up, and it may fail right after. So it counts only as long as many pods share it.
_MAX_ANSWERS, _ANSWER_SECONDS = 1024, 2
_MAX_RESOLVED, _RESOLVED_SECONDS = 256, 600
# An index or manifest with more parts is not cached, so that a hostile registry cannot fill the memory.
_MAX_CACHED_PARTS = 64
# A pod has several credentials for one repository only while a password is being changed.
_MAX_CREDENTIALS = 4
# Statuses of registries that do not support HEAD for manifests.
_NO_HEAD = frozenset({400, 405, 501})


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """
    A question to a registry: whether nodes of these platforms can pull `reference`.

    Args:
        reference: the image.
        platforms: the platforms of the nodes; if there are none, the check compares no platforms.
        strict: whether the check has to look for every config and layer.
        credentials: the credentials to try in turn; if there are none, the check asks the registry anonymously.

    """

    reference: Reference
    platforms: tuple[Platform, ...] = ()
    strict: bool = False
    credentials: tuple[Credential, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedReference:
    """
    The digest of a reference, and the index or manifest that the reference names.

    `image` is `None` if the check asked only for the digest.
    """

    digest: str
    image: Index | ImageManifest | None = None


# Many images


class ImageChecker:
    """
    Checks images at any registry. Close the checker after use, or use it as an async context manager.

    Args:
        transport: sends the requests; `close` closes the transport too.
        clock: returns the time in seconds since any fixed start.

    """

    def __init__(self, transport: RegistryTransport, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.reachability = Reachability(clock)
        """When each registry last answered, and whom."""
        self._transport = transport
        self._tokens = TokenStore(transport, clock)
        self._resolved: TtlCache[str, ResolvedReference] = TtlCache(_MAX_RESOLVED, clock)
        self._available: TtlCache[tuple[object, ...], Available] = TtlCache(_MAX_ANSWERS, clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def check(
        self, questions: Iterable[Question], *, budget_seconds: float, asker: str = ""
    ) -> dict[Question, Availability]:
        """
        Return the answer to each question, in the order of the questions, after `budget_seconds` at the latest.

        An answer `Available` is cached for 2 s. After any other answer, the next call asks the registry again. `asker`
        is the namespace for which Saffire asks. All questions of an asker share its connections, so that they do not
        keep the questions of another asker waiting.
        """
        deadline = asyncio.get_running_loop().time() + budget_seconds
        timeout_message = f"no answer within {budget_seconds:g} s"
        distinct = tuple(dict.fromkeys(questions))
        async with asyncio.TaskGroup() as tasks:
            answers = [
                tasks.create_task(self._answer(question, deadline, timeout_message, asker)) for question in distinct
            ]
        return {question: answer.result() for question, answer in zip(distinct, answers, strict=True)}

    def cached(self, question: Question) -> Available | None:
        """Return the cached answer to a question; `None` if there is none, so that the registry has to be asked."""
        return self._available.get(self._key(question))

    def _key(self, question: Question) -> tuple[object, ...]:
        fingerprints = tuple(map(self._tokens.fingerprint, question.credentials))
        return question.reference, question.platforms, question.strict, fingerprints

    async def _answer(self, question: Question, deadline: float, timeout_message: str, asker: str) -> Availability:
        if cached := self.cached(question):
            return cached
        answer = await self._ask(question, deadline, timeout_message, asker)
        if answer is not None:
            self.reachability.note(question.reference.repository.domain, answer, asker)
        if isinstance(answer, Available):
            self._available.put(self._key(question), answer, _ANSWER_SECONDS)
        return answer or Unreachable(f"{timeout_message}: too many questions")

    async def _ask(self, question: Question, deadline: float, timeout_message: str, asker: str) -> Availability | None:
        """Ask with each credential, until one is not denied; `None` if the time is up before the registry was asked."""
        answer: Availability = Denied()
        current = Progress(asker)
        progress.set(current)
        for credential in question.credentials[:_MAX_CREDENTIALS] or (None,):
            repository = RepositoryClient(
                question.reference.repository, credential, transport=self._transport, tokens=self._tokens
            )
            check = Check(question, repository, self._resolved, timeout_message=timeout_message)
            try:
                async with asyncio.timeout_at(deadline):
                    await check.run()
            except TimeoutError:
                is_asked = current.at_work or not is_silent(check.answer)
                return _answer_at_timeout(check.answer, current) if is_asked else None
            except Exception as error:  # noqa: BLE001 - a hostile answer may cost its candidate, never the repair
                return Unreachable(f"its answer is not understood: {type(error).__name__}")
            answer = check.answer
            if not isinstance(answer, Denied):
                return answer
        return answer


def _answer_at_timeout(answer: Availability, question: Progress) -> Availability:
    """Return the answer when the time is up; if a private address was asked, without the reason, as in `transport`."""
    return replace(answer, why=NOT_TOLD) if isinstance(answer, Unreachable) and question.is_private else answer


# One image


class Check:
    """
    The check of one image with one credential; `answer` is the result so far.

    Args:
        question: the question to answer, which names the image.
        repository: the client for the image's repository, which has the credential.
        resolved: a cache of resolved references, which all checks share.
        timeout_message: the reason in `answer` if the time is up before the registry answers.

    """

    def __init__(
        self,
        question: Question,
        repository: RepositoryClient,
        resolved: TtlCache[str, ResolvedReference],
        *,
        timeout_message: str,
    ) -> None:
        self.answer: Availability = Unreachable(timeout_message, is_silent=True, is_late=True)
        self._question = question
        self._repository = repository
        self._resolved = resolved
        self._timeout_message = timeout_message

    async def run(self) -> None:
        """Send the requests that the question needs, and store the result in `answer`."""
        try:
            await self._run_steps()
        except Answered as answered:
            self.answer = answered.answer

    async def _run_steps(self) -> None:
        resolved = await self._resolve()
        available = Available(digest=resolved.digest, listed=_listed(resolved.image))
        self.answer = available
        if resolved.image is None:
            return
        if self._question.strict:
            self.answer = Unreachable(f"its parts: {self._timeout_message}", is_of_part=True)
        available = await self._with_platforms(available, resolved.image)
        if self._question.strict:
            await BlobCheck(self._repository, self._set_answer).run(resolved.image, available.manifests)
            available = replace(available, complete=True)
        self.answer = available

    # Step 1: resolve the reference

    async def _resolve(self) -> ResolvedReference:
        """Return the digest of the reference, and the index or manifest if the question needs it."""
        reference = self._question.reference
        path = f"manifests/{reference.digest or reference.tag or 'latest'}"
        cached = self._resolved.get(str(reference))
        needs_image = self._question.strict or bool(self._question.platforms)
        if cached or not needs_image:
            digest = await self._head_digest(path)
            if cached and digest == cached.digest:
                return cached
            if digest and not needs_image:
                return ResolvedReference(digest=digest)
        digest, image = await self._repository.image(path, digest=reference.digest, absent=NotFound())
        resolved = ResolvedReference(digest=digest, image=image)
        if _count_parts(image) <= _MAX_CACHED_PARTS:
            self._resolved.put(str(reference), resolved, _RESOLVED_SECONDS)
        return resolved

    async def _head_digest(self, path: str) -> str:
        """Return the digest that HEAD names; `""` if it names none, or another one than the reference does."""
        response = await self._repository.fetch("HEAD", path)
        if response.status in _NO_HEAD:
            return ""
        response.check(NotFound())
        digest, expected = response.digest, self._question.reference.digest
        return "" if expected and digest != expected else digest

    # Step 2: compare the platforms

    async def _with_platforms(self, available: Available, image: Index | ImageManifest) -> Available:
        """Return `available` with `manifests` and `suits`; raise `Answered` if a platform is known to have no build."""
        node_platforms = self._question.platforms
        if not node_platforms:
            return available
        if isinstance(image, ImageManifest):
            return replace(available, suits=await self._suits(image))
        # If two manifests in the index are for the same platform, the first one counts.
        digests = {entry.platform: entry.digest for entry in reversed(image.manifests) if entry.platform}
        offered = [entry.platform for entry in image.manifests if entry.platform]
        positions = [match_platform(offered, platform) for platform in node_platforms]
        if None in positions and len(offered) == len(image.manifests):
            raise Answered(WrongPlatform())
        manifests = frozenset(digests[offered[position]] for position in positions if position is not None)
        return replace(available, manifests=manifests, suits=None not in positions)

    async def _suits(self, image: ImageManifest) -> bool:
        """Tell by the config of an image without index whether it runs on all platforms; false if that is not known."""
        try:
            platform = parse_platform(await self._config(image.config))
        except InvalidImage:
            raise Answered(Incomplete("config")) from None
        except Answered as answered:
            if self._question.strict or isinstance(answered.answer, KnownBad):
                raise Answered(about_part(answered.answer)) from answered
            return False
        if platform and any(
            match_platform([platform], node_platform) is None for node_platform in self._question.platforms
        ):
            raise Answered(WrongPlatform())
        return platform is not None

    async def _config(self, digest: str) -> bytes:
        response = await self._repository.fetch("GET", f"blobs/{digest}", limit=MAX_BODY)
        response.check(Incomplete("config"))
        if digest_of(response.body, digest) != digest:
            raise Answered(Incomplete("config"))
        return response.body

    def _set_answer(self, answer: KnownBad) -> None:
        self.answer = answer  # valid even if the time is up before the other parts are checked


def _listed(image: Index | ImageManifest | None) -> frozenset[str]:
    """Return the digests of all manifests in an index; none of an index that is too large to be cached."""
    if not isinstance(image, Index) or _count_parts(image) > _MAX_CACHED_PARTS:
        return frozenset()
    return frozenset(entry.digest for entry in image.manifests)


def _count_parts(image: Index | ImageManifest) -> int:
    return len(image.manifests if isinstance(image, Index) else image.layers)
