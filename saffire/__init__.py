"""
Saffire moves Kubernetes workloads to an equivalent repository when a container registry dies.

`function` receives an Event. Saffire carries out a decision as a JSON Patch of a pod or workload, and records it in the
status of a source. In the list below, each part imports only those below itself; `[tool.importlinter]` in
pyproject.toml enforces that::

    function      reads and answers HTTP requests with CloudEvents; the only wall clock
    dispatch      answers a request from memory, by a repair or by a sweep
    clients       opens and closes the clients of one instance
    triage        decides whether a CloudEvent makes a request; pure
    periodic/     what a timer starts: sweep, fail back, readiness probes
    reconcile/    one repair of a namespace: queue, gather, decide, apply
    record/       what Saffire writes for people: status, Events, log fields; only `writer` sends it
    policy/       decisions: pure, without I/O and clock
    pulls/        diagnosis: what a pod's status and a runtime's message say of failed pulls; pure
    sources/      AlternateImageSource and ClusterAlternateImageSource: parse, store, which apply, which wins
    settings      the settings that environment variables change
    registry/     the OCI distribution API, nothing of Saffire; I/O, and the meaning of statuses, in `transport`
    kube/         the Kubernetes API, nothing of Saffire; I/O in `client`
    errors        the errors of every part, each with its HTTP status
    logs, metrics, concurrency, proxies, ttl_cache        what every part may use
"""
