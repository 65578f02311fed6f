"""How large a status becomes that Saffire writes: the API server stores no object of more than 1.5 MiB (etcd)."""

import json
from datetime import timedelta

from saffire.policy.plan import Failover, Reversion, Step
from saffire.pulls.failure import PullFailure, Section
from saffire.record.events import FailoverRecord
from saffire.record.status import RegistryAnswers, Review, status_after
from saffire.registry.reference import Reference
from saffire.sources.candidates import first_candidate
from testkit.builders import NOW, Object, source, source_manifest, workload

MANY = 200
NAME = "n" * 253
"""As long as the name of an object may be."""
SUFFIX = f":{'t' * 128}@sha256:{'0' * 64}"
PATH = "p" * 182


def entries(number: int) -> list[str]:
    """Return two repositories whose names are as long as a source may write them."""
    return [f"{letter}{number:02}.{'d' * 60}.example/{PATH}" for letter in "ab"]


def target(number: int) -> Object:
    """Return a workload with long names."""
    manifest = workload("Deployment")
    manifest["metadata"] |= {"name": NAME, "namespace": "n" * 63, "uid": f"{number:036}"}
    return manifest


def failover(number: int) -> Failover:
    """Return a failover of a pod of that workload, which somebody has put back."""
    before = f"{entries(0)[0]}{SUFFIX}"
    candidate = first_candidate(Reference.parse(before), [source(entries(0))])
    assert candidate
    failure = PullFailure(section=Section.CONTAINERS, container="c" * 63, image=before, reason="ImagePullBackOff")
    return Failover(
        failure=failure, candidate=candidate, workload=target(number), steps=(Step.PODS,), note="field manager " * 100
    )


def test_the_longest_status_can_be_stored() -> None:
    """All of its lists are full, and all names and images as long as they may be: it takes less than 1 MiB."""
    manifest = source_manifest(*map(entries, range(64)))
    pods = tuple(f"{number:02}{NAME[2:]}" for number in range(20))
    records = [
        FailoverRecord(failover=made, at=NOW + timedelta(seconds=number), regarding=made.workload, pods=pods)
        for number, made in enumerate(map(failover, range(MANY)))
    ]
    reversions = [
        Reversion(
            workload=target(number),
            container="c" * 63,
            before=record.failover.failure.image,
            after=record.failover.candidate.image,
            at=record.at,
            source="shop",
            pod=NAME,
            by="field manager " * 100,
        )
        for number, record in enumerate(records)
    ]
    answered_at = {entry.partition("/")[0]: NOW for number in range(64) for entry in entries(number)}
    written = status_after(
        manifest,
        [*records, *reversions],
        now=NOW + timedelta(seconds=MANY),
        review=Review(registry_answers=RegistryAnswers(answered_at=answered_at)),
    )
    assert written
    counts = {"switches": 50, "active": 100, "reversions": 100, "registries": 64}
    assert counts == {field: len(written[field]) for field in counts}
    assert 2**19 < len(json.dumps(written)) < 2**20
