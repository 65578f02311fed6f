"""What an AlternateImageSource can say, and its effect: modes, strategies, prefixes, order, and faults."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.function_process import FunctionProcess
from testkit.api.clusters import SpareCluster
from testkit.api.namespace_fixture import GROUP, HISTORY, IGNORE, PULL_REASONS, NamespaceFixture, until, waiting
from testkit.api.workloads import ALIVE, DEAD, NEW, OLD, container, deployment, images, pod, pod_spec, pod_spec_of

SOURCE = {"apiVersion": GROUP, "kind": "AlternateImageSource", "metadata": {"name": "shop"}}
DIGEST = f"sha256:{'0123456789abcdef' * 4}"


async def condition(namespace: NamespaceFixture, kind: str, name: str = "shop") -> tuple[str, str]:
    """Return status and reason of a condition of a source."""
    (condition,) = [entry for entry in (await namespace.status(name))["conditions"] if kind == entry["type"]]
    return condition["status"], condition["reason"]


# Modes.


async def test_a_source_that_observes_records_what_it_would_do_once(namespace: NamespaceFixture) -> None:
    """With `mode: Observe` nothing is patched, and everything is recorded once, however often the Event comes."""
    await namespace.source(mode="Observe")
    failing, event = await namespace.fail(deployment())
    answers = [(await namespace.post(event)).text for _ in range(3)]
    assert [f"would move web of Deployment/web to {NEW}"] * 3 == answers
    assert [] == namespace.patches()
    workload = await namespace.read(deployment())
    assert ({"web": OLD}, {"web": OLD}) == (
        images(pod_spec_of(workload)),
        images((await namespace.read(failing))["spec"]),
    )
    status = await namespace.status()
    assert [(OLD, NEW, True)] == [
        (switch["oldImage"], switch["newImage"], switch["observed"]) for switch in status["switches"]
    ]
    assert not {"active", "activeCount", "lastFailoverTime"} & status.keys()
    for manifest_ in (workload, await namespace.read(SOURCE)):
        ((reason, message),) = await namespace.saffire_events(manifest_)
        assert ("FailoverObserved", "would move") == (reason, message[:10])


async def test_a_source_that_stops_observing_acts(namespace: NamespaceFixture) -> None:
    """What was only observed is done once the mode is Enforce, and recorded anew."""
    await namespace.source(mode="Observe")
    _, event = await namespace.fail(deployment())
    await namespace.post(event)
    await namespace.source(mode="Enforce")
    await namespace.post(event)
    assert [("deployments", "web")] == namespace.patches()
    assert [True, False] == [switch["observed"] for switch in (await namespace.status())["switches"]]


async def test_a_paused_source_does_nothing(namespace: NamespaceFixture) -> None:
    """With `mode: Paused` nothing is patched; the source's condition and the pod's Event say that it is paused."""
    await namespace.source(mode="Paused")
    failing, event = await namespace.fail(deployment())
    answer = await namespace.post(event)
    paused = f"left web with {OLD}: Paused: AlternateImageSource/shop is paused"
    assert (200, paused) == (answer.status, answer.text)
    assert [] == namespace.patches()
    assert [("Paused", paused)] == await namespace.saffire_events(failing)
    assert ("False", "Paused") == await condition(namespace, "Ready")
    assert "switches" not in await namespace.status()


async def test_a_source_of_another_namespace_means_nothing_here(namespace: NamespaceFixture) -> None:
    """A source counts for its own namespace alone."""
    async with namespace.another() as elsewhere:
        await elsewhere.source()
        _, event = await namespace.fail(deployment())
        answer = await namespace.post(event)
    assert (200, "NoSource: the namespace has no AlternateImageSource") == (answer.status, answer.text)
    assert [] == namespace.writes()


async def test_a_source_that_was_replaced_by_another_name_counts(namespace: NamespaceFixture) -> None:
    """Saffire reads sources by the names it knows. If one of them is gone, it lists them anew."""
    await namespace.source(f"{DEAD}/acme/*", f"{ALIVE}/first/*")
    _, event = await namespace.fail(pod(name="a"))
    await namespace.post(event)
    await namespace.api.delete(await namespace.api.path(await namespace.read(SOURCE)))
    await namespace.source(f"{DEAD}/acme/*", f"{ALIVE}/second/*", name="other")
    _, event = await namespace.fail(pod(name="b"))
    await namespace.post(event)
    moved = [images((await namespace.read(pod(name=name)))["spec"])["web"] for name in ("a", "b")]
    assert [f"{ALIVE}/first/", f"{ALIVE}/second/"] == [
        image.removesuffix(OLD.removeprefix(f"{DEAD}/acme/")) for image in moved
    ]


async def test_a_third_source_counts(namespace: NamespaceFixture) -> None:
    """More than two sources are listed instead of read by name, and the last of them counts too."""
    for name in ("a", "b"):
        await namespace.source(f"{DEAD}/{name}/*", f"{ALIVE}/{name}/*", name=name)
    await namespace.source(name="c")
    for name in ("first", "second"):
        _, event = await namespace.fail(pod(name=name))
        namespace.mark()
        await namespace.post(event)
        assert [("pods", name)] == namespace.patches()
        assert {"list"} == {call.verb for call in namespace.calls() if call.resource == "alternateimagesources"}


async def test_a_source_of_which_another_instance_was_told_counts_from_the_next_sweep(
    namespace: NamespaceFixture, kubeconfig: Path, environ: dict[str, str]
) -> None:
    """An instance that did not get the event of a new source acts on it from its next sweep on."""
    await namespace.source(name="first")
    async with FunctionProcess(kubeconfig, **environ) as other:
        _, event = await namespace.fail(pod(name="a"))
        await namespace.post(event, url=other.url)
        await namespace.source("registry.k8s.io/acme/*", f"{ALIVE}/acme/*", name="second")
        namespace.dead.add("registry.k8s.io")
        _, event = await namespace.fail(pod(pod_spec(container(image="registry.k8s.io/acme/web:v1")), name="b"))
        namespace.mark()
        answer = await namespace.post(event, url=other.url)
        left = "left web with registry.k8s.io/acme/web:v1: RepositoryNotListed: "
        assert (200, True) == (answer.status, answer.text.startswith(left))
        reads = [(call.verb, call.name) for call in namespace.calls() if call.resource == "alternateimagesources"]
        assert [("get", "first")] == reads
        await namespace.sweep(url=other.url)
    assert {"web": f"{ALIVE}/acme/web:v1"} == images((await namespace.read(pod(name="b")))["spec"])


# Strategies.


async def test_the_strategy_pods_frees_stuck_pods_alone(namespace: NamespaceFixture) -> None:
    """With `strategy: Pods` each stuck pod moves in place at its own Event; the template stays."""
    await namespace.source(strategy="Pods")
    await namespace.apply(deployment(replicas=2))
    failing = await namespace.failing(2)
    for stuck in failing:
        await namespace.post(await namespace.event(stuck))
    assert [("pods", pod["metadata"]["name"]) for pod in failing] == namespace.patches()
    assert {"web": OLD} == images(pod_spec_of(await namespace.read(deployment())))

    async def running() -> bool:
        return all(pod["status"]["phase"] == "Running" for pod in await namespace.pods())

    await until(running)
    assert {pod["metadata"]["uid"] for pod in failing} == {pod["metadata"]["uid"] for pod in await namespace.pods()}


# Repositories.

MATCHES: dict[str, tuple[list[list[str]], str, str]] = {
    "a repository": ([[f"{DEAD}/acme/web", f"{ALIVE}/acme/web"]], OLD, NEW),
    "a prefix": ([[f"{DEAD}/acme/*", f"{ALIVE}/mirror/*"]], f"{DEAD}/acme/a/b:1", f"{ALIVE}/mirror/a/b:1"),
    "a whole registry": ([[f"{DEAD}/*", f"{ALIVE}/mirror/*"]], f"{DEAD}/a/b/c:1", f"{ALIVE}/mirror/a/b/c:1"),
    "the longer prefix": (
        [[f"{DEAD}/*", f"{ALIVE}/all/*"], [f"{DEAD}/acme/*", f"{ALIVE}/acme/*"]],
        f"{DEAD}/acme/web:1",
        f"{ALIVE}/acme/web:1",
    ),
    "a repository before a prefix": (
        [[f"{DEAD}/acme/*", f"{ALIVE}/all/*"], [f"{DEAD}/acme/web", f"{ALIVE}/one/web"]],
        f"{DEAD}/acme/web:1",
        f"{ALIVE}/one/web:1",
    ),
    "a tag with its digest": (
        [[f"{DEAD}/acme/web", f"{ALIVE}/acme/web"]],
        f"{DEAD}/acme/web:1@{DIGEST}",
        f"{ALIVE}/acme/web:1@{DIGEST}",
    ),
    "no tag at all": ([[f"{DEAD}/acme/web", f"{ALIVE}/acme/web"]], f"{DEAD}/acme/web", f"{ALIVE}/acme/web"),
    "the first of several": (
        [[f"{ALIVE}/first/web", f"{DEAD}/acme/web", f"{ALIVE}/second/web"]],
        f"{DEAD}/acme/web:1",
        f"{ALIVE}/first/web:1",
    ),
}


@pytest.mark.parametrize(("sets", "old", "new"), MATCHES.values(), ids=MATCHES)
async def test_the_alternative_is_that_of(
    namespace: NamespaceFixture, sets: list[list[str]], old: str, new: str
) -> None:
    """The most specific entry for the image decides; tag and digest stay unchanged."""
    wanted = [{"equivalentRepositories": repositories} for repositories in sets]
    await namespace.apply({**SOURCE, "spec": {"imageSourceReplacements": wanted}})
    _, event = await namespace.fail(pod(pod_spec(container("web", old))))
    await namespace.post(event)
    assert {"web": new} == images((await namespace.read(pod()))["spec"])


async def test_docker_hubs_short_names_are_understood(namespace: NamespaceFixture) -> None:
    """`nginx` in a pod is `docker.io/library/nginx` in a source."""
    namespace.dead.add("docker.io")
    await namespace.source("docker.io/library/nginx", f"{ALIVE}/acme/nginx")
    _, event = await namespace.fail(pod(pod_spec(container("web", "nginx:1.27"))))
    await namespace.post(event)
    namespace.dead.discard("docker.io")
    assert {"web": f"{ALIVE}/acme/nginx:1.27"} == images((await namespace.read(pod()))["spec"])


async def test_an_image_that_no_source_lists_stays(namespace: NamespaceFixture) -> None:
    """A source for other repositories moves nothing; the pod's Event says that none lists the image."""
    await namespace.source(f"{DEAD}/acme/webshop", f"{ALIVE}/acme/webshop")
    failing, event = await namespace.fail(deployment())
    answer = await namespace.post(event)
    why = f"left web with {OLD}: RepositoryNotListed: no source lists {DEAD}/acme/web"
    assert (200, why) == (answer.status, answer.text)
    assert [] == namespace.patches()
    assert [("RepositoryNotListed", why)] == await namespace.saffire_events(failing)


