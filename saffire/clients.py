"""The clients of one instance: opened when the first event is worth a look, closed with the instance."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from saffire import logs
from saffire.kube.client import ApiServer
from saffire.kube.manifest import Manifest
from saffire.kube.resources import Cluster
from saffire.periodic.readiness import ReadinessProber
from saffire.reconcile.lookup import LookupCache
from saffire.record.outcome import RepairOutcome
from saffire.record.readiness import ProbeResults
from saffire.record.writer import RecordWriter
from saffire.registry.check import ImageChecker
from saffire.registry.transport import RegistryTransport
from saffire.settings import Settings
from saffire.sources.index import SourceIndex
from saffire.sources.spec import log_name
from saffire.sources.store import SourceStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Clients:
    """A way to the cluster, who knows its sources, who writes records, and who asks registries in storm and calm."""

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
        """Connect; raise `TransientError` where there is no cluster to be had yet."""
        server = await ApiServer.connect(settings.kubeconfig, timeout_seconds=settings.request_timeout_seconds)
        cluster, declared = Cluster(server, settings.kinds), SourceStore(server)
        registries = ImageChecker(RegistryTransport(settings.insecure_registries))
        surveyor = LookupCache(cluster, registries, budget_seconds=settings.probe_budget_seconds)
        recorder = RecordWriter(cluster, declared)
        inspector = ReadinessProber(surveyor, recorder, questions=settings.probes_per_minute)
        return cls(
            server=server,
            cluster=cluster,
            store=declared,
            index=SourceIndex(cluster, declared),
            writer=recorder,
            lookup_cache=surveyor,
            prober=inspector,
            record_seconds=settings.repair_timeout_seconds,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self.lookup_cache.registries.close()
        await self.server.close()

    async def record(
        self, outcome: RepairOutcome, *, now: datetime, inspection: ProbeResults | None = None
    ) -> tuple[Manifest, ...]:
        """Record an outcome as far as there is time, and return the sources as they are by then."""
        try:
            async with asyncio.timeout(self.record_seconds):
                return await self.writer.write(outcome, now=now, inspection=inspection)
        except TimeoutError:
            names = ", ".join(map(log_name, outcome.sources))
            logs.failed("Could not write the record in time", {"source": names})
            return outcome.sources
