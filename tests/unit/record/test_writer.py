"""Writes that the API server does not carry out as they were sent; all other writes are tested on a control plane."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from saffire import logs
from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from saffire.kube.workload import OwnerReference
from saffire.record.left import LeftContainer, LeftInNamespace
from saffire.record.status import RegistryAnswers, Review
from saffire.record.writer import RecordWriter
from saffire.sources.spec import record_name
from saffire.sources.store import SourceStore
from testkit.builders import NOW, Object, cluster_source_manifest, kubeconfig, source_manifest

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
OLDER = "The CRD is older than Saffire and drops fields of the status"
ANSWERED = Review(registry_answers=RegistryAnswers(answered_at={"quay.io": NOW}))


def stuck(namespace: str, source: Object) -> Review:
    """Return what a repair knows that left a container of a namespace."""
    hangs = LeftContainer(
        source=record_name(source),
        namespace=namespace,
        owner=OwnerReference(api_version="apps/v1", kind="Deployment", name="web", uid=""),
        container="web",
        image="quay.io/acme/web:1",
        reason="Paused",
        message="set spec.mode of AlternateImageSource/shop to Enforce",
        since=NOW,
    )
    return replace(ANSWERED, left=LeftInNamespace(namespace=namespace, containers=(hangs,)))


class Api:
    """An API server with one source, whose CRD may lack fields of the status and of its conditions."""

    def __init__(self, source: Object) -> None:
        self.source = source
        self.lacks: set[str] = set()
        self.patches = 0
        self.refusal: Object | None = None

    async def respond(self, request: web.Request) -> web.Response:
        """Store the status of a patch, without the fields that the CRD lacks."""
        if request.method == "GET":
            return web.json_response(self.source)
        self.patches += 1
        if self.refusal:
            return web.json_response(self.refusal, status=self.refusal["code"])
        guard, operation = await request.json()
        if guard["value"] != self.source["metadata"]["resourceVersion"]:
            return web.json_response({"kind": "Status", "code": 409, "reason": "Conflict", "message": ""}, status=409)
        status = {key: value for key, value in operation["value"].items() if key not in self.lacks}
        status["conditions"] = [
            {key: value for key, value in condition.items() if f"conditions.{key}" not in self.lacks}
            for condition in status["conditions"]
        ]
        if status != self.source.get("status"):
            version = str(int(self.source["metadata"]["resourceVersion"]) + 1)
            self.source["metadata"]["resourceVersion"] = version
        self.source["status"] = status
        return web.json_response(self.source)


class Sweeps:
    """A writer that brings the status of the API server's source up to date, as a sweep does."""

    def __init__(self, api: Api, server: ApiServer) -> None:
        self.api = api
        self.now = NOW
        self._writer = RecordWriter(Cluster(server, Kinds()), SourceStore(server))

    async def sweep(self, review: Review = ANSWERED) -> int:
        """Sweep, and return how many patches were sent; a minute passes."""
        before = self.api.patches
        await self.write(review)
        self.now += MINUTE
        return self.api.patches - before

    async def write(self, *reviews: Review) -> None:
        """Write the status for several repairs at the same time, which have all read the source as it is now."""
        source = json.loads(json.dumps(self.api.source))
        await asyncio.gather(
            *(self._writer.write_status(source, (), now=self.now, review=review) for review in reviews)
        )


@pytest.fixture(params=[source_manifest, cluster_source_manifest], ids=["namespaced", "cluster-wide"])
async def sweeps(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sweeps]:
    """Give a writer, and an API server that has one source of either kind."""
    api = Api(request.param())
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.respond)
    async with TestServer(app) as running:
        server = await ApiServer.connect(kubeconfig(tmp_path, str(running.make_url(""))), timeout_seconds=5)
        yield Sweeps(api, server)
        await server.close()


def logged(printed: str, message: str) -> list[Any]:
    """Return the log lines with this message."""
    return [line for line in map(json.loads, printed.splitlines()) if line["message"] == message]


