"""The memory of a process and its descendants, as Linux counts it."""

from pathlib import Path

MEBI = 1024


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(descendant for child in children for descendant in family(int(child)))]


def resident(pid: int) -> float:
    """
    Return the resident memory (`VmRSS`) of a process and its descendants, in MiB.

    Memory that they share counts for each.
    """
    return _sum(pid, "VmRSS")


def peak(pid: int) -> float:
    """Return the highest resident memory (`VmHWM`) of each of them, added up, in MiB."""
    return _sum(pid, "VmHWM")


def proportional(pid: int) -> float:
    """
    Return the proportional set size (`Pss`) of a process and its descendants, in MiB.

    Memory that processes share counts once, divided among them; so what is shared with strangers counts in part.
    """
    return _sum(pid, "Pss", "smaps_rollup")


def _sum(pid: int, field: str, file: str = "status") -> float:
    return sum(_kibibytes(Path(f"/proc/{process}/{file}"), field) for process in family(pid)) / MEBI


def _kibibytes(file: Path, field: str) -> int:
    return int(file.read_text().partition(f"{field}:")[2].split()[0])
