"""How often the sources of the whole cluster are listed, and who waits for that."""

import asyncio

import pytest

from saffire.errors import SaffireError, TransientError
from saffire.sources import index, store
from saffire.sources.index import NamespaceIndex
from testkit.check_registry import eventually


class Cluster:
    """Namespaces with sources, a clock that stands still until it is set, and how often the former were listed."""

    def __init__(self, *names: str) -> None:
        self.now = 0.0
        self.names = names
        self.lists = 0
        self.fault: SaffireError | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def list_all(self) -> tuple[str, ...]:
        """List the namespaces with sources."""
        self.lists += 1
        await self.answers.wait()
        if self.fault:
            raise self.fault
        return self.names

    def directory(self) -> NamespaceIndex:
        """Return a directory of it; it has no cluster-wide sources."""

        async def none(_: str) -> bool:
            return False

        return NamespaceIndex(self.list_all, none, lambda: self.now)

    async def was_listed(self, times: int) -> None:
        """Wait until it was listed so often."""
        await eventually(lambda: self.lists == times)


async def test_an_old_list_is_made_anew_and_nobody_waits_for_it() -> None:
    """The first Event after that, of whichever namespace, has it made for all."""
    cluster = Cluster("a", "b")
    known = cluster.directory()
    for cluster.now, times in ((0, 1), (74, 1), (76, 2), (150, 2), (152, 3)):
        cluster.answers = asyncio.Event()
        if not cluster.now:
            cluster.answers.set()
        assert [True, True] == [await known.has_source(name) for name in ("a", "b")]
        cluster.answers.set()
        await cluster.was_listed(times)


def test_names_are_known_anew_before_they_are_forgotten() -> None:
    """A list takes its time."""
    assert index._RENEWED_SECONDS + 10 < store._NAMES_SECONDS  # noqa: SLF001 - what one needs of the other


async def test_a_namespace_without_a_source_is_looked_for_once_a_second() -> None:
    """A new one may come at any time."""
    cluster = Cluster("a")
    known = cluster.directory()
    for cluster.now, times in ((0, 1), (0.9, 1), (1.1, 2)):
        assert not await known.has_source("b")
        assert times == cluster.lists


async def test_what_was_known_holds_while_the_api_server_does_not_tell() -> None:
    """It is asked again soon, but not by every Event; whoever is not known is none of the known."""
    cluster = Cluster("a")
    known = cluster.directory()
    assert await known.has_source("a")
    cluster.fault = TransientError("busy")
    for cluster.now, times in ((76, 2), (77, 2), (82, 3)):
        assert await known.has_source("a")
        await cluster.was_listed(times)
    with pytest.raises(TransientError):
        await known.has_source("b")
    cluster.now, cluster.fault, cluster.names = 90, None, ("b",)
    await known.namespaces()
    assert [False, True] == [await known.has_source(name) for name in ("a", "b")]
