"""Shares: who waits for whom, what does not count as asked, and names that no name server answers."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from saffire.concurrency import Shares
from saffire.registry.shares import Connections, Progress, Resolver, progress, share
from testkit.check_registry import eventually

PLACES = 20
ASKERS = tuple("0123456789")
"""So many askers use up all places, if each takes what it may."""


async def waiting_for(pool: Shares, asker: str) -> asyncio.Task[None]:
    """Return a task that takes a place of a pool; it has taken it, or waits for it."""
    task = asyncio.create_task(pool.take(asker))
    await asyncio.sleep(0)
    return task


async def filled(*askers: str) -> Shares:
    """Return a pool from which these askers have taken what they may, one after the other."""
    pool = Shares(PLACES)
    for asker in askers:
        while (task := await waiting_for(pool, asker)).done():
            pass
        await cancel(task)
    return pool


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks, and wait for their end."""
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# Places


async def test_an_asker_leaves_places_for_others() -> None:
    """A lone one gets a fifth, the next a fifth of the rest, and so on: even the tenth finds a place."""
    pool = Shares(PLACES)
    for asker, places in enumerate((4, 4, 3, 2, 2, 1, 1, 1, 1, 1)):
        tasks = [await waiting_for(pool, str(asker)) for _ in range(PLACES)]
        assert places == len([task for task in tasks if task.done()]), asker
        await cancel(*(task for task in tasks if not task.done()))
    assert 0 == pool.free


async def test_whoever_holds_least_is_next() -> None:
    """Others wait for longer and hold more. A new asker waits only until one place is free."""
    pool = await filled(*ASKERS)
    first, late = [await waiting_for(pool, asker) for asker in ("0", "late")]
    assert not late.done()
    pool.give_back("0")
    await late
    assert not first.done()
    await cancel(first)


async def test_askers_that_wait_take_turns() -> None:
    """An asker with many questions does not go before one with a few."""
    pool = Shares(1)
    await pool.take("first")
    order: list[str] = []

    async def hold(asker: str) -> None:
        await pool.take(asker)
        order.append(asker)
        pool.give_back(asker)

    askers = ("busy", "busy", "busy", "shop", "shop", "bank")
    tasks = [asyncio.create_task(hold(asker)) for asker in askers]
    await asyncio.sleep(0)
    pool.give_back("first")
    await asyncio.gather(*tasks)
    assert ["busy", "shop", "bank", "busy", "shop", "busy"] == order


async def test_who_gives_up_leaves_no_gap() -> None:
    """Neither a place that was given to a task that ends, nor its place in the queue, is lost."""
    pool = await filled(*ASKERS)
    gone, given, late = [await waiting_for(pool, asker) for asker in ("gone", "given", "late")]
    gone.cancel()  # it has not noticed yet when a place becomes free
    pool.give_back("0")
    given.cancel()  # it has been given the place, and has not noticed that either
    await cancel(gone, given)
    await late
    for holder in "0001111222334456789":
        pool.give_back(holder)
    pool.give_back("late")
    assert PLACES == pool.free
    assert (await waiting_for(pool, "gone")).done()


# What counts as asked


async def test_a_request_that_waits_is_not_at_work() -> None:
    """It is once it has its place, and not after its end."""
    pool = await filled("shop")
    asked = Progress("shop")

    async def request() -> None:
        progress.set(asked)
        async with Connections().for_request("quay.io:443"):
            sent.set()
            async with share(pool):
                pass

    sent = asyncio.Event()
    task = asyncio.create_task(request())
    await sent.wait()
    await asyncio.sleep(0)
    assert 0 == asked.at_work
    pool.give_back("shop")
    await task
    assert 0 == asked.at_work


async def test_a_request_whose_time_is_up_was_at_work() -> None:
    """It was sent and got no answer. One that fails has an answer."""
    connections, asked = Connections(), Progress("shop")

    async def request() -> None:
        progress.set(asked)
        with suppress(OSError):
            async with connections.for_request("quay.io:443"):
                raise OSError
        assert 0 == asked.at_work
        async with connections.for_request("quay.io:443"):
            await asyncio.Event().wait()

    task = asyncio.create_task(request())
    await asyncio.sleep(0)
    await cancel(task)
    assert 1 == asked.at_work


# Names


