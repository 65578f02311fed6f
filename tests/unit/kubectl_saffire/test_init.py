"""`init` on a screen: the source on the standard output, and what to type next on the other."""

from io import StringIO
from pathlib import Path

import pytest
import yaml

from kubectl_saffire.errors import UsageError
from testkit.builders import pod, workload
from testkit.listed_cluster import ListedCluster, placed

MAP = ("--map", "quay.io/acme=ghcr.io/acme")
WEB = placed(workload("Deployment", web="quay.io/acme/web:1.2", log="docker.io/fluent/fluent-bit:3"), "web")


async def typed(folder: Path, *arguments: str, cluster: ListedCluster | None = None) -> tuple[int, str, str]:
    """Type a command for the namespace `shop`; return its exit status, and what it wrote to both outputs."""
    async with (cluster or ListedCluster([WEB])).session(folder, "init", "-n", "shop", *arguments) as command:
        status = await command.run()
        return status, command.out, command.err


async def test_the_screens(tmp_path: Path) -> None:
    """The source can be piped on; what has no mapping, and what to type next, is beside it in 80 columns."""
    status, out, err = await typed(tmp_path, *MAP)
    assert (0, """\
apiVersion: saffire.fairwinds.com/v1alpha1
kind: AlternateImageSource
metadata:
  name: saffire
  namespace: shop
spec:
  imageSourceReplacements:
  - equivalentRepositories:
    - quay.io/acme/*
    - ghcr.io/acme/*
""") == (status, out)  # fmt: skip
    assert (
        """\
These images in use have no mapping. Type, with your own registry for REGISTRY:
  --map docker.io/fluent=REGISTRY/fluent
      for docker.io/fluent/fluent-bit
Nothing is applied; type --apply, or pipe this into kubectl apply -f -
"""
        == err
    )


async def test_without_a_mapping_there_is_nothing_to_pipe_on(tmp_path: Path) -> None:
    """The exit status tells a script so."""
    status, out, err = await typed(tmp_path)
    assert (1, "") == (status, out)
    assert "  --map quay.io/acme=REGISTRY/acme\n" in err
    assert (1, "", "No image is in use in shop.\n") == await typed(
        tmp_path, *MAP, cluster=ListedCluster([placed(pod(web="a.io/a"), "bare", "other"), _namespace("shop")])
    )


def _namespace(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


async def test_mappings_come_from_files_and_from_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file says that Saffire cannot is named; all mappings of a path make one set."""
    file = tmp_path / "registries.conf"
    file.write_text('[[registry]]\nprefix = "quay.io"\n[[registry.mirror]]\nlocation = "a.io"\n'
                    '[[registry]]\nprefix = "*.example.com"\nlocation = "b.io"\n')  # fmt: skip
    mirrors = [{"source": "quay.io", "mirrors": ["c.io"]}]
    manifest = {
        "apiVersion": "config.openshift.io/v1",
        "kind": "ImageTagMirrorSet",
        "spec": {"imageTagMirrors": mirrors},
    }
    monkeypatch.setattr("sys.stdin", StringIO(yaml.safe_dump(manifest)))
    status, out, err = await typed(tmp_path, "--from", str(file), "--from", "-", "--map", "quay.io=d.io")
    expected = [{"equivalentRepositories": ["quay.io/*", "d.io/*", "a.io/*", "c.io/*"]}]
    assert (0, expected) == (status, yaml.safe_load(out)["spec"]["imageSourceReplacements"])
    assert "*.example.com is left out" in " ".join(err.split())


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("--map quay.io: wants FROM=TO, such as quay.io/acme=ghcr.io/acme", ["--map", "quay.io"]),
        ("--name Shop: wants lower-case letters", ["--name", "Shop", *MAP]),
        ("missing.yaml: No such file or directory", ["--from", "/nowhere/missing.yaml"]),
        ("neither a registries.conf in TOML nor manifests", ["--from", "BINARY"]),
        ("can't decode", ["--from", "LATIN"]),
    ],
)
async def test_what_cannot_be_read_is_refused(tmp_path: Path, words: str, arguments: list[str]) -> None:
    """The error says what was typed, and what to type instead, in 80 columns."""
    (tmp_path / "BINARY").write_bytes(b"\x00\x01[")
    (tmp_path / "LATIN").write_bytes(b"\xff\xfe")
    files = [str(tmp_path / word) if word.isupper() else word for word in arguments]
    with pytest.raises(UsageError) as refused:
        await typed(tmp_path, *files)
    assert words in " ".join(str(refused.value).split())


async def test_a_namespace_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """A typing error is no empty namespace."""
    with pytest.raises(UsageError, match="there is no namespace shop"):
        await typed(tmp_path, *MAP, cluster=ListedCluster([]))


async def test_an_image_that_is_none_is_named_escaped(tmp_path: Path) -> None:
    """Nothing that somebody wrote into a pod steers the terminal, or gets into the source."""
    hostile = placed(pod(web="$(touch owned)\x1b[2J\nkind: Secret", api="quay.io/acme/api"), "bare")
    status, out, err = await typed(tmp_path, *MAP, cluster=ListedCluster([hostile]))
    assert 0 == status
    assert out.replace("\n", "").isprintable()
    assert "Secret" not in out
    assert r"$(touch owned)\x1b[2J\nkind: Secret: not an image reference" in " ".join(err.split())
    assert err.replace("\n", "").isprintable()


async def test_a_long_list_of_repositories_is_cut(tmp_path: Path) -> None:
    """Six names are enough to see which they are."""
    many = placed(pod(**{f"c{number}": f"quay.io/acme/i{number}" for number in range(9)}), "bare")
    _, _, err = await typed(tmp_path, cluster=ListedCluster([many]))
    assert "quay.io/acme/i5 and 3 more" in " ".join(err.split())


async def test_the_guard_of_the_session_stays_shut_without_apply(tmp_path: Path) -> None:
    """Only GET requests are sent."""
    cluster = ListedCluster([WEB])
    await typed(tmp_path, *MAP, cluster=cluster)
    assert {"GET"} == {request.partition(" ")[0] for request in cluster.requests}
