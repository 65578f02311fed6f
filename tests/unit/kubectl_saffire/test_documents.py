"""A drill as a document: well-formed, whatever the cluster has written."""

import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kubectl_saffire.documents import html, junit
from testkit.builders import source_manifest
from testkit.listed_cluster import ListedCluster, deployed

HOSTILE = """</failure><script>alert(1)</script>"'&\x1b[2J\x00"""
PLACE = {"namespace": "shop", "workload": HOSTILE, "container": HOSTILE, "image": HOSTILE, "pods": [HOSTILE]}
REPORT = {
    "time": "2026-11-23T02:00:00Z",
    "registries": ["quay.io"],
    "asked": False,
    "moves": [
        {
            **PLACE,
            "to": HOSTILE,
            "by": HOSTILE,
            "strategy": ["pods"],
            "proof": "",
            "readyPodsReplaced": 3,
            "note": HOSTILE,
        }
    ],
    "hangs": [{**PLACE, "reason": HOSTILE, "message": HOSTILE, "step": HOSTILE, "command": HOSTILE}],
}


async def written(folder: Path, form: str) -> str:
    """Return what a drill of quay.io writes in a form; one workload moves, and another would hang."""
    cluster = ListedCluster([source_manifest(), *deployed("web"), *deployed("left", "quay.io/acme/left:1")])
    async with cluster.session(folder, "drill", "quay.io", "-o", form) as typed:
        assert 1 == await typed.run()
    return typed.out


async def test_a_pipeline_reads_junit(tmp_path: Path) -> None:
    """A container that would hang is a failed test case, with the reason and the step that frees it."""
    suite = ET.fromstring(await written(tmp_path, "junit"))  # noqa: S314 - this project wrote it
    assert ("2", "1") == (suite.get("tests"), suite.get("failures"))
    [failure] = suite.iter("failure")
    assert "RepositoryNotListed" == failure.get("type")
    assert "kubectl edit ais shop -n shop" in (failure.text or "")
    assert {"Deployment/web web", "Deployment/left web"} == {case.get("name") for case in suite.iter("testcase")}


async def test_a_page_to_keep(tmp_path: Path) -> None:
    """It says when the drill was, and has both tables."""
    page = await written(tmp_path, "html")
    for words in ("If quay.io died at 2026-11-23T02:00:00Z", "What would hang", "What would move", "Deployment/left"):
        assert words in page


class Tags(HTMLParser):
    """Collects the tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, _: list[tuple[str, str | None]]) -> None:
        """Take note of a tag."""
        self.tags.add(tag)


@pytest.mark.parametrize("form", [html, junit])
def test_hostile_texts_stay_texts(form: object) -> None:
    """A name that looks like markup is shown, and adds no element."""
    assert callable(form)
    document = form(REPORT)
    assert document.isascii()
    assert document.replace("\n", "").isprintable()
    assert "script" not in Tags(document).tags
    if form is junit:
        [failure] = ET.fromstring(document).iter("failure")  # noqa: S314 - this project wrote it
        assert "alert(1)" in (failure.text or "")
