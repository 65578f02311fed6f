"""A packet filter keeps everybody from one registry, and is gone when its owner is."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from playground.cluster.polling import until
from playground.node.registries import Registry
from testkit import ROOT
from testkit.node.leftovers import DEADLINE_SECONDS

OWNER = """
import asyncio, sys
from playground.cluster.processes import ProcessError
from testkit.node.packet_filter import PacketFilter

async def own():
    try:
        async with PacketFilter(sys.argv[1]):
            print("filtered", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
    except ProcessError as error:
        print(f"no filter: {error}", flush=True)

asyncio.run(own())
"""


@contextmanager
def owned(address: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program that owns a filter towards `address`, until its input ends or it is killed."""
    pipe = subprocess.PIPE
    command = (sys.executable, "-c", OWNER, address)
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environ, stdin=pipe, stdout=pipe, text=True) as owner:
        try:
            yield owner
        finally:
            owner.kill()


async def reaches(address: str) -> bool:
    """Say whether this machine gets a connection to an address."""
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True


async def test_a_filter_is_towards_one_registry_and_gone_when_its_owner_is_killed() -> None:
    """The other registry is reached all the time; a machine without a packet filter says so and filters nothing."""
    async with Registry() as behind, Registry() as other:
        with owned(behind.domain) as owner:
            assert owner.stdout
            line = await asyncio.to_thread(owner.stdout.readline)
            assert line == "filtered\n" or line.startswith("no filter: ")
            is_filtered = line == "filtered\n"
            assert (not is_filtered, True) == (await reaches(behind.domain), await reaches(other.domain))
            owner.send_signal(signal.SIGKILL)
            async with asyncio.timeout(DEADLINE_SECONDS):
                await until(lambda: reaches(behind.domain))
