"""The plots, parsed as XML."""

import xml.etree.ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.report.plot import LEFT, RIGHT, WIDTH, Bar, Plot, step

SVG = "{http://www.w3.org/2000/svg}"
POSITIVE = st.floats(0.001, 1000)


def plot(*rows: tuple[str, list[Bar]]) -> ET.Element:
    """Return the plot of rows with two bars each."""
    made = Plot(title="a < b", unit="s", series=("ours", "theirs"), rows=rows)
    return ET.fromstring(made.svg())  # noqa: S314 -- it is our own


def bars(svg: ET.Element) -> list[float]:
    """Return the width of each bar."""
    return [float(bar.attrib["width"]) for bar in svg.iter(f"{SVG}rect")][2:]


def test_a_bar_is_as_long_as_its_value() -> None:
    """Twice the value is twice the length, and the tail begins at the end of the bar."""
    svg = plot(("Pod", [Bar(typical=1.0, tail=2.0), Bar(typical=2.0, tail=2.0)]))
    first, second = bars(svg)
    assert 2 * first == second
    ends = [(float(line.attrib["x1"]), float(line.attrib["x2"])) for line in svg.iter(f"{SVG}line")][-2:]
    assert [(LEFT + first, LEFT + second), (LEFT + second, LEFT + second)] == ends


def test_names_are_text_whatever_they_are() -> None:
    """Names with markup are escaped."""
    texts = [text.text for text in plot(("x & y", [])).iter(f"{SVG}text")]
    assert {"a < b", "ours", "theirs", "x & y"} <= set(texts)


def test_there_is_nothing_but_drawing() -> None:
    """A plot has no script and no link, so that a page may show it."""
    svg = plot(("Pod", [Bar(typical=1.0, tail=1.0)]))
    assert {"svg", "style", "text", "rect", "line"} == {element.tag.removeprefix(SVG) for element in svg.iter()}


@settings(deadline=None)
@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=4))
def test_everything_is_inside(pairs: list[tuple[float, float]]) -> None:
    """Whatever the values, no bar leaves the plot, and the longest takes more than half of it."""
    rows = [("row", [Bar(typical=min(pair), tail=max(pair))]) for pair in pairs]
    ends = [float(line.attrib["x2"]) for line in plot(*rows).iter(f"{SVG}line") if "stroke" in line.attrib]
    assert LEFT + (WIDTH - LEFT - RIGHT) / 2 < max(ends) <= WIDTH - RIGHT + 0.1


@settings(deadline=None)
@given(st.floats(1e-5, 1e6))
def test_a_step_is_the_next_round_number(least: float) -> None:
    """It is 1, 2 or 5 times a power of ten, not less than asked for, and at most 2.5 times that."""
    rounded = step(least)
    assert f"{rounded:e}"[0] in "125"
    assert least * (1 - 1e-6) <= rounded <= 2.5 * least * (1 + 1e-6)
