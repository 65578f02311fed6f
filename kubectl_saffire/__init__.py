"""
`kubectl saffire`: tells what Saffire would do, does, and did not do, in the cluster of a kubeconfig.

kubectl runs an executable of the name `kubectl-saffire` on the PATH as a plugin. `python -m kubectl_saffire` is the
same. The plugin only reads: it sends GET requests and nothing else, except that `init --apply` creates a source. It
decides nothing itself: what would happen to a container is what `saffire.reconcile.gather.Decisions` says, the plan of
the function.

Each module imports only those below itself; pyproject.toml enforces that::

    __main__      reads the command line, connects, and runs a command
    commands/     the commands, a module each
    view          how fates look on the screen
    documents     a drill as JUnit's XML and as HTML
    advice        the next step for a container that would hang
    usage         the images in use, and what registries answer about their equivalents
    rehearsal     the fate of failing containers, by the function's plan
    registries    what registries answer in a rehearsal
    estate        reads the cluster with few list requests
    session       the connection: kubeconfig, context, namespace
    screen        writes to the terminal: escapes, wraps and colours
    coverage_page the page of a report in HTML
    proposal      the sources that images in use need; pure
    copying       what has to be copied, and the commands for it; pure
    coverage      which images have a proven equivalent; pure
    mappings      which paths are equal, as users and other programs write it; pure
    errors        what a user of the plugin did wrong
"""
