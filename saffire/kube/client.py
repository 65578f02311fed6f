"""
The client of the Kubernetes API: sends one request, and turns the response into an object or an error.

The `kubernetes` package does configuration, authentication and transport. Objects stay plain dicts, since the models of
that package would lose fields that they do not know. This module catches the exceptions of third-party packages, so
callers see only `SaffireError`.

`ApiServer` raises `AbsentError` if there is no object at a path. `ResourceReader` returns `None` or an empty list
instead.

A process lives longer than the certificates of a cluster. If the authority of a cluster changes, the kubelet replaces
`ca.crt` in every pod. So before each request, `ApiServer` looks whether a certificate file has changed, and connects
anew if so. The `kubernetes` package reads the token of a service account again every minute.
"""

import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import orjson
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import load_incluster_config
from yarl import URL

from saffire.errors import (
    ConflictError,
    DeniedError,
    ExpiredError,
    RefusedError,
    SaffireError,
    TransientError,
    WebhookError,
)
from saffire.kube.manifest import Manifest, items, text
from saffire.metrics import NUMBERS
from saffire.proxies import Proxies

FIELD_MANAGER = "saffire"
JSON = "application/json"
# A list in this form has only the metadata of its objects (Kubernetes API Concepts, "Metadata-only fetches").
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_JSON_PATCH = "application/json-patch+json"
# The API server takes 10 ms to compress half a megabyte of pods. Within a cluster, compression saves no time.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": FIELD_MANAGER}
# Objects in one page of a list. A page of pods has some megabytes.
_PAGE = 250
# Characters of an API server's message that an error quotes.
_MAX_MESSAGE = 512
_DENIED = re.compile(r"denied (?:the )?request")
_UNCALLED = "failed calling webhook"  # `ErrCallingWebhook` of apiserver, util/webhook
# The API server's message, without details, if a `test` of a JSON Patch fails (apiserver, endpoints/handlers/patch).
_TEST_FAILED = "the server rejected our request due to an error in our request"
# What OpenSSL minds only if a verification is strict (openssl/x509_vfy.h): X509_V_ERR_PATHLEN_INVALID_FOR_NON_CA to
# X509_V_ERR_EXTENSIONS_REQUIRE_VERSION_3.
_STRICT_FAULTS = range(80, 94)


class AbsentError(SaffireError):
    """There is no object at a URL path. If the API server does not serve the object's kind, `is_served` is false."""

    def __init__(self, message: str, *, is_served: bool = True) -> None:
        super().__init__(message)
        self.is_served = is_served


