"""The API server is asked for the Events that the function acts on, and for no others."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from eventsource.watch import COLLECTIONS, Collection
from saffire.reconcile.request import PodFailed
from saffire.triage import triage
from testkit.builders import recorded


def passes(event: dict[str, Any], collection: Collection) -> bool:
    """Tell whether an Event has the fields that a collection asks for."""
    for term in collection.fields.split(","):
        path, _, wanted = term.partition("=")
        value: Any = event
        for key in path.split("."):
            value = value[key]
        if value != wanted:
            return False
    return True


@pytest.mark.parametrize("recording", ["events-1.20.json", "events-1.34.json"])
def test_every_event_that_the_function_acts_on_is_watched(recording: str) -> None:
    """Of the Events of real kubelets, those that make the function look are in exactly one of the watches."""
    events = recorded(recording)
    watched = [sum(passes(event, collection) for collection in COLLECTIONS if collection.fields) for event in events]
    acted_on = [isinstance(triage("dev.knative.apiserver.resource.add", event), PodFailed) for event in events]
    assert any(acted_on)
    assert all(number == 1 for number, acts in zip(watched, acted_on, strict=True) if acts)
    # The function also sorts by message: it ignores a few of what is watched, such as a container that cannot start.
    assert set(watched) == {0, 1}


def test_a_query_is_what_kubernetes_reads() -> None:
    """The selector and the parameters arrive as they are written, whatever is in them."""
    collection = Collection(name="x", path="/api/v1/events", fields="type=Warning,reason=a&b")
    parts = urlsplit(collection.query(limit="1"))
    assert "/api/v1/events" == parts.path
    assert {"limit": "1", "fieldSelector": "type=Warning,reason=a&b"} == dict(parse_qsl(parts.query))
