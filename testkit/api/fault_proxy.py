"""
Faults of the API server: a proxy in front of the real one that does harm to one request.

A test names the request by what it asks for and how often that was asked before: `PATCH deployments`, `POST events
about Deployment`, `PATCH pods #2`. So the requests of a repair have the same names in every run, in whatever order
concurrent requests arrive.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

RETRY_AFTER_SECONDS = 1
_LARGEST = 2**22
_CONFLICT = "the object has been modified; please apply your changes to the latest version and try again"
_RESET = struct.pack("ii", 1, 0)
_HOP_BY_HOP = {"connection", "content-length", "host", "transfer-encoding"}


class Harm(StrEnum):
    """What happens to a request. The kinds after the blank line follow a request that took effect."""

    REFUSED = "nothing listens any more"
    RESET = "reset before it took effect"
    CONFLICT = "409"
    TEST_FAILED = "422 as of a failed test"
    INVALID = "422 with causes"
    EXPIRED = "410"
    THROTTLED = "429 with Retry-After"
    INTERNAL = "500"
    UNAVAILABLE = "503"
    HANG = "a hang before it took effect"
    KILLED = "killed before it took effect"
    TERMINATED = "told to end, by SIGTERM, before it took effect"
    ABANDONED = "the event's sender hung up before it took effect"
    NONSENSE = "an answer of another shape"

    RESET_AFTER = "reset after it took effect"
    TIMEOUT_AFTER = "504 after it took effect"
    HANG_AFTER = "a hang after it took effect"
    TRUNCATED = "a truncated body"
    KILLED_AFTER = "killed after it took effect"
    OUT_OF_MEMORY = "its worker killed, as at the memory limit, after it took effect"


_STATUSES: dict[Harm, tuple[int, str, str, bool]] = {
    Harm.CONFLICT: (409, "Conflict", _CONFLICT, False),
    Harm.TEST_FAILED: (422, "Invalid", "the server rejected our request due to an error in our request", False),
    Harm.INVALID: (422, "Invalid", 'Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1', True),
    Harm.EXPIRED: (410, "Expired", "The provided resource version has been compacted", False),
    Harm.THROTTLED: (429, "TooManyRequests", "too many requests, please try again later", False),
    Harm.INTERNAL: (500, "InternalError", "Internal error occurred: etcdserver: leader changed", False),
    Harm.UNAVAILABLE: (503, "ServiceUnavailable", "apiserver is shutting down", False),
    Harm.TIMEOUT_AFTER: (504, "Timeout", "Timeout: request did not complete within the allotted duration", False),
}
_INTERRUPTS = {Harm.KILLED, Harm.TERMINATED, Harm.ABANDONED}
_PASSED_ON = {
    None,
    Harm.TERMINATED,
    Harm.ABANDONED,
    Harm.RESET_AFTER,
    Harm.TIMEOUT_AFTER,
    Harm.HANG_AFTER,
    Harm.TRUNCATED,
    Harm.KILLED_AFTER,
    Harm.OUT_OF_MEMORY,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A harm, and the name of the request that it is done to."""

    harm: Harm
    request: str

    def __str__(self) -> str:
        """Return the name that a failed case shows."""
        return f"{self.request}: {self.harm}"


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request that arrived: its name, and its namespace; `""` for requests about all namespaces."""

    name: str
    namespace: str
    at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def is_write(self) -> bool:
        """Whether the request changes something."""
        return self.name.split()[0] in {"PATCH", "POST", "PUT", "DELETE"}


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def rendered(self) -> bytes:
        """Return the bytes of the answer."""
        headers = {**self.headers, "Content-Length": str(len(self.body))}
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


class FaultProxy:
    """
    Passes requests on to an API server, except the one to be harmed; use as an async context manager.

    Args:
        server: `https://HOST:PORT` of the API server.
        authority: the PEM file of the authority that signed its certificate.
        interrupt: does a harm that the proxy cannot do: to the client, or to what waits for the client.

    """

    def __init__(self, server: str, authority: str, interrupt: Callable[[Harm], None]) -> None:
        self.seen: list[SeenRequest] = []
        """Every request since the last `arm`."""
        self.has_harmed = False
        """Whether the request to be harmed has arrived."""
        self.delay_seconds = 0.0
        """How long every request waits before it is passed on."""
        self._server = server
        self._authority = authority
        self._interrupt = interrupt
        self._fault: Fault | None = None
        self._namespace = ""
        self._named: Counter[tuple[str, str]] = Counter()
        self._connections: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        # Keeps the port reserved while nothing listens there.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=self._authority)
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        self._reserved.close()

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return f"http://127.0.0.1:{self._reserved.getsockname()[1]}"

    def open(self) -> None:
        """Listen, unless it does already."""
        if self._listener is None:
            self._listener = socket.create_server(self._reserved.getsockname(), reuse_port=True)
            self._listener.settimeout(0)
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def arm(self, fault: Fault | None, namespace: str = "") -> None:
        """Forget all requests, and do harm to the named request when it arrives, if it is about that namespace."""
        self._fault, self._namespace, self.has_harmed = fault, namespace, False
        self._named.clear()
        self.seen.clear()

    def _close(self) -> None:
        """Stop listening, and reset every connection."""
        if self._listener:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for writer in tuple(self._connections):
            _reset(writer)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has hung up
            task = asyncio.create_task(self._serve(listener.accept()[0]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, accepted: socket.socket) -> None:
        """Answer the requests of one connection, one after the other."""
        reader, writer = await asyncio.open_connection(sock=accepted, limit=_LARGEST)
        self._connections.add(writer)
        try:
            while request := await _read(reader):
                if not await self._answer(request, reader, writer):
                    return
        except (OSError, asyncio.CancelledError):  # the client has hung up, or the test is over
            return
        finally:
            self._connections.discard(writer)
            _reset(writer)

    async def _answer(self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; return whether the connection stays open."""
        harm = self._harm(request)
        if harm in _INTERRUPTS:
            self._interrupt(harm)
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        if harm in _PASSED_ON:
            answer = await self._passed_on(request)
        match harm:
            case None | Harm.TERMINATED | Harm.ABANDONED:
                writer.write(answer.rendered())
            case Harm.REFUSED:
                self._close()
                return False
            case Harm.RESET | Harm.RESET_AFTER | Harm.KILLED:
                return False
            case Harm.KILLED_AFTER | Harm.OUT_OF_MEMORY:
                self._interrupt(harm)
                return False
            case Harm.HANG | Harm.HANG_AFTER:
                await reader.read()
                return False
            case Harm.TRUNCATED:
                whole = answer.rendered()
                writer.write(whole[: len(whole) - len(answer.body) // 2])
                await writer.drain()
                writer.write_eof()
                await reader.read()
                return False
            case _:
                writer.write(_answer_of(harm).rendered())
        await writer.drain()
        return True

    def _harm(self, request: _Request) -> Harm | None:
        """Record a request; return the harm to do, if it is the named request."""
        name, namespace = _name(request)
        self._named[namespace, name] += 1
        count = self._named[namespace, name]
        name += f" #{count}" if count > 1 else ""
        self.seen.append(SeenRequest(name, namespace))
        if self._fault is None or self.has_harmed or name != self._fault.request:
            return None
        if namespace not in {"", self._namespace}:
            return None
        self.has_harmed = True
        return self._fault.harm

    async def _passed_on(self, request: _Request) -> _Answer:
        url = URL(self._server + request.target, encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        data = request.body or None
        async with self._session.request(request.method, url, headers=headers, data=data) as response:
            kept = {name: value for name, value in response.headers.items() if name.lower() not in _HOP_BY_HOP}
            return _Answer(response.status, kept, await response.read())


async def _read(reader: asyncio.StreamReader) -> _Request | None:
    """Read a request; return `None` if the connection ends."""
    try:
        head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        size = next((int(value) for name, value in headers.items() if name.lower() == "content-length"), 0)
        body = await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        return None
    method, target, _ = head.split(" ")
    return _Request(method, target, headers, body)


def _name(request: _Request) -> tuple[str, str]:
    """Return what a request asks for, and its namespace."""
    _, root, *parts = urlsplit(request.target).path.split("/")
    parts = parts[1:] if root == "api" else parts[2:]
    namespace = ""
    if parts[:1] == ["namespaces"]:
        namespace, parts = parts[1], parts[2:] or ["namespaces", "one"]
    resource = "/".join(part for number, part in enumerate(parts) if number != 1)
    verb = "LIST" if request.method == "GET" and len(parts) == 1 else request.method
    where = "" if namespace or verb != "LIST" else " everywhere"
    about = f" about {json.loads(request.body)['involvedObject']['kind']}" if request.method == "POST" else ""
    return f"{verb} {resource}{about}{where}", namespace


def _answer_of(harm: Harm) -> _Answer:
    """Return the answer of an API server that fails, or of a proxy in its place."""
    if harm is Harm.NONSENSE:
        return _Answer(HTTPStatus.OK, {}, b'{"items": [{"metadata": 7}]}')
    code, reason, message, has_causes = _STATUSES[harm]
    causes = [{"reason": "FieldValueInvalid", "message": "Invalid value: -1", "field": "spec.replicas"}]
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": {"causes": causes} if has_causes else {},
        "code": code,
    }
    headers = {"Content-Type": "application/json"}
    if harm is Harm.THROTTLED:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return _Answer(code, headers, json.dumps(body).encode())


def _reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection as a crash does: data not sent yet is dropped."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