class ApiServer:
    """One API server, to which Saffire authenticates by the configuration that `connect` reads."""

    def __init__(
        self, configuration: Configuration, *, timeout_seconds: float, x509_strict: bool = False
    ) -> None:
        self._configuration = configuration
        self._connections = _Connections(configuration, x509_strict=x509_strict)
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    @classmethod
    async def connect(
        cls,
        kubeconfig: str = "",
        *,
        timeout_seconds: float,
        x509_strict: bool = False,
        proxies: Proxies | None = None,
    ) -> Self:
        """
        Read the configuration of the cluster; raise `TransientError` if there is none yet.

        Args:
            kubeconfig: the path of a kubeconfig. If it is `""`, Saffire uses its pod's service account, or without one
                the user's own kubeconfig. A kubeconfig is read once; the certificate files that it names are read again
                when they change.
            timeout_seconds: the longest time that one request may take, in seconds.
            x509_strict: whether the API server's certificate has to follow RFC 5280 in what older authorities neglect
                (`ssl.VERIFY_X509_STRICT`). Python demands it by default from 3.13 on; `kubectl` does not.
            proxies: the proxies of the environment; by default, there is none. The field `proxy-url` of a kubeconfig
                comes first, and then no host is excepted, as with `kubectl`.

        """
        configuration = Configuration()
        try:
            await _load(configuration, kubeconfig)
            configuration.proxy = configuration.proxy or (proxies or Proxies()).of(URL(configuration.host))
        except Exception as error:  # a kubeconfig may be any file, and the loader may raise anything
            raise TransientError(
                f"no cluster is configured: no service account, and no kubeconfig to read ({type(error).__name__})"
            ) from error
        # By default the HTTP client looks for a proxy, and for passwords in `~/.netrc`, at every request, in threads.
        configuration.client_session_kwargs = {"trust_env": False}
        try:
            return cls(configuration, timeout_seconds=timeout_seconds, x509_strict=x509_strict)
        except OSError as error:
            raise TransientError(f"the cluster's certificates cannot be read: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()

    async def get(self, path: str, *, accept: str = JSON) -> dict[str, Any]:
        """Return the object at the URL path, in the media type `accept`; raise `AbsentError` if there is none."""
        return _object(await self._request("GET", path, accept=accept))

    async def post(self, path: str, body: Manifest) -> None:
        """Create an object in the list at `path`; raise `ConflictError` if an object of that name exists."""
        await self._request("POST", path, body)

    async def patch(self, path: str, operations: tuple[Manifest, ...]) -> dict[str, Any]:
        """
        Send a JSON Patch (RFC 6902) and return the patched object.

        Raise `ConflictError` if a `test` of the patch failed, or if the object is gone.
        """
        try:
            query = f"?fieldManager={FIELD_MANAGER}"
            return _object(await self._request("PATCH", path + query, list(operations), content_type=_JSON_PATCH))
        except AbsentError as error:
            raise ConflictError("the object is gone") from error

    async def _request(
        self, method: str, path: str, body: Any = None, *, content_type: str = JSON, accept: str = JSON
    ) -> Any:
        """Send one request and return the decoded body; raise the `SaffireError` that the HTTP status means."""
        headers = {**_HEADERS, "Accept": accept, "Content-Type": content_type}
        url = self._configuration.host + path
        try:
            token = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
            if token:
                headers["Authorization"] = token
            async with self._connections.borrowed() as client:
                sending = client.request(method, url, headers=headers, body=body, _request_timeout=self._timeout)
                response, content = await _counted(method, sending)
            if response.status == HTTPStatus.NOT_FOUND:
                raise AbsentError("there is no such object, or no such kind", is_served=_names_an_object(content))
            answer = _decoded(content)
        except aiohttp.ClientConnectorCertificateError as error:
            raise TransientError(_certificate_fault(error.certificate_error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            raise TransientError(f"the API server did not answer: {type(error).__name__}") from error
        except ValueError as error:
            raise TransientError("the API server did not answer in JSON") from error
        except RecursionError as error:
            raise RefusedError("the API server's answer is nested too deeply to be read") from error
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise _error(response.status, answer, retry_after=_seconds(response.headers.get("Retry-After", "")))
        return answer


@dataclass(slots=True)
class _CountedClient:
    """A client for HTTP requests, the certificate files as it has read them, and how many of its requests run."""

    client: RESTClientObject
    files: tuple[object, ...]
    requests: int = 0


class _Connections:
    """The connections to one API server, which are made anew if a certificate file changes."""

    def __init__(self, configuration: Configuration, *, x509_strict: bool) -> None:
        self._configuration = configuration
        self._x509_strict = x509_strict
        self._current = self._connect()

    async def close(self) -> None:
        """Close all connections; the last request on an older client closes that one."""
        await self._current.client.close()

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[RESTClientObject]:
        """
        Yield a client that trusts what the certificate files say now.

        If a file has changed, make a new client. Requests under way keep the old client, and the last of them closes
        it.
        """
        await self._renew()
        used = self._current
        used.requests += 1
        try:
            yield used.client
        finally:
            used.requests -= 1
            if used is not self._current and not used.requests:
                await used.client.close()

    async def _renew(self) -> None:
        """Make a new client if a certificate file has changed."""
        old = self._current
        if old.files == self._files():
            return
        try:
            self._current = self._connect()
        except OSError:  # also an `ssl.SSLError`: maybe somebody writes the files now, and the next request tries again
            return
        if not old.requests:
            await old.client.close()

    def _connect(self) -> _CountedClient:
        """Return a client for the files as they are; raise `OSError` if they cannot be read."""
        files = self._files()  # first: a file that changes while it is read is read again
        client = RESTClientObject(self._configuration)
        flags = client.ssl_context.verify_flags & ~ssl.VERIFY_X509_STRICT
        client.ssl_context.verify_flags = flags | ssl.VERIFY_X509_STRICT if self._x509_strict else flags
        return _CountedClient(client, files)

    def _files(self) -> tuple[object, ...]:
        """
        Return a value that differs whenever a certificate file has been replaced or written.

        This takes some microseconds. A projected volume has a new file for each version, so the inode differs even if
        the clock has not moved.
        """
        configuration = self._configuration
        return tuple(
            _file_state(path)
            for path in (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
            if path
        )


def _file_state(path: str) -> tuple[int, int, int] | None:
    """Return inode, size and time of the last change of a file; `None` if there is no file."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


class ResourceReader:
    """
    Gets objects and lists from `server` by their URL path.

    If an object is absent, or if its kind is not served, the methods return `None` or nothing instead of an error.
    """

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    async def _all(self, path: str, selector: str = "", *, accept: str = JSON) -> AsyncIterator[dict[str, Any]]:
        """
        Yield the objects of the list at a URL path, page by page; none if their kind is not served.

        `selector` is appended to the query, such as `&fieldSelector=…`. `accept` is the media type of the list.
        """
        async for page in self._pages(f"{path}?limit={_PAGE}{selector}", accept=accept):
            for item in items(page, "items"):
                yield dict(item)

    async def _pages(self, query: str, *, accept: str = JSON) -> AsyncIterator[Manifest]:
        """Yield the pages of a list; none if its kind is not served. `query` has the URL path and a `limit`."""
        path = query
        while path and (page := await self._get(path, accept=accept)) is not None:
            if "items" not in page:
                raise TransientError("the API server did not answer with a list")
            yield page
            token = quote(text(page, "metadata", "continue"), safe="")
            path = f"{query}&continue={token}" if token else ""

    async def _page(self, path: str, query: str = "") -> tuple[Manifest, ...]:
        """Return the objects in the first page of a list; none if their kind is not served."""
        return items(await self._get(f"{path}?limit={_PAGE}{query}") or {}, "items")

    async def _get(self, path: str, *, accept: str = JSON) -> dict[str, Any] | None:
        """Return the object at the URL path; `None` if there is no object."""
        try:
            return await self._server.get(path, accept=accept)
        except AbsentError:
            return None


# Answers of the API server


async def _counted(method: str, sending: Awaitable[Any]) -> tuple[Any, bytes]:
    """Return a response and its body, and count the request with the time that both took."""
    began, code = time.monotonic(), "none"
    try:
        response = await sending
        content: bytes = await response.read()
        code = str(response.status)
        return response, content
    finally:
        NUMBERS.requested(method, code, time.monotonic() - began)


def _certificate_fault(error: Exception) -> str:
    """Return OpenSSL's words on the API server's certificate, and the setting that accepts a fault of strictness."""
    fault = getattr(error, "verify_message", "") or type(error).__name__
    is_strict = getattr(error, "verify_code", 0) in _STRICT_FAULTS
    hint = "; SAFFIRE_API_SERVER_X509_STRICT=false accepts it" if is_strict else ""
    return f"the API server's certificate is refused: {fault}{hint}"


def _decoded(content: bytes) -> Any:
    """Return the value of a JSON text; raise `ValueError` if it is none, `RecursionError` if it nests too deeply."""
    try:
        return orjson.loads(content)
    except ValueError:  # orjson raises it also for deep nesting; the standard library raises two different errors
        return json.loads(content)


def _object(answer: Any) -> dict[str, Any]:
    """Return the decoded body if it is a JSON object; otherwise raise `TransientError`."""
    if not isinstance(answer, dict):
        raise TransientError("the API server did not answer with an object")
    return answer


def _names_an_object(content: bytes) -> bool:
    """Tell whether the body of a 404 names the absent object (`Status.details.name`), so that its kind is served."""
    try:
        status = orjson.loads(content)
    except ValueError:
        return False
    details = status.get("details") if isinstance(status, dict) else None
    return isinstance(details, dict) and bool(details.get("name"))


def _seconds(retry_after: str) -> float:
    """Return the seconds in a `Retry-After` header; 0 if it is no number of at most four digits, such as a date."""
    return float(retry_after) if re.fullmatch(r"[0-9]{1,4}", retry_after) else 0.0


def _error(code: int, answer: Any, *, retry_after: float) -> SaffireError:
    """Return the error that an HTTP status of the API server means; it quotes the body only if that is a `Status`."""
    status = answer if isinstance(answer, dict) else {}
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    message = " ".join(str(status.get("message", "")).split())[:_MAX_MESSAGE]
    # A webhook may deny a request with any status. The API server writes these words before the webhook's message.
    if _DENIED.search(message) or code == HTTPStatus.FORBIDDEN:
        return DeniedError(message or f"the API server answered {code}")
    match code:
        case 409:
            return ConflictError(message)
        case 422 if not causes and message == _TEST_FAILED:
            return ConflictError("the object is no longer what was read")
        # The API server has compacted the requested version, or a list changed more than it remembers while Saffire
        # read the list's pages.
        case 410:
            return ExpiredError(message or "the API server answered 410")
        case 500 if _UNCALLED in message:
            return WebhookError(message)
        case 401 | 408 | 429:
            return TransientError(f"the API server answered {code}", retry_after=retry_after)
        case _ if code >= HTTPStatus.INTERNAL_SERVER_ERROR or code < HTTPStatus.BAD_REQUEST:
            return TransientError(f"the API server answered {code}", retry_after=retry_after)
        case _:
            return RefusedError(message or f"the API server answered {code}")


# Configuration


async def _load(configuration: Configuration, kubeconfig: str) -> None:
    """Read a kubeconfig; if its path is `""`, the pod's service account, or without one the user's own kubeconfig."""
    if not kubeconfig:
        with suppress(ConfigException):
            load_incluster_config(client_configuration=configuration)
            return
    # Only a kubeconfig needs the models of the package, and YAML. Within a cluster, they are not imported.
    from kubernetes.aio.config import load_kube_config  # noqa: PLC0415

    await load_kube_config(kubeconfig or None, client_configuration=configuration, persist_config=False)
