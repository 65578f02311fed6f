"""The bill of materials names everything in the image, and nothing else."""

import re

import pytest

from release import ROOT
from release.debian import ANYWHERE, PACKAGES
from release.image import Image
from release.sbom import bill_of_materials

pytestmark = pytest.mark.image


def test_it_names_every_package(image: Image) -> None:
    """A scanner that reads it finds what it finds in the image itself."""
    bill = bill_of_materials(image)
    names = sorted(component["name"] for component in bill["components"])
    wheels = re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert sorted([*wheels, *PACKAGES, *ANYWHERE]) == names
    assert all(re.match(r"pkg:(pypi/\S+@|deb/debian/\S+@\S+\?arch=)", part["purl"]) for part in bill["components"])


def test_it_is_about_this_image_and_the_same_each_time(image: Image) -> None:
    """Its subject is the digest; neither a time nor a number differs when it is written again."""
    bill = bill_of_materials(image)
    assert image.digest.replace(":", "%3A") in bill["metadata"]["component"]["purl"]
    assert bill == bill_of_materials(image)
