"""Lookups: which recent answers count. What a lookup asks is tested on a control plane."""

from kubernetes.aio.client import Configuration

from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from saffire.reconcile.candidate_lookup import Lookup, LookupCache
from saffire.registry.availability import Available, Unreachable
from saffire.registry.check import ImageChecker, Question
from saffire.registry.reference import Reference
from testkit.check_registry import running_registry, transport
from testkit.scripted_registry import hang


async def test_earlier_answers_of_a_registry_that_is_silent_now_do_not_count() -> None:
    """A registry had an image. Now it does not answer about another one, so it counts as down for both."""
    async with running_registry(tls=False) as registry, ImageChecker(transport(registry.domain)) as registries:
        server = ApiServer(Configuration(), timeout_seconds=5)
        cluster = Cluster(server, Kinds())
        cache = LookupCache(cluster, registries, budget_seconds=0.5)
        web, single = (f"{registry.domain}/acme/{name}:v1" for name in ("web", "single"))
        first, second = (Question(reference=Reference.parse(image)) for image in (web, single))
        assert isinstance((await cache.check((first,)))[first], Available)
        assert frozenset() == await Lookup(cache=cache, namespace="shop").from_silent_registries([web])
        registry.shape = hang
        assert isinstance((await cache.check((second,)))[second], Unreachable)
        assert {web, single} == await Lookup(cache=cache, namespace="shop").from_silent_registries([web, single])
        await server.close()