async def test_every_alternative_is_tried_and_then_it_waits(namespace: NamespaceFixture) -> None:
    """After a failing alternative the next is taken. When all have failed, nothing moves until the cooldown is over."""
    second = f"{namespace.name}.example"
    namespace.dead.add(second)
    await namespace.source(f"{DEAD}/acme/web", f"{second}/acme/web")
    failing, event = await namespace.fail(pod())
    await namespace.post(event)

    async def fails_there() -> Manifest | None:
        live = await namespace.read(failing)
        failures = await namespace.events(failing["metadata"]["uid"], reason="Failed")
        event = next((event for event in failures if f'Failed to pull image "{second}/' in event["message"]), None)
        return event if waiting(live) & PULL_REASONS else None

    event = await until(fails_there)
    namespace.mark()
    answers = [await namespace.post(event) for _ in range(3)]
    assert {200} == {answer.status for answer in answers}
    waits = f"left web with {second}/acme/web:v1: NoCandidateLeft: every alternative failed lately or will not do"
    assert all(answer.text.startswith(waits) for answer in answers)
    assert [] == namespace.patches()
    assert ["Failover", "NoCandidateLeft"] == sorted(reason for reason, _ in await namespace.saffire_events(failing))
    history = json.loads((await namespace.read(failing))["metadata"]["annotations"][HISTORY])
    assert [(OLD, f"{second}/acme/web:v1")] == [(failover["from"], failover["to"]) for failover in history["failovers"]]


