"""An OCI image layout: the same tree gives the same bytes, and programs that others wrote can read it."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from release.commands import BuildError
from release.layout import CONFIG, MANIFEST, Layout


def tree(folder: Path, *, umask: int = 0o022, seconds: int = 0, backwards: bool = False) -> Path:
    """Make a small root file system, as another machine would: at another time, in another order."""
    before = os.umask(umask)
    try:
        names = ["app/main.py", "usr/bin/python", "usr/lib/ä/" + "x" * 120 + ".py"]
        for name in reversed(names) if backwards else names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            os.utime(path, (seconds, seconds))
        (folder / "usr/bin/python").chmod(0o777 & ~umask)
        (folder / "lib").symlink_to("usr/lib")
        (folder / "tmp").mkdir()
        (folder / "tmp").chmod(0o1777)
    finally:
        os.umask(before)
    return folder


def members(blob: bytes) -> dict[str, tarfile.TarInfo]:
    """Return the entries of a compressed layer."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as tar:
        return {entry.name: entry for entry in tar}


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    """Neither the time, nor the order in which files were made, nor the umask shows."""
    layouts = [Layout(tmp_path / "first"), Layout(tmp_path / "second")]
    trees = [
        tree(tmp_path / "here"),
        tree(tmp_path / "there", umask=0o077, seconds=10**9, backwards=True),
    ]
    layers = [layout.add_layer(root) for layout, root in zip(layouts, trees, strict=True)]
    for layout, layer in zip(layouts, layers, strict=True):
        layout.name(layer.blob, "v1")
        layout.archive(layout.folder.with_suffix(".tar"))
    assert layers[0] == layers[1]
    assert contents(layouts[0].folder) == contents(layouts[1].folder)
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_a_layer_is_what_its_tree_was(tmp_path: Path) -> None:
    """Files belong to root, and keep what a runtime needs: links, programs, and folders that all may write to."""
    layout = Layout(tmp_path / "layout")
    layer = layout.add_layer(tree(tmp_path / "tree"))
    blob = (layout.folder / "blobs/sha256" / layer.blob.digest.removeprefix("sha256:")).read_bytes()
    assert bytes(5) == blob[3:8], "RFC 1952: no flag for a name, and no time"
    entries = members(blob)
    assert [*map(str, sorted(map(Path, entries)))] == [*entries]
    assert ["app", "app/main.py", "lib", "tmp", "usr"] == [*entries][:5]
    assert {(0, 0, "", 0)} == {(entry.uid, entry.gid, entry.uname, entry.mtime) for entry in entries.values()}
    assert ("usr/lib", 0o1777) == (entries["lib"].linkname, entries["tmp"].mode)
    assert (0o755, 0o644) == (entries["usr/bin/python"].mode, entries["app/main.py"].mode)


def test_digests_and_sizes_are_those_of_the_blobs(tmp_path: Path) -> None:
    """A registry and a runtime check each of them."""
    layout = Layout(tmp_path / "layout")
    layer = layout.add_layer(tree(tmp_path / "tree"))
    config = layout.add(CONFIG, {"os": "linux"})
    layout.name(layout.add(MANIFEST, {"config": config.descriptor(), "layers": [layer.blob.descriptor()]}), "v1")
    blobs = {f"sha256:{path.name}": path.read_bytes() for path in (layout.folder / "blobs/sha256").iterdir()}
    assert {*blobs} == {f"sha256:{hashlib.sha256(blob).hexdigest()}" for blob in blobs.values()}
    (entry,) = json.loads((layout.folder / "index.json").read_text())["manifests"]
    assert ("v1", MANIFEST) == (entry["annotations"]["org.opencontainers.image.ref.name"], entry["mediaType"])
    manifest = json.loads(blobs[entry["digest"]])
    described = [entry, manifest["config"], *manifest["layers"]]
    assert [len(blobs[part["digest"]]) for part in described] == [part["size"] for part in described]
    unpacked = gzip.decompress(blobs[layer.blob.digest])
    assert (f"sha256:{hashlib.sha256(unpacked).hexdigest()}", len(unpacked)) == (layer.diff_id, layer.unpacked_size)


def test_without_gzip_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who builds on another system reads what is missing."""
    layout = Layout(tmp_path / "layout")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="gzip is missing"):
        layout.add_layer(tree(tmp_path / "tree"))
