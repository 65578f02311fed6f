"""Reversions: which failovers a status says were undone, for how long, and for whom there is room."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.manifest import Manifest
from saffire.policy.history import timestamp
from saffire.policy.plan import Reversion
from saffire.record.reversions import recorded_moves, reversions_after
from testkit.builders import FAILING, NOW, SECOND, Object, cluster_source_manifest, pod, source_manifest, workload
from testkit.strategies import json_values, paths_into, replaced

MINUTE = timedelta(minutes=1)
SET = workload("StatefulSet")


def reversion(ago: float = 1, *, owner: Object = SET, **fields: Any) -> Reversion:
    """Return a failover that was undone, so many minutes ago."""
    values: dict[str, Any] = {"container": "web", "before": FAILING, "after": SECOND, "source": "shop", "by": "kubectl"}
    return Reversion(workload=owner, at=NOW - ago * MINUTE, **{**values, **fields})


def after(*reversions: Reversion, before: Manifest | None = None, lost: tuple[Manifest, ...] = ()) -> dict[str, Any]:
    """Return the fields of a status about reversions."""
    return reversions_after(before or {}, reversions, lost, now=NOW)


def times(fields: dict[str, Any]) -> list[str]:
    """Return the times of the entries."""
    return [entry["time"] for entry in fields["reversions"]]


def test_a_reversion_names_who_undid_which_failover() -> None:
    """The target has the shape that it has in `status.switches`."""
    entry = {
        "time": "2026-11-23T01:59:00Z",
        "oldImage": FAILING,
        "newImage": SECOND,
        "target": {
            "name": "a-statefulset",
            "namespace": "shop",
            "type": {"group": "apps", "version": "v1", "kind": "StatefulSet"},
            "container": "web",
            "uid": "statefulset-uid",
        },
        "by": "kubectl",
    }
    assert {"reversions": [entry], "revertedCount": 0} == after(reversion())
    assert [{**entry, "pod": "web-0"}] == after(reversion(pod="web-0"))["reversions"]


def test_a_status_without_reversions_has_no_fields_for_them() -> None:
    """Most sources never have any; once there were some, the list is empty and not gone."""
    assert after() == {}
    assert {"reversions": [], "revertedCount": 0} == after(before={"reversions": []})


def test_a_reversion_is_kept_once() -> None:
    """Each decision finds the same reversion again."""
    once = after(reversion(2), reversion(2))
    assert once == after(reversion(2), before=once)
    assert 1 == len(once["reversions"])


@pytest.mark.parametrize(
    ("expected", "ago"),
    [
        pytest.param(0, 61, id="longer-than-an-hour-ago"),
        pytest.param(1, 60, id="an-hour-ago"),
        pytest.param(1, 0, id="now"),
        pytest.param(0, -61, id="a-time-that-somebody-made-up"),
    ],
)
def test_a_reversion_counts_for_an_hour(expected: int, ago: float) -> None:
    """After that, Saffire moves the container again."""
    written = after(reversion(ago), before={"reversions": []})
    assert expected == len(written["reversions"])


@pytest.mark.parametrize(
    ("expected", "reversions"),
    [
        pytest.param(0, [reversion(1)], id="once"),
        pytest.param(1, [reversion(1), reversion(2)], id="twice"),
        pytest.param(1, [reversion(ago) for ago in range(4)], id="four-times"),
        pytest.param(0, [reversion(1, pod="web-0"), reversion(2, pod="web-1")], id="two-pods"),
        pytest.param(1, [reversion(ago, pod=f"web-{n}") for ago in (1, 2) for n in (0, 1)], id="two-pods-twice-each"),
        pytest.param(2, [reversion(ago, container=name) for ago in (1, 2) for name in "ab"], id="two-containers"),
        pytest.param(0, [reversion(1), reversion(2, before="web:2")], id="two-images"),
    ],
)
def test_containers_that_are_left_alone_are_counted(expected: int, reversions: list[Reversion]) -> None:
    """`kubectl get ais` shows the number."""
    assert expected == after(*reversions)["revertedCount"]


def test_a_pod_that_is_its_own_workload_is_known_by_its_name() -> None:
    """Each time that it is made anew, it has another uid."""
    pods = [{**pod(), "metadata": {**pod()["metadata"], "uid": f"uid-{number}"}} for number in range(2)]
    undone = [reversion(ago, owner=owner, pod="web-0") for ago, owner in enumerate(pods)]
    assert 1 == after(*undone)["revertedCount"]
    assert 1 == len(
        after(reversion(1, owner=pods[0], pod="web-0"), reversion(1, owner=pods[1], pod="web-0"))["reversions"]
    )


def test_no_namespace_pushes_out_the_reversions_of_another() -> None:
    """A cluster-wide source has one list for all tenants."""
    loud = [reversion(number / 10, pod=f"web-{number}") for number in range(300)]
    metadata = {**SET["metadata"], "namespace": "quiet"}
    quiet = reversion(50, owner={**SET, "metadata": metadata})
    kept = after(*loud, quiet)["reversions"]
    assert 100 == len(kept)
    assert ("quiet", "web-0") == (kept[0]["target"]["namespace"], kept[-1]["pod"])


# Opt-outs that were lost

ACTIVE = {
    "target": {"name": "web", "namespace": "shop", "type": {"group": "apps", "kind": "Deployment"}, "uid": "u"},
    "container": "web",
    "from": FAILING,
    "to": SECOND,
    "since": timestamp(NOW - timedelta(hours=5)),
    "optedOut": True,
}


def test_an_opt_out_counts_for_an_hour_from_when_it_was_lost() -> None:
    """The failover itself may be much older."""
    written = after(lost=(ACTIVE,))
    (entry,) = written["reversions"]
    assert (ACTIVE["since"], timestamp(NOW), 0) == (entry["time"], entry["optedOut"], written["revertedCount"])
    later = reversions_after(written, [], [ACTIVE], now=NOW + 60 * MINUTE)
    assert written == later
    assert [] == reversions_after(written, [], [], now=NOW + 61 * MINUTE)["reversions"]


def test_a_decision_and_an_audit_may_both_find_it() -> None:
    """The entry is one, with the first of both times."""
    owner = {**workload("Deployment"), "metadata": {"name": "web", "namespace": "shop", "uid": "u"}}
    written = reversion(300, owner=owner, opted_out=True)
    assert 1 == len(after(written, lost=(ACTIVE,))["reversions"])


# What decisions read

SWITCH = {
    "time": timestamp(NOW),
    "oldImage": FAILING,
    "newImage": SECOND,
    "target": {
        "name": "a-statefulset",
        "namespace": "shop",
        "type": {"group": "apps", "version": "v1", "kind": "StatefulSet"},
        "container": "web",
        "uid": "statefulset-uid",
    },
    "reason": "ErrImagePull",
}
IN_PLACE = {**SWITCH, "pods": ["web-0", "web-1"]}


def with_status(**status: Any) -> Object:
    """Return a source with this status."""
    return {**source_manifest(), "status": status}


def test_switches_tell_what_was_moved() -> None:
    """A switch without names of pods moved the template."""
    recorded = recorded_moves([with_status(switches=[SWITCH, {**IN_PLACE, "time": timestamp(NOW + MINUTE)}])])
    (template,) = recorded.of_template(SET)
    assert ("web", FAILING, SECOND, NOW, "shop") == (
        template.container,
        template.before,
        template.after,
        template.at,
        template.source,
    )
    assert [NOW + MINUTE] == [entry.at for entry in recorded.of_pod(pod(), SET)]


def test_what_was_only_observed_is_no_move() -> None:
    """In mode Observe, Saffire patches nothing."""
    recorded = recorded_moves([with_status(switches=[{**SWITCH, "observed": True}])])
    assert () == recorded.of_template(SET)


def test_reversions_outlive_their_switches() -> None:
    """`status.switches` has only the newest 50 failovers of all workloads."""
    fields = after(reversion(1, pod="web-0"), reversion(2, pod="web-0"), reversion(3))
    recorded = recorded_moves([with_status(**fields)])
    assert {"web-0": 2} == recorded.undone_in_pods(SET, "web", FAILING, now=NOW)
    assert 1 == len(recorded.of_template(SET))


def test_opt_outs_are_read_from_both_lists() -> None:
    """An entry of `status.active` goes as soon as its container is off the alternative."""
    deployment = {**workload("Deployment"), "metadata": {"namespace": "shop", "uid": "u"}}
    for status in ({"active": [ACTIVE]}, after(lost=(ACTIVE,))):
        recorded = recorded_moves([with_status(**status)])
        assert [SECOND] == [entry.after for entry in recorded.before_opt_out(deployment, "web")]
        claimed = {**deployment, "metadata": {"namespace": "other", "uid": "u"}}
        assert () == recorded.before_opt_out(claimed, "web")
    others = [{**ACTIVE, "optedOut": False}, {key: value for key, value in ACTIVE.items() if key != "optedOut"}]
    assert () == recorded_moves([with_status(active=others)]).before_opt_out(deployment, "web")


def test_a_cluster_wide_source_is_named_as_in_the_history() -> None:
    """A reversion is written into the status of the source that made the failover."""
    source = {**cluster_source_manifest(), "status": {"switches": [SWITCH]}}
    (entry,) = recorded_moves([source]).of_template(SET)
    assert "ClusterAlternateImageSource/shop" == entry.source


UNDONE = {**SWITCH, "pod": "web-0", "by": "kubectl", "optedOut": timestamp(NOW)}
STATUS = {"switches": [IN_PLACE], "active": [ACTIVE], "reversions": [UNDONE]}


@given(paths_into(STATUS), json_values())
def test_any_status_can_be_read_and_written(path: tuple[Any, ...], value: Any) -> None:
    """Another writer may have left any value anywhere."""
    status = replaced(STATUS, path, value)
    recorded = recorded_moves([{**source_manifest(), "status": status}])
    assert isinstance(recorded.of_pod(pod(), SET), tuple)
    if isinstance(status, dict):
        fields = after(reversion(), before=status)
        assert 1 <= len(fields["reversions"]) <= 2


@given(st.lists(st.integers(0, 3), max_size=12))
def test_the_order_of_reversions_does_not_matter(agos: list[int]) -> None:
    """They are kept in the order of the failovers."""
    undone = [reversion(ago) for ago in agos]
    assert after(*undone) == after(*undone[::-1])
    assert times(after(reversion(1), *undone)) == sorted(times(after(reversion(1), *undone)))
