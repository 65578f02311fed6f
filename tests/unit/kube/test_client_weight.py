"""What the client imports of the `kubernetes` package."""

import subprocess
import sys


def modules_after(code: str) -> set[str]:
    """Return the modules that a new process has loaded after it has run the code."""
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def of_the_package(modules: set[str]) -> set[str]:
    """Return those modules that belong to the `kubernetes` package."""
    return {module for module in modules if f"{module}.".startswith("kubernetes.")}


def test_the_client_imports_little_of_the_package() -> None:
    """A dozen modules do configuration and transport; neither the synchronous client nor a model is among them."""
    loaded = of_the_package(modules_after("import saffire.kube.client"))
    assert {"kubernetes.aio.client.rest", "kubernetes.aio.config.incluster_config"} < loaded
    assert {"kubernetes", "kubernetes.aio"} == {module for module in loaded if module.count(".") < 2}
    assert len(loaded) <= 16


def test_the_package_is_whole_for_whoever_asks() -> None:
    """Only its import is put off: all names are there, and are what they are without Saffire."""
    ask = """
import kubernetes, kubernetes.aio
from kubernetes import client, config
from kubernetes.aio.config import load_kube_config
assert kubernetes.__version__ == kubernetes.aio.__version__
assert kubernetes.client is client and kubernetes.config is config
assert kubernetes.aio.client.CoreV1Api is not client.CoreV1Api
assert load_kube_config is kubernetes.aio.config.load_kube_config
assert kubernetes.aio.utils.create_from_dict and kubernetes.aio.watch.Watch
"""
    whole = of_the_package(modules_after(ask))
    assert whole == of_the_package(modules_after(f"import saffire.kube.client{ask}"))


def test_the_plain_import_loads_many_more_modules() -> None:
    """As soon as the package itself imports little, `saffire/kube/__init__.py` need not put anything off any more."""
    plain = modules_after("import kubernetes.aio.client.rest, kubernetes.aio.config.incluster_config")
    assert len(plain) >= len(modules_after("import saffire.kube.client")) + 200
