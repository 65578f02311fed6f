"""
Builds what a release consists of, from this checkout and package registries; no Docker, no daemon, no root.

- `debian`: the packages that the image's root file system comes from, pinned by `base.lock`
- `rootfs`: the root file system: Debian's Python, the wheels of requirements.txt, the function, and their byte code
- `layout`: an OCI image layout, the same to the byte in every build
- `image`: the image of the function: its layers, its configuration, its platforms
- `sbom`: what the image was put together from
- `manifests`: what installs it
- `startup`: how much processor time the function takes until it listens

`make image` and `make release` run it. Saffire imports nothing of this package.
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent
"""The checkout."""
