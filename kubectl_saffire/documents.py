"""A drill as a document: JUnit's XML for a pipeline, and a page of HTML that somebody can keep."""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from kubectl_saffire.screen import plural
from saffire.kube.manifest import printable

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em;max-width:75em}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;vertical-align:top;padding:.3em .8em;border-bottom:1px solid #ccc;overflow-wrap:anywhere}"
    ".hangs{color:#b00020}code{background:#f3f3f3}"
)
_MOVES = ("Namespace", "Workload", "Container", "Pods", "To", "Strategy", "Ready pods replaced", "Note")
_HANGS = ("Namespace", "Workload", "Container", "Pods", "Image", "Reason", "Next step")


def junit(report: Mapping[str, Any]) -> str:
    """Return a drill as a test suite: a test case for each container, which fails if the container would hang."""
    moves, hangs = report["moves"], report["hangs"]
    name = _safe(f"drill {' '.join(report['registries'])}")
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name="{name}" tests="{len(moves) + len(hangs)}" failures="{len(hangs)}">',
        *(f"  <testcase {_case(move)}/>" for move in moves),
    ]
    for hang in hangs:
        words = "\n".join(_safe(part) for part in (hang["image"], hang["step"], hang["command"]) if part)
        message = f"{hang['reason']}: {hang['message']}" if hang["message"] else hang["reason"]
        lines += [
            f"  <testcase {_case(hang)}>",
            f'    <failure type="{_safe(hang["reason"])}" message="{_safe(message)}">{words}</failure>',
            "  </testcase>",
        ]
    return "\n".join((*lines, "</testsuite>", ""))


def html(report: Mapping[str, Any]) -> str:
    """Return a drill as a page that needs nothing else: no script, no style sheet, no font."""
    names, moves, hangs = " and ".join(report["registries"]), report["moves"], report["hangs"]
    assumed = "" if report["asked"] else " Alternatives were taken as present; nobody asked their registries."
    total = f"{plural(len(moves), 'container')} would move and {len(hangs)} would hang.{assumed}"
    return "\n".join(
        (
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>If {_safe(names)} died</title>',
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>If {_safe(names)} died at {_safe(report['time'])}</h1><p>{_safe(total)}</p>",
            *_table("What would hang", _HANGS, map(_hang_cells, hangs), css="hangs"),
            *_table("What would move", _MOVES, map(_move_cells, moves)),
            "</body></html>",
            "",
        )
    )


def _table(title: str, header: Iterable[str], rows: Iterable[tuple[str, ...]], *, css: str = "") -> Iterator[str]:
    lines = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
    if lines:
        yield f'<h2 class="{css}">{title}</h2><table>'
        yield f"<tr>{''.join(f'<th>{cell}</th>' for cell in header)}</tr>"
        yield from lines
        yield "</table>"


def _place_cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return (*(_safe(entry[key]) for key in ("namespace", "workload", "container")), str(len(entry["pods"])))


def _move_cells(move: Mapping[str, Any]) -> tuple[str, ...]:
    strategy, replaced = ", ".join(move["strategy"]), str(move["readyPodsReplaced"])
    to = f"{_safe(move['to'])}<br>{_safe(move['proof'])}; by {_safe(move['by'])}"
    return (*_place_cells(move), to, _safe(strategy), replaced, _safe(move["note"]))


def _hang_cells(hang: Mapping[str, Any]) -> tuple[str, ...]:
    command = f"<br><code>{_safe(hang['command'])}</code>" if hang["command"] else ""
    reason = f"{_safe(hang['reason'])}<br>{_safe(hang['message'])}"
    return (*_place_cells(hang), _safe(hang["image"]), reason, f"{_safe(hang['step'])}{command}")


def _case(entry: Mapping[str, Any]) -> str:
    return f'classname="{_safe(entry["namespace"])}" name="{_safe(entry["workload"])} {_safe(entry["container"])}"'


def _safe(text: str) -> str:
    """Return a text of the cluster for XML and HTML: printable, with the characters of markup escaped."""
    return escape(printable(text))
