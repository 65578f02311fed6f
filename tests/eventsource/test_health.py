"""The kubelet's probes are answered, and strangers take nothing from them."""

import asyncio

from eventsource.health import health_server
from playground.function_process import free_port


async def get(port: int, path: str) -> tuple[int, str]:
    """Return status and text of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    async with asyncio.timeout(10):
        head, _, text = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split(" ")[1]), text


async def test_a_fault_makes_it_unready_and_no_more() -> None:
    """The process lives as long as it answers; that it is ready depends on its work."""
    faults = ["no token"]
    port = free_port()
    async with health_server(port, lambda: faults[-1]):
        assert (503, "no token") == await get(port, "/readyz")
        assert (200, "") == await get(port, "/healthz")
        faults.append("")
        assert (200, "") == await get(port, "/readyz")


async def test_too_many_connections_cost_the_oldest() -> None:
    """However many strangers connect, a few stay open, and a probe is answered among them."""
    port = free_port()
    async with health_server(port, str, request_seconds=3600, most=8):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        async with asyncio.timeout(10):
            assert [b""] * 12 == [await reader.read() for reader, _ in silent[:12]]
        assert 200 == (await get(port, "/healthz"))[0]
        assert not any(reader.at_eof() for reader, _ in silent[-7:])
        for _, writer in silent:
            writer.close()


async def test_who_sends_nothing_keeps_nobody_out() -> None:
    """Silent connections keep nobody out, and are closed after some time."""
    port = free_port()
    async with health_server(port, str, request_seconds=0.2):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        assert 200 == (await get(port, "/healthz"))[0]
        async with asyncio.timeout(10):
            assert [b""] * 20 == [await reader.read() for reader, _ in silent]
        for _, writer in silent:
            writer.close()
