"""The segmenter where pictures, masks or splits have changed: nothing is passed off as made from what is there."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from segment_sets import make_set, settings, spot
from test_segment import changed

from synthskin.progress import PlainProgress
from synthskin.segment import SegmentError, load_segmenter
from synthskin.segment.data import collect
from synthskin.segment.files import predict_files
from synthskin.segment.network import CARD, WEIGHTS
from synthskin.segment.predict import default_segmenter
from synthskin.segment.train import train_segmenter

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("sets") / "set")


def photographs(out, seed, n=3):
    out.mkdir()
    rng = np.random.default_rng(seed)
    for k in range(n):
        Image.fromarray(spot(rng, 64)[0]).save(out / f"{k:06d}.png")
    return out


def contents(out):
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def lines(out):
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def test_masks_of_other_pictures_of_the_same_names_are_refused(tmp_path):
    seg, out = default_segmenter("cpu"), tmp_path / "out"
    one, two = photographs(tmp_path / "one", 1), photographs(tmp_path / "two", 2)
    predict_files(seg, [one], out)
    before = contents(out)
    with pytest.raises(SegmentError, match=r"another 000000\.png \(of .*/one\), and 2 more; choose another --out"):
        predict_files(seg, [two], out)
    assert contents(out) == before
    shutil.copytree(one, tmp_path / "copy")  # the same pictures elsewhere are the same pictures
    done = predict_files(seg, [tmp_path / "copy"], out)
    assert (done.made, done.redone, done.total) == (0, 0, 3)


def test_a_picture_that_was_replaced_is_segmented_again(tmp_path):
    seg, out = default_segmenter("cpu"), tmp_path / "out"
    pictures = photographs(tmp_path / "p", 1)
    predict_files(seg, [pictures], out, probability=True)
    kept = (out / "masks/000002.png").stat().st_mtime_ns
    Image.fromarray(spot(np.random.default_rng(9), 64)[0]).save(pictures / "000001.png")
    done = predict_files(seg, [pictures], out, probability=True)
    assert (done.made, done.redone, done.total) == (1, 1, 3)
    predict_files(seg, [pictures], tmp_path / "anew", probability=True)
    assert (out / "masks/000002.png").stat().st_mtime_ns == kept
    for name in ("masks/000001.png", "probabilities/000001.png", "predictions.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "anew" / name).read_bytes()
    (pictures / "000001.png").write_bytes(b"\x89PNG broken")  # its old mask does not stay
    assert list(predict_files(seg, [pictures], out, skip_bad=True).left_out) == [str(pictures / "000001.png")]
    assert not (out / "masks/000001.png").exists() and [row["name"] for row in lines(out)] == ["000000", "000002"]


def test_rows_without_a_hash_are_made_again(tmp_path):
    """predictions.jsonl of a synthskin that told no hashes: nobody knows what the masks are of."""
    seg, out = default_segmenter("cpu"), tmp_path / "out"
    pictures = photographs(tmp_path / "p", 1)
    predict_files(seg, [pictures], out)
    whole = contents(out)
    old = [{key: value for key, value in row.items() if key not in ("sha256", "folder")} for row in lines(out)]
    (out / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    done = predict_files(seg, [pictures], out)
    assert (done.made, done.redone) == (3, 3) and contents(out) == whole


def test_a_set_of_masks_is_not_continued_from_other_pictures(folder, tmp_path):
    seg, out = default_segmenter("cpu"), tmp_path / "out"
    shutil.copytree(folder, tmp_path / "set")
    predict_files(seg, [tmp_path / "set"], out)
    assert predict_files(seg, [tmp_path / "set"], out).made == 0
    before = contents(out)
    Image.fromarray(spot(np.random.default_rng(5), 64)[0]).save(tmp_path / "set/images/000000.png")
    with pytest.raises(SegmentError, match=r"was made from another images/000000\.png than .*; choose another --out"):
        predict_files(seg, [tmp_path / "set"], out)
    assert contents(out) == before


def inverted(folder, out):
    """A copy of the set with every mask turned inside out."""
    shutil.copytree(folder, out)
    for path in (out / "masks").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    return out


class StopsAt(PlainProgress):
    """Ctrl-C after so many pictures were learnt from."""

    def step(self, done):
        if done >= 8:
            raise KeyboardInterrupt


@pytest.mark.parametrize("finished", [True, False])
def test_a_training_notices_other_masks(folder, tmp_path, finished):
    here, out = tmp_path / "set", tmp_path / "model"
    shutil.copytree(folder, here)
    if finished:
        train_segmenter([here], out, settings(steps=3), "cpu")
        assert train_segmenter([here], out, settings(steps=3), "cpu").was_done
    else:
        with pytest.raises(KeyboardInterrupt):
            train_segmenter([here], out, settings(steps=3), "cpu", progress=StopsAt(sys.stderr))
    before = contents(out)
    shutil.rmtree(here)
    inverted(folder, here)
    with pytest.raises(SegmentError, match="a training with other pictures or masks; give the same"):
        train_segmenter([here], out, settings(steps=3), "cpu")
    assert contents(out) == before
    shutil.rmtree(here)
    shutil.copytree(folder, here)
    assert train_segmenter([here], out, settings(steps=3), "cpu").made == (0 if finished else 1)


def test_a_training_notices_other_rows(folder, tmp_path):
    def pale(row):
        if row["diagnosis"] != "healthy":
            row["contrast"] = 1.0

    train_segmenter([folder], tmp_path / "model", settings(steps=1), "cpu")
    with pytest.raises(SegmentError, match="another split or contrast of its rows"):
        train_segmenter([changed(folder, tmp_path / "pale", pale)], tmp_path / "model", settings(steps=1), "cpu")


def test_squares_of_other_pictures_are_not_used_again(folder, tmp_path):
    """A training that began before its settings told a digest: its checkpoint knows the pictures, its cache is redone.
    """
    here, out = tmp_path / "set", tmp_path / "model"
    shutil.copytree(folder, here)
    with pytest.raises(KeyboardInterrupt):
        train_segmenter([here], out, settings(steps=3), "cpu", progress=StopsAt(sys.stderr))
    note = out / "training/settings.json"
    old = {key: value for key, value in json.loads(note.read_text()).items() if not key.endswith("sha256")}
    note.write_text(json.dumps(old))
    whole = contents(out)
    shutil.rmtree(here)
    inverted(folder, here)
    with pytest.raises(SegmentError, match="the pictures have changed since this training began"):
        train_segmenter([here], out, settings(steps=3), "cpu")
    shutil.rmtree(here)
    shutil.copytree(folder, here)
    for path, content in whole.items():
        path.write_bytes(content)
    assert train_segmenter([here], out, settings(steps=3), "cpu").made == 1
    train_segmenter([here], tmp_path / "whole", settings(steps=3), "cpu")
    assert (tmp_path / "whole" / WEIGHTS).read_bytes() == (out / WEIGHTS).read_bytes()


def test_a_card_of_before_still_loads(folder, tmp_path):
    """It lacks the digest of the rows; the same command finds the model there, and knows other pictures by its files'.
    """
    out = tmp_path / "model"
    train_segmenter([folder], out, settings(steps=1), "cpu")
    card = json.loads((out / CARD).read_text())
    del card["rows_sha256"]
    (out / CARD).write_text(json.dumps(card))
    assert load_segmenter(out, "cpu").sha256 == card["weights_sha256"]
    assert train_segmenter([folder], out, settings(steps=1), "cpu").was_done


def test_siblings_of_test_pictures_are_never_learnt_from(folder, tmp_path):
    """Eight groups of three; of the first two one row is for testing, one of these without a mask that counts."""
    def mark(row):
        row["group_id"] = f"g{row['index'] // 3}"
        row["split"] = "test" if row["index"] in (0, 4) else None
        if row["index"] == 4:
            row["diagnosis"], row["benign_malignant"], row["mask_status"] = "NV", "benign", "predicted"

    marked = changed(folder, tmp_path / "marked", mark)
    found = collect([marked], settings())
    assert {item.group for item in found.items} == {f"g{k}" for k in range(2, 8)} and len(found.items) == 18
    assert found.left_out == {"split=test": 2, "a group that has split=test": 4}
    assert len(collect([marked], settings(), for_test=True).items) == 23  # to score, every row counts
    other = changed(folder, tmp_path / "other", lambda row: row.update(group_id=f"g{row['index'] // 3}"))
    assert {item.group for item in collect([marked, other], settings()).items} == {f"g{k}" for k in range(2, 8)}
