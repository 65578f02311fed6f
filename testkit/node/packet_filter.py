"""
A packet filter of this machine, towards one address.

It rejects packets as a firewall between a node and a registry does: "administratively prohibited" (RFC 1812, section
5.2.7.1), which a program sees as "no route to host". It does not drop them: containerd then waits half a minute for
each try, and a node that joined lately is given three tries.
"""

from playground.cluster.processes import TiedProcess

_SCRIPT = 'set -e; iptables --wait --insert "$@"; echo ready; cat >/dev/null; exec iptables --wait --delete "$@"'


class PacketFilter(TiedProcess):
    """
    Rejects every connection to one address of this machine; use as an async context manager. It needs root.

    The rule is gone when the context is left, and also when the process that entered it was killed. If the machine has
    no packet filter, or this process may not use it, entering raises `ProcessError`.

    Args:
        address: the address, `HOST:PORT`, with an IPv4 address as the host.

    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        match = ("--protocol", "tcp", "--destination", host, "--destination-port", port)
        rule = ("OUTPUT", *match, "--jump", "REJECT", "--reject-with", "icmp-admin-prohibited")
        super().__init__("the packet filter", "sh", "-c", _SCRIPT, "filter", *rule)
