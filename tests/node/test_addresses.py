"""With the `HOST` of docs/install.md, the function answers at each address of its pod, of either family."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from testkit import ROOT

# Runs in a network of its own. That has loopback and nothing else, so all its addresses may be listened on.
_SCRIPT = """
import asyncio, fcntl, http.client, json, socket, struct, sys
from pathlib import Path
from urllib.parse import urlsplit

from playground.function_process import FunctionProcess

SET_FLAGS, UP = 0x8914, 1


def status(host, port):
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


async def main():
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text(sys.argv[1])
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh", b"lo", UP))
    async with FunctionProcess(Path("/nonexistent"), HOST="[::]") as served:
        port = urlsplit(served.url).port
        print(json.dumps([status("127.0.0.1", port), status("::1", port)]))


asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this kernel has no IPv6")
@pytest.mark.parametrize(
    ("disable_ipv6", "expected"), [("0", [200, 200]), ("1", [200, None])], ids=["both", "without-addresses-of-ipv6"]
)
def test_it_answers_at_addresses_of_ipv4_and_of_ipv6(disable_ipv6: str, expected: list[int | None]) -> None:
    """Knative's queue-proxy asks 127.0.0.1; the kubelet asks the first address of the pod, of either family."""
    command = ("unshare", "--net", sys.executable, "-c", _SCRIPT, disable_ipv6)
    run = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True, timeout=120)
    assert expected == json.loads(run.stdout)
