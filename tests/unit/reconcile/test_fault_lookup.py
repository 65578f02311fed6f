"""What a repair knows of a fault: which nodes say the same, how often a pod has failed, which registries are dead."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from kubernetes.aio.client import Configuration

from playground.node.network import reserve_port
from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.manifest import Manifest, uid_of
from saffire.kube.resources import Cluster
from saffire.policy.reach import Fault, FaultEvidence, diagnose
from saffire.pulls.cause import Cause, Remedy
from saffire.pulls.failure import ANTICIPATED, STALLED, FailingPod, PullFailure, Section
from saffire.pulls.kubelet_event import PullReport
from saffire.pulls.wording import classify
from saffire.reconcile.candidate_lookup import Lookup, LookupCache
from saffire.reconcile.fault_lookup import FaultLookup, tries_since
from saffire.registry.availability import Available, NotFound
from saffire.registry.check import ImageChecker
from saffire.registry.reference import domain_of
from testkit import RECORDINGS
from testkit import scripted_registry as shapes
from testkit.builders import FAILING, NOW, Object, event, pod, report, running, waiting
from testkit.check_registry import WEB, running_registry, transport
from testkit.scripted_api import Answers, scripted_api, status
from testkit.scripted_registry import Registry

REFUSED = PullFailure(
    section=Section.CONTAINERS, container="web", image=FAILING, reason="ErrImagePull", cause=Cause.REFUSED
)
OTHER = f"{domain_of(FAILING)}/acme/misspelled:1"
ANSWERED = FaultEvidence(answer=Available(digest="sha256:1"))


@asynccontextmanager
async def fault_lookup(*insecure: str, **answered_at: datetime) -> AsyncIterator[FaultLookup]:
    """Yield a lookup whose API server gives no response, and which may ask the `insecure` registries on loopback."""
    with reserve_port() as unused:
        configuration = Configuration(host=f"http://127.0.0.1:{unused.getsockname()[1]}")
        server = ApiServer(configuration, timeout_seconds=5)
        async with lookup_at(server, *insecure, **answered_at) as faults:
            yield faults
        await server.close()


@asynccontextmanager
async def lookup_at(server: ApiServer, *insecure: str, **answered_at: datetime) -> AsyncIterator[FaultLookup]:
    """Yield a lookup that reads from this API server, and may ask the `insecure` registries on loopback."""
    async with ImageChecker(transport(*insecure)) as registries:
        cache = LookupCache(Cluster(server, Kinds()), registries, budget_seconds=1.5)
        yield FaultLookup(lookup=Lookup(cache=cache, namespace="shop"), answered_at=answered_at, now=NOW)


def on_node(node: str, failure: PullFailure, *secrets: str) -> FailingPod:
    """Return a pod of a node that fails so, with these pull secrets."""
    made = pod(waiting(), web=failure.image)
    spec = {**made["spec"], "nodeName": node, "imagePullSecrets": [{"name": secret} for secret in secrets]}
    return FailingPod(pod={**made, "spec": spec}, failures=(failure,))


async def nodes_that_say_the_same(of: FailingPod, *others: FailingPod) -> int:
    """Return how many nodes count for the first pod, if these pods fail."""
    async with fault_lookup() as faults:
        faults.observe([of, *others])
        [failure] = of.failures
        evidence = await faults.full_evidence(of.pod, {failure: ANSWERED}, {})
        return evidence[failure].nodes


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(REFUSED, id="the same"),
        pytest.param(replace(REFUSED, cause=Cause.SERVER_ERROR), id="down in other words"),
        pytest.param(replace(REFUSED, cause=Cause.TIMEOUT, image=OTHER), id="down for another image"),
        pytest.param(replace(REFUSED, cause=Cause.PARTIAL), id="the same image"),
    ],
)
async def test_a_second_node_that_says_the_same_counts(other: PullFailure) -> None:
    """It may say so in other words, or of another image."""
    assert await nodes_that_say_the_same(on_node("node-1", REFUSED), on_node("node-2", other)) == 2


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause.remedy is Remedy.LEAVE])
async def test_a_node_with_a_fault_of_its_own_is_no_witness(cause: Cause) -> None:
    """A full disk says nothing of the registry, though the same image fails there."""
    other = replace(REFUSED, cause=cause)
    assert await nodes_that_say_the_same(on_node("node-1", REFUSED), on_node("node-2", other)) == 1


@pytest.mark.parametrize("reason", [ANTICIPATED, STALLED])
async def test_a_pull_that_has_not_failed_says_nothing_of_its_node(reason: str) -> None:
    """Saffire expects it to fail, and no node has said so."""
    expected = replace(REFUSED, reason=reason)
    assert await nodes_that_say_the_same(on_node("node-1", REFUSED), on_node("node-2", expected)) == 1


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        pytest.param("metadata", {"deletionTimestamp": "2026-11-23T01:00:00Z"}, id="terminating"),
        pytest.param("status", {"phase": "Failed"}, id="evicted"),
        pytest.param("status", {"phase": "Succeeded"}, id="ended"),
    ],
)
async def test_a_pod_that_is_ending_says_nothing_of_its_node(part: str, fields: Object) -> None:
    """Its node may be lost, or the pod is kept: it says for days what was true in an outage that is over."""
    other = on_node("node-2", REFUSED)
    assert await nodes_that_say_the_same(on_node("node-1", REFUSED), other) == 2
    ending = replace(other, pod={**other.pod, part: {**other.pod[part], **fields}})
    assert await nodes_that_say_the_same(on_node("node-1", REFUSED), ending) == 1


@pytest.mark.parametrize(
    ("tainted", "expected"),
    [
        pytest.param([], True, id="there is no other node"),
        pytest.param(["NoSchedule"], True, id="a control plane"),
        pytest.param(["NoExecute", "NoSchedule"], True, id="a control plane, and a lost node"),
        pytest.param(["PreferNoSchedule"], False, id="a node that pods should rather not take"),
        pytest.param(["NoSchedule", ""], False, id="a control plane, and a worker"),
        pytest.param(["NoSchedule"] * 4, False, id="more nodes than are read"),
    ],
)
async def test_a_node_on_which_the_pods_may_not_run_is_no_other_node(
    tmp_path: Path,
    tainted: list[str],
    expected: bool,  # noqa: FBT001 - the row's expectation
) -> None:
    """The only node on which the pods may run is every node, whatever other nodes are tainted for."""
    taints = {f"node-{number}": effect for number, effect in enumerate(["", *tainted], start=1)}
    listed = [{"metadata": {"name": name}} for name in taints]
    answers: dict[str, list[tuple[int, Object]]] = {
        "GET /api/v1/nodes": [(200, {"metadata": {}, "items": listed})],
        "GET /api/v1/namespaces/shop/events": [(200, {"metadata": {}, "items": []})],
        **{
            f"GET /api/v1/nodes/{name}": [(200, {"metadata": {"name": name}, "spec": {"taints": tainted_with(effect)}})]
            for name, effect in taints.items()
        },
    }
    failing = on_node("node-1", REFUSED)
    async with scripted_api(tmp_path, answers) as server, lookup_at(server) as faults:
        evidence = await faults.full_evidence(failing.pod, {REFUSED: ANSWERED}, {})
        assert expected == evidence[REFUSED].is_every_node
        # A pod of the image is on a node that was tainted later.
        faults.lookup.observe(on_node("node-2", REFUSED).pod)
        evidence = await faults.full_evidence(failing.pod, {REFUSED: ANSWERED}, {})
        assert not evidence[REFUSED].is_every_node


def tainted_with(effect: str) -> list[Object]:
    """Return the taints of a node with one of this effect; with `""`, it has none."""
    return [{"key": "example.com/role", "effect": effect}] if effect else []


@pytest.mark.parametrize("cause", [Cause.ABSENT, Cause.DENIED, Cause.PARTIAL, Cause.UNKNOWN, Cause.THROTTLED])
async def test_a_misspelled_image_on_other_nodes_proves_nothing_of_the_registry(cause: Cause) -> None:
    """Whoever may create pods could otherwise have a healthy workload replaced after a fault of one node."""
    rogue = replace(REFUSED, cause=cause, image=OTHER)
    others = (on_node("node-2", rogue), on_node("node-3", rogue))
    assert await nodes_that_say_the_same(on_node("node-1", REFUSED), *others) == 1


async def test_a_pod_without_the_pull_secret_proves_nothing_for_one_that_has_it() -> None:
    """The registry denies it the same image for a reason of its own."""
    denied = replace(REFUSED, cause=Cause.DENIED)
    own = on_node("node-1", denied, "quay-pull")
    assert await nodes_that_say_the_same(own, on_node("node-2", denied)) == 1
    assert await nodes_that_say_the_same(own, on_node("node-2", denied, "quay-pull")) == 2


async def test_few_of_the_registries_that_a_node_does_not_reach_are_asked() -> None:
    """Whoever may create pods chooses their names."""
    async with AsyncExitStack() as stack:
        domains = [(await stack.enter_async_context(running_registry(tls=False))).domain for _ in range(4)]
        faults = await stack.enter_async_context(fault_lookup(*domains))
        failing = [on_node("node-1", replace(REFUSED, image=f"{domain}/acme/web:v1")) for domain in domains]
        faults.observe([*failing, on_node("node-1", REFUSED)])
        evidence = await faults.full_evidence(failing[0].pod, {REFUSED: ANSWERED}, {})
    assert len(evidence[REFUSED].other_registries) == 2


async def test_a_node_is_read_once_for_all_pods_of_a_repair(tmp_path: Path) -> None:
    """A hundred workloads fail on one node, and each waits for as many tries as the first."""
    young = {"metadata": {"name": "node-1", "creationTimestamp": written(NOW)}}
    answers: Answers = {
        "GET /api/v1/nodes": [(200, {"metadata": {}, "items": []})],
        "GET /api/v1/namespaces/shop/events": [(200, {"metadata": {}, "items": []})],
        "GET /api/v1/nodes/node-1": [(200, young), status(500)],
    }
    failing = [on_node("node-1", REFUSED), on_node("node-1", replace(REFUSED, image=OTHER))]
    async with scripted_api(tmp_path, answers) as server, lookup_at(server) as faults:
        faults.observe(failing)
        evidence = [await faults.full_evidence(of.pod, {of.failures[0]: ANSWERED}, {}) for of in failing]
    assert [3, 3] == [of_pod.tries_to_wait_for for by_failure in evidence for of_pod in by_failure.values()]


# A registry that does not answer in time


@asynccontextmanager
async def late_registry(shape: shapes.Shape) -> AsyncIterator[tuple[FaultLookup, Registry]]:
    """Yield a registry that has answered before and has this shape now, and a lookup; another registry answers."""
    async with running_registry(tls=False) as registry, running_registry(tls=False) as alive:
        domains = registry.domain, alive.domain
        async with fault_lookup(*domains, **{registry.domain: NOW}) as faults:
            await faults.lookup.check_original(f"{alive.domain}/acme/web:v1", ())
            faults.lookup.cache.budget_seconds = 0.5
            registry.shape = shape
            yield faults, registry


async def faults_of(faults: FaultLookup, *failures: PullFailure) -> list[tuple[Fault, Fault]]:
    """Return what the first answer proves of each failure of a pod on one node, and what the full evidence proves."""
    proven = []
    for failing in failures:
        first = faults.first_evidence(await faults.answers(on_node("node-1", failing).pod, [failing]))
        full = await faults.full_evidence(on_node("node-1", failing).pod, first, {})
        proven.append((diagnose(failing, first[failing]), diagnose(failing, full[failing])))
    return proven


@pytest.mark.parametrize("shape", [shapes.slow_at_first(), shapes.after(0.8)], ids=["it was", "it always is"])
async def test_one_late_answer_is_no_outage(shape: shapes.Shape) -> None:
    """The registry is slow, and answers the second question; a node that gets no connection may be to blame."""
    async with late_registry(shape) as (faults, registry):
        refused = replace(REFUSED, image=f"{registry.domain}/acme/web:v1")
        assert [(Fault.UNPROVEN, Fault.NODE)] == await faults_of(faults, refused)


async def test_a_registry_that_answers_neither_question_is_down() -> None:
    """Two questions are enough for all of its images."""
    async with late_registry(shapes.hang) as (faults, registry):
        refused = [replace(REFUSED, image=f"{registry.domain}/acme/{name}:v1") for name in ("web", "single")]
        assert [(Fault.UNPROVEN, Fault.OUTAGE), (Fault.OUTAGE, Fault.OUTAGE)] == await faults_of(faults, *refused)
        assert ["HEAD /v2/acme/web/manifests/v1"] * 2 == registry.requests


@pytest.mark.parametrize("again", [shapes.hang, None], ids=["silent", "slow"])
async def test_a_late_registry_is_asked_once_more_for_all_workloads_of_a_repair(again: shapes.Shape | None) -> None:
    """A hundred images of it fail at once."""
    async with late_registry(shapes.hang) as (faults, registry):
        refused = [replace(REFUSED, image=f"{registry.domain}/acme/{name}:v1") for name in ("web", "single", "no")]
        pods = [on_node("node-1", failing).pod for failing in refused]
        answers = [await faults.answers(of, [failing]) for of, failing in zip(pods, refused, strict=True)]
        registry.shape = again
        first = map(faults.first_evidence, answers)
        await asyncio.gather(*(faults.full_evidence(of, seen, {}) for of, seen in zip(pods, first, strict=True)))
        assert ["HEAD /v2/acme/web/manifests/v1"] * 2 == registry.requests


async def test_a_node_that_has_waited_too_needs_no_second_question() -> None:
    """In a black hole, the node gives up after half a minute, and Saffire's one question agrees."""
    async with late_registry(shapes.hang) as (faults, registry):
        timed_out = replace(REFUSED, image=f"{registry.domain}/acme/web:v1", cause=Cause.TIMEOUT)
        assert [(Fault.OUTAGE, Fault.OUTAGE)] == await faults_of(faults, timed_out)
        assert ["HEAD /v2/acme/web/manifests/v1"] == registry.requests


