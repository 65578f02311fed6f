"""What a survey believes of answers that were given a moment ago; what it asks is tested on a control plane."""

from kubernetes.aio.client import ApiClient, Configuration

from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from saffire.reconcile.lookup import Lookup, LookupCache
from saffire.registry.availability import Available, Unreachable
from saffire.registry.check import ImageChecker, Question
from saffire.registry.reference import Reference
from testkit.check_registry import running_registry, transport
from testkit.scripted_registry import hang


async def test_a_registry_that_falls_silent_is_not_believed_what_it_said_before() -> None:
    """It had the image a moment ago; since then it has not answered about another one, so it is down for both."""
    async with running_registry(tls=False) as registry, ImageChecker(transport(registry.domain)) as registries:
        server = ApiServer(ApiClient(Configuration()), timeout_seconds=5)
        cluster = Cluster(server, Kinds())
        surveyor = LookupCache(cluster, registries, budget_seconds=0.5)
        web, single = (f"{registry.domain}/acme/{name}:v1" for name in ("web", "single"))
        first, second = (Question(reference=Reference.parse(image)) for image in (web, single))
        assert isinstance((await surveyor.check((first,)))[first], Available)
        assert frozenset() == await Lookup(cache=surveyor, namespace="shop").silent([web])
        registry.shape = hang
        assert isinstance((await surveyor.check((second,)))[second], Unreachable)
        assert {web, single} == await Lookup(cache=surveyor, namespace="shop").silent([web, single])
        await server.close()
