"""
Runs the event source until SIGTERM: `python -m eventsource --help`.

How it reaches the API server, and how it logs, is set by the same environment variables as for the function
(`saffire.settings`).
"""

import argparse
import asyncio
import os
import re
import signal
import socket
import sys
from typing import NoReturn

from eventsource.election import RETRY_SECONDS, Election
from eventsource.health import health_server
from eventsource.leading import Leader
from eventsource.watch import WatchingServer
from saffire import logs
from saffire.errors import SettingsError, TransientError
from saffire.settings import Settings

_LEASE = re.compile(r"[^/]+/[^/]+")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m eventsource", description=__doc__.partition("\n\n")[0].strip())
    add = parser.add_argument
    add("--sink", default="http://localhost:8080/", help="the URL of the function")
    add("--lease", default="", metavar="NAMESPACE/NAME", help="the Lease of the leader; without it, this source leads")
    add(
        "--identity", default=socket.gethostname(), help="the holder of the Lease; by default the host, that is the pod"
    )
    add("--health-port", default=8081, type=int, metavar="PORT", help="the port of /healthz and /readyz")
    arguments = parser.parse_args()
    if arguments.lease and not _LEASE.fullmatch(arguments.lease):
        parser.error("--lease: not NAMESPACE/NAME")  # a source without a Lease would post beside the leader
    return arguments


class Program:
    """The event source, as the command line and the environment configure it."""

    def __init__(self, arguments: argparse.Namespace, settings: Settings) -> None:
        self._arguments = arguments
        self._settings = settings
        self._fault = "has not started"
        self._leader: Leader | None = None
        self._election: Election | None = None

    def fault(self) -> str:
        """Return why the source does not do its work; `""` if it does."""
        parts = (self._election, self._leader)
        return self._fault or next((part.fault for part in parts if part and part.fault), "")

    async def run(self) -> NoReturn:
        """Run until this is cancelled."""
        async with health_server(self._arguments.health_port, self.fault):
            server = await self._connected()
            try:
                await self._run_with(server)
            finally:
                await server.close()

    async def _connected(self) -> WatchingServer:
        """Return the API server; until the pod has a token for it, try again every two seconds."""
        while True:
            try:
                server = await WatchingServer.connect(
                    self._settings.kubeconfig,
                    timeout_seconds=self._settings.request_timeout_seconds,
                    x509_strict=self._settings.api_server_x509_strict,
                    proxies=self._settings.proxies,
                )
            except TransientError as error:
                self._fault = str(error)
                logs.failed("Cannot connect to the cluster", {"error": str(error)})
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._fault = ""
                return server

    async def _run_with(self, server: WatchingServer) -> NoReturn:
        leader = self._leader = Leader(
            server, self._arguments.sink, shortest_seconds=self._settings.sweep_interval_seconds
        )
        namespace, _, lease = self._arguments.lease.partition("/")
        if not lease:
            await leader.lead(lambda: True)
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease}"
        election = self._election = Election(
            server, path, self._arguments.identity, function_answers=leader.function_answers
        )
        await election.run(lambda: leader.lead(election.is_leader))


async def _run_until_terminated(program: Program) -> None:
    running = asyncio.ensure_future(program.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    await asyncio.wait([running])
    if not running.cancelled():
        running.result()


def main() -> None:
    """Run the program; end at once if a setting is wrong."""
    arguments = _arguments()
    try:
        settings = Settings.from_environ(os.environ)
    except SettingsError as error:
        sys.exit(str(error))
    logs.configure(settings.log_level, settings.log_format)
    asyncio.run(_run_until_terminated(Program(arguments, settings)))


if __name__ == "__main__":
    main()
