"""What is recorded about the machine."""

from pathlib import Path

from bench.report.machine import commit, machine
from playground.cluster.commands import run


def test_memory_is_read_where_linux_tells_it(tmp_path: Path) -> None:
    """The memory is in MiB, and zero without /proc/meminfo."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       24682924 kB\nMemFree:        1 kB\n")
    assert [24104, 0] == [machine(path)["memory_mib"] for path in (meminfo, tmp_path / "nothing")]


async def test_a_commit_with_changes_is_told_from_one_without(tmp_path: Path) -> None:
    """A commit with uncommitted changes has a plus; changes of the benchmarks' own pages do not count."""
    git = ("git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x@example.com")
    assert "unknown" == await commit(tmp_path)
    await run(*git, "init", "--quiet")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "latest.json").touch()
    await run(*git, "commit", "--quiet", "--allow-empty", "--message=x")
    head = (await run(*git, "rev-parse", "--short=12", "HEAD")).strip()
    assert head == await commit(tmp_path)
    (tmp_path / "main.py").touch()
    assert f"{head}+" == await commit(tmp_path)
