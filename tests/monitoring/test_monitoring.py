"""The rules and the dashboard: they name numbers that there are, and alerts fire when they should."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from saffire.metrics import Numbers
from testkit import ROOT
from testkit.prometheus import UnavailableError, find_program

HERE = Path(__file__).parent
FOLDER = ROOT / "deploy" / "monitoring"
RULES: dict[str, Any] = yaml.safe_load((FOLDER / "prometheusrule.yaml").read_text())["spec"]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
# What a rule or a query may name besides the numbers of Saffire: the results of the rules themselves.
RECORDED = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}


LABELS = {"registry", "reason", "state", "node", "about", "method", "code", "le"}


def alerts() -> list[dict[str, Any]]:
    """Return every rule that is an alert."""
    return [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]


def queries() -> Iterator[str]:
    """Yield every query of the dashboard, as Grafana sends it."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "2m")


def expressions() -> list[str]:
    """Return the expression of each rule, and each query."""
    return [*(rule["expr"] for group in RULES["groups"] for rule in group["rules"]), *queries()]


def numbers() -> set[str]:
    """Return the names of all samples that an instance may give."""
    body, _ = Numbers().exposition("", 0)
    names = set()
    for family in text_string_to_metric_families(body.decode()):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        names |= {f"{family.name}{suffix}" for suffix in suffixes}
    return names


def program(name: str) -> Path:
    """Return the path of a program of Prometheus; skip the test if there is none."""
    try:
        return find_program(name)
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Give the rules as a file of Prometheus' own, in a folder with their tests."""
    shutil.copy(HERE / "alerts.yaml", tmp_path)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    return tmp_path / "rules.yaml"


@pytest.mark.parametrize("expression", expressions())
def test_every_number_that_is_named_is_given(expression: str) -> None:
    """An alert about a number of another name would never fire."""
    named = set(re.findall(r"\b(?:registry:)?saffire_\w+(?::\w+)?", expression))
    assert named
    assert set() == named - numbers() - RECORDED


def test_every_label_that_is_named_is_given() -> None:
    """A sum by another label would have one series only."""
    lists = [labels for text in expressions() for labels in re.findall(r"by \(([^)]*)\)", text)]
    assert {label for labels in lists for label in labels.split(", ")} <= LABELS


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    """Its link leads to a section of the page for three in the morning."""
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
    assert alert["alert"].lower() == anchor
    assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert {"summary", "description"} <= alert["annotations"].keys()
    assert alert["labels"]["severity"] in {"warning", "critical"}


def test_every_alert_is_played() -> None:
    """The tests of the rules let each of them fire."""
    played = set(re.findall(r'alertname="(\w+)"', (HERE / "alerts.yaml").read_text()))
    assert {alert["alert"] for alert in alerts()} == played


def test_alerts_fire_when_they_should(rules: Path) -> None:
    """And none in a quiet cluster."""
    command: tuple[Path | str, ...] = (program("promtool"), "test", "rules", "alerts.yaml")
    done = subprocess.run(command, cwd=rules.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules_and_the_queries(rules: Path, tmp_path: Path) -> None:
    """It parses them; and `promtool` finds no fault in the names of the numbers."""
    panels = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries())]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": panels}]}))
    text = Numbers().exposition("", 0)[0].decode()
    for command in ("check rules rules.yaml panels.yaml", "check metrics"):
        arguments: tuple[Path | str, ...] = (program("promtool"), *command.split())
        done = subprocess.run(arguments, cwd=rules.parent, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    """Each has its place, and a datasource that the reader chooses."""
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert {x for x, _ in cells} == set(range(24))
    assert {"${datasource}"} == {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