# Opting out.


async def opt_out_workload(namespace: NamespaceFixture) -> None:
    """Annotate the Deployment."""
    await namespace.annotate(await namespace.read(deployment()), IGNORE, "true")


async def opt_out_pod(namespace: NamespaceFixture) -> None:
    """Annotate the pod."""
    (failing,) = await namespace.failing()
    await namespace.annotate(failing, IGNORE, "true")


async def opt_out_namespace(namespace: NamespaceFixture) -> None:
    """Annotate the namespace."""
    await namespace.api.patch(f"/api/v1/namespaces/{namespace.name}", {"metadata": {"annotations": {IGNORE: "true"}}})


@pytest.mark.parametrize("opt_out", [opt_out_workload, opt_out_pod, opt_out_namespace])
async def test_who_opted_out_is_left_alone(
    namespace: NamespaceFixture, opt_out: Callable[[NamespaceFixture], Awaitable[None]]
) -> None:
    """The annotation at a workload, a pod or a namespace prevents every patch; the pod's Event names it."""
    await namespace.source()
    failing, event = await namespace.fail(deployment())
    await opt_out(namespace)
    answer = await namespace.post(event)
    assert (200, True) == (answer.status, answer.text.startswith(f"left web with {OLD}: OptedOut: "))
    assert [] == namespace.patches()
    assert [("OptedOut", answer.text)] == await namespace.saffire_events(failing)


