"""The registries of storms: one that dies, and one that lives."""

DEAD, ALIVE = "127.0.0.1:1", "127.0.0.1:2"
"""Where nobody listens, so that nothing leaves this machine; the kubelets are played, and think otherwise."""

OLD, NEW = f"{DEAD}/acme/web:v1", f"{ALIVE}/acme/web:v1"
