"""
Saffire moves Kubernetes workloads to an equivalent repository when a container registry dies.

The listing of this folder follows an Event: it comes in at the top, each part calls only those below it, and what was
decided leaves as a patch and a record. `[tool.importlinter]` in pyproject.toml holds the order::

    function      HTTP and CloudEvents, in and out; the only wall clock
    dispatch      a request becomes an answer: from memory, by a repair or by a sweep
    clients       opens and closes the clients of one instance
    triage        is a CloudEvent worth a look? pure
    periodic/     what a timer starts: sweep, fail back, readiness probes
    reconcile/    one repair of a namespace: queue, gather, decide, apply
    record/       what is left behind for people: status, Events, log fields; only `writer` writes
    policy/       decisions: pure, without I/O and clock
    pulls/        diagnosis: what a pod's status and a runtime's words say of failed pulls; pure
    sources/      AlternateImageSource and ClusterAlternateImageSource: parse, store, select
    settings      what the environment may change
    registry/     the OCI distribution API, nothing of Saffire; I/O in `transport`
    kube/         the Kubernetes API, nothing of Saffire; I/O in `client`
    logs, concurrency, ttl_cache, errors          what every part may use
"""
