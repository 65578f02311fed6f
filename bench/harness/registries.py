"""The registries of storms: one that dies, and one that lives."""

from dataclasses import dataclass

DEAD = "127.0.0.1:1"
"""Where nobody listens; the kubelets are played, and think otherwise until it is to die."""

OLD = f"{DEAD}/acme/web:v1"


@dataclass(frozen=True, slots=True)
class LiveRegistry:
    """The one that lives, at `domain`; it has the same images."""

    domain: str

    @property
    def new(self) -> str:
        """What `OLD` is called there."""
        return f"{self.domain}/acme/web:v1"
