"""
One question to one registry: look for the image, then whether it suits, then whether it is whole.

What is known so far is kept in `answer` at each step, since time may be up at any of them. A part that the registry
says is not there ends the search; one that it would not show ends it only where the question is strict.
"""

from dataclasses import dataclass, field, replace

from saffire.access import Access
from saffire.availability import Availability, Available, Incomplete, KnownBad, NotFound, Unreachable, WrongPlatform
from saffire.cache import Cache
from saffire.credentials import Credential
from saffire.distribution import MAX_BODY
from saffire.image import ImageManifest, Index, InvalidImage, digest_of, parse_platform
from saffire.parts import Parts
from saffire.platforms import Platform, choose
from saffire.reference import Reference
from saffire.response import Settled

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
class Named:
    """What a reference stands for; `image` is `None` where only the digest was asked for."""

    digest: str
    image: Index | ImageManifest | None = None


class Inquiry:
    """
    The search for an answer with one credential; `answer` is what is known so far.

    Args: known: what references stood for when they were last asked for. late: what to say when time is up.
    """

    def __init__(self, question: Question, access: Access, known: Cache[str, Named], *, late: str) -> None:
        self.answer: Availability = Unreachable(late, is_silent=True)
        self._question = question
        self._access = access
        self._known = known
        self._late = late

    async def run(self) -> None:
        """Ask until there is nothing more to ask."""
        try:
            await self._look()
        except Settled as settled:
            self.answer = settled.answer

    async def _look(self) -> None:
        named = await self._named()
        found = Available(digest=named.digest)
        self.answer = found
        if named.image is None:
            return
        if self._question.strict:
            self.answer = Unreachable(f"its layers: {self._late}")
        found = await self._suited(found, named.image)
        if self._question.strict:
            await Parts(self._access, self._note).see(named.image, found.manifests)
            found = replace(found, complete=True)
        self.answer = found

    # What the reference stands for

    async def _named(self) -> Named:
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
                return Named(digest=digest)
        digest, image = await self._access.image(what, digest=reference.digest, absent=NotFound())
        named = Named(digest=digest, image=image)
        if _size(image) <= _KNOWN_SIZE:
            self._known.keep(str(reference), named, _KNOWN_SECONDS)
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
        chosen = [choose(platforms, platform) for platform in wanted]
        if None in chosen and len(platforms) == len(image.listed):
            raise Settled(WrongPlatform())
        manifests = frozenset(offered[platforms[each]] for each in chosen if each is not None)
        return replace(found, manifests=manifests, suits=None not in chosen)

    async def _suits(self, image: ImageManifest) -> bool:
        """Tell whether an image without index is for all platforms, by its config; not where that is not to be had."""
        try:
            platform = parse_platform(await self._config(image.config))
        except InvalidImage:
            raise Settled(Incomplete("config")) from None
        except Settled as settled:
            if self._question.strict or isinstance(settled.answer, KnownBad):
                raise
            return False
        if platform and any(choose([platform], wanted) is None for wanted in self._question.platforms):
            raise Settled(WrongPlatform())
        return platform is not None

    async def _config(self, digest: str) -> bytes:
        response = await self._access.fetch("GET", f"blobs/{digest}", limit=MAX_BODY)
        response.check(Incomplete("config"))
        if digest_of(response.body, digest) != digest:
            raise Settled(Incomplete("config"))
        return response.body

    def _note(self, answer: KnownBad) -> None:
        """Keep what is known of one part, even if time is up before the others are seen."""
        self.answer = answer


def _size(image: Index | ImageManifest) -> int:
    return len(image.listed if isinstance(image, Index) else image.layers)
