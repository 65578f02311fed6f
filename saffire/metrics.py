"""
The numbers that `GET /metrics` gives to Prometheus.

What happens, such as a failover, is counted by the instance that did it, since its start. What is, such as the
containers that are left, is what the status of the sources, and the pods, said in the instance's last sweep. So each
instance gives the same, also one that has just started, once it has swept. If an instance has not swept for two and
a half minutes, it gives no such number any more: another instance sweeps, and knows better.

Whoever may create pods and sources can invent registries. So each number has at most 32 sets of label values. The
others are counted together, and each of their labels is `other`.

Saffire keeps plain values, and the `prometheus-client` package writes them. The package is imported with the first
scrape, so an instance that nobody scrapes does not pay for it, and starts as quickly as without it.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

OTHER = "other"
"""The value of every label of what has no set of label values of its own."""

LEFT, ACTIVE, READY, OUTAGE, NODE = (
    "saffire_left",
    "saffire_active",
    "saffire_ready_images",
    "saffire_registry_outage",
    "saffire_node_fault",
)
"""The names of the numbers of what is."""

State = Mapping[tuple[str, str], int]
"""Numbers of what is, by their name and the value of their label."""

CLUSTER_WIDE = ""
"""What stands for the cluster-wide sources where others have a namespace."""

# The label and the meaning of each number of what is.
_STATES = {
    LEFT: ("reason", "Containers that Saffire left with an image that cannot be pulled."),
    ACTIVE: ("registry", "Containers that run on an alternative, by the registry that they left."),
    READY: ("state", "Images in use that a source lists, by whether a failover would work today."),
    OUTAGE: ("registry", "Sources whose equivalent images cannot be asked for, since the registry does not answer."),
    NODE: ("node", "Containers that wait on a node that cannot pull from registries that answer Saffire."),
}
_STATE_SECONDS = 150
_MOST_SETS = 32

_Labels = tuple[str, ...]


def _bounded(labels: _Labels, known: Collection[_Labels]) -> _Labels:
    """Return a set of label values, or that of the others, if it is a new one and there are enough."""
    return labels if labels in known or len(known) < _MOST_SETS else (OTHER,) * len(labels)


class _Histogram:
    """How often something took how long, by label values; `bounds` are the upper bounds of its buckets, in seconds."""

    def __init__(self, name: str, meaning: str, labels: _Labels, bounds: tuple[float, ...]) -> None:
        self._name, self._meaning, self._labels, self._bounds = name, meaning, labels, bounds
        self._counts: dict[_Labels, list[int]] = {}
        self._sums: defaultdict[_Labels, float] = defaultdict(float)

    def observe(self, seconds: float, *values: str) -> None:
        """Count something that took so many seconds; a bucket has what took as long as its bound, too."""
        labels = _bounded(values, self._counts)
        counts = self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, seconds)] += 1
        self._sums[labels] += seconds

    def family(self) -> "Metric":
        """Return the histogram in the shape of the package: each bucket has those below it, too."""
        from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415 - see above

        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        for values, counts in self._counts.items():
            bounds = (*map(str, map(float, self._bounds)), "+Inf")
            family.add_metric(values, list(zip(bounds, accumulate(counts), strict=True)), self._sums[values])
        return family


class Numbers:
    """The numbers of one instance."""

    def __init__(self) -> None:
        self.event_at: float | None = None
        """When the latest Event or change of a source arrived, in seconds since 1970; `None` if none has."""
        self._swept_at: float | None = None
        self._failovers: Counter[_Labels] = Counter()
        self._fail_backs: Counter[_Labels] = Counter()
        self._read: dict[str, State] = {}
        self._state: Counter[tuple[str, str]] = Counter()
        self._recoveries = _Histogram(
            "saffire_recovery_seconds",
            "From when a pod began to wait for its images until Saffire had moved its workload.",
            (),
            (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800),
        )
        self._answers = _Histogram(
            "saffire_event_duration_seconds",
            "How long an answer took, by what it was about. Ignored Events do not count.",
            ("about", "code"),
            (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )
        self._requests = _Histogram(
            "saffire_api_request_duration_seconds",
            "How long a request to the API server took; the code is none if there was no response.",
            ("method", "code"),
            (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )

    # What happens

    def failed_over(self, registry: str, proof: str, strategy: str) -> None:
        """Count a failover: a container left a registry, with what was known of its new image, by a strategy."""
        self._failovers[_bounded((registry, proof, strategy), self._failovers)] += 1

    def failed_back(self, registry: str) -> None:
        """Count a fail back: a container returned to a registry."""
        self._fail_backs[_bounded((registry,), self._fail_backs)] += 1

    def recovered(self, seconds: float) -> None:
        """Count a workload of which a pod waited so many seconds until Saffire had moved the workload."""
        self._recoveries.observe(seconds)

    def answered(self, about: str, status: int, seconds: float) -> None:
        """Count an answer with its HTTP status; `about` is `event`, `source`, `sweep`, or `invalid`."""
        self._answers.observe(seconds, about, str(status))

    def requested(self, method: str, code: str, seconds: float) -> None:
        """Count a request to the API server, with the status of the response; `none` if there was none."""
        self._requests.observe(seconds, method, code)

    # What is

    def read(self, namespace: str, state: State) -> None:
        """Keep what a sweep has read in a namespace, or of the cluster-wide sources, in place of what was known."""
        self._state.subtract(self._read.pop(namespace, {}))
        if state:
            self._read[namespace] = state
            self._state.update(state)

    def swept(self, namespaces: Collection[str], at: float) -> None:
        """Note that a sweep of these namespaces ended, at a time in seconds since 1970, and forget all others."""
        for namespace in self._read.keys() - {CLUSTER_WIDE, *namespaces}:
            self.read(namespace, {})
        self._state = +self._state  # without those that are 0
        self._swept_at = at

    # What Prometheus gets

    def exposition(self, accept: str, now: float) -> tuple[bytes, str]:
        """
        Return all numbers as text, and the media type of the text.

        Args:
            accept: the media types that the scraper accepts (RFC 9110, 12.5.1). If OpenMetrics is among them, the text
                is in that format, else in Prometheus' own.
            now: the time, in seconds since 1970.

        """
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - see above
        from prometheus_client.registry import Collector, CollectorRegistry  # noqa: PLC0415

        families = list(self._families(now))

        class Families(Collector):
            """What the package asks for families."""

            def collect(self) -> Iterator["Metric"]:
                return iter(families)

        registry = CollectorRegistry(auto_describe=False)
        registry.register(Families())
        encode, media_type = choose_encoder(accept)
        return encode(registry), media_type

    def _families(self, now: float) -> Iterator["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415 - see above

        failovers = CounterMetricFamily(
            "saffire_failovers",
            "Containers that Saffire moved, by the registry that they left. Those of mode Observe do not count.",
            labels=("registry", "proof", "strategy"),
        )
        fail_backs = CounterMetricFamily(
            "saffire_fail_backs", "Containers that Saffire moved back to a registry.", labels=("registry",)
        )
        for family, counts in ((failovers, self._failovers), (fail_backs, self._fail_backs)):
            for values, count in counts.items():
                family.add_metric(values, count)
            yield family
        yield from (histogram.family() for histogram in (self._recoveries, self._answers, self._requests))
        moments = {
            "saffire_last_event_timestamp_seconds": (self.event_at, "When the latest Event arrived."),
            "saffire_last_sweep_timestamp_seconds": (self._swept_at, "When the latest sweep ended."),
        }
        for name, (at, meaning) in moments.items():
            yield GaugeMetricFamily(name, f"{meaning} Absent until then.", value=at)
        is_known = self._swept_at is not None and now - self._swept_at < _STATE_SECONDS
        for name, (label, meaning) in _STATES.items():
            gauge = GaugeMetricFamily(name, meaning, labels=(label,))
            for value, count in self._most(name).items() if is_known else ():
                gauge.add_metric((value,), count)
            yield gauge

    def _most(self, name: str) -> Counter[str]:
        """Return a number of what is, by label value: the largest ones, and the sum of the others."""
        counts = Counter({value: count for (of, value), count in self._state.items() if of == name and count > 0})
        most = Counter(dict(counts.most_common(_MOST_SETS)))
        if rest := counts.total() - most.total():
            most[OTHER] += rest
        return most


NUMBERS = Numbers()
"""The numbers of this instance."""


def load_package() -> None:
    """Import the package that writes the numbers. That takes long, so a thread should do it first."""
    import prometheus_client  # noqa: F401, PLC0415 - see above
