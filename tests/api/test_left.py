"""What hangs and was not moved: the status and the columns of the sources, the Events, and what ends it."""

from typing import Any

from playground.cluster.api import Manifest
from testkit.api.namespace_fixture import IGNORE, PULL_REASONS, NamespaceFixture, statuses, until, waiting
from testkit.api.workloads import ALIVE, DEAD, OLD, container, deployment, deployments, pod, pod_spec

UNLISTED, PAUSED, UNPROVEN = (f"{DEAD}/{account}/web:v1" for account in ("other", "rest", "strict"))
NEXT_STEPS = {
    "unlisted": (
        "RepositoryNotListed",
        f"list {DEAD}/other/web with an equivalent repository in AlternateImageSource/shop",
    ),
    "opted-out": ("OptedOut", f"remove the annotation {IGNORE} from Deployment/opted-out"),
    "paused": ("Paused", "set spec.mode of AlternateImageSource/shop-paused to Enforce"),
}
SOURCES = ("shop", "shop-paused", "shop-strict")


def equivalents(account: str) -> tuple[str, str]:
    """Return the repositories of an account in both registries."""
    return f"{DEAD}/{account}/*", f"{ALIVE}/{account}/*"


def of(name: str, image: str = OLD) -> Manifest:
    """Return a Deployment with labels of its own, so that no other takes its pods."""
    made, labels = deployment(pod_spec(container(image=image)), name=name), {"app": name}
    made["spec"] |= {"selector": {"matchLabels": labels}}
    made["spec"]["template"] |= {"metadata": {"labels": labels}}
    return made


async def left(namespace: NamespaceFixture) -> dict[str, Any]:
    """Return what the sources of the namespace say was left, by the names of the workloads."""
    entries = [entry for name in SOURCES for entry in (await namespace.status(name)).get("left", ())]
    return {entry["target"]["name"]: entry for entry in entries}


async def columns(namespace: NamespaceFixture) -> tuple[int, int]:
    """Return the sums of the columns ACTIVE and STUCK."""
    rows = [await namespace.columns(name) for name in SOURCES]
    return sum(row["Active"] or 0 for row in rows), sum(row["Stuck"] or 0 for row in rows)


async def running(namespace: NamespaceFixture, count: int) -> None:
    """Wait until so many pods run."""

    async def look() -> bool:
        pods = [pod for pod in await namespace.pods() if pod.get("status", {}).get("phase") == "Running"]
        return len(pods) == count

    await until(look)


async def test_of_ten_workloads_four_are_left_for_four_reasons_until_somebody_acts(namespace: NamespaceFixture) -> None:
    """Each of the four is in a status and has an Event, once; who follows the messages frees all of them."""
    await namespace.source(*equivalents("acme"))
    await namespace.source(*equivalents("rest"), name="shop-paused", mode="Paused")
    await namespace.source(*equivalents("strict"), name="shop-strict", verification="Strict")
    for made in (*deployments(6), of("unlisted", UNLISTED), of("paused", PAUSED), of("unproven", UNPROVEN)):
        await namespace.apply(made)
    opted_out = of("opted-out")
    opted_out["metadata"]["annotations"] = {IGNORE: "true"}
    await namespace.apply(opted_out)
    stuck = [pod for pod in await namespace.failing(10) if not pod["metadata"]["name"].startswith("web-")]
    assert 4 == len(stuck)
    answer = await namespace.sweep()
    assert (200, True) == (answer.status, "; stuck: " in answer.text)
    entries = await left(namespace)
    unproven = entries.pop("unproven")
    assert ("CandidateNotProven", UNPROVEN) == (unproven["reason"], unproven["image"])
    assert unproven["message"]
    assert NEXT_STEPS == {name: (entry["reason"], entry["message"]) for name, entry in entries.items()}
    assert {"Deployment"} == {entry["target"]["type"]["kind"] for entry in entries.values()}
    assert (6, 4) == await columns(namespace)

    # The next sweeps say nothing anew.
    await running(namespace, 6)
    await namespace.sweep()
    before = await left(namespace)
    namespace.mark()
    await namespace.sweep()
    assert [] == namespace.writes()
    assert before == await left(namespace)
    for failing in stuck:
        ((reason, message),) = await namespace.saffire_events(failing)
        assert reason in {entry["reason"] for entry in before.values()}
        assert message.startswith("left web with ")

    # Somebody follows the messages.
    sources = [
        await namespace.source(name="shop", imageSourceReplacements=sets("acme", "other")),
        await namespace.source(*equivalents("rest"), name="shop-paused", mode="Enforce"),
        await namespace.source(*equivalents("strict"), name="shop-strict", verification="BestEffort"),
    ]
    live = await namespace.read(opted_out)
    await namespace.api.patch(await namespace.api.path(live), {"metadata": {"annotations": {IGNORE: None}}})
    for source in sources:
        await namespace.post(source, "update")
    await namespace.sweep()
    await running(namespace, 10)
    await namespace.sweep()
    assert {} == await left(namespace)
    assert (10, 0) == await columns(namespace)


