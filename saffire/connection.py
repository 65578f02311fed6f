"""The connection: what one instance has to do with the outside, made when the first event is worth a look."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from saffire import telemetry
from saffire.apiserver import ApiServer
from saffire.cluster import Cluster
from saffire.declared import Declared
from saffire.distribution import Distribution
from saffire.inspector import Inspector
from saffire.manifest import Manifest
from saffire.outcome import Outcome
from saffire.readiness import Inspection
from saffire.recorder import Recorder
from saffire.registry import Registries
from saffire.scope import where
from saffire.settings import Settings
from saffire.sources import Sources
from saffire.survey import Surveyor


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
            telemetry.failed("Could not write the record in time", {"source": names})
            return outcome.sources