async def test_a_registry_that_never_answered_is_not_asked_twice() -> None:
    """If only nodes can reach it, a second question proves no more than the first."""
    async with running_registry(tls=False) as registry, fault_lookup(registry.domain) as faults:
        registry.shape = shapes.hang
        assert [(Fault.UNPROVEN, Fault.UNPROVEN)] == await faults_of(
            faults, replace(REFUSED, image=f"{registry.domain}/acme/web:v1")
        )
        assert ["HEAD /v2/acme/web/manifests/v1"] == registry.requests


# What only Events tell


def reported(uid: str, image: str = FAILING, count: int = 1) -> Object:
    """Return the Event that reports so many failed pulls of a pod."""
    made = event(f'Failed to pull image "{image}": connection refused')
    return {**made, "count": count, "involvedObject": {**made["involvedObject"], "uid": uid}}


def lagging(uid: str, image: str = FAILING) -> Object:
    """Return a pod whose status does not show yet whether its pull failed."""
    made = pod(waiting(reason="ContainerCreating", image=image), web=image)
    return {**made, "metadata": {**made["metadata"], "uid": uid}}


async def test_one_list_of_events_tells_of_lagging_pods_and_of_failed_tries(tmp_path: Path) -> None:
    """A list waits up to 0.1 s, and what nobody has proven is decided after a pod whose status lags was found."""
    events = [reported("pod-uid", count=3), reported("lags"), reported("lags", OTHER), reported("stranger")]
    answers: Answers = {
        "GET /api/v1/namespaces/shop/events": [(200, {"metadata": {}, "items": events}), status(500)],
        "GET /api/v1/nodes": [(200, {"metadata": {}, "items": []})],
        "GET /api/v1/nodes/node-1": [status(404)],
    }
    failing = on_node("node-1", REFUSED)
    unclear: dict[str, Manifest] = {"lags": lagging("lags", OTHER), "starts": lagging("starts")}
    async with scripted_api(tmp_path, answers) as server, lookup_at(server) as faults:
        [late] = await faults.failures_only_in_events([failing], unclear, [REFUSED])
        assert ("lags", [OTHER]) == (uid_of(late.pod), [failure.image for failure in late.failures])
        assert {"starts"} == unclear.keys()
        faults.observe([failing, late])
        evidence = await faults.full_evidence(failing.pod, {REFUSED: ANSWERED}, {})
    assert evidence[REFUSED].tries == 3


