"""The cluster-wide source: whose workloads it moves, its status, its cost, and its faults."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from playground.cluster.api import Api, Manifest
from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from testkit.api.audit_log import AuditLog
from testkit.api.clusters import NAMESPACE, USER, SpareCluster, make_user, manifest, may_list, permissive
from testkit.api.fault_cases import CaseRunner
from testkit.api.fault_proxy import Fault, Harm
from testkit.api.namespace_fixture import CLUSTER_WIDE, GROUP, HISTORY, IGNORE, NamespaceFixture, until
from testkit.api.workloads import ALIVE, DEAD, NEW, OLD, deployment, images, pod, pod_spec_of

OWN = (f"{DEAD}/acme/*", f"{ALIVE}/own/*")
MOVED_BY_OWN = f"{ALIVE}/own/web:v1"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NO_SOURCE = "NoSource: the namespace has no AlternateImageSource"
LISTS = "list clusteralternateimagesources"


@pytest.fixture
async def namespaces(namespace: NamespaceFixture) -> AsyncIterator[list[NamespaceFixture]]:
    """Give three namespaces; the first two have a label in common."""
    async with AsyncExitStack() as stack:
        made = [namespace, *[await stack.enter_async_context(namespace.another()) for _ in range(2)]]
        for other in made[:2]:
            await other.label(estate=namespace.name)
        yield made


def labelled(namespace: NamespaceFixture) -> dict[str, Any]:
    """Return the selector for namespaces with the label of a fixture."""
    return {"matchExpressions": [{"key": "estate", "operator": "In", "values": [namespace.name, "other"]}]}


async def image(namespace: NamespaceFixture) -> str:
    """Return the current image of the Deployment."""
    return images(pod_spec_of(await namespace.read(deployment())))["web"]


async def told_in_default(api: Api, source: Manifest) -> list[tuple[str, str]]:
    """Return reason and message of the Events about a cluster-wide source, which are in the namespace `default`."""
    selector = f"involvedObject.uid={source['metadata']['uid']}"
    listed = await api.get("/api/v1/namespaces/default/events", fieldSelector=selector)
    return [(event["reason"], event["message"]) for event in listed["items"]]


def condition(status: Manifest, kind: str) -> tuple[str, str]:
    """Return status and message of a condition."""
    (condition,) = [entry for entry in status["conditions"] if entry["type"] == kind]
    return condition["status"], condition["message"]


# Which workloads it moves.


async def test_one_source_frees_what_hangs_in_every_namespace_that_it_selects(
    namespaces: list[NamespaceFixture],
) -> None:
    """A source that is created during an outage acts at once, only in its namespaces, and everything is recorded."""
    first, second, third = namespaces
    events = [(await other.fail(deployment()))[1] for other in namespaces]
    assert {NO_SOURCE} == {(await first.post(event)).text for event in events}
    created = await first.cluster_source(namespaceSelector=labelled(first))
    answer = await first.post(created)
    assert (200, "swept 2 of 2 namespaces: 2 moved") == (answer.status, answer.text)
    assert [NEW, NEW, OLD] == [await image(other) for other in namespaces]
    assert NO_SOURCE == (await third.post(events[2])).text
    status = await first.cluster_status()
    assert {first.name, second.name} == {switch["target"]["namespace"] for switch in status["switches"]}
    assert (2, 2) == (status["activeCount"], len(status["active"]))
    unverified = ("Unknown", "registries are asked for the sources of namespaces only")
    assert [("True", ""), unverified] == [condition(status, kind) for kind in ("Accepted", "Ready")]
    assert created["metadata"]["generation"] == status["observedGeneration"]
    record_name = f"ClusterAlternateImageSource/{first.name}"
    for moved in (first, second):
        ((reason, message),) = await moved.saffire_events(await moved.read(deployment()))
        assert ("Failover", True) == (reason, message.endswith(f"; by {record_name}"))
        history = json.loads((await moved.read(deployment()))["metadata"]["annotations"][HISTORY])
        assert [record_name] == [entry["source"] for entry in history["failovers"]]
    assert ["Failover"] * 2 == [reason for reason, _ in await told_in_default(first.api, created)]


async def test_a_pod_s_event_is_acted_on(namespaces: list[NamespaceFixture], audit_log: AuditLog) -> None:
    """In a namespace without a source of its own, the Event is acted on, at the cost of a namespace with one."""
    first, _, third = namespaces
    await first.post(await first.cluster_source(namespaceSelector=labelled(first)))
    _, event = await first.fail(deployment())
    first.mark()
    answer = await first.post(event)
    assert (200, f"moved web of Deployment/web to {NEW}") == (answer.status, answer.text)
    assert [("deployments", "web")] == first.patches()
    assert [NEW] == [switch["newImage"] for switch in (await first.cluster_status())["switches"]]
    _, elsewhere = await third.fail(deployment())
    third.mark()
    mark = audit_log.mark()
    assert {NO_SOURCE} == {(await third.post(elsewhere)).text for _ in range(5)}
    assert ["get namespaces"] == [f"{call.verb} {call.resource}" for call in third.calls()]
    lists = Counter(f"{call.verb} {call.resource}" for call in audit_log.calls(mark) if call.verb == "list")
    assert lists.keys() <= {LISTS, "list alternateimagesources"}
    assert all(number < 5 for number in lists.values())


async def test_an_event_source_is_answered_before_all_is_done(namespace: NamespaceFixture) -> None:
    """The event source waits for its answer, so it is answered before all selected namespaces are read."""
    await namespace.fail(deployment())
    created = await namespace.cluster_source()
    answer = await namespace.post(created, waits=False)
    assert (200, "begins to look at 1 namespaces") == (answer.status, answer.text)

    async def moved() -> bool:
        return await image(namespace) == NEW

    await until(moved)


async def test_an_empty_selector_takes_every_namespace(spare_cluster: SpareCluster) -> None:
    """An empty selector also selects kube-system, so that pod networking recovers."""
    async with spare_cluster.namespace() as namespace, spare_cluster.namespace() as another:
        for other in (namespace, another):
            await other.fail(deployment())
        audit_log = AuditLog(spare_cluster.plane.audit, USER)
        mark = audit_log.mark()
        assert 200 == (await namespace.post(await namespace.cluster_source(namespaceSelector={}))).status
        assert [NEW, NEW] == [await image(other) for other in (namespace, another)]
        looked_at = {entry["objectRef"].get("namespace") for entry in audit_log.entries(mark)}
        assert {"kube-system", "default", NAMESPACE} <= looked_at


async def test_a_label_that_comes_later_is_honoured(namespace: NamespaceFixture) -> None:
    """A label that is added or removed counts from the next sweep; the function gets no events about namespaces."""
    await namespace.post(await namespace.cluster_source(namespaceSelector=labelled(namespace)))
    _, event = await namespace.fail(deployment())
    assert NO_SOURCE == (await namespace.post(event)).text
    await namespace.label(estate=namespace.name)
    assert 200 == (await namespace.sweep()).status
    assert NEW == await image(namespace)
    assert 1 == (await namespace.cluster_status())["activeCount"]
    await namespace.label(estate=None)
    await namespace.apply(deployment(name="late"))
    await namespace.failing()
    namespace.mark()
    await namespace.sweep()
    assert [] == namespace.calls()
    # A namespace that is no longer selected is no longer listed.
    assert 0 == (await namespace.cluster_status())["activeCount"]


# Which source decides.


@pytest.mark.parametrize(
    ("mode", "expected", "answered"),
    [
        ("Enforce", MOVED_BY_OWN, f"moved web of Deployment/web to {MOVED_BY_OWN}"),
        ("Observe", OLD, f"would move web of Deployment/web to {MOVED_BY_OWN}"),
        ("Paused", OLD, f"left web with {OLD}: Paused: AlternateImageSource/own is paused"),
    ],
)
async def test_a_namespace_s_own_source_wins(
    namespace: NamespaceFixture, mode: str, expected: str, answered: str
) -> None:
    """For the images that it lists, a namespace's own source decides, even if it decides to do nothing."""
    await namespace.source(*OWN, name="own", mode=mode)
    await namespace.post(await namespace.cluster_source())
    _, event = await namespace.fail(deployment())
    answer = await namespace.post(event)
    assert (200, answered) == (answer.status, answer.text)
    await namespace.sweep()
    assert expected == await image(namespace)
    assert "switches" not in await namespace.cluster_status()