def sets(*accounts: str) -> list[Manifest]:
    """Return a set of equivalent repositories for each account."""
    return [{"equivalentRepositories": list(equivalents(account))} for account in accounts]


async def test_an_alternative_that_hangs_too_is_stuck_and_not_active(namespace: NamespaceFixture) -> None:
    """`ACTIVE` counts only what runs."""
    second = f"{namespace.name}.example"
    namespace.dead.add(second)
    repositories = f"{DEAD}/acme/web", f"{second}/acme/web"
    await namespace.source(*repositories)
    failing, event = await namespace.fail(pod())
    await namespace.post(event)

    async def hangs_there() -> bool:
        live = await namespace.read(failing)
        (status,) = statuses(live).values()
        message = status["state"].get("waiting", {}).get("message", "")
        return bool(waiting(live) & PULL_REASONS) and second in message

    await until(hangs_there)
    assert (1, None) == await active_and_stuck(namespace)
    await namespace.source(*repositories, mode="Paused")
    await namespace.sweep()
    assert (0, 1) == await active_and_stuck(namespace)
    status = await namespace.status()
    assert (1, f"{second}/acme/web:v1") == (len(status["active"]), status["left"][0]["image"])
    namespace.dead.discard(second)
    await running(namespace, 1)
    await namespace.sweep()
    assert (1, 0) == await active_and_stuck(namespace)


async def active_and_stuck(namespace: NamespaceFixture) -> tuple[int | None, int | None]:
    """Return the columns ACTIVE and STUCK of the only source."""
    row = await namespace.columns()
    return row["Active"], row["Stuck"]


async def test_without_a_source_of_its_own_a_namespace_is_left_in_the_cluster_wide_one(
    namespace: NamespaceFixture,
) -> None:
    """The entry names the namespace; it goes once the source does not select the namespace any more."""
    await namespace.cluster_source(*equivalents("other"))
    await namespace.fail(deployment())
    await namespace.sweep()
    (entry,) = (await namespace.cluster_status())["left"]
    assert (namespace.name, "RepositoryNotListed") == (entry["target"]["namespace"], entry["reason"])
    await namespace.cluster_source(*equivalents("other"), namespaceSelector={"matchLabels": {"no": "namespace"}})
    await namespace.sweep()
    status = await namespace.cluster_status()
    assert ([], 0) == (status["left"], status["leftCount"])


async def test_a_pod_that_hangs_where_no_source_is_costs_nothing(namespace: NamespaceFixture) -> None:
    """Nobody asked Saffire to look after that namespace, so nothing is said there."""
    failing, event = await namespace.fail(deployment())
    await namespace.post(event)
    await namespace.sweep()
    assert [] == namespace.writes()
    assert [] == await namespace.saffire_events(failing)