@pytest.mark.parametrize(("known", "expected"), [([REFUSED], 0), (None, 1)], ids=["another registry", "many failed"])
async def test_events_are_listed_if_a_pod_waits_for_a_registry_that_fails(
    tmp_path: Path, known: list[PullFailure] | None, expected: int
) -> None:
    """A rollout starts pods whose status lags, too. If more pods failed than a work item names, any may have failed."""
    image = "elsewhere.example/web:1"
    answers = {"GET /api/v1/namespaces/shop/events": [(200, {"metadata": {}, "items": [reported("starts", image)]})]}
    async with scripted_api(tmp_path, answers) as server, lookup_at(server) as faults:
        assert expected == len(await faults.failures_only_in_events([], {"starts": lagging("starts", image)}, known))


# Pulls that fail at a part of the image

STORAGE = "127.0.0.1:1"
"""Another host, which refuses connections."""
AT_STORAGE = shapes.on("/blobs/", shapes.redirect(f"http://{STORAGE}"))


def failed(how: str, image: str) -> PullFailure:
    """Return the failure of an image whose registry was made to fail so, with the words of containerd 2.3."""
    lines = (RECORDINGS / "pull-errors-containerd-2.3.txt").read_text().splitlines()
    error = next(line.split(": ", 2)[2] for line in lines if line.startswith(f"{how}: "))
    return replace(REFUSED, image=image, error=error, cause=classify("ErrImagePull", error))


