"""One repair of a namespace: queue, gather, decide, apply."""
