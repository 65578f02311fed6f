"""
The event source for clusters without Knative: `python -m eventsource` beside the function, in the same pod.

It watches what Knative's ApiServerSource would watch for Saffire, and asks for a sweep every minute, as a PingSource
would. The function cannot tell the difference: `cloudevent` writes the requests of Knative's adapters, and `delivery`
posts them by the same rules. The playground uses these two modules, too. If several sources run, only the one that
holds a Lease posts.

Each module imports only those below itself; pyproject.toml enforces that::

    __main__      reads the command line and the environment, and runs until SIGTERM
    leading       what the source does while it leads: forwards and asks for sweeps
    election      takes a Lease, renews it, and gives it back
    forwarding    follows one collection and posts its changes
    sweep         asks for a sweep every minute, and after each gap in what was watched
    watch         reads collections from the API server; I/O
    health        answers the kubelet's probes
    delivery      posts a request to the function, and again if that may help
    cloudevent    the requests, byte by byte; pure
"""
