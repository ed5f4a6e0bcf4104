"""The segmenter: training that learns and goes on exactly after a kill, prediction, confidence, the folder's safety."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from segment_sets import make_model, make_set, settings, spot

from synthskin.dataset.format import ROW_KEYS
from synthskin.dataset.reader import open_dataset
from synthskin.segment import SegmentError, load_segmenter
from synthskin.segment import confidence as conf
from synthskin.segment.augment import augment
from synthskin.segment.data import collect, read_item
from synthskin.segment.network import CARD, WEIGHTS, build_network, parse_card, working_shape
from synthskin.segment.predict import default_segmenter, tidy
from synthskin.segment.settings import TrainSettings
from synthskin.segment.train import train_segmenter

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("sets") / "set")


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory):
    return make_model(folder, tmp_path_factory.mktemp("models") / "model")


def test_learns_and_writes_its_card(folder, model):
    card = json.loads((model / CARD).read_text())
    losses = [line["loss"] for line in card["log"]]
    assert card["metrics"]["dice"] > 0.5, (losses, card["metrics"])
    assert card["samples"]["training"] + card["samples"]["validation"] == 24
    assert card["data"][0]["set_hash"] == open_dataset(folder).card.set_hash
    assert card["licences"] == open_dataset(folder).card.licences
    assert card["weights_sha256"] == hashlib.sha256((model / WEIGHTS).read_bytes()).hexdigest()
    assert sorted(p.name for p in model.iterdir()) == [CARD, WEIGHTS]
    again = train_segmenter([folder], model, settings(steps=60, warmup=5, ema=0.9), "cpu")
    assert again.was_done and again.made == 0
    with pytest.raises(SegmentError, match="steps = 60, 61 was asked for"):
        train_segmenter([folder], model, settings(steps=61, warmup=5, ema=0.9), "cpu")


def test_goes_on_from_another_model(folder, model, tmp_path):
    base = load_segmenter(model, "cpu")
    base.card["licences"] = ["CC-BY-4.0"]
    train_segmenter([folder], tmp_path / "tuned", settings(steps=1, lr=1e-7), "cpu", start=base)
    tuned = load_segmenter(tmp_path / "tuned", "cpu")
    assert tuned.card["licences"] == ["CC0-1.0", "CC-BY-4.0"] and tuned.card["start"]["weights_sha256"] == base.sha256
    for name, value in base.network.state_dict().items():
        assert torch.allclose(value, tuned.network.state_dict()[name], atol=1e-3)
    with pytest.raises(SegmentError, match="another --start"):
        train_segmenter([folder], tmp_path / "tuned", settings(steps=1, lr=1e-7), "cpu")


SCRIPT = """
import sys, time, torch
from pathlib import Path
from synthskin.progress import PlainProgress
from synthskin.segment import train
from synthskin.segment.settings import TrainSettings
torch.set_num_threads(1)
train.CHECKPOINT_S = 0.0
class Waits(PlainProgress):  # to be killed, at the latest after step 8 of 14
    def step(self, done):
        time.sleep(600 if done >= 8 * 4 else 0)
