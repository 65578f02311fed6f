"""
Parts: whether an image is whole. Its manifest may be there, and its layers gone: then a pull fails after all.

A blob is looked for by HEAD. Storage behind a registry may take only the method that a URL was signed for, so a refusal
is tried again as what a node sends: GET, of which nothing is read.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any

from saffire.access import Access
from saffire.availability import Incomplete, KnownBad, Unknown, Unreachable, is_known_bad
from saffire.image import ImageManifest, Index
from saffire.response import Response, Settled

_AT_ONCE = 8
_MAX_MANIFESTS = 16
_NO_HEAD = frozenset({400, 401, 403, 405, 501})


class Parts:
    """The parts of images of one repository. Args: note: is told of each missing part as soon as it is known."""

    def __init__(self, access: Access, note: Callable[[KnownBad], None]) -> None:
        self._access = access
        self._note = note
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def see(self, image: Index | ImageManifest, chosen: Collection[str]) -> None:
        """See every part of the images `chosen` from an index, of all where none is; raise `Settled` without one."""
        if isinstance(image, ImageManifest):
            await self._see_blobs(image)
            return
        digests = chosen or dict.fromkeys(each.digest for each in image.listed)
        if len(digests) > _MAX_MANIFESTS:
            raise Settled(Unreachable(f"its index lists more than {_MAX_MANIFESTS} images"))
        await _all(self._see_manifest(digest) for digest in digests)

    async def _see_manifest(self, digest: str) -> None:
        _, image = await self._access.image(f"manifests/{digest}", digest=digest, absent=Incomplete("manifest"))
        if not isinstance(image, ImageManifest):
            raise Settled(Unreachable("its index lists another index"))
        await self._see_blobs(image)

    async def _see_blobs(self, image: ImageManifest) -> None:
        layers = (self._see_blob(digest, "layer") for digest in dict.fromkeys(image.layers))
        await _all((self._see_blob(image.config, "config"), *layers))

    async def _see_blob(self, digest: str, part: str) -> None:
        async with self._at_once:
            response = await self._blob(digest)
        try:
            response.check(Incomplete(f"{part} {digest}"))
        except Settled as settled:
            if isinstance(settled.answer, KnownBad):
                self._note(settled.answer)
            raise

    async def _blob(self, digest: str) -> Response:
        response = await self._access.fetch("HEAD", f"blobs/{digest}")
        if response.status not in _NO_HEAD:
            return response
        return await self._access.fetch("GET", f"blobs/{digest}", headers={"Range": "bytes=0-0"})


async def _all(looks: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Look for all parts at once; raise what is known to be bad before what is not known."""
    async with asyncio.TaskGroup() as tasks:
        done = [tasks.create_task(_settled(look)) for look in looks]
    answers = [answer for task in done if (answer := task.result())]
    if answers:
        raise Settled(next(filter(is_known_bad, answers), answers[0]))


async def _settled(look: Coroutine[Any, Any, None]) -> KnownBad | Unknown | None:
    try:
        await look
    except Settled as settled:
        return settled.answer
    return None
