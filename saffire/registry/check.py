"""
Checks whether an image is there, for these platforms, and whole.

Many questions are asked at once, and all answers are there within one budget of time. Each answer is an `Availability`,
whatever happens: nothing here raises because a registry is down, odd or hostile.

A check has three steps: find the image, then whether it suits the platforms, then whether its blobs are there. What is
known is kept in `answer` at each step, since time may be up at any of them. A part that the registry says is absent
ends the check; a part that it would not show ends it only if the question is strict.

As little is asked as answers a question. Without platforms only HEAD, which no registry counts as a pull. With them the
manifest itself, by GET at once, since HEAD first would only cost a round trip; and by HEAD again once it is known. A
blob is asked for by HEAD too. Storage behind a registry may take only the method that a URL was signed for, so after a
refusal it is asked for as a node asks: by GET, of which nothing is read.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from saffire.registry.auth import TokenStore
from saffire.registry.availability import (
    Availability,
    Available,
    Denied,
    Incomplete,
    KnownBad,
    NotFound,
    Unknown,
    Unreachable,
    WrongPlatform,
    is_known_bad,
)
from saffire.registry.credentials import Credential
from saffire.registry.manifests import ImageManifest, Index, InvalidImage, digest_of, parse_platform
from saffire.registry.platforms import Platform, match_platform
from saffire.registry.reference import Reference
from saffire.registry.repository import RepositoryClient
from saffire.registry.transport import MAX_BODY, Answered, RegistryTransport, Response
from saffire.ttl_cache import TtlCache

_AT_ONCE = 8
_MAX_MANIFESTS = 16
_NO_HEAD_FOR_BLOBS = frozenset({400, 401, 403, 405, 501})


class BlobCheck:
    """The parts of images of one repository. Args: note: is told of each missing part as soon as it is known."""

    def __init__(self, access: RepositoryClient, note: Callable[[KnownBad], None]) -> None:
        self._access = access
        self._note = note
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def run(self, image: Index | ImageManifest, chosen: Collection[str]) -> None:
        """See every part of the images `chosen` from an index, of all where none is; raise `Answered` without one."""
        if isinstance(image, ImageManifest):
            await self._see_blobs(image)
            return
        digests = chosen or dict.fromkeys(each.digest for each in image.listed)
        if len(digests) > _MAX_MANIFESTS:
            raise Answered(Unreachable(f"its index lists more than {_MAX_MANIFESTS} images"))
        await _see_all(self._see_manifest(digest) for digest in digests)

    async def _see_manifest(self, digest: str) -> None:
        _, image = await self._access.image(f"manifests/{digest}", digest=digest, absent=Incomplete("manifest"))
        if not isinstance(image, ImageManifest):
            raise Answered(Unreachable("its index lists another index"))
        await self._see_blobs(image)

    async def _see_blobs(self, image: ImageManifest) -> None:
        layers = (self._see_blob(digest, "layer") for digest in dict.fromkeys(image.layers))
        await _see_all((self._see_blob(image.config, "config"), *layers))

    async def _see_blob(self, digest: str, part: str) -> None:
        async with self._at_once:
            response = await self._blob(digest)
        try:
            response.check(Incomplete(f"{part} {digest}"))
        except Answered as settled:
            if isinstance(settled.answer, KnownBad):
                self._note(settled.answer)
            raise

    async def _blob(self, digest: str) -> Response:
        response = await self._access.fetch("HEAD", f"blobs/{digest}")
        if response.status not in _NO_HEAD_FOR_BLOBS:
            return response
        return await self._access.fetch("GET", f"blobs/{digest}", headers={"Range": "bytes=0-0"})


async def _see_all(looks: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Look for all parts at once; raise what is known to be bad before what is not known."""
    async with asyncio.TaskGroup() as tasks:
        done = [tasks.create_task(_settled(look)) for look in looks]
    answers = [answer for task in done if (answer := task.result())]
    if answers:
        raise Answered(next(filter(is_known_bad, answers), answers[0]))


