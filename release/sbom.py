"""
The bill of materials of an image, in CycloneDX 1.5: its packages, so that scanners find known vulnerabilities.

uv lists the Python packages and their dependencies, from uv.lock; this module adds the Debian packages. The same image
always has the same bill of materials.
"""

import json
import sys
import uuid
from collections.abc import Iterator, Sequence
from email.parser import Parser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from release import ROOT
from release.commands import run
from release.debian import SUITE, Package
from release.image import Image


def bill_of_materials(image: Image) -> dict[str, Any]:
    """Return the bill of materials of an image."""
    uv = Path(sys.executable).with_name("uv")
    options = ("--frozen", "--no-dev", "--no-emit-project", "--quiet")
    bill: dict[str, Any] = json.loads(run(uv, "export", "--project", ROOT, *options, "--format", "cyclonedx1.5"))
    for component in bill["components"]:
        del component["externalReferences"]  # where the wheels of every platform are; requirements.txt has their hashes
    debian = [component for root in image.roots.values() for component in _debian(root.base, image.packages)]
    unique = {component["bom-ref"]: component for component in debian}
    bill["components"] += unique.values()
    whole = bill["metadata"]["component"]
    whole |= {"type": "container", "purl": f"pkg:oci/saffire@{quote(image.digest, safe='')}"}
    parts = [component["bom-ref"] for component in bill["components"]]
    bill["dependencies"].append({"ref": whole["bom-ref"], "dependsOn": parts})
    bill["metadata"]["timestamp"] = image.labels.created
    return bill | {"serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, image.digest)}"}


def _debian(root: Path, packages: Sequence[Package]) -> Iterator[dict[str, Any]]:
    """Yield the Debian packages of a root file system, as components."""
    for file in sorted((root / "var/lib/dpkg/status.d").iterdir()):
        fields = Parser().parsestr(file.read_text())
        name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}&distro={SUITE}"
        (sha256,) = (package.sha256 for package in packages if package.name == name and package.is_for(architecture))
        hashes = [{"alg": "SHA-256", "content": sha256}]
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "hashes": hashes}