async def test_an_opt_out_can_be_taken_back(namespace: NamespaceFixture) -> None:
    """The Deployment's annotation counts, not the copy that its controller leaves on the ReplicaSet."""
    await namespace.source()
    failing, event = await namespace.fail(deployment())
    await opt_out_workload(namespace)
    (owner,) = failing["metadata"]["ownerReferences"]
    replica_set = {**owner, "metadata": {"name": owner["name"]}}

    async def is_copied() -> bool:
        return IGNORE in (await namespace.read(replica_set))["metadata"]["annotations"]

    await until(is_copied)
    assert f"left web with {OLD}: OptedOut: Deployment/web" == (await namespace.post(event)).text
    await namespace.api.patch(
        await namespace.api.path(await namespace.read(deployment())), {"metadata": {"annotations": {IGNORE: None}}}
    )
    assert f"moved web of Deployment/web to {NEW}" == (await namespace.post(event)).text
    assert await is_copied()


# Verification, and faults.


@pytest.mark.parametrize(
    ("verification", "ready", "patches", "reasons"),
    [
        ("Strict", ("Unknown", "Unverified"), [], ["CandidateNotProven"]),
        ("BestEffort", ("Unknown", "Unverified"), [("pods", "web")], ["Failover"]),
        ("Off", ("True", "Ready"), [("pods", "web")], ["Failover"]),
    ],
)
async def test_a_source_says_what_its_verification_is_worth(
    namespace: NamespaceFixture,
    verification: str,
    ready: tuple[str, str],
    patches: list[tuple[str, str]],
    reasons: list[str],
) -> None:
    """If no registry answers, Strict moves nothing and says why at the pod; BestEffort moves unverified."""
    await namespace.source(verification=verification)
    failing, event = await namespace.fail(pod())
    await namespace.post(event)
    assert ("True", "Valid") == await condition(namespace, "Accepted")
    assert ready == await condition(namespace, "Ready")
    assert patches == namespace.patches()
    assert reasons == [reason for reason, _ in await namespace.saffire_events(failing)]


