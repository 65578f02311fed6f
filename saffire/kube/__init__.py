"""
The Kubernetes API: one client, the resources that Saffire reads and patches, and how to read their manifests.

`client` imports a few modules from below `kubernetes.aio`. Before a module, Python runs the `__init__` of every package
above it. Those of the `kubernetes` package import all of that package, most of which Saffire does not use: see
docs/decisions/0020-the-kubernetes-package-is-imported-in-part.md. So here these packages get their place in
`sys.modules` before their `__init__` runs.
"""

import importlib.util
import sys
from typing import Any


def _defer(package: str) -> None:
    """
    Import a package without its `__init__`, so that modules below the package can be imported alone.

    The `__init__` runs as soon as any code asks the package for a name that the package does not have yet. So if
    another version of the package needs its own `__init__`, it takes longer to import, and works.
    """
    spec = importlib.util.find_spec(package)
    if not spec or not spec.loader:
        return  # whoever imports the package gets Python's own error
    module, loader = importlib.util.module_from_spec(spec), spec.loader

    def run(name: str) -> Any:
        vars(module).pop("__getattr__", None)
        loader.exec_module(module)
        return getattr(module, name)

    vars(module)["__getattr__"] = run  # PEP 562
    sys.modules[package] = module
    parent, _, name = package.rpartition(".")
    if parent:
        setattr(sys.modules[parent], name, module)


for _package in ("kubernetes", "kubernetes.aio", "kubernetes.aio.config", "kubernetes.aio.utils"):
    if _package not in sys.modules:
        _defer(_package)
