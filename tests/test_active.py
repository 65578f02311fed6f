"""Active: who runs on an alternative, after each thing that may happen."""

from typing import Any

import pytest
from objects import FAILING, SECOND, THIRD, Object

from saffire.active import failed_back, failed_over, whose

TIMES = ("2026-11-23T02:00:00Z", "2026-11-23T02:01:00Z", "2026-11-23T02:02:00Z")
PROOF = {"healthySince": TIMES[0], "provenAt": TIMES[1], "hindrance": "was"}


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


def test_whoever_fails_over_is_away() -> None:
    """With where it came from first, and since when."""
    assert [away()] == failed_over([], switch(FAILING, SECOND))
    assert [away(to=THIRD)] == failed_over([away(**PROOF)], switch(SECOND, THIRD, 1))


def test_a_failover_ends_the_proofs_of_its_namespace() -> None:
    """What a source that speaks for several tells of another one stays."""
    others = [away("api", **PROOF), away("far", "elsewhere", **PROOF)]
    assert [away("api"), others[1], away()] == failed_over(others, switch(FAILING, SECOND))


def test_a_failover_to_the_original_ends_the_time_away() -> None:
    """The alternative failed, and the original did not."""
    assert [away("api")] == failed_over([away("api"), away()], switch(SECOND, FAILING, 1))


@pytest.mark.parametrize(
    ("left", "switches"),
    [
        pytest.param(0, [], id="nothing else"),
        pytest.param(0, [switch(FAILING, SECOND)], id="the way there"),
        pytest.param(1, [switch(FAILING, SECOND, 2)], id="it failed again since"),
        pytest.param(0, [switch(FAILING, SECOND, 2, "api")], id="another one failed since"),
        pytest.param(0, [switch(FAILING, SECOND, 2, observed=True)], id="it was only observed"),
    ],
)
def test_whoever_fails_back_is_away_no_longer(left: int, switches: list[Object]) -> None:
    """Unless it is told late, and has left once more; the proofs of the others go on."""
    other = away("api", **PROOF)
    assert [other, *[away()] * left] == failed_back([other, away()], switch(SECOND, FAILING, 1), switches)


def test_a_container_is_known_by_the_uid_of_its_workload() -> None:
    """A name may be another's tomorrow."""
    assert ("web", "web") == whose(away()) == whose(switch(FAILING, SECOND))
