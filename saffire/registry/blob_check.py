"""
Checks whether a registry has every part of an image: manifests, configs and layers.

For a blob, the check sends HEAD. The storage behind a registry may accept only the method that a URL was signed for. So
if HEAD is refused, the check sends the request that a node would send, a GET, and does not read the body.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import replace
from typing import Any

from saffire.registry.availability import Incomplete, KnownBad, Unknown, Unreachable, is_known_bad
from saffire.registry.manifests import ImageManifest, Index
from saffire.registry.repository import RepositoryClient
from saffire.registry.transport import Answered, Response

_MAX_MANIFESTS = 16
# If all requests for an image with 512 layers were prepared at once, nothing else would run for 57 ms; eight at a time,
# it is 6 ms. The shares of connections do not bound that: a request is prepared before it waits for its share.
_BLOBS_AT_ONCE = 8
# Statuses of registries that do not support HEAD for blobs.
_NO_HEAD_FOR_BLOBS = frozenset({400, 405, 501, 401, 403})


class BlobCheck:
    """
    The check of all parts of an image: manifests, configs and layers.

    Args:
        repository: the client for the image's repository.
        report_missing: a function that is called with an answer for each missing part, as soon as the registry says
            that the part is missing.

    """

    def __init__(self, repository: RepositoryClient, report_missing: Callable[[KnownBad], None]) -> None:
        self._repository = repository
        self._report_missing = report_missing
        self._at_once = asyncio.Semaphore(_BLOBS_AT_ONCE)

    async def run(self, image: Index | ImageManifest, chosen: Collection[str]) -> None:
        """
        Check every part of an image; raise `Answered` if the registry does not prove that it has a part.

        If the image is an index, check the manifests with the digests `chosen`, or every manifest if `chosen` is empty.
        """
        if isinstance(image, ImageManifest):
            await self._check_blobs(image)
            return
        digests = chosen or dict.fromkeys(entry.digest for entry in image.manifests)
        if len(digests) > _MAX_MANIFESTS:
            raise Answered(Unreachable(f"its index lists more than {_MAX_MANIFESTS} images"))
        await _check_all(self._check_manifest(digest) for digest in digests)

    async def _check_manifest(self, digest: str) -> None:
        try:
            _, image = await self._repository.image(f"manifests/{digest}", digest=digest, absent=Incomplete("manifest"))
        except Answered as answered:
            raise Answered(about_part(answered.answer)) from answered
        if not isinstance(image, ImageManifest):
            raise Answered(Unreachable("its index lists another index"))
        await self._check_blobs(image)

    async def _check_blobs(self, image: ImageManifest) -> None:
        layers = (self._check_blob(digest, "layer") for digest in dict.fromkeys(image.layers))
        await _check_all((self._check_blob(image.config, "config"), *layers))

    async def _check_blob(self, digest: str, part: str) -> None:
        try:
            async with self._at_once:
                response = await self._request_blob(digest)
            response.check(Incomplete(f"{part} {digest}"))
        except Answered as answered:
            if isinstance(answered.answer, KnownBad):
                self._report_missing(answered.answer)
            raise Answered(about_part(answered.answer)) from answered

    async def _request_blob(self, digest: str) -> Response:
        response = await self._repository.fetch("HEAD", f"blobs/{digest}")
        if response.status not in _NO_HEAD_FOR_BLOBS:
            return response
        return await self._repository.fetch("GET", f"blobs/{digest}", headers={"Range": "bytes=0-0"})


def about_part(answer: KnownBad | Unknown) -> KnownBad | Unknown:
    """
    Return what the answer about a part of an image says about the image.

    If a part gets no response, the registry does not count as silent, since it has answered for the image. The part may
    be at another host, and nobody knows whether that host ever answers Saffire. A server error (5xx) still counts.
    """
    if not isinstance(answer, Unreachable):
        return answer
    return replace(answer, why=f"its parts: {answer.why}", is_silent=False, is_of_part=True)


async def _check_all(checks: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run the checks at once, and raise one of the answers that they raise: a known bad one, if there is one."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_answer_of(check)) for check in checks]
    answers = [answer for task in tasks if (answer := task.result())]
    if answers:
        raise Answered(next(filter(is_known_bad, answers), answers[0]))


async def _answer_of(check: Coroutine[Any, Any, None]) -> KnownBad | Unknown | None:
    try:
        await check
    except Answered as answered:
        return answered.answer
    return None
