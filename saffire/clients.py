"""The clients of one instance: opened when the first event is worth a look, closed with the instance."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from saffire import logs
from saffire.kube.client import ApiServer
from saffire.kube.manifest import Manifest
from saffire.kube.resources import Cluster
from saffire.periodic.readiness import Inspector
from saffire.reconcile.lookup import Surveyor
from saffire.record.outcome import Outcome
from saffire.record.readiness import Inspection
from saffire.record.writer import Recorder
from saffire.registry.check import Registries
from saffire.registry.transport import Distribution
from saffire.settings import Settings
from saffire.sources.index import Sources
from saffire.sources.spec import where
from saffire.sources.store import Declared


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """A way to the cluster, who knows its sources, who writes records, and who asks registries in storm and calm."""

    server: ApiServer
    cluster: Cluster
    declared: Declared
    sources: Sources
    recorder: Recorder
    surveyor: Surveyor
    inspector: Inspector
    record_seconds: float

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Connect; raise `TransientError` where there is no cluster to be had yet."""
        server = await ApiServer.connect(settings.kubeconfig, timeout_seconds=settings.request_timeout_seconds)
        cluster, declared = Cluster(server, settings.kinds), Declared(server)
        registries = Registries(Distribution(settings.insecure_registries))
        surveyor = Surveyor(cluster, registries, budget_seconds=settings.probe_budget_seconds)
        recorder = Recorder(cluster, declared)
        inspector = Inspector(surveyor, recorder, questions=settings.questions_per_minute)
        return cls(
            server=server,
            cluster=cluster,
            declared=declared,
            sources=Sources(cluster, declared),
            recorder=recorder,
            surveyor=surveyor,
            inspector=inspector,
            record_seconds=settings.repair_timeout_seconds,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self.surveyor.registries.close()
        await self.server.close()

    async def record(
        self, outcome: Outcome, *, now: datetime, inspection: Inspection | None = None
    ) -> tuple[Manifest, ...]:
        """Record an outcome as far as there is time, and return the sources as they are by then."""
        try:
            async with asyncio.timeout(self.record_seconds):
                return await self.recorder.record(outcome, now=now, inspection=inspection)
        except TimeoutError:
            names = ", ".join(map(where, outcome.sources))
            logs.failed("Could not write the record in time", {"source": names})
            return outcome.sources