settings = TrainSettings(size_px=64, steps=14, batch=4, channels=(8, 8, 16, 16, 16), warmup=2)
train.train_segmenter([Path(sys.argv[1])], Path(sys.argv[2]), settings, "cpu", progress=Waits(sys.stderr))
"""


def test_goes_on_exactly_after_a_kill(folder, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_segmenter([folder], whole, settings(steps=14), "cpu")
    command = [sys.executable, "-c", SCRIPT, str(folder), str(cut)]
    child = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    state = cut / "training" / "state.safetensors"
    until = time.monotonic() + 120
    while not state.is_file() and child.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert state.is_file() and not (cut / CARD).is_file()
    with pytest.raises(SegmentError, match="training is not finished"):
        load_segmenter(cut)
    with pytest.raises(SegmentError, match=r"lr = 0\.002, 0\.001 was asked for"):
        train_segmenter([folder], cut, settings(steps=14, lr=1e-3), "cpu")
    done = train_segmenter([folder], cut, settings(steps=14), "cpu")
    assert 6 <= done.made < 14
    assert (whole / WEIGHTS).read_bytes() == (cut / WEIGHTS).read_bytes()
    cards = [json.loads((path / CARD).read_text()) for path in (whole, cut)]
    assert cards[0] | {"run": None} == cards[1] | {"run": None}


def test_split_keeps_groups_whole_and_never_takes_test(folder):
    found = collect([folder], settings(validation_share=0.3))
    groups = [{item.group for item in part} for part in (found.training, found.validation)]
    assert groups[0] and groups[1] and not groups[0] & groups[1]
    assert collect([folder], settings(validation_share=0.3, seed=1)).validation != found.validation
    image, mask, _ = read_item(found.training[0])
    assert image.shape == (64, 64, 3) and mask.dtype == bool


def changed(folder, out, change):
    """A copy of the set whose rows `change` has edited."""
    import shutil

    shutil.copytree(folder, out)
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        change(row)
    (out / "metadata.jsonl").write_text("".join(json.dumps({k: row[k] for k in ROW_KEYS}) + "\n" for row in rows))
    return out


def test_marked_splits_and_unusable_masks(folder, tmp_path):
    def mark(row):
        row["split"] = ("test", "val", "train")[row["index"] % 3]
        if row["index"] == 2:
            row["mask_status"] = "predicted"

    found = collect([changed(folder, tmp_path / "marked", mark)], settings())
    assert {item.row["split"] for item in found.validation} == {"val"}
    assert {item.row["split"] for item in found.training} == {"train"}
    assert found.left_out["split=test"] == 8
    healthy = next(row for row in open_dataset(folder).rows if row["index"] == 2)["diagnosis"] == "healthy"
    assert found.left_out.get("mask_status=predicted", 0) == (0 if healthy else 1)

    def spoil(row):
        row["mask_status"], row["diagnosis"], row["benign_malignant"] = "predicted", "NV", "benign"

    bad = changed(folder, tmp_path / "predicted", spoil)
    with pytest.raises(SegmentError, match="24 with mask_status=predicted"):
        collect([bad], settings())
    assert len(collect([bad], settings(masks=("predicted",))).items) == 24


def test_dark_corners_leave_the_mask(tmp_path, folder):
    def corner(row):
        if row["index"] == 0:
            row["artefacts"] = ["dark_corner"]

    out = changed(folder, tmp_path / "dark", corner)
    (out / "artefacts" / "dark_corner").mkdir(parents=True)
    dark = np.zeros((64, 64), np.uint8)
    dark[:, :32] = 255
    Image.fromarray(dark).save(out / "artefacts" / "dark_corner" / "000000.png")
    item = next(i for i in collect([out], settings()).items if i.row["index"] == 0)
    full = np.asarray(Image.open(out / "masks" / "000000.png")) > 0
    _, mask, _ = read_item(item)
    assert np.array_equal(mask, full & (dark == 0))


def test_augmentation_moves_picture_and_mask_together():
    rng = np.random.default_rng(0)
    pairs = [spot(rng, 96) for _ in range(16)]
    image = torch.from_numpy(np.stack([p[0] for p in pairs])).permute(0, 3, 1, 2).float() / 255
    mask = torch.from_numpy(np.stack([p[1] for p in pairs]))[:, None].float()
    aspect = torch.full((16,), 4 / 3)
    one = augment(image, mask, aspect, np.random.default_rng(5))
    two = augment(image, mask, aspect, np.random.default_rng(5))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    assert one[0].min() >= 0 and one[0].max() <= 1 and set(one[1].unique().tolist()) <= {0.0, 1.0}
    apart = []
    for k in range(16):  # the lesion stays darker than the skin around it, so the mask lies on it
        seen = one[0][k].mean(0)
        inside, outside = seen[one[1][k, 0] > 0], seen[(one[1][k, 0] == 0) & (seen > 0.12)]
        if len(inside) > 50 and len(outside) > 50:
            apart.append(float(outside.median() - inside.median()))
    assert len(apart) > 8 and np.mean(np.array(apart) > 0) > 0.8
    areas = torch.cat([augment(image, mask, aspect, np.random.default_rng(k))[1].mean((1, 2, 3)) for k in range(12)])
    assert areas.min() < 0.04 and areas.max() > 0.8


@given(st.integers(8, 9000), st.integers(8, 9000))
def test_working_shape(height, width):
    h, w = working_shape(height, width, 192)
    assert h % 32 == 0 and w % 32 == 0 and 0.6 < h * w / 192**2 < 1.6
    if 1 / 3 < width / height < 3:
        assert 0.7 < (w / h) / (width / height) < 1.45


def test_confidence_is_the_dice_to_expect():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(np.c_[np.ones(4000), rng.normal(0, 1, (4000, 4))])
    true = torch.sigmoid(x @ torch.tensor([0.5, 1.0, -0.7, 0.0, 0.3], dtype=torch.float64))
    weights = conf.fit(x, true)
    found = conf.confidence(x, weights)
    assert (found - true).abs().max() < 0.05
    assert conf.calibration_error(found.tolist(), true.tolist()) < 0.02
    assert conf.calibration_error([0.9] * 10, [0.4] * 10) == pytest.approx(0.5)
    sharp = torch.zeros(4, 1, 1, 32, 32)
    sharp[..., 8:20, 8:20] = 0.98
    vague = sharp * 0.6
    mask = (sharp.mean(0) > 0.5).float()
    sure = conf.confidence(conf.signs(torch.cat([sharp, vague], 1), mask.repeat(2, 1, 1, 1)), [-6, 1, 1, 1, 0])
    assert sure[0] > sure[1]


@given(st.integers(0, 2**32 - 1))
def test_scores(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 9, 9)) < rng.random()
    dice, iou = conf.dice_score(a, b), conf.iou_score(a, b)
    assert 0 <= iou <= dice <= 1 and dice == pytest.approx(2 * iou / (1 + iou))
    assert conf.dice_score(a, a) == 1 == conf.iou_score(b, b)


def test_tidy_drops_specks_and_fills_holes():
    p = np.zeros((64, 64), np.float32)
    p[10:50, 10:50] = 0.9
    p[28:32, 28:32] = 0.1
    p[60:62, 60:62] = 0.9
    clean = tidy(p) > 0.5
    assert clean[30, 30] and not clean[60, 60] and clean.sum() == 1600
    assert not (tidy(np.zeros((8, 8), np.float32)) > 0.5).any()


def test_the_shipped_segmenter(tmp_path):
    seg = default_segmenter("cpu")
    assert (load_segmenter().card["weights_sha256"] == seg.sha256) and len(seg.sha256) == 64
    rng = np.random.default_rng(1)
    pictures, masks = zip(*[spot(rng, side) for side in (96, 256, 150)], strict=True)
    wide = np.ascontiguousarray(np.concatenate([pictures[1], pictures[1][:, ::-1]], 1)[:, 100:])
    found = seg.predict([*pictures, wide], batch=2)
    for one, truth in zip(found, masks, strict=False):
        assert one.mask.dtype == bool and one.probability.dtype == np.float32
        assert one.mask.shape == one.probability.shape == truth.shape
        assert 0 <= one.confidence <= 1 and one.probability.min() >= 0 and one.probability.max() <= 1
        assert conf.dice_score(one.mask, truth) > 0.8
    assert found[3].mask.shape == wide.shape[:2]
    alone = seg.predict([pictures[1]])[0]
    assert np.array_equal(alone.mask, found[1].mask)
    assert alone.confidence == pytest.approx(found[1].confidence, abs=1e-4)
    soft = seg.soft_masks(torch.from_numpy(pictures[0]).permute(2, 0, 1)[None].float() / 255)
    assert soft.shape == (1, 1, 96, 96) and conf.dice_score(soft[0, 0].numpy() > 0.5, masks[0]) > 0.7
    assert (seg.card["licences"] == ["CC0-1.0"]) and seg.card["settings"]["size_px"] % 32 == 0


@pytest.mark.parametrize("bad", [
    np.zeros((20, 20), np.uint8), np.zeros((20, 20, 4), np.uint8), np.zeros((20, 20, 3), np.float32),
    np.zeros((4, 20, 3), np.uint8), "picture.png",
])
def test_refuses_what_is_no_picture(bad):
    with pytest.raises(SegmentError, match=r"uint8 of at least"):
        default_segmenter("cpu").predict([bad])


def test_refuses_damaged_models(model, tmp_path, folder):
    import shutil

    with pytest.raises(SegmentError, match="give the folder of a segmenter"):
        load_segmenter(tmp_path)
    with pytest.raises(SegmentError, match="device='tpu': allowed are"):
        load_segmenter(device="tpu")
    bad = tmp_path / "bad"
    shutil.copytree(model, bad)
    data = bytearray((bad / WEIGHTS).read_bytes())
    data[-5] ^= 1
    (bad / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(SegmentError, match="damaged or of another model"):
        load_segmenter(bad)
    for text in ("", "[]", "{}", '{"format": "synthskin segmenter", "format_version": 1, "settings": NaN}'):
        with pytest.raises(SegmentError):
            parse_card(text.encode(), "card.json")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(SegmentError, match="holds other files"):
        train_segmenter([folder], tmp_path / "full", settings(), "cpu")
    for wrong in ({"size_px": 100}, {"steps": 0}, {"lr": 5.0}, {"masks": ("none",)}, {"masks": ()}):
        with pytest.raises(SegmentError, match=r"allowed|needed"):
            settings(**wrong)


@given(st.binary(max_size=200) | st.text().map(str.encode)
       | st.dictionaries(st.sampled_from(["format", "format_version", "settings", "calibration", "weights_sha256"]),
                         st.none() | st.integers() | st.text() | st.lists(st.integers(), max_size=2)
                         | st.just("synthskin segmenter") | st.just(1)).map(lambda d: json.dumps(d).encode()))
def test_no_card_breaks_the_parser(data):
    with pytest.raises(SegmentError):
        parse_card(data, "card.json")


def test_network_is_small_and_keeps_no_statistics():
    network = build_network(TrainSettings().channels)
    assert sum(p.numel() for p in network.parameters()) * 2 < 4_000_000
    assert not list(network.buffers())
