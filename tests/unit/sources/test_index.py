"""How often sources are listed, which Events wait for a list, and what a list is good for."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from saffire.errors import TransientError
from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.manifest import name_of
from saffire.kube.resources import Cluster
from saffire.sources import index
from saffire.sources.index import SourceIndex
from saffire.sources.store import SourceStore
from testkit.builders import Object, cluster_source_manifest, kubeconfig, source_manifest
from testkit.check_registry import eventually

GROUP = "/apis/saffire.fairwinds.com/v1alpha1"
ALL = f"{GROUP}/alternateimagesources"
CLUSTER_WIDE = f"{GROUP}/clusteralternateimagesources"
IN_A = f"{GROUP}/namespaces/a/alternateimagesources"


class Sources:
    """An API server with a source named `shop` in each namespace of `names`, and a clock that a test sets."""

    def __init__(self, *names: str) -> None:
        self.now = 0.0
        self.names = names
        self.generation = 1
        self.cluster_wide: list[str] = []
        self.is_down = False
        self.is_refusing = False
        """Whether it refuses to list the cluster-wide sources."""
        self.may_answer = asyncio.Event()
        """Lists of all namespaces are answered once it is set."""
        self.may_answer.set()
        self.requests: Counter[str] = Counter()

    @property
    def lists(self) -> int:
        """How often the sources of all namespaces were listed."""
        return self.requests[ALL]

    async def respond(self, request: web.Request) -> web.Response:
        """Answer a request by what there was when it came."""
        self.requests[request.path] += 1
        body = self._body(request.path)
        if request.path == ALL:
            await self.may_answer.wait()
            if self.is_down:
                return web.json_response({"kind": "Status"}, status=429)
        if request.path == CLUSTER_WIDE and self.is_refusing:
            return web.json_response({"kind": "Status"}, status=403)
        if body is None:
            return web.json_response({"kind": "Status", "details": {"name": "no"}}, status=404)
        return web.json_response({"metadata": {}, "items": body} if isinstance(body, list) else body)

    def _body(self, path: str) -> Any:
        cluster_wide = {name: cluster_source_manifest(name=name) for name in self.cluster_wide}
        bodies = {
            ALL: [self._source(name) for name in self.names],
            CLUSTER_WIDE: list(cluster_wide.values()),
            **{f"{CLUSTER_WIDE}/{name}": source for name, source in cluster_wide.items()},
            **{f"{CLUSTER_WIDE}/{name}/status": source for name, source in cluster_wide.items()},
            **{f"/api/v1/namespaces/{name}": {"metadata": {"name": name}} for name in self.names},
            IN_A: [self._source("a")],
            f"{IN_A}/shop": self._source("a"),
        }
        return bodies.get(path)

    def _source(self, namespace: str) -> Object:
        manifest = source_manifest()
        return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace, "generation": self.generation}}

    async def was_listed(self, times: int, sources: SourceIndex) -> None:
        """Wait until the sources of all namespaces were listed so often, and the last list was read."""
        await eventually(lambda: self.lists == times)
        if sources._renewal:  # noqa: SLF001 - nothing else waits for it
            await sources._renewal  # noqa: SLF001


@asynccontextmanager
async def index_of(
    api: Sources, folder: Path, clock: Callable[[], float] | None = None
) -> AsyncIterator[tuple[SourceIndex, SourceStore]]:
    """Yield an index of the sources of this API server, and its store; by default, it has the API server's clock."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.respond)
    async with TestServer(app) as server:
        connected = await ApiServer.connect(kubeconfig(folder, str(server.make_url(""))), timeout_seconds=5)
        store = SourceStore(connected)
        yield SourceIndex(Cluster(connected, Kinds()), store, clock or (lambda: api.now)), store
        await connected.close()


@pytest.fixture
def api() -> Sources:
    """Give an API server with a source in the namespace `a`."""
    return Sources("a")


@pytest.fixture
async def sources(api: Sources, tmp_path: Path) -> AsyncIterator[SourceIndex]:
    """Give an index of its sources."""
    async with index_of(api, tmp_path) as (opened, _):
        yield opened