FAULTS: dict[str, tuple[Any, str]] = {
    "no-spec": (None, "spec.imageSourceReplacements: wants 1 to 64 entries"),
    "spec-is-text": ("quay.io", "spec: not an object"),
    "sets-are-text": ({"imageSourceReplacements": "x"}, "spec.imageSourceReplacements: not a list of objects"),
    "sets-are-numbers": ({"imageSourceReplacements": [1]}, "spec.imageSourceReplacements: not a list of objects"),
    "no-set": ({"imageSourceReplacements": []}, "spec.imageSourceReplacements: wants 1 to 64 entries"),
    "entries-are-numbers": (
        {"imageSourceReplacements": [{"equivalentRepositories": [1, 2]}]},
        "equivalentRepositories: not a list of strings",
    ),
    "one-entry": (
        {"imageSourceReplacements": [{"equivalentRepositories": [f"{DEAD}/acme/web"]}]},
        "spec.imageSourceReplacements[0].equivalentRepositories: wants 2 to 32 entries",
    ),
    "no-repository": (
        {"imageSourceReplacements": [{"equivalentRepositories": [f"{DEAD}/acme/web", "not a repository"]}]},
        "spec.imageSourceReplacements[0].equivalentRepositories[1]: ",
    ),
    "a-tag": (
        {"imageSourceReplacements": [{"equivalentRepositories": [f"{DEAD}/acme/web", f"{ALIVE}/acme/web:v2"]}]},
        "a repository has no tag",
    ),
    "named-twice": (
        {"imageSourceReplacements": [{"equivalentRepositories": ["nginx", "docker.io/library/nginx"]}]},
        "names a repository twice",
    ),
    "mixed": (
        {"imageSourceReplacements": [{"equivalentRepositories": [f"{DEAD}/acme/*", f"{ALIVE}/acme/web"]}]},
        "either all entries end in /* or none",
    ),
    "unknown-mode": (
        {
            "mode": "Bold",
            "imageSourceReplacements": [{"equivalentRepositories": [f"{DEAD}/acme/web", "x.example/web"]}],
        },
        "spec.mode: wants one of Enforce, Observe, Paused",
    ),
    "mode-is-a-list": (
        {"mode": [], "imageSourceReplacements": [{"equivalentRepositories": [f"{DEAD}/acme/web", "x.example/web"]}]},
        "spec.mode: not a string",
    ),
}


async def test_a_bad_source_says_so_and_stops_no_other(spare_cluster: SpareCluster) -> None:
    """A source that an older schema accepted says so in its status, and other sources work."""
    async with spare_cluster.namespace() as namespace:
        for name, (spec, _) in FAULTS.items():
            bad = {**SOURCE, "metadata": {"name": name}, **({} if spec is None else {"spec": spec})}
            await namespace.apply(bad)
        await namespace.source(name="neighbour")
        _, event = await namespace.fail(deployment())
        answer = await namespace.post(event)
        assert (200, f"moved web of Deployment/web to {NEW}") == (answer.status, answer.text)
        assert [("deployments", "web")] == namespace.patches()
        for name, (_, fault) in FAULTS.items():
            conditions = {condition["type"]: condition for condition in (await namespace.status(name))["conditions"]}
            assert fault in conditions["Accepted"]["message"]
            assert ["False", "False"] == [conditions[kind]["status"] for kind in ("Accepted", "Ready")]
        assert ("True", "Valid") == await condition(namespace, "Accepted", "neighbour")
        assert 1 == len((await namespace.status("neighbour"))["switches"])


async def test_a_status_that_somebody_else_broke_is_written_anew(spare_cluster: SpareCluster) -> None:
    """Whatever types the values of a status have, a failover is done, answered and recorded."""
    async with spare_cluster.namespace() as namespace:
        await namespace.source()
        broken = {"conditions": "none", "switches": {"a": 1}, "active": [1, "x", {"target": []}], "activeCount": "many"}
        path = await namespace.api.path({**SOURCE, "metadata": {"name": "shop", "namespace": namespace.name}})
        await namespace.api.patch(f"{path}/status", {"status": broken})
        _, event = await namespace.fail(deployment())
        answer = await namespace.post(event)
        assert (200, f"moved web of Deployment/web to {NEW}") == (answer.status, answer.text)
        status = await namespace.status()
        assert ([NEW], 1) == ([switch["newImage"] for switch in status["switches"]], status["activeCount"])
        assert ("True", "Valid") == await condition(namespace, "Accepted")


async def test_a_source_is_reported_on_again_when_it_changes(namespace: NamespaceFixture) -> None:
    """The conditions name their generation, and follow a change of the spec at the next Event."""
    await namespace.source(mode="Paused")
    _, event = await namespace.fail(deployment())
    await namespace.post(event)
    before = await namespace.status()
    await namespace.source(verification="Off")
    await namespace.post(event)
    after = await namespace.status()
    assert (1, 2) == (before["observedGeneration"], after["observedGeneration"])
    assert ("True", "Ready") == await condition(namespace, "Ready")
