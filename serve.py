"""
Starts functions-framework, which serves main.py, on all addresses of IPv4 and of IPv6.

A kubelet sends the liveness probe to the first address of the pod, which may be one of IPv6. If `HOST` has no value,
functions-framework listens on IPv4 alone. The value `[::]` means all addresses of both. But a kernel without IPv6
(`ipv6.disable=1`) has no such sockets, so only the machine itself can tell which value is right.
"""

import os
import runpy
import socket


def all_addresses() -> str:
    """Return the value of `HOST` that means all addresses of this machine."""
    return "[::]" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - a pod serves its cluster


if __name__ == "__main__":
    os.environ["HOST"] = os.environ.get("HOST") or all_addresses()
    runpy.run_module("functions_framework", run_name="__main__")
