"""The clients of one instance: opened with its first request, closed with the instance."""

from dataclasses import dataclass
from typing import Self

from saffire.kube.client import ApiServer
from saffire.kube.resources import Cluster
from saffire.periodic.readiness_prober import ReadinessProber
from saffire.reconcile.candidate_lookup import LookupCache
from saffire.record.writer import RecordWriter
from saffire.registry.address_guard import AddressGuard
from saffire.registry.check import ImageChecker
from saffire.registry.transport import RegistryTransport
from saffire.settings import Settings
from saffire.sources.index import SourceIndex
from saffire.sources.store import SourceStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Clients:
    """
    The clients by which one instance reads and writes the cluster, and asks registries.

    Args:
        server: the API server.
        cluster: the objects of the cluster.
        index: finds the sources that apply to a namespace.
        writer: writes Events, and the status of sources.
        lookup_cache: reads nodes and Secrets, asks registries, and keeps some of the answers.
        prober: asks registries about alternative images while no pod fails.

    """

    server: ApiServer
    cluster: Cluster
    index: SourceIndex
    writer: RecordWriter
    lookup_cache: LookupCache
    prober: ReadinessProber

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Connect to the cluster; raise `TransientError` if no cluster is configured yet."""
        server = await ApiServer.connect(
            settings.kubeconfig,
            timeout_seconds=settings.request_timeout_seconds,
            x509_strict=settings.api_server_x509_strict,
            proxies=settings.proxies,
        )
        cluster, store = Cluster(server, settings.kinds), SourceStore(server)
        guard = AddressGuard(settings.denied_networks)
        transport = RegistryTransport(settings.insecure_registries, guard=guard, proxies=settings.proxies)
        checker = ImageChecker(transport)
        lookup_cache = LookupCache(cluster, checker, budget_seconds=settings.probe_budget_seconds)
        writer = RecordWriter(cluster, store)
        return cls(
            server=server,
            cluster=cluster,
            index=SourceIndex(cluster, store),
            writer=writer,
            lookup_cache=lookup_cache,
            prober=ReadinessProber(lookup_cache, writer, probes_per_minute=settings.probes_per_minute),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self.lookup_cache.registries.close()
        await self.server.close()
