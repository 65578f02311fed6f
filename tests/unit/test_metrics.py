"""The numbers: what a scraper reads, and how many label values strangers can make up."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from saffire.metrics import CLUSTER_WIDE, LEFT, NODE, OTHER, OUTAGE, READY, Numbers, State

OPEN = "application/openmetrics-text; version=1.0.0"
NOW = 1_800_000_000.0
PARSERS: dict[str, Callable[[str], Iterable[Any]]] = {
    "": parser.text_string_to_metric_families,
    "text/plain": parser.text_string_to_metric_families,
    OPEN: openmetrics_parser.text_string_to_metric_families,
    f"{OPEN},text/plain;q=0.5": openmetrics_parser.text_string_to_metric_families,
}
MOST = 32
LABELS = ("registry", "proof", "strategy", "about", "method", "code", "reason", "state", "node", "le")

Samples = dict[tuple[str, tuple[str, ...]], float]


def scraped(numbers: Numbers, accept: str = OPEN, *, now: float = NOW) -> Samples:
    """Return the value of each sample, by its name and the values of its labels, in the order of `LABELS`."""
    body, _ = numbers.exposition(accept, now)
    families = PARSERS[accept](body.decode())
    return {
        (sample.name, tuple(sample.labels[label] for label in LABELS if label in sample.labels)): sample.value
        for family in families
        for sample in family.samples
    }


def of(samples: Samples, name: str) -> dict[str, float]:
    """Return the samples of a number, by the value of its first label."""
    return {values[0]: sample for (sampled, values), sample in samples.items() if sampled == name}


def state(name: str, **counts: int) -> State:
    """Return what a sweep has read: numbers of one name, by the value of the label."""
    return {(name, value): count for value, count in counts.items()}


def after_sweep(**read: State) -> Numbers:
    """Return the numbers after a sweep that has read these namespaces."""
    numbers = Numbers()
    for namespace, read_state in read.items():
        numbers.read(namespace, read_state)
    numbers.swept(read, NOW)
    return numbers


# The formats


@pytest.mark.parametrize("accept", PARSERS)
def test_a_scraper_reads_every_number_in_the_format_that_it_accepts(accept: str) -> None:
    """OpenMetrics if it accepts that, else the older text of Prometheus."""
    numbers = after_sweep(shop={(LEFT, "Paused"): 2, (READY, "ready"): 3, (NODE, "node1"): 1})
    numbers.event_at = NOW - 5
    numbers.failed_over("quay.io", "present", "Controller")
    numbers.failed_over("quay.io", "present", "Controller")
    numbers.failed_back("quay.io")
    numbers.recovered(3.5)
    numbers.answered("event", 200, 0.2)
    numbers.requested("PATCH", "none", 10.5)
    expected = {
        ("saffire_failovers_total", ("quay.io", "present", "Controller")): 2,
        ("saffire_fail_backs_total", ("quay.io",)): 1,
        ("saffire_recovery_seconds_count", ()): 1,
        ("saffire_recovery_seconds_sum", ()): 3.5,
        ("saffire_event_duration_seconds_count", ("event", "200")): 1,
        ("saffire_api_request_duration_seconds_count", ("PATCH", "none")): 1,
        ("saffire_left", ("Paused",)): 2,
        ("saffire_ready_images", ("ready",)): 3,
        ("saffire_node_fault", ("node1",)): 1,
        ("saffire_last_event_timestamp_seconds", ()): NOW - 5,
        ("saffire_last_sweep_timestamp_seconds", ()): NOW,
    }
    assert expected.items() <= scraped(numbers, accept).items()
    _, media_type = numbers.exposition(accept, NOW)
    assert ("application/openmetrics-text" if accept.startswith(OPEN) else "text/plain") == media_type.partition(";")[0]


def test_an_instance_that_has_just_started_claims_nothing() -> None:
    """No number is 0 because nothing is known yet. The names of all numbers are there."""
    body, _ = Numbers().exposition(OPEN, NOW)
    assert {} == scraped(Numbers())
    assert 12 == body.decode().count("# TYPE saffire_")


def test_a_bucket_has_what_took_as_long_as_its_bound_and_what_took_less() -> None:
    """So Prometheus computes quantiles."""
    numbers = Numbers()
    for seconds in (0.5, 1, 1.5, 30, 1e6):
        numbers.recovered(seconds)
    buckets = of(scraped(numbers), "saffire_recovery_seconds_bucket")
    assert [2, 3, 4, 4, 5] == [buckets[bound] for bound in ("1.0", "2.0", "30.0", "1800.0", "+Inf")]
    assert 5 == scraped(numbers)["saffire_recovery_seconds_count", ()]


HOSTILE = ['"} 1\nsaffire_left{reason="x', "a\\", "a\nb", "", "é" * 200]


@pytest.mark.parametrize("accept", PARSERS)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_label_value_stays_one_value(accept: str, text: str) -> None:
    """Whoever writes a status cannot write further numbers."""
    numbers = after_sweep(shop=state(LEFT, **{text: 2}))
    assert {text: 2} == of(scraped(numbers, accept), LEFT)


# What strangers can make up


def test_registries_that_are_made_up_have_one_number_together() -> None:
    """The sum stays true. What was counted before keeps its number."""
    numbers = Numbers()
    for number in range(1000):
        numbers.failed_over(f"r{number}.example", "unverified", "Pods")
        numbers.failed_back(f"r{number}.example")
        numbers.answered(f"a{number}", 200, 1)
        numbers.requested("GET", str(number), 1)
    numbers.failed_over("r0.example", "unverified", "Pods")
    samples = scraped(numbers)
    failovers = of(samples, "saffire_failovers_total")
    assert (MOST + 1, 1001, 2) == (len(failovers), sum(failovers.values()), failovers["r0.example"])
    assert 1000 - MOST == samples["saffire_failovers_total", (OTHER, OTHER, OTHER)]
    assert MOST + 1 == len(of(samples, "saffire_fail_backs_total"))
    assert 1000 - MOST == samples["saffire_event_duration_seconds_count", (OTHER, OTHER)]
    assert 1000 - MOST == samples["saffire_api_request_duration_seconds_count", (OTHER, OTHER)]


def test_of_what_is_the_largest_numbers_are_named() -> None:
    """So a namespace that makes up registries does not hide a real outage, which more sources tell of."""
    made_up = state(OUTAGE, **{f"r{number}.example": 1 for number in range(1000)})
    real = state(OUTAGE, **{"quay.io": 1})
    outages = of(scraped(after_sweep(evil=made_up, shop=real, web=real)), OUTAGE)
    assert (2, MOST + 1, 1002) == (outages["quay.io"], len(outages), sum(outages.values()))


# What is


def test_what_is_known_of_namespaces_adds_up() -> None:
    """A namespace that is read again has its new number, and one without a source has none any more."""
    numbers = after_sweep(shop=state(LEFT, Paused=2, OptedOut=1), web=state(LEFT, Paused=1))
    numbers.read(CLUSTER_WIDE, state(LEFT, Paused=10))
    assert {"Paused": 13, "OptedOut": 1} == of(scraped(numbers), LEFT)
    numbers.read("shop", state(LEFT, Paused=1))
    numbers.swept({"shop"}, NOW)
    assert {"Paused": 11} == of(scraped(numbers), LEFT)


@pytest.mark.parametrize(("seconds", "is_known"), [(0, True), (149, True), (150, False)])
def test_what_is_gets_too_old(seconds: float, *, is_known: bool) -> None:
    """If another instance sweeps, this one does not contradict it for ever. It still tells when it has swept."""
    samples = scraped(after_sweep(shop=state(LEFT, Paused=2)), now=NOW + seconds)
    assert ({"Paused": 2} if is_known else {}) == of(samples, LEFT)
    assert NOW == samples["saffire_last_sweep_timestamp_seconds", ()]


def test_what_is_waits_for_the_end_of_the_first_sweep() -> None:
    """Half a sweep would tell less than there is."""
    numbers = Numbers()
    numbers.read("shop", state(LEFT, Paused=2))
    assert {} == scraped(numbers)
