"""
The lookout: finds what waits for a registry that is down, before each of its pulls has failed by itself.

What an incident is stands in `incident`. Here the pods of one namespace are watched for it while they are listed, and
the registries in question are asked: none is down on the word of a runtime, or of a clock, alone.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from saffire.cause import Cause
from saffire.failure import Case, PullFailure
from saffire.incident import ANTICIPATED, STALLED, Down, anticipate, domain_of, may_stall, pulls, suspected
from saffire.manifest import Manifest, uid_of
from saffire.survey import Survey


class Lookout:
    """
    Watches the pods of one namespace at the time `now`.

    Args:
        survey: asks registries.
        stalls_after: how long a pull may take from a registry that does not answer us; `None` to ask nobody about that.

    """

    def __init__(self, survey: Survey, *, now: datetime, stalls_after: timedelta | None) -> None:
        self._survey = survey
        self._now = now
        self._stalls_after = stalls_after
        self._pulling: list[Manifest] = []

    def see(self, pod: Manifest) -> None:
        """Take note of a pod that is at a pull."""
        if pulls(pod):
            self._pulling.append(pod)

    async def extend(self, cases: Iterable[Case], failures: Iterable[PullFailure]) -> list[Case]:
        """Return the cases with what is anticipated to fail, or has stalled; `failures` are all that are known."""
        known = {uid_of(case.pod): case for case in cases}
        down = await self._down(failures) if self._pulling else {}
        for pod in self._pulling if down else ():
            case = known.get(uid_of(pod), Case(pod=pod, failures=()))
            expected = anticipate(pod, down, now=self._now)
            if expected:
                known[uid_of(pod)] = Case(pod=pod, failures=(*case.failures, *expected))
        return list(known.values())

    async def _down(self, failures: Iterable[PullFailure]) -> dict[str, Down]:
        """Return the registries that do not answer us, of those that are down in a runtime's words, or seem to hang."""
        told = suspected(failures)
        hanging = {}
        if self._stalls_after is not None:
            images = (
                image for pod in self._pulling for image in may_stall(pod, now=self._now, after=self._stalls_after)
            )
            hanging = {domain_of(image): image for image in images if domain_of(image)}
        asked = hanging | {domain: failure.image for domain, failure in told.items()}
        silent = await self._survey.silent(asked.values())
        return {
            domain: Down(reason=ANTICIPATED, cause=told[domain].cause)
            if domain in told
            else Down(reason=STALLED, cause=Cause.TIMEOUT)
            for domain, image in asked.items()
            if image in silent
        }