async def test_an_old_list_is_made_anew_and_no_event_waits_for_it(api: Sources, sources: SourceIndex) -> None:
    """After 75 s the next Event, of any namespace, starts one list for all namespaces."""
    api.names = ("a", "b")
    for api.now, times in ((0, 1), (74, 1), (76, 2), (150, 2), (152, 3)):
        if api.now:
            api.may_answer.clear()
        assert [True, True] == [await sources.has_source(name) for name in ("a", "b")]
        api.may_answer.set()
        await api.was_listed(times, sources)


def test_names_are_listed_again_before_they_expire() -> None:
    """A list may take some seconds."""
    assert index._RENEWED_SECONDS + 10 < index._NAMES_SECONDS  # noqa: SLF001 - one constant depends on the other


async def test_a_namespace_without_a_source_is_listed_once_a_second(api: Sources, sources: SourceIndex) -> None:
    """A source may be created at any time."""
    for api.now, times in ((0, 1), (0.9, 1), (1.1, 2)):
        assert not await sources.has_source("b")
        assert times == api.lists


async def test_the_last_list_holds_while_the_api_server_does_not_answer(api: Sources, sources: SourceIndex) -> None:
    """The list is tried again after 5 s, not at every Event; a namespace that was not listed gets the error."""
    assert await sources.has_source("a")
    api.is_down = True
    for api.now, times in ((76, 2), (77, 2), (82, 3)):
        assert await sources.has_source("a")
        await api.was_listed(times, sources)
    with pytest.raises(TransientError):
        await sources.has_source("b")
    api.now, api.is_down, api.names = 90, False, ("b",)
    await sources.namespaces_with_own()
    assert [False, True] == [await sources.has_source(name) for name in ("a", "b")]


async def test_namespaces_that_do_not_exist_cost_few_lists(api: Sources, sources: SourceIndex) -> None:
    """A thousand Events of as many namespaces in a second cost the lists of a burst, then four lists a second."""
    for number in range(1_000):
        api.now = number / 1_000
        assert not await sources.has_source(f"invented-{number}")
    assert 20 <= api.lists <= 26
    before = api.lists
    for number in range(1_000):
        api.now = 1 + number / 100
        assert not await sources.has_source(f"also-invented-{number}")
    assert api.lists - before <= 41


async def test_the_version_of_a_source_is_never_old(api: Sources, sources: SourceIndex) -> None:
    """A change that came before the call is seen, and all callers that wait share a list."""
    assert "shop-uid/1" == await sources.version_of("a", "shop")
    api.now, api.generation, api.names = 0.1, 2, ("a", "b")
    wanted = [("a", "shop"), ("b", "shop"), ("a", "another"), ("c", "shop")]
    versions = await asyncio.gather(*(sources.version_of(*names) for names in wanted))
    assert ["shop-uid/2", "shop-uid/2", None, None] == versions
    assert 3 >= api.lists


async def test_many_versions_are_asked_for_with_pauses(api: Sources, sources: SourceIndex) -> None:
    """After a burst of lists, the next one waits; Events of namespaces without a source do not wait for it."""
    await sources.has_source("another")
    while not sources.is_busy("a"):
        api.now += 0.001
        await sources.version_of("a", "shop")
    assert 20 <= api.lists <= 22
    assert not sources.is_busy("")
    api.now += 0.001
    before, waiting = api.lists, asyncio.create_task(sources.version_of("b", "shop"))
    await asyncio.wait([waiting], timeout=0.1)
    assert not await asyncio.wait_for(sources.has_source("new"), timeout=0.1)
    assert before == api.lists
    assert None is await waiting
    assert before + 1 == api.lists


async def test_lists_that_fail_do_not_add_up_to_a_long_wait(api: Sources, sources: SourceIndex) -> None:
    """Strangers post many Events while the API server refuses lists. After that, nobody waits for what they cost."""
    api.is_down = True
    for number in range(100):
        with pytest.raises(TransientError):
            await sources.has_source(f"invented-{number}")
    api.is_down = False
    async with asyncio.timeout(2):
        changed, asked = await asyncio.gather(sources.version_of("a", "shop"), sources.has_source("a"))
    assert ("shop-uid/1", True) == (changed, asked)


