"""
A packet filter of this machine, towards one address.

It rejects packets as a firewall between a node and a registry does: "administratively prohibited" (RFC 1812, section
5.2.7.1), which a program sees as "no route to host". It does not drop them: containerd then waits half a minute for
each try, and a node that joined lately is given three tries.
"""

from asyncio import StreamReader, subprocess
from typing import Self, cast

# The rule ends when the input does: the owner has closed the pipe, or is dead.
_SCRIPT = 'set -e; iptables --wait --insert "$@"; echo ready; cat >/dev/null; exec iptables --wait --delete "$@"'


class PacketFilterError(Exception):
    """The machine has no packet filter, or this process may not use it; the message says why."""


class PacketFilter:
    """
    Rejects every connection to one address of this machine; use as an async context manager. It needs root.

    The rule is gone when the context is left, and also when the process that entered it was killed.

    Args:
        address: the address, `HOST:PORT`, with an IPv4 address as the host.

    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        match = ("--protocol", "tcp", "--destination", host, "--destination-port", port)
        self._rule = ("OUTPUT", *match, "--jump", "REJECT", "--reject-with", "icmp-admin-prohibited")

    async def __aenter__(self) -> Self:
        pipe = subprocess.PIPE
        command = ("sh", "-c", _SCRIPT, "filter", *self._rule)
        # In a session of its own, an interrupt from the terminal does not end it before the rule is gone.
        self._process = await subprocess.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        try:
            line = await cast("StreamReader", self._process.stdout).readline()
        except BaseException:
            await self._end()
            raise
        if not line:
            raise PacketFilterError(await self._end())
        return self

    async def __aexit__(self, *_: object) -> None:
        errors = await self._end()
        if self._process.returncode:
            raise PacketFilterError(f"the rule is left behind: {errors}")

    async def _end(self) -> str:
        """End the rule; return the error output."""
        _, errors = await self._process.communicate(b"end")
        return errors.decode(errors="replace").strip()