async def test_what_no_source_of_the_namespace_lists_is_the_cluster_s_to_move(namespace: NamespaceFixture) -> None:
    """A namespace may have both sources, even with one name, for different images. Each records its own failovers."""
    await namespace.source(f"{DEAD}/bank/*", f"{ALIVE}/own/*", name=namespace.name)
    await namespace.post(await namespace.cluster_source())
    _, event = await namespace.fail(deployment())
    assert f"moved web of Deployment/web to {NEW}" == (await namespace.post(event)).text
    assert [NEW] == [switch["newImage"] for switch in (await namespace.cluster_status())["switches"]]
    await namespace.sweep()  # the first one also writes which registries have answered
    own = await namespace.status(namespace.name)
    assert "switches" not in own
    before = await namespace.cluster_status()
    await namespace.sweep()
    assert (own, before) == (await namespace.status(namespace.name), await namespace.cluster_status())


@pytest.mark.parametrize("what", ["namespace", "workload", "pod"])
async def test_who_opted_out_is_left_alone(namespace: NamespaceFixture, what: str) -> None:
    """The opt-out annotation counts for a cluster-wide source as for any other."""
    await namespace.post(await namespace.cluster_source())
    failing, event = await namespace.fail(deployment())
    if what == "namespace":
        annotations = {"metadata": {"annotations": {IGNORE: "true"}}}
        await namespace.api.patch(f"/api/v1/namespaces/{namespace.name}", annotations)
    else:
        await namespace.annotate(failing if what == "pod" else await namespace.read(deployment()), IGNORE, "true")
    answer = await namespace.post(event)
    assert (200, True) == (answer.status, answer.text.startswith(f"left web with {OLD}: OptedOut: "))
    assert [] == namespace.patches()
    assert [("OptedOut", answer.text)] == await namespace.saffire_events(failing)