async def test_a_late_answer_does_not_bring_back_an_old_list(api: Sources, sources: SourceIndex) -> None:
    """What counts is which list was asked for last."""
    api.may_answer.clear()
    late = asyncio.create_task(sources.namespaces_with_own())
    await eventually(lambda: api.lists == 1)
    may_answer, api.may_answer, api.names, api.now = api.may_answer, asyncio.Event(), ("a", "new"), 0.1
    api.may_answer.set()
    newer = asyncio.create_task(sources.namespaces_with_own())
    await asyncio.wait([newer], timeout=0.1)
    may_answer.set()
    assert [{"a"}, {"a", "new"}] == [set(await late), set(await newer)]
    assert await sources.has_source("new")
    assert 2 == api.lists


async def test_cluster_wide_sources_are_back_a_second_after_their_list_was_refused(
    api: Sources, sources: SourceIndex
) -> None:
    """An API server that has just started may refuse what it allows a second later."""
    api.cluster_wide, api.is_refusing = ["everywhere"], True
    assert not await sources.has_source("plain")
    api.is_refusing, api.now = False, 1.1
    assert await sources.has_source("plain")


# What a repair reads


@pytest.mark.parametrize(
    ("now", "fresh", "asked"),
    [
        pytest.param(90, False, f"{IN_A}/shop", id="90-s-after-the-list"),
        pytest.param(90.1, False, IN_A, id="later"),
        pytest.param(0, True, IN_A, id="of-the-whole-namespace"),
    ],
)
async def test_a_repair_after_an_event_reads_sources_by_the_names_of_the_last_list(
    api: Sources, sources: SourceIndex, now: float, asked: str, *, fresh: bool
) -> None:
    """A list would make the first failure of an outage wait. Before any list, there are no names."""
    for api.now, path in ((0, IN_A), (now, asked)):
        before = api.requests.copy()
        (source,), namespace = await sources.sources_for("a", fresh=fresh)
        assert ("shop", {"metadata": {"name": "a"}}) == (name_of(source), namespace)
        assert path in api.requests - before
        if not api.now:
            await sources.namespaces_with_own()


async def names_in_a(sources: SourceIndex, *, fresh: bool = False) -> list[str]:
    """Return the names of the sources that apply to the namespace `a`."""
    applying, _ = await sources.sources_for("a", fresh=fresh)
    return list(map(name_of, applying))


async def test_cluster_wide_sources_are_read_once_a_second_by_their_names(api: Sources, sources: SourceIndex) -> None:
    """They are listed every 90 s. If there are none, a list is good for a minute."""
    for api.now, lists in ((0, 1), (60, 1), (60.1, 2)):
        assert ["shop"] == await names_in_a(sources)
        assert (lists, 0) == (api.requests[CLUSTER_WIDE], api.requests[f"{CLUSTER_WIDE}/wide"])
    api.cluster_wide = ["wide"]
    for api.now, lists, reads in ((121, 3, 0), (122, 3, 0), (122.1, 3, 1), (211, 3, 2), (211.9, 3, 2), (213, 4, 2)):
        assert ["shop", "wide"] == await names_in_a(sources)
        assert (lists, reads) == (api.requests[CLUSTER_WIDE], api.requests[f"{CLUSTER_WIDE}/wide"])


async def test_a_new_cluster_wide_source_is_found_although_others_are_read_by_name(
    api: Sources, sources: SourceIndex
) -> None:
    """Its own event has them listed, and from then on it applies."""
    api.cluster_wide = ["wide"]
    assert ["shop", "wide"] == await names_in_a(sources)
    api.now, api.cluster_wide = 1.5, ["wide", "young"]
    assert ["shop", "wide"] == await names_in_a(sources)
    assert "young-uid/3" == await sources.version_of("", "young")
    assert ["shop", "wide", "young"] == await names_in_a(sources)
    assert None is await sources.version_of("", "gone")


@pytest.mark.parametrize("fresh", [True, False])
async def test_the_repair_of_a_whole_namespace_sees_what_was_written_before(
    api: Sources, tmp_path: Path, *, fresh: bool
) -> None:
    """Otherwise the status of a cluster-wide source would lose what the repair of another namespace has recorded."""
    api.cluster_wide = ["wide"]
    async with index_of(api, tmp_path, time.monotonic) as (sources, store):
        await names_in_a(sources, fresh=fresh)
        await store.write_status(cluster_source_manifest(name="wide"), {})
        await names_in_a(sources, fresh=fresh)
    assert (1, fresh) == (api.requests[CLUSTER_WIDE], api.requests[f"{CLUSTER_WIDE}/wide"])
