"""
The page of a report: coverage as one file of HTML, with a chart, to be kept as evidence.

The page loads nothing and runs nothing (no script, no address of elsewhere; its Content-Security-Policy forbids both).
Names come from the cluster, and all of them are escaped.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from string import Template

from kubectl_saffire.coverage import Coverage, Verdict, by_registry, worst_first
from saffire.kube.manifest import printable

_COLOURS = {
    Verdict.READY: "#1a7f37",
    Verdict.UNKNOWN: "#9a6700",
    Verdict.NOT_READY: "#cf222e",
    Verdict.NONE: "#57606a",
}
_WIDTH, _BAR, _ROW, _NAMES = 860, 18, 30, 280
_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Images in use without a proven equivalent</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1f2328; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid #d0d7de; }
td { overflow-wrap: anywhere; }
td.verdict { white-space: nowrap; font-weight: 600; }
svg { width: 100%; height: auto; }
svg text { font: 14px system-ui, sans-serif; fill: #1f2328; }
.key { display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 1rem; }
</style>
</head>
<body>
<h1>Images in use without a proven equivalent</h1>
<p>$scope, $now. $how</p>
<p><strong>$summary</strong></p>
<h2>Coverage by registry</h2>
<p>$legend</p>
$chart
<h2>Images</h2>
<table>
<thead><tr><th>Verdict</th><th>Namespace</th><th>Image</th><th>Equivalents</th></tr></thead>
<tbody>
$rows
</tbody>
</table>
</body>
</html>
""")


def page(images: Sequence[Coverage], *, scope: str, now: datetime, asked: bool) -> str:
    """Return the page. `scope` says in words which part of the cluster it is about; `now` is a time in UTC."""
    ready = sum(image.verdict is Verdict.READY for image in images)
    how = (
        "The registries of the equivalents were asked for this report."
        if asked
        else "The states are those that Saffire keeps in the status of its sources."
    )
    return _PAGE.substitute(
        scope=_text(scope),
        now=f"{now:%Y-%m-%d %H:%M} UTC",
        how=how,
        summary=f"{ready} of {len(images)} images in use have a proven equivalent.",
        legend="".join(
            f'<span class="key" style="background:{_COLOURS[verdict]}"></span>{verdict}'
            for verdict in reversed(Verdict)
        ),
        chart=_chart(by_registry(images)),
        rows="\n".join(map(_row, worst_first(images))),
    )


def _chart(counts: Mapping[str, Counter[Verdict]]) -> str:
    """Return the bars of all registries, whose widths are proportional to the numbers of images, as SVG."""
    most = max((of_registry.total() for of_registry in counts.values()), default=1)
    room = _WIDTH - _NAMES - 60
    rows = []
    for place, (registry, of_registry) in enumerate(counts.items()):
        top, left = place * _ROW, float(_NAMES)
        rows.append(f'<text x="0" y="{top + 14}">{_text(registry)}</text>')
        for verdict in reversed(Verdict):
            width = room * of_registry[verdict] / most
            if width:
                rows.append(
                    f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{_COLOURS[verdict]}">'
                    f"<title>{_text(registry)}: {of_registry[verdict]} {verdict}</title></rect>"
                )
            left += width
        rows.append(
            f'<text x="{left + 8:.1f}" y="{top + 14}">{of_registry[Verdict.READY]}/{of_registry.total()}</text>'
        )
    height = max(1, len(counts)) * _ROW
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="images with a proven equivalent, by registry">\n'
        + "\n".join(rows)
        + "\n</svg>"
    )


def _row(image: Coverage) -> str:
    equivalents = "<br>".join(f"{_text(name)}: {state}" for name, state in image.equivalents) or "none"
    return (
        f'<tr><td class="verdict" style="color:{_COLOURS[image.verdict]}">{image.verdict}</td>'
        f"<td>{_text(image.namespace)}</td><td>{_text(image.image)}</td><td>{equivalents}</td></tr>"
    )


def _text(text: str) -> str:
    """Return a text of the cluster as text of the page: printable, and never markup."""
    return escape(printable(text))
