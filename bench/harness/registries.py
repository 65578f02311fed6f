"""The two registries of storms: one fails, the other works. Both are simulated, and have the same images."""

from dataclasses import dataclass

DEAD_PORT = 5199
"""Below the ports that Linux gives to programs that ask for any (`ip_local_port_range`)."""

DEAD = f"127.0.0.1:{DEAD_PORT}"
"""It works until it is lost. From then on, kubelets, which are simulated, are refused, and Saffire gets a 503."""

OLD = f"{DEAD}/acme/web:v1"


@dataclass(frozen=True, slots=True)
class LiveRegistry:
    """The registry that works, at `domain`. It has the same images."""

    domain: str

    @property
    def new(self) -> str:
        """The reference of `OLD` in this registry."""
        return f"{self.domain}/acme/web:v1"
