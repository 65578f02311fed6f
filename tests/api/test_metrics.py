"""The numbers of the function: what it did, and what is, which a new instance tells as well."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from playground.cluster.processes import ProcessGroup
from playground.function_process import FunctionProcess, free_port
from testkit.api.namespace_fixture import NamespaceFixture, until
from testkit.api.workloads import DEAD, container, deployment, pod, pod_spec
from testkit.prometheus import UnavailableError, find_program
from tests.monitoring.test_monitoring import RULES, expressions

ELSEWHERE = f"{DEAD}/elsewhere/web:v1"
STATES = ("saffire_left", "saffire_active", "saffire_ready_images", "saffire_registry_outage", "saffire_node_fault")

Samples = dict[tuple[str, ...], float]


async def scrape(url: str) -> Samples:
    """Return the value of each sample of a function, by its name and the values of its labels."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}metrics") as response:
        assert 200 == response.status
        families = text_string_to_metric_families(await response.text())
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def states(samples: Samples) -> Samples:
    """Return the numbers of what is."""
    return {key: value for key, value in samples.items() if key[0] in STATES}


@pytest.fixture
async def other_function(kubeconfig: Path, environ: dict[str, str]) -> AsyncIterator[FunctionProcess]:
    """Give a function that has just started."""
    async with FunctionProcess(kubeconfig, **environ) as served:
        yield served


async def test_a_failover_shows_once(namespace: NamespaceFixture) -> None:
    """It counts with the registry that the container left, however many pods are moved; and so does its time."""
    await namespace.source()
    before = await scrape(namespace.url)
    _, event = await namespace.fail(deployment(replicas=3))
    await namespace.failing(3)
    await namespace.post(event)
    after = await scrape(namespace.url)
    new = {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key)}
    counted = {key: value for key, value in new.items() if key[0] == "saffire_failovers_total"}
    assert {("saffire_failovers_total", "present", DEAD, "Controller"): 1} == counted
    assert 1 == new["saffire_recovery_seconds_count",]
    assert 1 == new["saffire_event_duration_seconds_count", "event", "200"]
    assert new["saffire_api_request_duration_seconds_count", "200", "PATCH"] >= 1
    assert after["saffire_last_event_timestamp_seconds",] > before.get(("saffire_last_event_timestamp_seconds",), 0)


async def test_an_observed_failover_is_none(namespace: NamespaceFixture) -> None:
    """With `mode: Observe`, nothing is moved, so nothing counts."""
    await namespace.source(mode="Observe")
    before = await scrape(namespace.url)
    _, event = await namespace.fail(deployment())
    await namespace.post(event)
    after = await scrape(namespace.url)
    changed = {key[0] for key, value in after.items() if value != before.get(key)}
    assert "saffire_failovers_total" not in changed
    assert "saffire_api_request_duration_seconds_count" in changed


async def test_a_new_instance_tells_what_is(only_namespace: NamespaceFixture, other_function: FunctionProcess) -> None:
    """Before its first sweep, it claims nothing. After it, it tells what the other one tells."""
    namespace = only_namespace
    await namespace.source()
    _, event = await namespace.fail(deployment())
    await namespace.fail(pod(pod_spec(container(image=ELSEWHERE)), name="stuck"))
    await namespace.post(event)
    assert {} == states(await scrape(other_function.url))
    await namespace.sweep()
    expected = states(await scrape(namespace.url))
    await namespace.sweep(url=other_function.url)
    samples = await scrape(other_function.url)
    assert expected == states(samples)
    left = [entry["reason"] for entry in (await namespace.status()).get("left", ())]
    assert len(left) == sum(value for (name, *_), value in expected.items() if name == "saffire_left")
    assert expected["saffire_active", DEAD] >= 1
    assert samples["saffire_last_sweep_timestamp_seconds",] > 0


async def test_a_prometheus_reads_what_the_function_tells(namespace: NamespaceFixture, tmp_path: Path) -> None:
    """It scrapes the function, evaluates every rule, and answers every query of the dashboard."""
    try:
        program = find_program("prometheus")
    except UnavailableError as error:
        pytest.skip(str(error))
    await namespace.source()
    _, event = await namespace.fail(deployment())
    await namespace.post(event)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    target = namespace.url.removeprefix("http://").rstrip("/")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "saffire", "static_configs": [{"targets": [target]}]}],
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    async with ProcessGroup(tmp_path) as processes, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def ask(query: str) -> list[object] | None:
            try:
                async with session.get(f"/api/v1/query?query={quote(query)}", raise_for_status=True) as response:
                    answer = await response.json()
            except (aiohttp.ClientConnectionError, aiohttp.ClientResponseError):  # it starts
                return None
            assert "success" == answer["status"], (query, answer)
            result: list[object] = answer["data"]["result"]
            return result

        listen = f"--web.listen-address=127.0.0.1:{port}"
        command = (program, "--config.file=prometheus.yaml", "--storage.tsdb.path=data", listen)
        await processes.start("prometheus", *command)
        await until(lambda: ask('ALERTS{alertname="SaffireFailedOver",alertstate="firing"}'))
        for query in expressions():
            assert await ask(query) is not None
        async with session.get("/api/v1/rules") as response:
            (group,) = (await response.json())["data"]["groups"]
        assert {"ok"} == {rule["health"] for rule in group["rules"]}
