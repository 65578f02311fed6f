"""Selectors: every operator, and every selector that Kubernetes would refuse."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.selector import InvalidSelector, Selector, parse_selector
from testkit.strategies import json_values, paths_into, replaced

TEAM = {"team": "shop"}
OTHER = {"team": "bank"}
EMPTY = {"team": ""}
NONE: dict[str, str] = {}
AT = "spec.namespaceSelector"


def parse(selector: Any) -> Selector:
    """Return the selector of a source."""
    return parse_selector({"spec": {"namespaceSelector": selector}}, "spec", "namespaceSelector")


def expression(operator: str, *values: str, key: str = "team") -> dict[str, Any]:
    """Return a selector of one expression."""
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": [*values]} if values else {})}]}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        pytest.param({}, [TEAM, OTHER, EMPTY, NONE], id="empty"),
        pytest.param({"matchLabels": {}, "matchExpressions": []}, [TEAM, OTHER, EMPTY, NONE], id="empty-parts"),
        pytest.param({"matchLabels": None, "matchExpressions": None}, [TEAM, OTHER, EMPTY, NONE], id="null-parts"),
        pytest.param({"matchLabels": TEAM}, [TEAM], id="labels"),
        pytest.param({"matchLabels": EMPTY}, [EMPTY], id="an-empty-value"),
        pytest.param(expression("In", "shop"), [TEAM], id="In"),
        pytest.param(expression("In", "shop", "bank"), [TEAM, OTHER], id="In-several"),
        pytest.param(expression("In", ""), [EMPTY], id="In-empty-value"),
        pytest.param(expression("NotIn", "shop"), [OTHER, EMPTY, NONE], id="NotIn"),
        pytest.param(expression("NotIn", "shop", "bank"), [EMPTY, NONE], id="NotIn-several"),
        pytest.param(expression("Exists"), [TEAM, OTHER, EMPTY], id="Exists"),
        pytest.param(expression("DoesNotExist"), [NONE], id="DoesNotExist"),
    ],
)
def test_each_operator_selects_as_in_kubernetes(selector: Any, selected: list[dict[str, str]]) -> None:
    """Only `NotIn` and `DoesNotExist` select an object without the label."""
    parsed = parse(selector)
    assert selected == [labels for labels in (TEAM, OTHER, EMPTY, NONE) if parsed.matches(labels)]


@pytest.mark.parametrize(
    ("selected", "labels"),
    [
        (True, {"team": "shop", "stage": "live", "more": "x"}),
        (False, {"team": "shop"}),
        (False, {"stage": "live"}),
        (False, {"team": "shop", "stage": "live", "ignored": ""}),
    ],
)
def test_all_requirements_have_to_hold(selected: bool, labels: Mapping[str, str]) -> None:  # noqa: FBT001 - the row's expectation
    """An object is selected only if it meets all labels and all expressions."""
    selector = {
        "matchLabels": TEAM,
        "matchExpressions": [{"key": "stage", "operator": "Exists"}, {"key": "ignored", "operator": "DoesNotExist"}],
    }
    assert selected is parse(selector).matches(labels)


@pytest.mark.parametrize("key", ["a", "A.b-c_9", "kubernetes.io/metadata.name", "a.b-c/x", "x" * 63, f"{'a' * 253}/x"])
def test_keys_that_labels_have(key: str) -> None:
    """A name, with an optional DNS subdomain before it."""
    assert parse(expression("Exists", key=key)).matches({key: ""})


@pytest.mark.parametrize(
    "key",
    ["", "/", "a/", "/a", "a/b/c", "-a", "a-", "a b", "a\n", "A/b", "a_b/c", "ä", "x" * 64, f"{'a' * 254}/x"],
)
def test_keys_that_no_label_has(key: str) -> None:
    """The API server would refuse a selector with such a key; here it is a fault, in labels and in expressions."""
    for selector, at in (
        (expression("Exists", key=key), "matchExpressions[0].key: none that a label can have"),
        ({"matchLabels": {key: "x"}}, "matchLabels: a key that no label can have"),
    ):
        with pytest.raises(InvalidSelector) as invalid:
            parse(selector)
        assert (f"{AT}.{at}",) == invalid.value.faults


def broken(**fields: Any) -> dict[str, Any]:
    """Return a selector of one expression with these fields."""
    return {"matchExpressions": [{"key": "team", "operator": "In", "values": ["shop"], **fields}]}


@pytest.mark.parametrize(
    ("fault", "selector"),
    [
        (f"{AT}: must be given", None),
        (f"{AT}: not an object", "all"),
        (f"{AT}: not an object", []),
        (f"{AT}.matchLabels: not an object", {"matchLabels": ["team"]}),
        (f"{AT}.matchLabels.team: a value that no label can have", {"matchLabels": {"team": None}}),
        (f"{AT}.matchLabels.team: a value that no label can have", {"matchLabels": {"team": 7}}),
        (f"{AT}.matchLabels.team: a value that no label can have", {"matchLabels": {"team": "a b"}}),
        (f"{AT}.matchLabels.team: a value that no label can have", {"matchLabels": {"team": "x" * 64}}),
        (f"{AT}.matchLabels: a key that no label can have", {"matchLabels": {7: "x"}}),
        (f"{AT}.matchExpressions: not a list of objects", {"matchExpressions": {}}),
        (f"{AT}.matchExpressions: not a list of objects", {"matchExpressions": ["team"]}),
        (f"{AT}.matchExpressions[0].key: not a string", broken(key=7)),
        (f"{AT}.matchExpressions[0].operator: not a string", broken(operator=["In"])),
        (
            f"{AT}.matchExpressions[0].operator: wants one of In, NotIn, Exists, DoesNotExist",
            broken(operator="in"),
        ),
        (f"{AT}.matchExpressions[0].operator: wants one of", broken(operator=None)),
        (f"{AT}.matchExpressions[0].values: not a list of strings", broken(values="shop")),
        (f"{AT}.matchExpressions[0].values: not a list of strings", broken(values=[None])),
        (f"{AT}.matchExpressions[0].values: In wants 1 to 256", broken(values=[])),
        (f"{AT}.matchExpressions[0].values: NotIn wants 1 to 256", broken(operator="NotIn", values=None)),
        (f"{AT}.matchExpressions[0].values: In wants 1 to 256", broken(values=["x"] * 257)),
        (f"{AT}.matchExpressions[0].values: Exists takes none", broken(operator="Exists")),
        (f"{AT}.matchExpressions[0].values: DoesNotExist takes none", broken(operator="DoesNotExist")),
        (f"{AT}.matchExpressions[0].values: one that no label can have", broken(values=["shop", "-"])),
        (
            f"{AT}: wants at most 64 requirements",
            {"matchLabels": TEAM, "matchExpressions": [{"key": "team", "operator": "Exists"}] * 64},
        ),
    ],
)
def test_an_invalid_selector_is_refused(fault: str, selector: Any) -> None:
    """Half a selector selects nothing, and the message names the field."""
    with pytest.raises(InvalidSelector) as invalid:
        parse(selector)
    (message,) = invalid.value.faults
    assert fault == message[: len(fault)]


def test_all_faults_are_named() -> None:
    """The author of a selector can correct all of them at once."""
    with pytest.raises(InvalidSelector, match=r"matchLabels\.team: .*; .*\[0\]\.operator: .*; .*\[2\]\.values: "):
        parse(
            {
                "matchLabels": {"team": "-"},
                "matchExpressions": [
                    {"key": "a", "operator": "Is"},
                    {"key": "a", "operator": "Exists"},
                    {"key": "a", "operator": "In"},
                ],
            }
        )


@given(data=st.data(), value=json_values())
def test_garbage_is_refused_or_read(data: st.DataObject, value: Any) -> None:
    """With any JSON value at any path, the result is a selector or an `InvalidSelector`."""
    manifest = {"spec": {"namespaceSelector": {"matchLabels": TEAM, **broken()}}}
    changed = replaced(manifest, data.draw(paths_into(manifest)), value)
    try:
        selector = parse_selector(changed, "spec", "namespaceSelector")
    except InvalidSelector as error:
        assert error.faults  # noqa: PT017 - either outcome is right
    else:
        assert isinstance(selector.matches(TEAM), bool)
