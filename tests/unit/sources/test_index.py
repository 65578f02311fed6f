"""How often the sources of the whole cluster are listed, and which Events wait for the list."""

import asyncio

import pytest

from saffire.errors import SaffireError, TransientError
from saffire.sources import index, store
from saffire.sources.index import NamespaceIndex
from testkit.check_registry import eventually


class Cluster:
    """Namespaces with sources, a clock that a test sets, and a count of the lists that were made."""

    def __init__(self, *names: str) -> None:
        self.now = 0.0
        self.names = names
        self.version = "uid/1"
        self.lists = 0
        self.fault: SaffireError | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def list_all(self) -> dict[str, dict[str, str]]:
        """List the sources: one in each namespace, with the same version."""
        self.lists += 1
        await self.answers.wait()
        if self.fault:
            raise self.fault
        return {name: {"source": self.version} for name in self.names}

    async def selects_none(self, _: str) -> bool:
        """Tell that no cluster-wide source selects a namespace."""
        return False

    def namespace_index(self) -> NamespaceIndex:
        """Return an index of this cluster, which has no cluster-wide sources."""
        return NamespaceIndex(self.list_all, self.selects_none, lambda: self.now)

    async def was_listed(self, times: int) -> None:
        """Wait until so many lists were made."""
        await eventually(lambda: self.lists == times)


async def test_an_old_list_is_made_anew_and_no_event_waits_for_it() -> None:
    """After 75 s the next Event, of any namespace, starts one list for all namespaces."""
    cluster = Cluster("a", "b")
    namespaces = cluster.namespace_index()
    for cluster.now, times in ((0, 1), (74, 1), (76, 2), (150, 2), (152, 3)):
        cluster.answers = asyncio.Event()
        if not cluster.now:
            cluster.answers.set()
        assert [True, True] == [await namespaces.has_source(name) for name in ("a", "b")]
        cluster.answers.set()
        await cluster.was_listed(times)


def test_names_are_listed_again_before_they_expire() -> None:
    """A list may take some seconds."""
    assert index._RENEWED_SECONDS + 10 < store._NAMES_SECONDS  # noqa: SLF001 - one constant depends on the other


async def test_a_namespace_without_a_source_is_listed_once_a_second() -> None:
    """A source may be created at any time."""
    cluster = Cluster("a")
    namespaces = cluster.namespace_index()
    for cluster.now, times in ((0, 1), (0.9, 1), (1.1, 2)):
        assert not await namespaces.has_source("b")
        assert times == cluster.lists


async def test_the_last_list_holds_while_the_api_server_does_not_answer() -> None:
    """The list is tried again after 5 s, not at every Event; a namespace that was not listed gets the error."""
    cluster = Cluster("a")
    namespaces = cluster.namespace_index()
    assert await namespaces.has_source("a")
    cluster.fault = TransientError("busy")
    for cluster.now, times in ((76, 2), (77, 2), (82, 3)):
        assert await namespaces.has_source("a")
        await cluster.was_listed(times)
    with pytest.raises(TransientError):
        await namespaces.has_source("b")
    cluster.now, cluster.fault, cluster.names = 90, None, ("b",)
    await namespaces.namespaces()
    assert [False, True] == [await namespaces.has_source(name) for name in ("a", "b")]


async def test_namespaces_that_do_not_exist_cost_few_lists() -> None:
    """A thousand Events of as many namespaces in a second cost the lists of a burst, then four lists a second."""
    cluster = Cluster("a")
    namespaces = cluster.namespace_index()
    for number in range(1_000):
        cluster.now = number / 1_000
        assert not await namespaces.has_source(f"invented-{number}")
    assert 20 <= cluster.lists <= 26
    before = cluster.lists
    for number in range(1_000):
        cluster.now = 1 + number / 100
        assert not await namespaces.has_source(f"also-invented-{number}")
    assert cluster.lists - before <= 41


async def test_the_version_of_a_source_is_never_old() -> None:
    """A change that came before the call is seen, and all callers that wait share a list."""
    cluster = Cluster("a")
    namespaces = cluster.namespace_index()
    assert "uid/1" == await namespaces.version_of("a", "source")
    cluster.now, cluster.version, cluster.names = 0.1, "uid/2", ("a", "b")
    wanted = [("a", "source"), ("b", "source"), ("a", "another"), ("c", "source")]
    versions = await asyncio.gather(*(namespaces.version_of(*names) for names in wanted))
    assert ["uid/2", "uid/2", None, None] == versions
    assert 3 >= cluster.lists


async def test_many_versions_are_asked_for_with_pauses() -> None:
    """After a burst of lists, the next one waits; Events of namespaces without a source do not wait for it."""
    cluster = Cluster("a")
    namespaces = cluster.namespace_index()
    while not namespaces.is_busy:
        cluster.now += 0.001
        await namespaces.version_of("a", "source")
    assert 20 <= cluster.lists <= 22
    cluster.now += 0.001
    before, waiting = cluster.lists, asyncio.create_task(namespaces.version_of("b", "source"))
    await asyncio.sleep(0)
    assert not await asyncio.wait_for(namespaces.has_source("new"), timeout=0.1)
    assert before == cluster.lists
    assert None is await waiting
    assert before + 1 == cluster.lists


async def test_lists_that_fail_do_not_add_up_to_a_long_wait() -> None:
    """Strangers post many Events while the API server refuses lists. After that, nobody waits for what they cost."""
    cluster = Cluster()
    namespaces = cluster.namespace_index()
    cluster.fault = TransientError("too many requests")
    for number in range(1000):
        with pytest.raises(TransientError):
            await namespaces.has_source(f"invented-{number}")
    cluster.fault, cluster.names = None, ("a",)
    async with asyncio.timeout(2):
        changed, asked = await asyncio.gather(namespaces.version_of("a", "source"), namespaces.has_source("a"))
    assert ("uid/1", True) == (changed, asked)
