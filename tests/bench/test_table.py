"""The table of results."""

from bench.report.result import Result
from bench.report.table import cells, markdown, plain

MET = Result(figure="recovery: Pod, p50", unit="s", value=2.0, baseline=2.0, target=1.2)
MISSED = Result(figure="ignored", unit="/s", value=700, baseline=1000, better="higher", target=0.8)
BARE = Result(figure="memory", unit="MB", value=12.5, target=60.0)


def test_a_row_says_it_all() -> None:
    """A row has value, baseline, ratio and target, each with its unit, and whether the target is met."""
    assert ("recovery: Pod, p50", "2.00 s", "2.00 s", "1.00", "≤ 1.20", "met") == cells(MET)
    assert ("ignored", "700 /s", "1000 /s", "0.70", "≥ 0.80", "MISSED") == cells(MISSED)
    assert ("memory", "12.50 MB", "-", "-", "≤ 60.00 MB", "met") == cells(BARE)


def test_columns_are_aligned() -> None:
    """Names are aligned left, numbers right, and no line ends in spaces."""
    expected = [
        "figure                value   baseline  ratio      target",
        "recovery: Pod, p50   2.00 s     2.00 s   1.00      ≤ 1.20  met",
        "memory              12.50 MB          -      -  ≤ 60.00 MB  met",
    ]
    assert expected[0].split() == next(plain([MET, BARE])).split()
    lines = list(plain([MET, BARE]))
    assert [line.rstrip() for line in lines] == lines
    assert 1 == len({line.index("met") for line in lines[1:]})
    assert 1 == len(
        {line.index(number) + len(number) for line, number in zip(lines[1:], ("2.00 s", "12.50 MB"), strict=True)}
    )


def test_a_document_has_the_same_as_markdown() -> None:
    """Numbers are aligned right there too."""
    assert "| row | p50 |\n| --- | --: |\n| Pod | 2.00 s |\n" == markdown(("row", "p50"), [("Pod", "2.00 s")])
