"""Masks in a folder of photographs are no photographs, and a data set is none either."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from synthskin.bias.tone_files import find_sources
from synthskin.dataset.format import DatasetError
from synthskin.dataset.photo_folder import find_photographs, left_out_words


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((64, 64, 3), (200, 160, 130), np.uint8)).save(path)
    return folder


def relative(folder, paths):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_masks_by_place_and_name_are_left_out(tmp_path):
    root = make(tmp_path / "p", "a.jpg", "below/b.PNG", "unmasked.jpg", "arm_lesion.jpg",
                "masks/a.png", "below/Masks/deep/b.png", "a_segmentation.png", "a_Mask.png", "a_superpixels.png",
                "a_attribute_milia_like_cyst.png", "below/b_lesion.bmp")
    (root / "notes.txt").write_text("x")
    (root / "folder.jpg").mkdir()
    found = find_photographs(root)
    # arm_lesion.jpg: there is no picture called arm, so it is a photograph of a lesion
    assert relative(root, found.photographs) == ["a.jpg", "arm_lesion.jpg", "below/b.PNG", "unmasked.jpg"]
    assert len(found.masks) == 7
    assert left_out_words(found.masks).startswith("7 pictures left out as masks by name or folder, first ")
    assert left_out_words(found.masks[:1]).startswith("1 picture left out as a mask by name or folder, ")
    assert left_out_words(()) == ""


def test_a_folder_that_is_called_masks_may_be_given_itself(tmp_path):
    root = make(tmp_path / "masks", "a.jpg")
    assert relative(root, find_photographs(root).photographs) == ["a.jpg"]


def test_the_folder_of_masks_that_is_named_is_left_out(tmp_path):
    root = make(tmp_path / "p", "a.jpg", "truth/a.png")
    assert len(find_photographs(root).photographs) == 2
    assert relative(root, find_photographs(root, root / "truth").photographs) == ["a.jpg"]
    aside = []
    found = find_sources([root], root / "truth", left_out=aside)
    assert [source.image.name for source in found] == ["a.jpg"] and found[0].mask == root / "truth" / "a.png"
    assert aside == [root / "truth" / "a.png"]


@pytest.mark.parametrize("mask", ["a.png", "a_segmentation.png", "a_lesion.bmp"])
def test_masks_beside_their_pictures(tmp_path, mask):
    root, aside = make(tmp_path / "p", "a.jpg", mask), []
    found = find_sources([root], root, left_out=aside)
    assert [(source.image.name, source.mask.name) for source in found] == [("a.jpg", mask)]
    assert aside == [root / mask]


def test_a_data_set_below_is_refused_and_named(tmp_path, capsys):
    from synthskin import cli

    root = make(tmp_path / "p", "iso/images/000000.png", "iso/masks/000000.png", "iso/preview.png")
    (root / "iso" / "dataset.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"a data set lies in it; give the set: .*/p/iso$"):
        find_photographs(root)
    make(root, "other/images/0.png")
    (root / "other" / "dataset.json").write_text("{}")
    for args in (["tone", str(root)], ["compare", str(root), str(root), "--out", str(tmp_path / "out")]):
        with pytest.raises(SystemExit) as done:
            cli.main(args)
        said = capsys.readouterr().err.strip()
        assert done.value.code == 2 and said.startswith("error: ") and "\n" not in said
        assert f"in it and 1 more; give the set: {root / 'iso'}" in said
    assert not (tmp_path / "out").exists()


def test_tone_tells_what_it_left_out(tmp_path, capsys):
    from synthskin import cli

    root = make(tmp_path / "p", "a.jpg", "b.jpg", "masks/a_segmentation.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(root / "masks" / "a_segmentation.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(root / "masks" / "b.png")
    with pytest.raises(SystemExit) as done:
        cli.main(["tone", str(root), "--masks", str(root / "masks"), "--json"])
    told = capsys.readouterr()
    assert done.value.code == 0 and "note: 2 pictures left out as masks" in told.err
    found = json.loads(told.out)
    assert [tone["file"] for tone in found["tones"]] == [str(root / "a.jpg"), str(root / "b.jpg")]
    assert found["masks_left_out"] == 2
    for path in (root / "a.jpg", root / "b.jpg"):
        path.unlink()
    with pytest.raises(SystemExit):
        cli.main(["tone", str(root)])
    assert "no picture there (2 pictures left out as masks" in capsys.readouterr().err


def test_compare_takes_photographs_alone(tmp_path, capsys):
    from synthskin import cli

    rng = np.random.default_rng(0)
    for side, masks in (("real", 3), ("made", 0)):
        for k in range(21):
            (tmp_path / side / "masks").mkdir(parents=True, exist_ok=True)
            skin = rng.integers(120, 220, (1, 1, 3)) + rng.integers(-20, 20, (32, 32, 3))
            Image.fromarray(skin.astype(np.uint8)).save(tmp_path / side / f"{k}.png")
            if k < masks:
                Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / side / "masks" / f"{k}.png")
    with pytest.raises(SystemExit) as done:
        cli.main(["compare", str(tmp_path / "real"), str(tmp_path / "made"), "--out", str(tmp_path / "out"), "--no-cnn",
                  "--masks", "none", "--size", "32"])
    assert done.value.code == 0 and "note: 3 pictures left out as masks" in capsys.readouterr().err
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(found[side]["n"], found[side]["masks_left_out"]) for side in ("real", "synthetic")] == [(21, 3), (21, 0)]


def test_a_classifier_judges_photographs_alone(tmp_path):
    from synthskin.classify.evaluation import judge

    class Even:
        classes = ("MEL", "NV")

        def predict(self, pictures, batch):
            return np.full((len(pictures), 2), 0.5, np.float32)

    root = make(tmp_path / "p", "a.jpg", "masks/a.png", "b_segmentation.png")
    found = judge(Even(), root)
    assert found.names == ("a.jpg",) and len(found.masks) == 2 and found.probabilities.shape == (1, 2)
    (root / "below").mkdir()
    (root / "below" / "dataset.json").write_text("{}")
    with pytest.raises(DatasetError, match="data set lies in it"):
        judge(Even(), root)
