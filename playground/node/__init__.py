"""A real node: kubelet and containerd, in a sandbox, with registries on loopback. It needs root."""