@pytest.mark.parametrize(
    ("how", "shape", "expected"),
    [
        pytest.param("get500", shapes.on("/manifests/sha256:", shapes.status(500)), Fault.OUTAGE, id="manifest-500"),
        pytest.param("get500", shapes.on("/blobs/", shapes.status(503)), Fault.OUTAGE, id="layer-503"),
        pytest.param("get500", None, Fault.NODE, id="layer-503-for-the-node-alone"),
        pytest.param("config404", shapes.on("/blobs/", shapes.status(404)), Fault.OUTAGE, id="layer-404"),
        pytest.param("redirectdead", AT_STORAGE, Fault.UNPROVEN, id="storage-refuses"),
        pytest.param("redirectdead", None, Fault.NODE, id="storage-refuses-the-node-alone"),
        pytest.param("hang-get", shapes.on("/blobs/", shapes.hang), Fault.UNPROVEN, id="layer-hangs"),
        pytest.param("biglayerhang", shapes.on("/blobs/", shapes.hang), Fault.UNPROVEN, id="layer-stalls"),
        pytest.param("refused", shapes.on("/blobs/", shapes.status(503)), Fault.NODE, id="tag-refused"),
        pytest.param("layer429", shapes.on("/blobs/", shapes.status(503)), Fault.UNPROVEN, id="layer-throttled"),
    ],
)
async def test_the_registry_is_asked_for_what_the_node_did_not_get(
    how: str, shape: shapes.Shape | None, expected: Fault
) -> None:
    """It may answer for the tag while its storage fails, as in the outages of Quay and Docker Hub."""
    async with running_registry(tls=False) as registry, fault_lookup(registry.domain, STORAGE) as faults:
        failure = failed(how, f"{registry.domain}/acme/web:v1")
        failing = on_node("node-1", failure)
        await faults.lookup.check_original(failure.image, ())
        registry.shape = shape
        evidence = faults.first_evidence(await faults.answers(failing.pod, [failure]))
        assert expected is diagnose(failure, evidence[failure])


