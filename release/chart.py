"""
The Helm chart of a release: the objects of `install.yaml` and its like as templates, and what `deploy/chart/` has.

The chart has no manifests of its own, so it installs what the other ways install. Its values only add to that.
"""

import functools
import gzip
import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from release import ROOT
from release.commands import BuildError

FOLDER = ROOT / "deploy/chart"
WAYS = {"standalone": "deploy/standalone", "eventing-only": "deploy/eventing-only", "knative": "knative"}
"""The values of `way`, and the folder of the kustomization behind each."""

_NAMESPACE = "saffire"
_EXPRESSIONS = {
    r"__namespace__": r"{{ .Release.Namespace }}",
    r"__image__": r"{{ .Values.image }}",
}
_BLOCKS = {
    r"^(?P<indent> *)- name: __settings__\n": (
        "{indent}{{{{- range $name, $value := .Values.settings }}}}\n"
        "{indent}- name: {{{{ $name }}}}\n"
        "{indent}  value: {{{{ $value | quote }}}}\n"
        "{indent}{{{{- end }}}}\n"
    ),
    r"^(?P<indent> *)resources: __resources__\n": (
        "{indent}resources:\n{indent}  {{{{- toYaml .Values.resources | nindent {deeper} }}}}\n"
    ),
    r"^(?P<indent> *)imagePullSecrets: __secrets__\n": (
        "{indent}{{{{- with .Values.imagePullSecrets }}}}\n"
        "{indent}imagePullSecrets:\n{indent}  {{{{- toYaml . | nindent {deeper} }}}}\n"
        "{indent}{{{{- end }}}}\n"
    ),
    r"^(?P<indent> *)__pod__: true\n": (
        "{indent}{{{{- with .Values.pod }}}}\n{indent}{{{{- toYaml . | nindent {here} }}}}\n{indent}{{{{- end }}}}\n"
    ),
}
"""Marks of `_marked`, by the pattern of their line, and what Helm has to do there."""


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as a block, so that a person can read the rules of the admission policy."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def files(rendered: Mapping[str, str], image: str) -> dict[str, bytes]:
    """
    Return the files of the chart, by their path in it.

    `rendered` has the manifests of each of `WAYS` as YAML, with the image `image`, which becomes the value's default.
    """
    chart = {str(path.relative_to(FOLDER)): path.read_text() for path in FOLDER.rglob("*") if path.is_file()}
    chart["values.yaml"] = re.sub(r"^image: .*$", f"image: {image}", chart["values.yaml"], count=1, flags=re.MULTILINE)
    for way, text in rendered.items():
        objects = list(yaml.safe_load_all(text))
        chart[f"templates/{way}.yaml"] = template(way, objects, image)
        for crd in objects:
            if crd["kind"] == "CustomResourceDefinition":
                # Helm prints these files one after the other.
                printed = yaml.dump(crd, Dumper=_Dumper, sort_keys=False, explicit_start=True)
                chart[f"crds/{crd['metadata']['name']}.yaml"] = printed
    return {path: content.encode() for path, content in sorted(chart.items())}


def template(way: str, objects: list[Any], image: str) -> str:
    """Return the template of one way: its objects without the namespace, which Helm makes, and without CRDs."""
    wanted = [item for item in objects if item["kind"] not in {"Namespace", "CustomResourceDefinition"}]
    text = yaml.dump_all(_marked(wanted, image), Dumper=_Dumper, sort_keys=False, width=10**6)
    if "{{" in text:
        raise BuildError(f"a manifest of {WAYS[way]} has {{{{ in it, which Helm would take for its own")
    for mark, expression in _EXPRESSIONS.items():
        text = text.replace(mark, expression)
    for pattern, block in _BLOCKS.items():
        text = re.sub(pattern, functools.partial(_filled, block), text, flags=re.MULTILINE)
    return f'{{{{- if eq .Values.way "{way}" }}}}\n{text}{{{{- end }}}}\n'


def package(chart: Mapping[str, bytes]) -> bytes:
    """Return a chart as `helm package` makes it, and the same bytes each time: a tar file, with gzip."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in chart.items():
            entry = tarfile.TarInfo(f"saffire/{path}")
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


def _filled(block: str, line: re.Match[str]) -> str:
    """Return a block for Helm, as deep as the line that it replaces."""
    indent = line["indent"]
    return block.format(indent=indent, here=len(indent), deeper=len(indent) + 2)


def _marked(objects: list[Any], image: str) -> Iterator[Any]:
    """Yield objects with a mark wherever a value of the chart belongs."""
    for item in objects:
        marked = _with_marks(item, image)
        if marked["kind"] == "ServiceAccount":
            marked["imagePullSecrets"] = "__secrets__"
        if marked["kind"] == "Deployment":
            marked["spec"]["template"]["spec"]["__pod__"] = True
        yield marked


def _with_marks(value: Any, image: str) -> Any:
    match value:
        case dict():
            marked = {key: _with_marks(inner, image) for key, inner in value.items()}
            if marked.get("namespace") == _NAMESPACE:
                marked["namespace"] = "__namespace__"
            if (value.get("name"), value.get("image")) == ("saffire", image):  # the function's container
                marked["env"].append({"name": "__settings__"})
                marked["resources"] = "__resources__"
            return marked
        case list():
            # In the list of namespaces that may connect.
            return ["__namespace__" if item == _NAMESPACE else _with_marks(item, image) for item in value]
        case str() if value == image:
            return "__image__"
        case str():
            text = value.replace(f"system:serviceaccount:{_NAMESPACE}:", "system:serviceaccount:__namespace__:")
            return text.replace(f"--lease={_NAMESPACE}/", "--lease=__namespace__/")
    return value
