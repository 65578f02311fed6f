"""A command line that cannot be carried out ends with status 2, and says what to type."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl_saffire.__main__ import main
from kubectl_saffire.commands import COMMANDS
from testkit.builders import kubeconfig
from testkit.listed_cluster import ListedCluster


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """Give the log back as it was: the plugin sends it to its own screen."""
    logger = logging.getLogger("saffire")
    handlers, propagate = logger.handlers, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate


def test_without_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kubeconfig that does not exist."""
    assert 2 == main(["status", "--kubeconfig", str(tmp_path / "nowhere")])
    said = capsys.readouterr()
    assert "error: no cluster to talk to" in said.err
    assert "Type --kubeconfig PATH or --context NAME" in said.err
    assert not said.out


def test_an_unknown_context(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named, with the command that lists those that exist."""
    config = kubeconfig(tmp_path, "http://127.0.0.1:1/")
    assert 2 == main(["status", "--kubeconfig", config, "--context", "staging\x1b[2J"])
    said = capsys.readouterr().err
    assert "staging\\x1b[2J" in said
    assert "kubectl config get-contexts" in said


def test_an_api_server_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error is one of the connection, not of what was typed."""
    assert 2 == main(["drill", "quay.io", "--kubeconfig", kubeconfig(tmp_path, "http://127.0.0.1:1")])
    assert "the API server did not answer" in capsys.readouterr().err


def test_a_namespace_that_is_no_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It gets into no URL."""
    config = kubeconfig(tmp_path, "http://127.0.0.1:1/")
    assert 2 == main(["drill", "quay.io", "-n", "../secrets", "--kubeconfig", config])
    assert "no namespace has this name" in capsys.readouterr().err


async def test_the_namespace_is_that_of_the_context(tmp_path: Path) -> None:
    """Without one there, it is `default`, as with kubectl; -n wins."""
    cluster = ListedCluster([])
    async with cluster.session(tmp_path, "why", "web") as typed:
        assert "default" == typed.session.namespace
    async with cluster.session(tmp_path, "why", "web", "-n", "shop") as typed:
        assert "shop" == typed.session.namespace


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_fits(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who forgets the arguments copies a line."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    said = capsys.readouterr().out
    assert f"kubectl saffire {command}" in said.partition("examples:")[2]
    assert max(map(len, said.splitlines())) <= 80