class NameServer:
    """
    Name servers: names below `dead.test` get no answer before the end, and `slow.test` gets its own still later.

    `none.test` has no address.
    """

    def __init__(self) -> None:
        self.end, self.late_end = threading.Event(), threading.Event()
        self.lookups: list[str] = []
        """Each name that was looked up."""

    def getaddrinfo(self, host: str, *_: object, **__: object) -> list[object]:
        """Return the address of a host."""
        self.lookups.append(host)
        if host.endswith("dead.test"):
            self.end.wait(60)
        if host == "slow.test":
            self.late_end.wait(60)
        if host == "none.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host == "link.test":
            return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 0, 0, 2))]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]


@pytest.fixture
def names() -> Iterator[NameServer]:
    """Yield name servers, and end what waits for them."""
    server = NameServer()
    yield server
    server.end.set()
    server.late_end.set()


async def test_an_address_is_kept_for_ten_seconds(names: NameServer) -> None:
    """Many connections to a registry cost one lookup, and a name that moves is followed soon."""
    times = [0.0]
    resolver = Resolver(names.getaddrinfo, clock=lambda: times[-1])
    for time in (0.0, 9.0, 11.0):
        times.append(time)
        (result,) = await resolver.resolve("quay.io", 443)
        assert ("quay.io", "127.0.0.1", 443) == (result["hostname"], result["host"], result["port"])
    assert ["quay.io"] * 2 == names.lookups


async def test_an_address_of_one_link_has_its_interface(names: NameServer) -> None:
    """Without the interface, nothing can connect to it."""
    (result,) = await Resolver(names.getaddrinfo).resolve("link.test", family=socket.AF_INET6)
    assert "fe80::1%2" == result["host"]


async def test_a_name_without_an_address_is_an_error(names: NameServer) -> None:
    """It is asked for anew each time."""
    resolver = Resolver(names.getaddrinfo)
    for _ in range(2):
        with pytest.raises(OSError, match="not known"):
            await resolver.resolve("none.test")
    assert ["none.test"] * 2 == names.lookups


async def test_a_name_without_an_answer_occupies_one_thread(names: NameServer) -> None:
    """However many ask for it, and even if all of them have given up."""
    resolver = Resolver(names.getaddrinfo)
    for _ in range(2):
        lookups = [asyncio.create_task(resolver.resolve("dead.test")) for _ in range(50)]
        await eventually(lambda: bool(names.lookups))
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
    assert ["dead.test"] == names.lookups
    names.end.set()
    assert await resolver.resolve("dead.test")


async def test_what_waits_for_a_thread_is_not_asked(names: NameServer) -> None:
    """A namespace has a share of the threads. If all of its names are dead, another name of it has to wait."""
    resolver, late_question = Resolver(names.getaddrinfo), Progress("shop", at_work=1)

    async def ask(name: str, current: Progress) -> None:
        progress.set(current)
        await resolver.resolve(name)

    dead = [asyncio.create_task(ask(f"{number}.dead.test", Progress("shop"))) for number in range(26)]
    await eventually(lambda: len(names.lookups) == 26)
    late = asyncio.create_task(ask("quay.io", late_question))
    await asyncio.sleep(0)
    assert 0 == late_question.at_work
    other_question = Progress("bank", at_work=1)
    await ask("ghcr.io", other_question)
    assert 1 == other_question.at_work
    assert "quay.io" not in names.lookups
    names.end.set()
    await asyncio.gather(late, *dead)
    assert 1 == late_question.at_work


async def test_a_name_that_was_looked_up_meanwhile_is_not_looked_up_again(names: NameServer) -> None:
    """A namespace waits for a thread, and another namespace asks for the same name."""
    resolver = Resolver(names.getaddrinfo)

    async def ask(asker: str, name: str) -> None:
        progress.set(Progress(asker))
        await resolver.resolve(name)

    dead = [asyncio.create_task(ask("busy", f"{number}.dead.test")) for number in range(26)]
    await eventually(lambda: len(names.lookups) == 26)
    waiting = [asyncio.create_task(ask("busy", name)) for name in ("quay.io", "slow.test")]
    await asyncio.sleep(0)
    await ask("shop", "quay.io")
    slow = asyncio.create_task(ask("shop", "slow.test"))
    await eventually(lambda: "slow.test" in names.lookups)
    names.end.set()
    await asyncio.gather(*dead, waiting[0])
    assert not waiting[1].done()
    names.late_end.set()
    await asyncio.gather(slow, *waiting)
    assert 28 == len(names.lookups)


async def test_without_a_thread_a_name_is_an_error(names: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose threads are used up costs one question, and no place."""
    resolver = Resolver(names.getaddrinfo)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            await resolver.resolve("quay.io")
    assert await resolver.resolve("quay.io")
