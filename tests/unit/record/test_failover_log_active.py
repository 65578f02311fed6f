"""`active`: which containers run on an alternative, after each kind of event."""

from typing import Any

from saffire.record.failover_log import ActiveFailovers
from saffire.record.status_lists import container_key
from testkit.builders import FAILING, SECOND, THIRD, Object

TIMES = ("2026-11-23T02:00:00Z", "2026-11-23T02:01:00Z", "2026-11-23T02:02:00Z")
PROOF = {"healthySince": TIMES[0], "provenAt": TIMES[1], "blockedBy": "was"}


def target(uid: str = "web", namespace: str = "shop") -> Object:
    """Return the target of an entry."""
    return {"uid": uid, "container": "web", "namespace": namespace}


def switch(before: str, after: str, minute: int = 0, uid: str = "web", **fields: Any) -> Object:
    """Return the switch of a failover in that minute."""
    time = TIMES[minute]
    return {"time": time, "oldImage": before, "newImage": after, "target": target(uid), "proof": "present", **fields}


def entry(uid: str = "web", namespace: str = "shop", **fields: Any) -> Object:
    """Return the entry of a container that was moved in the first minute."""
    first_move = {"container": "web", "from": FAILING, "to": SECOND, "since": TIMES[0], "proof": "present"}
    return {"target": target(uid, namespace), **first_move, **fields}


def after_failover(entries: list[Object], moved: Object) -> list[Any]:
    """Return the entries after a failover."""
    active = ActiveFailovers(entries)
    active.add(moved)
    return active.entries


def test_a_container_that_fails_over_is_active() -> None:
    """Its entry has the image that it had first, and the time when it left that."""
    assert [entry()] == after_failover([], switch(FAILING, SECOND))
    assert [entry(to=THIRD)] == after_failover([entry(**PROOF)], switch(SECOND, THIRD, 1))


def test_the_container_that_moved_last_is_the_last_entry() -> None:
    """That also holds for a container that had moved before."""
    assert [entry("api"), entry(to=THIRD)] == after_failover([entry(), entry("api")], switch(SECOND, THIRD, 1))


def test_the_entries_that_moved_last_are_kept() -> None:
    """A status has to stay small."""
    active = ActiveFailovers([entry(f"web-{number}") for number in range(100)])
    active.add(switch(FAILING, SECOND))
    assert [entry(f"web-{number}") for number in range(1, 100)] + [entry()] == active.entries


def test_a_failover_ends_the_proofs_of_its_namespace() -> None:
    """A source that selects several namespaces keeps the proofs of the others."""
    others = [entry("api", **PROOF), entry("far", "elsewhere", **PROOF)]
    assert [entry("api"), others[1], entry()] == after_failover(others, switch(FAILING, SECOND))


def test_a_container_that_fails_over_to_its_original_is_active_no_longer() -> None:
    """The alternative failed, and the original did not."""
    assert [entry("api")] == after_failover([entry("api"), entry()], switch(SECOND, FAILING, 1))


def test_a_failover_that_is_added_late_gives_the_first_image() -> None:
    """The container has moved on since and stays where it is. A failover to another image changes nothing."""
    moved_on = entry(**{"from": SECOND}, to=THIRD)
    for image, expected in ((SECOND, entry(to=THIRD)), ("elsewhere.example/web:1.2", moved_on)):
        active = ActiveFailovers([moved_on])
        active.add_late(switch(FAILING, image))
        assert [expected] == active.entries


def test_a_container_that_fails_back_is_active_no_longer() -> None:
    """The other entries keep their proofs."""
    other = entry("api", **PROOF)
    active = ActiveFailovers([other, entry()])
    active.remove(switch(SECOND, FAILING, 1))
    assert [other] == active.entries


def test_one_container_is_in_the_list_once() -> None:
    """If another writer left several entries, the last one counts: it moved last."""
    assert [entry("api"), entry(to=THIRD)] == ActiveFailovers([entry(), entry("api"), entry(to=THIRD)]).entries


def test_entries_of_other_writers_are_told_apart() -> None:
    """Entries without a uid are told apart by kind, namespace, name and container."""
    web = {"name": "web", "namespace": "shop", "type": {"group": "apps", "kind": "Deployment"}}
    theirs = {**entry(), "target": web}
    others = [theirs, {**theirs, "container": "side"}, {**theirs, "target": {**web, "name": "api"}}]
    assert others == ActiveFailovers(others).entries


def test_the_key_of_a_container_has_the_uid_of_its_workload() -> None:
    """Another workload may have the same name later."""
    assert ("shop", "web", "web") == container_key(entry()) == container_key(switch(FAILING, SECOND))
    assert entry() == ActiveFailovers([entry()]).of(container_key(switch(FAILING, SECOND)))
