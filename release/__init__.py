"""
Builds what a release consists of, from this checkout and package registries, without Docker, a daemon or root.

- `debian`: the packages that the image's root file system comes from, pinned by `base.lock`
- `rootfs`: the root file system: Debian's Python, the wheels of requirements.txt, the function, and their byte code
- `layout`: an OCI image layout, the same to the byte in every build
- `image`: the image of the function: its layers, its configuration, its platforms
- `sbom`: the bill of materials: the packages in the image
- `manifests`: the manifests that install it
- `startup`: how much processor time the function takes until it answers

`make image` and `make release` run it. Saffire imports nothing of this package.
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent
"""The checkout."""
