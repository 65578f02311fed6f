"""The report on fault cases in the summary of a test run."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from testkit.api.fault_cases import Case


@dataclass(slots=True)
class FaultReport:
    """By kind of workload: how many cases there were, and how each recovered."""

    counted: dict[str, str] = field(default_factory=dict)
    total: int = 0

    def add(self, kind: str, cases: Iterable[Case], *, seconds: float) -> None:
        """Count the cases of a kind."""
        cases_of_kind = list(cases)
        self.total += len(cases_of_kind)
        swept = sum(case.was_swept for case in cases_of_kind)
        again = sum(len(case.answers) > 1 and not case.was_swept for case in cases_of_kind)
        at_once = len(cases_of_kind) - swept - again
        counts = f"{at_once} at once, {again} when delivered again, {swept} by the sweep"
        self.counted[kind] = f"{len(cases_of_kind)} cases in {seconds:.0f} s: {counts}"

    def lines(self) -> Iterator[str]:
        """Yield a line for each kind, and one for all."""
        for kind, counts in self.counted.items():
            yield f"{kind:12} {counts}"
        yield f"{'all':12} {self.total} cases"
