"""
`kubectl saffire`: tells what Saffire would do, does, and did not do, in the cluster of a kubeconfig.

kubectl runs an executable of the name `kubectl-saffire` on the PATH as a plugin. `python -m kubectl_saffire` is the
same. The plugin only reads: it sends GET requests and nothing else. It decides nothing itself: what would happen to a
container is what `saffire.reconcile.gather.Decisions` says, the plan of the function.

Each module imports only those below itself; pyproject.toml enforces that::

    __main__      reads the command line, connects, and runs a command
    commands/     the commands, a module each
    view          how fates look on the screen
    documents     a drill as JUnit's XML and as HTML
    advice        the next step for a container that would hang
    rehearsal     the fate of failing containers, by the function's plan
    registries    what registries answer in a rehearsal
    estate        reads the cluster with few list requests
    session       the connection: kubeconfig, context, namespace
    screen        writes to the terminal: escapes, wraps and colours
    errors        what a user of the plugin did wrong
"""