async def test_a_status_is_written_once(sweeps: Sweeps, capsys: pytest.CaptureFixture[str]) -> None:
    """A CRD of the same version drops nothing, and is not said to be older."""
    logs.configure("INFO")
    assert [1, 0, 0] == [await sweeps.sweep() for _ in range(3)]
    assert [] == logged(capsys.readouterr().out, OLDER)


@pytest.mark.parametrize(
    "lacks",
    [
        pytest.param({"registries"}, id="a list"),
        pytest.param({"observedGeneration"}, id="a value"),
        pytest.param({"conditions.observedGeneration"}, id="a value in a list"),
        pytest.param({"registries", "conditions.observedGeneration"}, id="several"),
    ],
)
async def test_an_older_crd_costs_no_patch_at_every_sweep(
    sweeps: Sweeps, lacks: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What it drops is dropped again by the next patch; the log names the fields, once."""
    logs.configure("INFO")
    sweeps.api.lacks = lacks
    assert [1, 0, 0, 0] == [await sweeps.sweep() for _ in range(4)]
    (line,) = logged(capsys.readouterr().out, OLDER)
    assert sorted(lacks) == line["fields"]


async def test_what_was_left_is_written_once_and_an_older_crd_drops_it(sweeps: Sweeps) -> None:
    """A pod may hang for days: its entry costs one patch, or an hour's one if the CRD lacks the list."""
    review = stuck("shop", sweeps.api.source)
    assert [1, 0, 0] == [await sweeps.sweep(review) for _ in range(3)]
    assert 1 == sweeps.api.source["status"]["leftCount"]
    sweeps.api.lacks = {"left", "leftCount"}
    sweeps.api.source["status"] = {}
    assert [1, 0, 0] == [await sweeps.sweep(review) for _ in range(3)]
    assert "left" not in sweeps.api.source["status"]


async def test_what_two_namespaces_left_at_the_same_time_is_written(sweeps: Sweeps) -> None:
    """A sweep repairs several namespaces of a cluster-wide source at once, and none has to wait for the next sweep."""
    await sweeps.write(*(stuck(namespace, sweeps.api.source) for namespace in ("shop", "web", "api")))
    written = sweeps.api.source["status"]["left"]
    assert ["api", "shop", "web"] == sorted(entry["target"]["namespace"] for entry in written)


async def test_the_other_fields_of_an_older_crd_are_written(sweeps: Sweeps) -> None:
    """Only what would be dropped is not worth a patch."""
    sweeps.api.lacks = {"observedGeneration"}
    assert [1, 0] == [await sweeps.sweep() for _ in range(2)]
    later = Review(registry_answers=RegistryAnswers(answered_at={"quay.io": NOW, "ghcr.io": NOW}))
    assert [1, 0] == [await sweeps.sweep(later) for _ in range(2)]
    assert ["ghcr.io", "quay.io"] == [entry["registry"] for entry in sweeps.api.source["status"]["registries"]]


async def test_an_updated_crd_is_noticed_within_the_hour(sweeps: Sweeps) -> None:
    """Then the fields that it dropped are written, without a restart of the function."""
    sweeps.api.lacks = {"observedGeneration"}
    assert [1, 0] == [await sweeps.sweep() for _ in range(2)]
    sweeps.api.lacks = set()
    sweeps.now += HOUR
    assert [1, 0] == [await sweeps.sweep() for _ in range(2)]
    assert 3 == sweeps.api.source["status"]["observedGeneration"]


async def test_a_status_that_is_too_large_to_be_stored_is_logged(
    sweeps: Sweeps, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    If others have filled an object up to etcd's limit, the failover is made and answered all the same.

    The API server refuses an object of more than 1.5 MiB (etcd, `--max-request-bytes`) with 413.
    """
    logs.configure("INFO")
    sweeps.api.refusal = {
        "kind": "Status",
        "code": 413,
        "reason": "RequestEntityTooLarge",
        "message": "Request entity too large: limit is 3145728",
    }
    assert 1 == await sweeps.sweep()
    (line,) = logged(capsys.readouterr().out, "Could not write a source's status")
    assert sweeps.api.refusal["message"] == line["error"]