async def test_it_can_observe_and_rest(namespace: NamespaceFixture) -> None:
    """The modes mean the same as those of a namespace's own source."""
    await namespace.post(await namespace.cluster_source(mode="Paused"))
    _, event = await namespace.fail(deployment())
    paused = f"left web with {OLD}: Paused: ClusterAlternateImageSource/{namespace.name} is paused"
    assert paused == (await namespace.post(event)).text
    await namespace.post(await namespace.cluster_source(mode="Observe"), "update")
    assert f"would move web of Deployment/web to {NEW}" == (await namespace.post(event)).text
    assert [True] == [switch["observed"] for switch in (await namespace.cluster_status())["switches"]]
    answer = await namespace.post(await namespace.cluster_source(mode="Enforce"), "update")
    assert (200, "swept 1 of 1 namespaces: 1 moved") == (answer.status, answer.text)


async def test_a_source_that_is_gone_moves_nobody(namespace: NamespaceFixture) -> None:
    """After its deletion nothing moves, and a late event about the source is no fault."""
    created = await namespace.cluster_source()
    await namespace.post(created)
    await namespace.api.delete(f"{CLUSTER_WIDE}/{namespace.name}")
    _, event = await namespace.fail(deployment())
    answer = await namespace.post(created)
    assert (200, "NoSource: the source is gone") == (answer.status, answer.text)
    assert NO_SOURCE == (await namespace.post(event)).text
    await namespace.cluster_source()  # for the fixture to delete


# Its status.


async def test_many_namespaces_and_two_instances_share_one_status(
    namespace: NamespaceFixture, kubeconfig: Path, environ: dict[str, str]
) -> None:
    """Each failover is recorded once, by the instance that made it. Once all are recorded, sweeps write nothing."""
    async with AsyncExitStack() as stack:
        namespaces = [await stack.enter_async_context(namespace.another()) for _ in range(6)]
        second = await stack.enter_async_context(FunctionProcess(kubeconfig, **environ))
        await asyncio.gather(*(other.label(estate=namespace.name) for other in namespaces))
        await asyncio.gather(*(other.apply(deployment(name=name)) for other in namespaces for name in ("web", "api")))
        events = [await other.event(failing) for other in namespaces for failing in await other.failing(2)]
        created = await namespace.cluster_source(namespaceSelector=labelled(namespace))
        looks = [namespace.post(created, url=url) for url in (namespace.url, second.url)]
        posts = [namespace.post(event, url=url) for event in events for url in (namespace.url, second.url)]
        answers = await asyncio.gather(*posts[::2], *looks, *posts[1::2])
        assert {200} == {answer.status for answer in answers}
        await asyncio.gather(namespace.sweep(), namespace.sweep(url=second.url))
        status = await namespace.cluster_status()
        whose = sorted((switch["target"]["namespace"], switch["target"]["name"]) for switch in status["switches"])
        assert sorted((other.name, name) for other in namespaces for name in ("web", "api")) == whose
        assert 12 == status["activeCount"]
        # The first sweeps also write which registries have answered, and each instance knows others.
        await asyncio.gather(namespace.sweep(), namespace.sweep(url=second.url))
        status = await namespace.cluster_status()
        for other in namespaces:
            other.mark()
        await asyncio.gather(namespace.sweep(), namespace.sweep(url=second.url))
        assert status == await namespace.cluster_status()
        assert [] == [call for other in namespaces for call in other.writes()]


