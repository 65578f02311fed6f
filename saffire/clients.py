"""The clients of one instance: opened with its first request, closed with the instance."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from saffire import logs
from saffire.kube.client import ApiServer
from saffire.kube.manifest import Manifest
from saffire.kube.resources import Cluster
from saffire.periodic.readiness_prober import ReadinessProber
from saffire.reconcile.candidate_lookup import LookupCache
from saffire.record.outcome import RepairOutcome
from saffire.record.readiness_status import ProbeResults
from saffire.record.writer import RecordWriter
from saffire.registry.address_guard import AddressGuard
from saffire.registry.check import ImageChecker
from saffire.registry.transport import RegistryTransport
from saffire.settings import Settings
from saffire.sources.index import SourceIndex
from saffire.sources.spec import log_name
from saffire.sources.store import SourceStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Clients:
    """
    The clients by which one instance reads and writes the cluster, and asks registries.

    Args:
        server: the API server.
        cluster: the objects of the cluster.
        store: reads and writes sources.
        index: finds the sources that apply to a namespace.
        writer: writes Events, and the status of sources.
        lookup_cache: reads nodes and Secrets, asks registries, and keeps some of the answers.
        prober: asks registries about alternative images while no pod fails.
        record_seconds: the longest time that `record` may take, in seconds.

    """

    server: ApiServer
    cluster: Cluster
    store: SourceStore
    index: SourceIndex
    writer: RecordWriter
    lookup_cache: LookupCache
    prober: ReadinessProber
    record_seconds: float

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
            store=store,
            index=SourceIndex(cluster, store),
            writer=writer,
            lookup_cache=lookup_cache,
            prober=ReadinessProber(lookup_cache, writer, probes_per_minute=settings.probes_per_minute),
            record_seconds=settings.repair_timeout_seconds,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self.lookup_cache.registries.close()
        await self.server.close()

    async def record(
        self, outcome: RepairOutcome, namespace: str, *, now: datetime, probe_results: ProbeResults | None = None
    ) -> tuple[Manifest, ...]:
        """
        Record the outcome of a repair of a namespace, and return the outcome's sources as they are after that.

        If the record is not written within `record_seconds`, log that, and return the sources as the repair read them.
        `now` is the time of the repair, in UTC. `probe_results` are the images in use and registries' answers about
        them; `None` if they were not counted.
        """
        try:
            async with asyncio.timeout(self.record_seconds):
                return await self.writer.write(
                    outcome,
                    now=now,
                    probe_results=probe_results,
                    registry_answers=self.lookup_cache.registry_answers(namespace, now) if outcome.audit else None,
                )
        except TimeoutError:
            names = ", ".join(map(log_name, outcome.sources))
            logs.failed("Could not write the record in time", {"source": names})
            return outcome.sources
