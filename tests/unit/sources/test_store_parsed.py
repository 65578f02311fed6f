"""A source is parsed once for each version of its spec, and other tasks run meanwhile."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from saffire.kube.client import ApiServer
from saffire.kube.manifest import name_of
from saffire.sources.spec import SourceManifest, faults_of
from saffire.sources.store import ParsedSources, SourceStore
from testkit.builders import Object, declared, kubeconfig, source_manifest
from testkit.hostile_corpus import SHAPES, SOURCES, Shape, sources
from testkit.watchdog import longest_step, yardstick


def changed(manifest: Object, **metadata: Any) -> Object:
    """Return a copy of a source with other metadata."""
    return {**manifest, "metadata": {**manifest["metadata"], **metadata}}


async def test_a_version_of_a_source_is_parsed_once() -> None:
    """A new status is a new resourceVersion; only a new spec is a new generation."""
    parsed = ParsedSources(1000)
    first = await parsed.parse(source_manifest())
    assert (await parsed.parse(changed(source_manifest(), resourceVersion="8"))).parsed is first.parsed
    paused = await parsed.parse(changed(source_manifest(mode="Paused"), generation=4))
    assert "Paused" == declared(paused).mode
    made_anew = await parsed.parse(changed(source_manifest(mode="Observe"), uid="another", generation=4))
    assert "Observe" == declared(made_anew).mode


async def test_a_parsed_source_is_what_its_manifest_says() -> None:
    """The manifest is as it was, and the parsed source that of the manifest; faults are kept as well."""
    manifest, faulty = source_manifest(), source_manifest(["quay.io/a"], name="faulty")
    parsed = ParsedSources(1000)
    read = await parsed.parse(manifest)
    assert (manifest, declared(manifest)) == (dict(read), declared(read))
    for again in (await parsed.parse(faulty), await parsed.parse(faulty)):
        assert ("spec.imageSourceReplacements[0].equivalentRepositories: wants 2 to 32 entries",) == faults_of(again)


@pytest.mark.parametrize("metadata", [{"uid": ""}, {"generation": 0}])
async def test_a_source_without_a_version_is_parsed_each_time(metadata: Object) -> None:
    """Without a uid or a generation nothing tells that a source is the same."""
    parsed = ParsedSources(1000)
    await parsed.parse(changed(source_manifest(), **metadata))
    assert "Paused" == declared(await parsed.parse(changed(source_manifest(mode="Paused"), **metadata))).mode


async def test_few_entries_are_kept() -> None:
    """The sources that were not used for longest are dropped, and so is a source that is too large by itself."""
    parsed = ParsedSources(100)
    small = [source_manifest(name=f"s{number}") for number in range(9)]
    first = [(await parsed.parse(manifest)).parsed for manifest in small]
    assert (await parsed.parse(small[0])).parsed is first[0]
    await parsed.parse(source_manifest(name="new"))
    again = [(await parsed.parse(manifest)).parsed is before for manifest, before in zip(small, first, strict=True)]
    assert (True, False) == (again[0], again[1])
    large = source_manifest(*[[f"r{number}.example/{path}" for number in range(32)] for path in "abcd"], name="large")
    kept = await parsed.parse(large)
    assert (await parsed.parse(large)).parsed is not kept.parsed


@asynccontextmanager
async def api_server(folder: Path, stored: Iterable[Object]) -> AsyncIterator[ApiServer]:
    """Yield an API server with these sources, which answers in pages as it is asked."""
    manifests = list(stored)
    encoded = [json.dumps(manifest) for manifest in manifests]

    async def respond(request: web.Request) -> web.Response:
        start, size = int(request.query.get("continue", 0)), int(request.query["limit"])
        token = str(start + size) if start + size < len(encoded) else ""
        items = ",".join(encoded[start : start + size])
        text = f'{{"metadata":{{"continue":"{token}"}},"items":[{items}]}}'
        return web.Response(text=text, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", respond)
    async with TestServer(app) as server:
        connected = await ApiServer.connect(kubeconfig(folder, str(server.make_url(""))), timeout_seconds=60)
        yield connected
        await connected.close()


async def test_the_first_32_sources_of_a_namespace_are_read(tmp_path: Path) -> None:
    """They are read in pages."""
    names = [f"s{number:02}" for number in range(SOURCES + 3)]
    async with api_server(tmp_path, [source_manifest(name=name) for name in names]) as server:
        read = await SourceStore(server).in_namespace("shop")
    assert names[:SOURCES] == list(map(name_of, read))
    assert all(isinstance(source, SourceManifest) for source in read)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
async def test_65536_entries_keep_no_other_task_waiting(shape: Shape, tmp_path: Path) -> None:
    """No step towards the parsed sources takes longer than 20 ms of work."""
    async with api_server(tmp_path, sources(shape)) as server:

        async def read() -> None:
            assert SOURCES == len(await SourceStore(server).in_namespace("shop"))

        steps = await longest_step(read)
    assert steps.longest <= 2 * yardstick(), steps
