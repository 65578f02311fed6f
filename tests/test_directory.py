"""How often the sources of the whole cluster are listed."""

import pytest

from saffire.directory import Directory
from saffire.errors import SaffireError, TransientError


class Cluster:
    """Namespaces with sources, a clock that stands still until it is set, and how often the former were listed."""

    def __init__(self, *names: str) -> None:
        self.now = 0.0
        self.names = names
        self.lists = 0
        self.fault: SaffireError | None = None

    async def list_all(self) -> tuple[str, ...]:
        """List the namespaces with sources."""
        self.lists += 1
        if self.fault:
            raise self.fault
        return self.names

    def directory(self) -> Directory:
        """Return a directory of it; it has no cluster-wide sources."""

        async def none(_: str) -> bool:
            return False

        return Directory(self.list_all, none, lambda: self.now)


async def test_a_list_serves_every_namespace_with_a_source_for_a_minute() -> None:
    """After that the next Event, of whichever, has it made anew."""
    cluster = Cluster("a", "b")
    directory = cluster.directory()
    for cluster.now, lists in ((0, 1), (59, 1), (61, 2), (120, 2), (122, 3)):
        assert [True, True] == [await directory.has_source(name) for name in ("a", "b")]
        assert lists == cluster.lists


async def test_a_namespace_without_a_source_is_looked_for_once_a_second() -> None:
    """A new one may come at any time."""
    cluster = Cluster("a")
    directory = cluster.directory()
    for cluster.now, lists in ((0, 1), (0.9, 1), (1.1, 2)):
        assert not await directory.has_source("b")
        assert lists == cluster.lists


async def test_what_was_known_holds_while_the_api_server_does_not_tell() -> None:
    """It is asked again a minute later; whoever is not known is none of the known."""
    cluster = Cluster("a")
    directory = cluster.directory()
    assert await directory.has_source("a")
    cluster.now, cluster.fault = 61, TransientError("busy")
    assert [True, True] == [await directory.has_source("a") for _ in range(2)]
    assert 2 == cluster.lists
    with pytest.raises(TransientError):
        await directory.has_source("b")
    cluster.now, cluster.fault, cluster.names = 123, None, ("b",)
    assert [False, True] == [await directory.has_source(name) for name in ("a", "b")]
