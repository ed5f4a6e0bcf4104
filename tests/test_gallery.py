"""The gallery's page is what scripts/gallery.py writes, and names what makes each of its pictures."""

import sys
import tomllib
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import gallery

CONTENT = tomllib.loads((gallery.FOLDER / "gallery.toml").read_text())


def test_every_picture_stands_on_the_page_with_its_command():
    page = (gallery.FOLDER / "README.md").read_text()
    assert page == gallery.readme(CONTENT)
    for path in gallery.FOLDER.glob("*.png"):
        assert f"]({path.name})" in page, path.name
    assert f"python scripts/gallery.py {gallery.OVERVIEW}" in page


def test_the_overview_is_put_together_from_the_pictures_that_are_there():
    with Image.open(gallery.FOLDER / gallery.OVERVIEW) as there:
        assert np.array_equal(np.asarray(there.convert("RGB")), gallery.overview(CONTENT["picture"]))