async def test_a_failing_part_does_not_make_its_registry_silent() -> None:
    """Other images of the registry, which its storage may have, are asked about as before."""
    async with running_registry(tls=False) as registry, fault_lookup(registry.domain) as faults:
        failure = failed("get500", f"{registry.domain}/acme/web:v1")
        registry.shape = shapes.on("/blobs/", shapes.status(503))
        await faults.answers(pod(), [failure])
        other = await faults.lookup.check_original(f"{registry.domain}/acme/single:v1", ())
        assert isinstance(other, Available)


async def test_registries_that_share_a_dead_storage_are_no_fault_of_a_node() -> None:
    """Both answer Saffire for the tag, and neither gives the layers to anybody."""
    async with running_registry(tls=False) as first, running_registry(tls=False) as second:
        domains = first.domain, second.domain
        async with fault_lookup(*domains, STORAGE) as faults:
            own, other = (on_node("node-1", failed("redirectdead", f"{domain}/acme/web:v1")) for domain in domains)
            faults.observe([own, other])
            [failure] = own.failures
            evidence = await faults.full_evidence(own.pod, {failure: ANSWERED}, {})
            assert frozenset({second.domain}) == evidence[failure].other_registries
        async with fault_lookup(*domains, STORAGE) as faults:
            first.shape = second.shape = AT_STORAGE
            faults.observe([own, other])
            evidence = await faults.full_evidence(own.pod, {failure: ANSWERED}, {})
            assert frozenset() == evidence[failure].other_registries