async def test_who_is_put_back_is_active_no_longer(namespaces: list[NamespaceFixture]) -> None:
    """The sweep of one namespace does not change the entries of the others."""
    first, second, _ = namespaces
    for other in (first, second):
        await other.fail(deployment())
    await first.post(await first.cluster_source(namespaceSelector=labelled(first)))
    assert 2 == (await first.cluster_status())["activeCount"]
    await second.api.delete(await second.api.path(await second.read(deployment())))
    await second.until_gone(deployment())

    async def forgotten() -> bool:
        await first.sweep()
        return [first.name] == [
            entry["target"]["namespace"] for entry in (await first.cluster_status()).get("active", ())
        ]

    await until(forgotten)


FAULTS: dict[str, tuple[Any, str]] = {
    "no-spec": (None, "spec.imageSourceReplacements: wants 1 to 64 entries; spec.namespaceSelector: must be given"),
    "no-selector": ({}, "spec.namespaceSelector: must be given; {} takes every namespace"),
    "null-selector": ({"namespaceSelector": None}, "spec.namespaceSelector: must be given"),
    "selector-is-text": ({"namespaceSelector": "team=shop"}, "spec.namespaceSelector: not an object"),
    "labels-are-a-list": (
        {"namespaceSelector": {"matchLabels": ["team"]}},
        "spec.namespaceSelector.matchLabels: not an object",
    ),
    "a-value-is-null": (
        {"namespaceSelector": {"matchLabels": {"team": 7}}},
        "spec.namespaceSelector.matchLabels.team: a value that no label can have",
    ),
    "a-key-is-a-path": (
        {"namespaceSelector": {"matchLabels": {"../team": "a"}}},
        "spec.namespaceSelector.matchLabels: a key that no label can have",
    ),
    "unknown-operator": (
        {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Gt", "values": ["1"]}]}},
        "spec.namespaceSelector.matchExpressions[0].operator: wants one of In, NotIn, Exists, DoesNotExist",
    ),
    "in-without-values": (
        {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In"}]}},
        "spec.namespaceSelector.matchExpressions[0].values: In wants 1 to 256",
    ),
    "a-thousand-requirements": (
        {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}] * 1000}},
        "spec.namespaceSelector: wants at most 64 requirements",
    ),
    "one-entry": (
        {"namespaceSelector": {}, "imageSourceReplacements": [{"equivalentRepositories": [f"{DEAD}/acme/web"]}]},
        "equivalentRepositories: wants 2 to 32 entries",
    ),
}


async def test_a_bad_source_says_so_and_stops_no_other(spare_cluster: SpareCluster) -> None:
    """A source that an older schema accepted selects no namespace and says why in its status; other sources work."""
    async with spare_cluster.namespace() as namespace:
        sets = [{"equivalentRepositories": [f"{DEAD}/acme/*", f"{ALIVE}/bad/*"]}]
        for name, (spec, _) in FAULTS.items():
            wanted = {} if spec is None else {"spec": {"imageSourceReplacements": sets, **spec}}
            bad = {"apiVersion": GROUP, "kind": "ClusterAlternateImageSource", "metadata": {"name": name}, **wanted}
            await namespace.api.apply(bad)
        await namespace.cluster_source()
        await namespace.post(await namespace.source(f"{DEAD}/bank/*", f"{ALIVE}/bank/*"))
        _, event = await namespace.fail(deployment())
        assert 200 == (await namespace.sweep()).status
        assert NEW == await image(namespace)
        for name, (_, fault) in FAULTS.items():
            status = await namespace.cluster_status(name)
            assert "False" == condition(status, "Ready")[0]
            assert fault in condition(status, "Accepted")[1]
            await namespace.api.delete(f"{CLUSTER_WIDE}/{name}")
        assert ("True", "") == condition(await namespace.cluster_status(), "Accepted")
        assert (await namespace.post(event)).status == 200


async def test_a_status_that_somebody_else_broke_is_written_anew(spare_cluster: SpareCluster) -> None:
    """A status with values of any type is replaced."""
    async with spare_cluster.namespace() as namespace:
        await namespace.cluster_source()
        entry = {"target": {"uid": "u", "container": "c", "namespace": [], "type": 7}, "to": "x"}
        broken = {"conditions": "none", "switches": {"a": 1}, "active": [1, entry], "lastFailoverTime": 7}
        await namespace.api.patch(f"{CLUSTER_WIDE}/{namespace.name}/status", {"status": broken})
        await namespace.fail(deployment())
        await namespace.sweep()
        status = await namespace.cluster_status()
        assert ([NEW], 1) == ([switch["newImage"] for switch in status["switches"]], status["activeCount"])


