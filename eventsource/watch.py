"""
Watches collections of the API server (Kubernetes API Concepts, "Efficient detection of changes").

A watch starts from a version of its collection, and yields each later change. `WatchingServer` asks the API server to
end each watch after a minute. If a connection is lost without notice, for example behind a firewall that drops idle
connections, that end does not arrive, and the watch is given up ten seconds later.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from aiohttp.http import HttpProcessingError
from kubernetes.aio.config.config_exception import ConfigException

from saffire.errors import ExpiredError, TransientError
from saffire.kube.client import JSON, METADATA, ApiServer
from saffire.kube.manifest import InvalidManifest, Manifest, mapping, number, text

_SOURCES = "/apis/saffire.fairwinds.com/v1alpha1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Collection:
    """
    The objects that one watch is about: those at a URL path that a field selector chooses.

    Args:
        name: the name of the collection in the log.
        path: its URL path.
        fields: the field selector by which the API server chooses objects; `""` for all.

    """

    name: str
    path: str
    fields: str = ""

    def query(self, **parameters: str) -> str:
        """Return the path with the field selector and these parameters as its query."""
        selector = {"fieldSelector": self.fields} if self.fields else {}
        return f"{self.path}?" + "&".join(
            f"{key}={quote(value, safe='')}" for key, value in (parameters | selector).items()
        )


COLLECTIONS = (
    # A field selector has no "or". The function acts on these two Events of a kubelet and on no others
    # (`saffire.pulls.kubelet_event`), so the API server sends no others.
    Collection(
        name="failed pulls",
        path="/api/v1/events",
        fields="involvedObject.kind=Pod,type=Warning,reason=Failed",
    ),
    Collection(
        name="back-offs",
        path="/api/v1/events",
        fields="involvedObject.kind=Pod,type=Normal,reason=BackOff",
    ),
    Collection(name="sources", path=f"{_SOURCES}/alternateimagesources"),
    Collection(name="cluster-wide sources", path=f"{_SOURCES}/clusteralternateimagesources"),
)
"""What is watched: what knative/apiserversource.yaml names, but without Events that the function ignores."""


class WatchingServer(ApiServer):
    """An API server whose collections can be watched."""

    watch_seconds = 60
    """After so many seconds, the API server ends a watch. The next watch starts from the last version that was seen."""

    silent_seconds = 70
    """If a watch sends nothing for so many seconds, not even its end, it is given up."""

    @property
    def url(self) -> str:
        """The URL of the API server, which Knative's adapter gives as the source of its CloudEvents."""
        url: str = self._configuration.host
        return url

    async def version(self, collection: Collection) -> str:
        """
        Return the current version of a collection; raise a `SaffireError` if the API server does not tell it.

        The list has one object at most, so it takes no more memory if the collection is large.
        """
        listed = await self.get(collection.query(limit="1"), accept=METADATA)
        version = text(listed, "metadata", "resourceVersion")
        if not version:  # a watch from "" would begin with every object that there is
            raise TransientError("the API server's list has no version")
        return version

    async def changes(self, collection: Collection, version: str) -> AsyncGenerator[tuple[str, Manifest]]:
        """
        Yield the type and the object of each change after `version`, until the API server ends the watch.

        Bookmarks are yielded, too. Raise `ExpiredError` if the API server no longer has that version, another
        `SaffireError` if the watch breaks or sends nothing for `silent_seconds`, and `InvalidManifest` if it sends what
        cannot be read: no JSON, no object of Kubernetes, or a line of more than four megabytes.
        """
        query = collection.query(
            watch="1", allowWatchBookmarks="true", timeoutSeconds=str(self.watch_seconds), resourceVersion=version
        )
        try:
            async with self._connections.borrowed() as client:
                async with asyncio.timeout(self._timeout.total):
                    opened = await client.request(
                        "GET",
                        self.url + query,
                        headers=await self._watch_headers(),
                        _request_timeout=aiohttp.ClientTimeout(total=None, sock_read=self.silent_seconds),
                    )
                with closing(opened.response) as response:
                    if response.status != HTTPStatus.OK:
                        raise _error(response.status)
                    async for line in response.content:
                        yield _change(line)
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            raise TransientError(f"the watch broke: {type(error).__name__}") from error
        except (ValueError, HttpProcessingError) as error:  # the latter is aiohttp's for a line that is too long
            raise InvalidManifest(f"the watch sent what is no change: {type(error).__name__}") from error

    async def _watch_headers(self) -> dict[str, str]:
        token = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return {"Accept": JSON, "Accept-Encoding": "identity", **({"Authorization": token} if token else {})}


def _change(line: bytes) -> tuple[str, Manifest]:
    """Return type and object of one line of a watch; raise the error that the line tells, or `ValueError`."""
    change: Any = orjson.loads(line)
    changed = mapping(change, "object") if isinstance(change, dict) else {}
    if not changed:
        raise InvalidManifest("not a change of an object")
    kind = text(change, "type")
    if kind == "ERROR":
        raise _error(number(changed, "code"))
    return kind, changed


def _error(status: int) -> TransientError:
    """Return the error that the status of a watch means."""
    kind = ExpiredError if status == HTTPStatus.GONE else TransientError
    return kind(f"the API server answered the watch with {status}")