async def test_a_silent_registry_is_dead_only_while_another_answers() -> None:
    """Otherwise the silence may be of Saffire's own network."""
    with reserve_port() as unused:
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
        image = f"{dead}/acme/web:v1"
        async with running_registry(tls=False) as alive, fault_lookup(dead, alive.domain, **{dead: NOW}) as faults:
            assert await faults.from_dead_registries([image]) == frozenset()
            answers = {image: await faults.lookup.check_original(image, ())}
            assert faults.known_down(answers) == frozenset()
            await faults.lookup.check_original(f"{alive.domain}/acme/web:v1", ())
            assert await faults.from_dead_registries([image]) == {image}
            assert faults.known_down(answers) == {image}


@pytest.mark.parametrize(("other", "expected"), [("acme/api:v1", True), ("public/tool:v1", False)])
async def test_only_an_image_of_the_same_account_shows_that_an_image_was_taken_down(other: str, expected: bool) -> None:  # noqa: FBT001
    """If the password of the account has expired, the registry still has the public images of others."""
    async with running_registry(tls=False) as registry, fault_lookup(registry.domain) as faults:
        registry.push(other, WEB)
        denied = replace(REFUSED, cause=Cause.ABSENT, image=f"{registry.domain}/acme/gone:v1")
        failing = on_node("node-1", denied)
        faults.lookup.observe(failing.pod)
        faults.lookup.observe(pod(running(), web=f"{registry.domain}/{other}"))
        evidence = await faults.full_evidence(failing.pod, {denied: FaultEvidence(answer=NotFound())}, {})
    assert expected == evidence[denied].other_image_is_there


# How often a pod has failed


def seconds(number: float) -> datetime:
    """Return a time, in seconds after `NOW`."""
    return NOW + timedelta(seconds=number)


def written(time: datetime) -> str:
    """Return a time as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def ran_until(time: datetime) -> Object:
    """Return a pod whose container ran until then, and whose pull fails now."""
    ended = {"lastState": {"terminated": {"finishedAt": written(time)}}}
    made = pod({**running(), **waiting(), **ended})
    return {**made, "status": {**made["status"], "startTime": written(seconds(-3600))}}


def pulls(tries: int, first: float, last: float) -> PullReport:
    """Return what an Event reports of so many failed pulls, with the seconds of the first and the last."""
    return replace(report(), tries=tries, first=seconds(first), last=seconds(last))


def test_each_failed_pull_counts_since_the_first() -> None:
    """A kubelet writes an Event for each error text, and counts what happens again."""
    failed = [pulls(1, 0, 0), pulls(3, 10, 40)]
    assert tries_since(pod(waiting()), REFUSED, failed) == (4, seconds(0))


def test_failed_pulls_from_before_the_container_ran_do_not_count() -> None:
    """A container that ends, and is pulled anew, has failed once: its kubelet's next try comes first."""
    failing = ran_until(seconds(600))
    assert tries_since(failing, REFUSED, [pulls(3, 0, 30), pulls(1, 605, 605)]) == (1, seconds(605))
    assert tries_since(failing, REFUSED, [pulls(4, 0, 605)]) == (1, seconds(605))
    assert tries_since(failing, REFUSED, [pulls(2, 605, 615)]) == (2, seconds(605))


def test_without_events_the_pull_has_failed_at_the_latest_possible_time() -> None:
    """A container that ended is pulled within five minutes, and a pull fails within half a minute."""
    started = pod(waiting())
    started["status"]["startTime"] = written(seconds(0))
    assert tries_since(started, REFUSED, ()) == (1, seconds(30))
    assert tries_since(ran_until(seconds(0)), REFUSED, ()) == (1, seconds(330))
    assert tries_since(pod(waiting()), REFUSED, ()) == (1, None)