# Without the kind, or without permission to read it.


async def test_without_the_kind_everything_else_works(spare_cluster: SpareCluster) -> None:
    """Without the cluster-wide CRD, everything else works, and its kind is not requested at every Event."""
    definition = manifest("cluster-crd")
    await spare_cluster.plane.admin.delete(f"{DEFINITIONS}/{definition['metadata']['name']}")
    plural = definition["spec"]["names"]["plural"]
    try:

        async def is_gone() -> bool:
            return not await may_list(spare_cluster.plane.admin, plural)

        await until(is_gone)
        async with (
            spare_cluster.namespace() as namespace,
            FunctionProcess(spare_cluster.kubeconfig, **spare_cluster.environ) as fresh,
        ):
            await namespace.source()
            await asyncio.gather(*(namespace.apply(pod(name=f"web-{number}")) for number in range(3)))
            events = [await namespace.event(failing) for failing in await namespace.failing(3)]
            audit_log = AuditLog(spare_cluster.plane.audit, USER)
            mark = audit_log.mark()
            answers = [await namespace.post(event, url=fresh.url) for event in events]
            assert {200} == {answer.status for answer in answers}
            assert [NEW] * 3 == [images(pod["spec"])["web"] for pod in await namespace.pods()]
            assert 1 == len([call for call in audit_log.calls(mark) if call.resource == plural])
            assert 200 == (await namespace.sweep(url=fresh.url)).status
            assert {"INFO"} == {line["severity"] for line in fresh.log()}
    finally:
        await spare_cluster.plane.admin.apply(permissive(definition))
        await until(lambda: may_list(spare_cluster.plane.admin, plural))


async def test_a_role_of_before_does_without(
    cluster: ControlPlane, namespace: NamespaceFixture, environ: dict[str, str]
) -> None:
    """If the role does not allow to list cluster-wide sources, the log says so once, and other sources work."""
    rules = [
        {
            **rule,
            "resources": [resource for resource in rule["resources"] if not resource.startswith("clusteralternate")],
        }
        for rule in manifest("function-clusterrole")["rules"]
    ]
    _, kubeconfig = await make_user(cluster, f"{NAMESPACE}-before", rules)
    async with FunctionProcess(kubeconfig, **environ) as before:
        await namespace.source()
        _, event = await namespace.fail(deployment())
        answer = await namespace.post(event, url=before.url)
        assert (200, f"moved web of Deployment/web to {NEW}") == (answer.status, answer.text)
        assert 200 == (await namespace.sweep(url=before.url)).status
        said = [line["message"] for line in before.log()]
        assert 1 == said.count("Could not list the cluster-wide sources")


FAULT = Fault(Harm.UNAVAILABLE, "LIST clusteralternateimagesources everywhere")


async def test_a_fault_of_its_list_stops_no_namespace_with_a_source_of_its_own(
    cluster: ControlPlane, namespace: NamespaceFixture, kubeconfig: Path, tmp_path: Path, environ: dict[str, str]
) -> None:
    """Such a namespace does without cluster-wide sources once, after an Event of a pod as after one of its source."""
    _, event = await namespace.fail(deployment())
    source = await namespace.source()
    for delivered, answered in (
        (event, f"moved web of Deployment/web to {NEW}"),
        (source, f"looked at {namespace.name}: "),
    ):
        async with CaseRunner(cluster, kubeconfig, tmp_path, **environ) as runner:
            runner.proxy.arm(FAULT)
            answer = await namespace.post(delivered, url=runner.function.url)
            assert runner.proxy.has_harmed
        assert (200, answered) == (answer.status, answer.text[: len(answered)])


async def test_a_fault_of_its_list_has_the_event_delivered_again(
    cluster: ControlPlane, namespace: NamespaceFixture, kubeconfig: Path, tmp_path: Path, environ: dict[str, str]
) -> None:
    """In a namespace without a source of its own, the answer is 503, so that the Event is delivered again."""
    await namespace.cluster_source()
    _, event = await namespace.fail(deployment())
    async with CaseRunner(cluster, kubeconfig, tmp_path, **environ) as runner:
        runner.proxy.arm(FAULT)
        answers = [await namespace.post(event, url=runner.function.url) for _ in range(2)]
    expected = [(503, "the API server answered 503"), (200, f"moved web of Deployment/web to {NEW}")]
    assert expected == [(answer.status, answer.text) for answer in answers]
