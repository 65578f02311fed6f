"""The two registries of storms: one fails, the other works."""

from dataclasses import dataclass

DEAD = "127.0.0.1:1"
"""Nothing listens here. The kubelets are simulated, and pull from it until it is said to fail."""

OLD = f"{DEAD}/acme/web:v1"


@dataclass(frozen=True, slots=True)
class LiveRegistry:
    """The registry that works, at `domain`. It has the same images."""

    domain: str

    @property
    def new(self) -> str:
        """The reference of `OLD` in this registry."""
        return f"{self.domain}/acme/web:v1"
