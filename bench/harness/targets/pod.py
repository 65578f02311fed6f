"""
Saffire as within a pod, whose service account's files are in the folder `TMPDIR` instead of in their fixed place.

A pod has no kubeconfig, so it does not load what reads one.
"""

import os
from pathlib import Path

import main

# isort: split
# After Saffire, which imports only a part of the package.
from kubernetes.aio.config import incluster_config

_FOLDER = Path(os.environ["TMPDIR"])
incluster_config.SERVICE_TOKEN_FILENAME = str(_FOLDER / "token")
incluster_config.SERVICE_CERT_FILENAME = str(_FOLDER / "ca.crt")

receive = main.receive
