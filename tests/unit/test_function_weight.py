"""What a function loads: of its third-party packages, only what it uses."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from playground.certificates import CertificateAuthority
from testkit.builders import FAILING, event

ROOT = Path(__file__).parents[2]
# What Saffire has no use for, and dependencies would bring.
UNUSED = (
    "google.cloud.logging",
    "google.cloud.logging_v2",
    "grpc",
    "kubernetes.client",
    "kubernetes.config",
    "kubernetes.dynamic",
    "kubernetes.aio.client.api",
    "kubernetes.aio.client.models",
    "kubernetes.aio.dynamic",
    "oauthlib",
    "prometheus_client",
    "pydantic",
    "requests",
    "urllib3",
    "websocket",
    "yaml",
)
# Answers one event, within a cluster whose API server does not answer. Prints the modules before and after.
LOOK = """
import asyncio, sys
from starlette.requests import Request
import main
from kubernetes.aio.config import incluster_config

print(*sys.modules)
incluster_config.SERVICE_TOKEN_FILENAME, incluster_config.SERVICE_CERT_FILENAME = sys.argv[1:]
names = {"content-type": "application/json", "ce-specversion": "1.0", "ce-id": "1", "ce-source": "s",
         "ce-type": "dev.knative.apiserver.resource.add"}
headers = [(name.encode(), value.encode()) for name, value in names.items()]
body = sys.stdin.buffer.read()

async def look():
    messages = iter([{"type": "http.request", "body": body}])
    async def receive():
        return next(messages, None) or await asyncio.get_running_loop().create_future()
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b""}
    response = await main.receive(Request(scope, receive))
    assert b"the API server did not answer: ClientConnectorError" == response.body, response.body

asyncio.run(look())
print(*sys.modules)
"""


def test_a_first_look_loads_nothing_that_is_not_used(tmp_path: Path) -> None:
    """Neither does the start. A look loads no package that the start has not loaded: it would wait for it."""
    (tmp_path / "token").write_text("a token")
    (tmp_path / "ca.crt").write_bytes(CertificateAuthority().pem)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        service = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(closed.getsockname()[1])}
        process = subprocess.run(
            [sys.executable, "-c", LOOK, tmp_path / "token", tmp_path / "ca.crt"],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
            | service
            | {"SAFFIRE_LOG_FORMAT": "json"},
            input=json.dumps(event(f'Failed to pull image "{FAILING}": 503 Service Unavailable')),
            capture_output=True,
            text=True,
            check=False,
        )
    assert process.returncode == 0, process.stderr
    start, line, look = process.stdout.splitlines()
    assert '"Answered an event"' in line
    modules, late = set(look.split()), set(look.split()) - set(start.split())
    assert set() == {module for module in modules if any(f"{module}.".startswith(f"{name}.") for name in UNUSED)}
    assert {"saffire"} == {module.partition(".")[0] for module in late} - sys.stdlib_module_names