async def _settled(look: Coroutine[Any, Any, None]) -> KnownBad | Unknown | None:
    try:
        await look
    except Answered as settled:
        return settled.answer
    return None


_KNOWN_SECONDS = 600
# Parts of an image that is worth keeping: what a stranger answers is not to fill our memory.
_KNOWN_SIZE = 64
# What a registry answers that knows no HEAD.
_NO_HEAD = frozenset({400, 405, 501})


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """
    Whether `reference` can be had on nodes of these `platforms`.

    `strict` wants every config and layer seen. Each of the `credentials` is tried in turn; without any, we are nobody.
    """

    reference: Reference
    platforms: tuple[Platform, ...] = ()
    strict: bool = False
    credentials: tuple[Credential, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedReference:
    """What a reference stands for; `image` is `None` where only the digest was asked for."""

    digest: str
    image: Index | ImageManifest | None = None


class Check:
    """
    The search for an answer with one credential; `answer` is what is known so far.

    Args: known: what references stood for when they were last asked for. late: what to say when time is up.
    """

    def __init__(
        self, question: Question, access: RepositoryClient, known: TtlCache[str, ResolvedReference], *, late: str
    ) -> None:
        self.answer: Availability = Unreachable(late, is_silent=True)
        self._question = question
        self._access = access
        self._known = known
        self._late = late

    async def run(self) -> None:
        """Ask until there is nothing more to ask."""
        try:
            await self._run_steps()
        except Answered as settled:
            self.answer = settled.answer

    async def _run_steps(self) -> None:
        named = await self._resolve()
        found = Available(digest=named.digest)
        self.answer = found
        if named.image is None:
            return
        if self._question.strict:
            self.answer = Unreachable(f"its layers: {self._late}")
        found = await self._suited(found, named.image)
        if self._question.strict:
            await BlobCheck(self._access, self._note).run(named.image, found.manifests)
            found = replace(found, complete=True)
        self.answer = found

    # What the reference stands for

    async def _resolve(self) -> ResolvedReference:
        """Return what the reference stands for, with the image where that is needed."""
        reference = self._question.reference
        what = f"manifests/{reference.digest or reference.tag or 'latest'}"
        known = self._known.get(str(reference))
        is_needed = self._question.strict or bool(self._question.platforms)
        if known or not is_needed:
            digest = await self._digest(what)
            if known and digest == known.digest:
                return known
            if digest and not is_needed:
                return ResolvedReference(digest=digest)
        digest, image = await self._access.image(what, digest=reference.digest, absent=NotFound())
        named = ResolvedReference(digest=digest, image=image)
        if _size(image) <= _KNOWN_SIZE:
            self._known.put(str(reference), named, _KNOWN_SECONDS)
        return named

    async def _digest(self, what: str) -> str:
        """Return the digest that HEAD tells; `""` where it tells none that could be the one asked for."""
        response = await self._access.fetch("HEAD", what)
        if response.status in _NO_HEAD:
            return ""
        response.check(NotFound())
        digest, asked = response.digest, self._question.reference.digest
        return "" if asked and digest != asked else digest

    # Whether it suits

    async def _suited(self, found: Available, image: Index | ImageManifest) -> Available:
        """Return what was found, with what the nodes' platforms would get of it."""
        wanted = self._question.platforms
        if not wanted:
            return found
        if isinstance(image, ImageManifest):
            return replace(found, suits=await self._suits(image))
        offered = {each.platform: each.digest for each in reversed(image.listed) if each.platform}
        platforms = [each.platform for each in image.listed if each.platform]
        chosen = [match_platform(platforms, platform) for platform in wanted]
        if None in chosen and len(platforms) == len(image.listed):
            raise Answered(WrongPlatform())
        manifests = frozenset(offered[platforms[each]] for each in chosen if each is not None)
        return replace(found, manifests=manifests, suits=None not in chosen)

    async def _suits(self, image: ImageManifest) -> bool:
        """Tell whether an image without index is for all platforms, by its config; not where that is not to be had."""
        try:
            platform = parse_platform(await self._config(image.config))
        except InvalidImage:
            raise Answered(Incomplete("config")) from None
        except Answered as settled:
            if self._question.strict or isinstance(settled.answer, KnownBad):
                raise
            return False
        if platform and any(match_platform([platform], wanted) is None for wanted in self._question.platforms):
            raise Answered(WrongPlatform())
        return platform is not None

    async def _config(self, digest: str) -> bytes:
        response = await self._access.fetch("GET", f"blobs/{digest}", limit=MAX_BODY)
        response.check(Incomplete("config"))
        if digest_of(response.body, digest) != digest:
            raise Answered(Incomplete("config"))
        return response.body

    def _note(self, answer: KnownBad) -> None:
        """Keep what is known of one part, even if time is up before the others are seen."""
        self.answer = answer


def _size(image: Index | ImageManifest) -> int:
    return len(image.listed if isinstance(image, Index) else image.layers)


_ROOM, _ROOM_FOR_IMAGES = 1024, 256
_POSITIVE_SECONDS = 10
# More for one repository there are only while a password is being changed.
_MAX_CREDENTIALS = 4


class ImageChecker:
    """
    All registries; close after use, or use as an async context manager.

    Args: distribution: the way to them, closed with this. clock: tells seconds from any start.
    """

    def __init__(self, distribution: RegistryTransport, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._distribution = distribution
        self._tokens = TokenStore(self._distribution, clock)
        self._known: TtlCache[str, ResolvedReference] = TtlCache(_ROOM_FOR_IMAGES, clock)
        self._available: TtlCache[tuple[object, ...], Available] = TtlCache(_ROOM, clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._distribution.close()

    async def check(self, questions: Iterable[Question], *, budget_seconds: float) -> dict[Question, Availability]:
        """
        Return the answers, in the order of the questions, after `budget_seconds` at the latest.

        That the image is there is believed for some seconds. That it is not, or that nobody knows, is asked again.
        """
        deadline = asyncio.get_running_loop().time() + budget_seconds
        late = f"no answer within {budget_seconds:g} s"
        asked = tuple(dict.fromkeys(questions))
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(self._answer(question, deadline, late)) for question in asked]
        return {question: answer.result() for question, answer in zip(asked, answers, strict=True)}

    def known(self, question: Question) -> Available | None:
        """Return what was found some seconds ago, and is still believed; `None` where a registry has to be asked."""
        return self._available.get(self._key(question))

    def _key(self, question: Question) -> tuple[object, ...]:
        prints = tuple(map(self._tokens.fingerprint, question.credentials))
        return question.reference, question.platforms, question.strict, prints

    async def _answer(self, question: Question, deadline: float, late: str) -> Availability:
        if known := self.known(question):
            return known
        answer = await self._search(question, deadline, late)
        if isinstance(answer, Available):
            self._available.put(self._key(question), answer, _POSITIVE_SECONDS)
        return answer

    async def _search(self, question: Question, deadline: float, late: str) -> Availability:
        """Ask with each credential in turn, until one is not denied, or time is up."""
        answer: Availability = Denied()
        for credential in question.credentials[:_MAX_CREDENTIALS] or (None,):
            access = RepositoryClient(
                question.reference.repository, credential, distribution=self._distribution, tokens=self._tokens
            )
            inquiry = Check(question, access, self._known, late=late)
            try:
                async with asyncio.timeout_at(deadline):
                    await inquiry.run()
            except TimeoutError:
                return inquiry.answer
            except Exception as error:  # noqa: BLE001 - a stranger's answer costs its candidate, and never the repair
                return Unreachable(f"its answer is not understood: {type(error).__name__}")
            answer = inquiry.answer
            if not isinstance(answer, Denied):
                return answer
        return answer
