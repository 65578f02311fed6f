"""Active: who runs on an alternative, after each thing that may happen."""

from typing import Any

from saffire.record.failover_log import ActiveFailovers, container_key
from testkit.builders import FAILING, SECOND, THIRD, Object

TIMES = ("2026-11-23T02:00:00Z", "2026-11-23T02:01:00Z", "2026-11-23T02:02:00Z")
PROOF = {"healthySince": TIMES[0], "provenAt": TIMES[1], "blockedBy": "was"}


def target(uid: str = "web", namespace: str = "shop") -> Object:
    """Return whose container it is."""
    return {"uid": uid, "container": "web", "namespace": namespace}


def switch(before: str, after: str, minute: int = 0, uid: str = "web", **fields: Any) -> Object:
    """Return a move of that minute."""
    time = TIMES[minute]
    return {"time": time, "oldImage": before, "newImage": after, "target": target(uid), "proof": "present", **fields}


def away(uid: str = "web", namespace: str = "shop", **fields: Any) -> Object:
    """Return an entry of who was moved in the first minute."""
    known = {"container": "web", "from": FAILING, "to": SECOND, "since": TIMES[0], "proof": "present"}
    return {"target": target(uid, namespace), **known, **fields}


def after_failover(entries: list[Object], moved: Object) -> list[Any]:
    """Return the list after a failover."""
    active = ActiveFailovers(entries)
    active.add(moved)
    return active.entries


def test_whoever_fails_over_is_away() -> None:
    """With where it came from first, and since when."""
    assert [away()] == after_failover([], switch(FAILING, SECOND))
    assert [away(to=THIRD)] == after_failover([away(**PROOF)], switch(SECOND, THIRD, 1))


def test_whoever_moved_last_is_told_last() -> None:
    """That goes for those that had moved before, too."""
    assert [away("api"), away(to=THIRD)] == after_failover([away(), away("api")], switch(SECOND, THIRD, 1))


def test_the_list_keeps_those_who_moved_last() -> None:
    """A status has to stay small."""
    active = ActiveFailovers([away(f"web-{number}") for number in range(100)])
    active.add(switch(FAILING, SECOND))
    assert [away(f"web-{number}") for number in range(1, 100)] + [away()] == active.entries


def test_a_failover_ends_the_proofs_of_its_namespace() -> None:
    """What a source that speaks for several tells of another one stays."""
    others = [away("api", **PROOF), away("far", "elsewhere", **PROOF)]
    assert [away("api"), others[1], away()] == after_failover(others, switch(FAILING, SECOND))


def test_a_failover_to_the_original_ends_the_time_away() -> None:
    """The alternative failed, and the original did not."""
    assert [away("api")] == after_failover([away("api"), away()], switch(SECOND, FAILING, 1))


def test_what_is_told_late_says_where_someone_came_from_first() -> None:
    """Whoever has moved on since stays where it is; a failover that leads elsewhere says nothing of it."""
    moved_on = away(**{"from": SECOND}, to=THIRD)
    for image, expected in ((SECOND, away(to=THIRD)), ("elsewhere.example/web:1.2", moved_on)):
        active = ActiveFailovers([moved_on])
        active.add_late(switch(FAILING, image))
        assert [expected] == active.entries


def test_whoever_fails_back_is_away_no_longer() -> None:
    """The proofs of the others go on."""
    other = away("api", **PROOF)
    active = ActiveFailovers([other, away()])
    active.remove(switch(SECOND, FAILING, 1))
    assert [other] == active.entries


def test_one_container_is_in_the_list_once() -> None:
    """Where another writer left several, the last one counts: those who moved last stand at the end."""
    assert [away("api"), away(to=THIRD)] == ActiveFailovers([away(), away("api"), away(to=THIRD)]).entries


def test_entries_of_other_writers_are_told_apart() -> None:
    """One that names neither uid nor container in its target stands for a workload and a container all the same."""
    web = {"name": "web", "namespace": "shop", "type": {"group": "apps", "kind": "Deployment"}}
    theirs = {**away(), "target": web}
    others = [theirs, {**theirs, "container": "side"}, {**theirs, "target": {**web, "name": "api"}}]
    assert others == ActiveFailovers(others).entries


def test_a_container_is_known_by_the_uid_of_its_workload() -> None:
    """A name may be another's tomorrow."""
    assert ("web", "web") == container_key(away()) == container_key(switch(FAILING, SECOND))
    assert away() == ActiveFailovers([away()]).of(container_key(switch(FAILING, SECOND)))
