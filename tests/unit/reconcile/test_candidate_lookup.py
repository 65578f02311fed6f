"""Lookups: which recent answers count. What a lookup asks is tested on a control plane."""

from datetime import UTC, datetime

from kubernetes.aio.client import Configuration

from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from saffire.reconcile.candidate_lookup import Lookup, LookupCache
from saffire.registry.availability import Available, Unreachable
from saffire.registry.check import ImageChecker, Question
from saffire.registry.reference import Reference
from testkit.check_registry import running_registry, transport
from testkit.scripted_registry import hang, on, status

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


async def test_earlier_answers_of_a_registry_that_is_silent_now_do_not_count() -> None:
    """A registry does not answer about one image, so it counts as down for all, but not for another namespace."""
    async with running_registry(tls=False) as registry, ImageChecker(transport(registry.domain)) as registries:
        server = ApiServer(Configuration(), timeout_seconds=5)
        cluster = Cluster(server, Kinds())
        cache = LookupCache(cluster, registries, budget_seconds=0.5)
        web, single = (f"{registry.domain}/acme/{name}:v1" for name in ("web", "single"))
        first, second = (Question(reference=Reference.parse(image)) for image in (web, single))
        assert isinstance((await cache.check((first,), "shop"))[first], Available)
        assert {} == await Lookup(cache=cache, namespace="shop").from_silent_registries([web])
        registry.shape = hang
        assert isinstance((await cache.check((second,), "shop"))[second], Unreachable)
        silent = await Lookup(cache=cache, namespace="shop").from_silent_registries([web, single])
        assert {web, single} == silent.keys()
        registry.shape = None
        assert {} == await Lookup(cache=cache, namespace="bank").from_silent_registries([web, single])
        assert silent == await Lookup(cache=cache, namespace="shop").from_silent_registries([web, single])
        # What is kept of a single late answer proves no more than that answer did.
        assert {True} == {answer.is_late for answer in silent.values()}
        await server.close()


async def test_a_server_error_about_one_account_says_nothing_of_others() -> None:
    """A registry that mirrors others fails where they do, and its own images are there."""
    async with running_registry(tls=False) as registry, ImageChecker(transport(registry.domain)) as registries:
        server = ApiServer(Configuration(), timeout_seconds=5)
        cache = LookupCache(Cluster(server, Kinds()), registries, budget_seconds=5)
        mirrored, own = (
            Question(reference=Reference.parse(f"{registry.domain}/{path}:v1"))
            for path in ("dockerhub/web", "acme/web")
        )
        registry.shape = on("/dockerhub/", status(500))
        for namespace in ("shop", "bank"):
            answers = await cache.check((mirrored,), namespace)
            assert getattr(answers[mirrored], "is_server_error", False)
        assert isinstance((await cache.check((own,), "shop"))[own], Available)
        registry.shape = None
        assert isinstance((await cache.check((mirrored,), "shop"))[mirrored], Unreachable)  # known for 5 s
        await server.close()


async def test_whether_registries_answer_is_known_to_who_has_asked() -> None:
    """One namespace's registry answers, and another namespace has asked none: that says nothing to the other."""
    async with running_registry(tls=False) as registry, ImageChecker(transport(registry.domain)) as registries:
        server = ApiServer(Configuration(), timeout_seconds=5)
        cache = LookupCache(Cluster(server, Kinds()), registries, budget_seconds=2)
        assert cache.registry_answers("shop", NOW).is_blind is None
        await Lookup(cache=cache, namespace="shop").from_silent_registries([f"{registry.domain}/acme/web:v1"])
        assert cache.any_registry_answers("shop")
        assert not cache.any_registry_answers("bank")
        assert not cache.registry_answers("bank", NOW).is_blind
        assert {registry.domain} == cache.registry_answers("bank", NOW).answered_at.keys()
        assert not cache.is_blind
        await server.close()
