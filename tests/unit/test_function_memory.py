"""The memory of the function as it is served, under a flood."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playground.function_process import FunctionProcess
from testkit.api.function_client import FunctionClient, request
from testkit.builders import FAILED, Object, event, kubeconfig
from testkit.memory import peak, resident
from tests.unit.test_function import HEADERS

POSTS, AT_ONCE = 6_000, 50
MOST_MIB = 90
"""About 50 are used. If nothing counted those whose sender has gone, it would be 150, and more with each post."""


@asynccontextmanager
async def silent_api(asked: asyncio.Event) -> AsyncIterator[str]:
    """Run an API server that answers nothing, and sets `asked` at its first connection; yield its URL."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        asked.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield "http://{}:{}".format(*server.sockets[0].getsockname())
        for writer in writers:
            writer.close()


def failure(number: int) -> Object:
    """Return an Event about a pod of a namespace that does not exist either."""
    made_up, namespace = event(FAILED), f"invented-{number}"
    metadata = {**made_up["metadata"], "namespace": namespace}
    return {**made_up, "metadata": metadata, "involvedObject": {**made_up["involvedObject"], "namespace": namespace}}


async def hang_up(url: str, number: int) -> None:
    """Post an Event whose sender prefers to wait, and disconnect."""
    address, body = urlsplit(url), json.dumps(failure(number)).encode()
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(request([*HEADERS.items(), ("prefer", "wait=60")], body))
    await writer.drain()
    writer.close()


async def status(url: str, body: bytes) -> int:
    """Post a body as an Event; return the status of the answer."""
    async with FunctionClient(url) as client:
        answer = await client.send(request(HEADERS.items(), body))
    assert answer
    return answer.status


async def test_senders_that_hang_up_fill_no_memory(tmp_path: Path) -> None:
    """The API server does not answer, so all of them would wait for it."""
    asked = asyncio.Event()
    async with silent_api(asked) as api, FunctionProcess(Path(kubeconfig(tmp_path, api))) as served:
        numbers = iter(range(POSTS))

        async def flood() -> None:
            for number in numbers:
                await hang_up(served.url, number)

        # What is not imported at the start is imported for the first request.
        assert 400 == await status(served.url, b"")
        await hang_up(served.url, POSTS)
        await asked.wait()
        idle = resident(served.pid)
        await asyncio.gather(*(flood() for _ in range(AT_ONCE)))
        # The function accepts connections in their order, so it has read all of theirs before this one.
        assert 200 == await status(served.url, json.dumps(event(FAILED, reason="Pulled")).encode())
        over_idle = peak(served.pid) - idle
    assert over_idle < MOST_MIB
