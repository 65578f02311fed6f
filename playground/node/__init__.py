"""A real node: kubelet and containerd in a sandbox, and registries on loopback. It needs root and Linux."""
