"""The page of a report: well-formed, complete, and safe whatever names are in it."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from kubectl_saffire.coverage import Coverage, Verdict
from kubectl_saffire.coverage_page import page
from saffire.policy.readiness import ReadinessState

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
HOSTILE = ["<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "$scope ${rows} $$", "a\x1b[2J\n\u202eb"]


class Parsed(HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.content: list[str] = []
        self._open: list[str] = []
        self.feed(content)
        self.close()
        assert [] == self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element; it has to be closed, unless it is void or a shape with a title."""
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Assert that elements are closed in the reverse order of their beginnings."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.content.append(data)


def image(name: str = "quay.io/acme/web:v1", verdict: Verdict = Verdict.READY, namespace: str = "shop") -> Coverage:
    """Return an image in use with one equivalent, or with none."""
    equivalents = () if verdict is Verdict.NONE else (("ghcr.io/acme/web:v1", ReadinessState.READY),)
    return Coverage(namespace=namespace, image=name, verdict=verdict, equivalents=equivalents)


def parsed(images: Sequence[Coverage], *, asked: bool = True, scope: str = "namespace shop") -> Parsed:
    """Return the page of a report, parsed."""
    return Parsed(page(images, scope=scope, now=NOW, asked=asked))


def test_a_page_has_what_an_auditor_keeps() -> None:
    """It says what it is about, when and how it was made, each image with its verdict, and the sum."""
    shown = parsed([image(), image("nginx", Verdict.NONE)])
    words = " ".join(" ".join(shown.content).split())
    for expected in (
        "namespace shop, 2026-11-23 02:00 UTC.",
        "were asked for this report",
        "1 of 2 images in use have a proven equivalent.",
        "no equivalent shop nginx none",
        "ready shop quay.io/acme/web:v1 ghcr.io/acme/web:v1: ready",
    ):
        assert expected in words
    assert "keeps in the status" in " ".join(parsed([image()], asked=False).content)


def test_the_chart_has_a_bar_for_each_verdict_of_a_registry() -> None:
    """The widths are proportional to the numbers of images, over all registries."""
    images = [image(f"quay.io/{number}", Verdict.READY) for number in range(3)]
    images += [image("quay.io/x", Verdict.NONE), image("nginx", Verdict.UNKNOWN), image("redis", Verdict.UNKNOWN)]
    shown = parsed(images)
    bars = [attributes for tag, attributes in shown.elements if tag == "rect"]
    hub, ready, none = (float(bar["width"] or 0) for bar in bars)
    starts = [float(bar["x"] or 0) for bar in bars]
    assert [starts[0], starts[0], pytest.approx(starts[1] + ready, abs=0.2)] == starts
    assert [pytest.approx(2 * none, abs=0.2), pytest.approx(3 * none, abs=0.2)] == [hub, ready]
    assert {"0/2", "3/4"} <= set(shown.content)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_never_markup(name: str) -> None:
    """Whoever may create pods writes text into the page, and no element, attribute or control character."""
    plain, hostile = parsed([image()]), parsed([image(name, namespace=name)], scope=name)
    assert [tag for tag, _ in plain.elements] == [tag for tag, _ in hostile.elements]
    assert not [key for _, attributes in hostile.elements for key in attributes if key.startswith("on")]
    assert page([image(name)], scope=name, now=NOW, asked=True).replace("\n", "").isprintable()


def test_a_page_loads_and_runs_nothing() -> None:
    """It can be kept and opened anywhere: no script, no address, and a policy that forbids them."""
    content = page([image()], scope="the whole cluster", now=NOW, asked=True)
    assert "default-src 'none'" in content
    assert [] == re.findall(r"<script|https?:|\burl\(|\bsrc=|\bhref=", content)


def test_a_page_without_images_is_a_page() -> None:
    """An empty namespace has a report, too."""
    assert "0 of 0 images in use have a proven equivalent." in "".join(parsed([]).content)
