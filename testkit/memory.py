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


def _sum(pid: int, field: str) -> float:
    return sum(_kibibytes(process, field) for process in family(pid)) / MEBI


def _kibibytes(pid: int, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0])
