"""The segmenter on files and sets, from Python and from the command line: nothing is lost, nothing written over."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from segment_sets import make_model, make_set, spot

from synthskin.dataset.reader import open_dataset, validate
from synthskin.segment import SegmentError, load_segmenter
from synthskin.segment.files import predict_files, score_sets
from synthskin.segment.predict import default_segmenter

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("sets") / "set")


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory):
    return make_model(folder, tmp_path_factory.mktemp("models") / "model")


def test_predicts_folders_and_goes_on(model, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(2)
    for k in range(4):
        Image.fromarray(spot(rng, 70 + k)[0]).save(pictures / f"p{k}.jpg")
    (pictures / "notes.txt").write_text("no picture")
    seg, out = load_segmenter(model, "cpu"), tmp_path / "out"
    done = predict_files(seg, [pictures], out, 3, probability=True)
    assert (done.total, done.made, done.left_out) == (4, 4, {})
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == ["p0", "p1", "p2", "p3"]
    mask = np.asarray(Image.open(out / "masks" / "p2.png"))
    assert mask.shape == (72, 72) and set(np.unique(mask)) <= {0, 255} and (out / "preview.png").is_file()
    assert rows[2]["area_share"] == pytest.approx((mask > 0).mean(), abs=1e-5)
    (out / "masks" / "p1.png").unlink()
    assert predict_files(seg, [pictures], out, 3, probability=True).made == 1
    (pictures / "p9.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(SegmentError, match=r"p9\.png.*--skip-bad"):
        predict_files(seg, [pictures], out)
    assert list(predict_files(seg, [pictures], out, skip_bad=True).left_out) == [str(pictures / "p9.png")]
    with pytest.raises(SegmentError, match="another segmenter"):
        predict_files(default_segmenter("cpu"), [pictures], out)
    with pytest.raises(SegmentError, match="is not there"):
        predict_files(seg, [tmp_path / "nothing"], tmp_path / "x")


def test_predictions_go_into_a_folder_of_their_own(folder, model, tmp_path):
    """Masks that somebody drew, or a set, are never written over; a set among pictures is no folder of pictures."""
    seg, pictures = load_segmenter(model), tmp_path / "p"
    pictures.mkdir()
    Image.fromarray(np.full((40, 40, 3), 180, np.uint8)).save(pictures / "a.png")
    mine = tmp_path / "mine/masks"
    mine.mkdir(parents=True)
    (mine / "a.png").write_bytes(b"drawn by hand")
    for out in (tmp_path / "mine", folder):
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        with pytest.raises(SegmentError, match="holds other files"):
            predict_files(seg, [pictures], out)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    with pytest.raises(SegmentError, match="a data set among other sources"):
        predict_files(seg, [pictures, folder], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def contents(out):
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def pictures(tmp_path):
    """Three good pictures, of which `damaged` spoils the last."""
    (tmp_path / "p").mkdir()
    rng = np.random.default_rng(3)
    for k in range(3):
        Image.fromarray(spot(rng, 64)[0]).save(tmp_path / f"p/p{k}.png")
    return tmp_path / "p"


def damaged(path, how):
    whole = path.read_bytes()
    if how == "truncated":
        path.write_bytes(whole[:-200])
    elif how == "flipped":  # whole by its header and its end
        path.write_bytes(whole[:len(whole) // 2] + bytes(64) + whole[len(whole) // 2 + 64:])
    elif how == "tiny":
        Image.new("RGB", (1, 1)).save(path)
    elif how == "thin":
        Image.new("RGB", (7, 64)).save(path)
    else:
        path.write_text("no picture")
    return path


@pytest.mark.parametrize(("how", "why"), [
    ("truncated", "is damaged"), ("flipped", "is damaged"), ("tiny", "1 x 1 pixels; at least 8 x 8 are needed"),
    ("thin", "7 x 64 pixels; at least 8 x 8 are needed"), ("text", "is no picture")])
def test_a_bad_picture_leaves_nothing_half_written_or_is_left_out(model, pictures, tmp_path, how, why):
    seg, bad = load_segmenter(model, "cpu"), damaged(pictures / "p2.png", how)
    out = tmp_path / "new/out"
    with pytest.raises(SegmentError, match=rf"p2\.png: .*{why}.*--skip-bad leaves it out; no mask was added"):
        predict_files(seg, [pictures], out, batch=1)
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(SegmentError, match=why):
        predict_files(seg, [pictures], tmp_path / "empty", batch=1, probability=True)
    assert list((tmp_path / "empty").iterdir()) == []
    predict_files(seg, [pictures / "p0.png"], out)
    before = contents(out)
    with pytest.raises(SegmentError, match=why):
        predict_files(seg, [pictures], out, batch=1)
    assert contents(out) == before
    done = predict_files(seg, [pictures], out, batch=3, skip_bad=True)
    assert (done.total, done.made, list(done.left_out)) == (2, 1, [str(bad)]) and why in done.left_out[str(bad)]
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["p0.png", "p1.png"]


def test_a_bad_picture_of_a_set_is_found_before_anything_is_written(folder, model, tmp_path):
    seg, here = load_segmenter(model, "cpu"), tmp_path / "set"
    shutil.copytree(folder, here)
    damaged(here / "images/000023.png", "truncated")
    with pytest.raises(SegmentError, match=r"images/000023\.png: is damaged.*mend the set"):
        predict_files(seg, [here], tmp_path / "out")
    with pytest.raises(SegmentError, match="--skip-bad: a data set is segmented whole"):
        predict_files(seg, [here], tmp_path / "out", skip_bad=True)
    assert not (tmp_path / "out").exists()
    assert len(predict_files(seg, [here / "images"], tmp_path / "out", skip_bad=True).left_out) == 1


def test_predicts_a_set_into_a_set(folder, model, tmp_path):
    seg, out = load_segmenter(model, "cpu"), tmp_path / "out"
    assert predict_files(seg, [folder], out).made == 24
    assert validate(out) == []
    before, after = open_dataset(folder), open_dataset(out)
    for old, new in zip(before.rows, after.rows, strict=True):
        assert new["mask_status"] == "predicted" and new["checkpoint"] == seg.sha256
        assert new["group_id"] == old["group_id"] and new["diagnosis"] == old["diagnosis"]
        assert new["parents"][-1]["file_name"] == old["file_name"]
        assert 0 <= json.loads(new["params"])["segmenter_confidence"] <= 1
    assert predict_files(seg, [folder], out).made == 0
    rows, figures = score_sets(seg, [folder], ("exact",))
    assert len(rows) == figures["n"] == 24 and figures["dice"] > 0.5
    assert set(figures["by_diagnosis"]) == {"NV", "healthy"}


def test_commands(folder, model, tmp_path):
    def call(*arguments):
        return subprocess.run([sys.executable, "-m", "synthskin.cli", "segmenter", *map(str, arguments)],
                              capture_output=True, text=True)

    done = call("score", model, folder, "--device", "cpu", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["n"] == 24
    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "b.png")
    done = call("predict", model, tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "o", "--skip-bad")
    assert done.returncode == 3 and f"left out: {tmp_path / 'a.png'}: 1 x 1 pixels" in done.stderr
    (tmp_path / "b.png").unlink()
    for arguments in (("predict", model, tmp_path / "a.png", "--out", tmp_path / "m"),
                      ("train", tmp_path / "none", "--out", tmp_path / "m"), ("show", tmp_path / "none"),
                      ("predict", tmp_path, folder, "--out", tmp_path / "m"),
                      ("train", folder, "--out", tmp_path / "m", "--size", "100")):
        done = call(*arguments)
        assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not (tmp_path / "m").exists()
