"""Gates: each on pictures it must pass and must refuse; counts add up; the report shows what was refused."""

import io
import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from synthskin.conventions import ita_class
from synthskin.dataset.near_duplicates import CopyIndex
from synthskin.gates import (
    BlurGate,
    Candidate,
    ClassGate,
    CopyGate,
    Explainer,
    GateError,
    GatePanel,
    MaskGate,
    SourceLeakGate,
    Tally,
    ToneGate,
    iou,
    tone_error_deg,
)
from synthskin.gates.tone import class_bounds_deg

SIDE = 96


def disc(y=48, x=48, radius=20):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.where((rows - y) ** 2 + (columns - x) ** 2 < radius**2, 255, 0).astype(np.uint8)


def picture(key, y=48, x=48, radius=20, skin=(200, 160, 130), lesion=(110, 70, 50)):
    """A lesion with grain and hairs that no other key shares."""
    rng = np.random.default_rng(key)
    inside = gaussian_filter((disc(y, x, radius) > 0).astype(float), 1.5)[..., None]
    image = inside * np.array(lesion) + (1 - inside) * np.array(skin)
    grain = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 1.2)
    image += 60 * grain[..., None]
    for _ in range(6):
        y0, x0, angle = rng.uniform(0, SIDE), rng.uniform(0, SIDE), rng.uniform(0, np.pi)
        t = np.linspace(-60, 60, 400)
        rows, columns = (y0 + t * np.sin(angle)).astype(int), (x0 + t * np.cos(angle)).astype(int)
        good = (rows >= 0) & (rows < SIDE) & (columns >= 0) & (columns < SIDE)
        image[rows[good], columns[good]] *= 0.6
    return np.clip(image, 0, 255).astype(np.uint8)


@dataclass
class Found:
    mask: np.ndarray
    confidence: float


class DarkSegmenter:
    """What is darker than skin by a third is lesion."""

    def predict(self, images):
        made = []
        for image in images:
            grey = gaussian_filter(image.mean(axis=2), 2)
            made.append(Found(np.where(grey < 0.67 * np.median(grey), 255, 0).astype(np.uint8), 0.9))
        return made


class RedClassifier:
    classes = ("MEL", "NV")

    def predict(self, images):
        red = np.array([float(image[..., 0].mean() > image[..., 2].mean() + 20) for image in images])
        return np.stack([0.9 * red + 0.05, 0.95 - 0.9 * red], axis=1)


@dataclass
class Toned:
    ita_deg: float | None
    reason: str | None = None


def one(gate, candidate):
    return gate.judge([candidate])[0]


def test_blur_gate():
    sharp = picture(0)
    assert one(BlurGate(), Candidate("a", sharp)).passed
    soft = np.stack([gaussian_filter(sharp[..., c], 4) for c in range(3)], axis=2)
    gate = BlurGate.calibrated([picture(k) for k in range(8)])
    verdict = one(gate, Candidate("a", soft))
    assert not verdict.passed and "blurred" in verdict.reason
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    assert "black or white" in one(gate, Candidate("a", black)).reason
    assert "one colour" in one(gate, Candidate("a", np.full((SIDE, SIDE, 3), 120, np.uint8))).reason
    assert all(one(gate, Candidate("a", picture(k))).passed for k in range(20, 40))
    with pytest.raises(GateError):
        BlurGate.calibrated([])


def test_mask_gate():
    gate = MaskGate(DarkSegmenter(), min_iou=0.6)
    assert one(gate, Candidate("a", picture(1), disc())).passed
    moved = one(gate, Candidate("a", picture(1, x=75), disc()))
    assert not moved.passed and moved.value < 0.6 and "IoU" in moved.reason
    empty = np.zeros((SIDE, SIDE), np.uint8)
    assert not one(gate, Candidate("a", picture(1), empty, "healthy")).passed
    assert one(gate, Candidate("a", picture(1, radius=1), empty, "healthy")).passed
    assert one(gate, Candidate("a", picture(1), None, "MEL")).passed
    assert "no lesion" in one(gate, Candidate("a", picture(1, radius=1), None, "MEL")).reason
    assert not one(MaskGate(DarkSegmenter(), min_confidence=0.95), Candidate("a", picture(1), None, "MEL")).passed


def test_iou():
    assert iou(disc(), disc()) == 1.0
    assert iou(disc(x=10, radius=8), disc(x=80, radius=8)) == 0.0
    assert iou(np.zeros((4, 4)), np.zeros((4, 4))) == 1.0
    half = disc().copy()
    half[:, 48:] = 0
    assert iou(disc(), half) == pytest.approx((half > 0).sum() / (disc() > 0).sum())


@given(st.floats(-90, 90), st.integers(1, 6))
def test_tone_error_is_the_distance_to_the_class(measured, asked):
    low, high = class_bounds_deg(asked)
    error = tone_error_deg(measured, asked, None)
    if ita_class(measured) == asked:
        assert error == 0
    assert abs(error) == pytest.approx(max(low - measured, measured - high, 0.0))


def test_tone_gate():
    gate = ToneGate(10.0, measure=lambda image, mask: Toned(20.0))
    assert one(gate, Candidate("a", picture(1))).passed  # not asked
    assert one(gate, Candidate("a", picture(1), ita_class=4)).value == 0.0
    assert one(gate, Candidate("a", picture(1), ita_class=3)).passed  # 8 degrees short of 28
    refused = one(gate, Candidate("a", picture(1), ita_class=6))
    assert not refused.passed and refused.value == pytest.approx(50.0) and "class 6" in refused.reason
    assert not one(gate, Candidate("a", picture(1), ita_class=4, ita_deg=31.0)).passed  # degrees go before the class
    lost = one(ToneGate(measure=lambda image, mask: Toned(None, "no skin")), Candidate("a", picture(1), ita_class=4))
    assert not lost.passed and "no skin" in lost.reason


def test_class_gate():
    gate = ClassGate(RedClassifier(), 0.5)
    assert one(gate, Candidate("a", picture(1), diagnosis="MEL")).passed
    refused = one(gate, Candidate("a", picture(1), diagnosis="NV"))
    assert not refused.passed and refused.value == pytest.approx(0.05) and "MEL" in refused.reason
    with pytest.raises(GateError, match="knows MEL, NV, BCC was asked for"):
        gate.judge([Candidate("a", picture(1), diagnosis="BCC")])


def test_source_leak_gate():
    source = picture(3)
    assert "still its source" in one(SourceLeakGate(), Candidate("a", source, disc(), source=source)).reason
    changed = source.copy()
    changed[disc() > 0] = changed[disc() > 0] // 2
    assert one(SourceLeakGate(), Candidate("a", changed, disc(), source=source)).passed
    assert one(SourceLeakGate(max_outside=1.0), Candidate("a", changed, disc(), source=source)).passed
    outside = changed.copy()
    outside[disc() == 0] = outside[disc() == 0] // 2
    assert "outside" in one(SourceLeakGate(max_outside=1.0), Candidate("a", outside, disc(), source=source)).reason
    assert one(SourceLeakGate(), Candidate("a", changed)).passed  # has no source
    with pytest.raises(GateError):
        SourceLeakGate().judge([Candidate("a", changed[:50], None, source=source)])


def jpeg50(image):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=50)
    return np.asarray(Image.open(out).convert("RGB"))


@pytest.fixture(scope="module")
def copy_gate():
    images = [picture(k, radius=18 + k % 5) for k in range(24)]
    return CopyGate.of(images, [f"train-{k}" for k in range(24)])


@pytest.mark.parametrize("alter", [
    lambda image: image[:, ::-1], lambda image: image[10:86, 4:80], jpeg50,
    lambda image: np.asarray(Image.fromarray(image).rotate(5, Image.Resampling.BICUBIC, fillcolor=(200, 160, 130))),
    lambda image: np.clip(image.astype(int) + np.array([8, 0, -8]), 0, 255).astype(np.uint8),
], ids=["flip", "crop", "jpeg", "turn", "hue"])
def test_copies_of_training_pictures_are_refused(copy_gate, alter):
    for k in (2, 11, 17):
        verdict = one(copy_gate, Candidate("a", np.ascontiguousarray(alter(picture(k, radius=18 + k % 5)))))
        assert not verdict.passed and f"train-{k}:" in verdict.reason


def test_fresh_pictures_pass_and_parents_are_exempt(copy_gate):
    fresh = [one(copy_gate, Candidate("a", picture(100 + k, radius=18 + k % 5))) for k in range(10)]
    assert all(verdict.passed for verdict in fresh)
    assert one(copy_gate, Candidate("a", picture(3, radius=21), exempt=frozenset({"train-3"}))).passed


def test_copies_of_each_other():
    gate = CopyGate(CopyIndex())
    panel = GatePanel([gate])
    again = picture(7)[:, ::-1].copy()
    decisions = panel.judge([Candidate("a", picture(7)), Candidate("b", again), Candidate("c", picture(8))])
    assert [decision.refused_by for decision in decisions] == [None, "near-duplicate", None]
    assert "kept picture a" in decisions[1].verdict("near-duplicate").reason


def test_calibration_leaves_groups_out():
    index = CopyIndex()
    for k in range(22):
        index.add(str(k), picture(k // 2)[:, ::(1 if k % 2 else -1)].copy())
    index.calibrate()
    without_groups = index.threshold
    index.calibrate([str(k // 2) for k in range(22)])
    assert without_groups > 0.9 > index.threshold


@given(st.lists(st.tuples(st.sampled_from([None, "mask", "tone"]), st.sampled_from(["MEL", "NV", None]),
                          st.sampled_from([None, 1, 6]))))
def test_counts_add_up(entries):
    tally = Tally()
    for entry in entries:
        tally.add(*entry)
    told = tally.to_json()
    assert told["judged"] == len(entries) == told["kept"] + sum(told["refused"].values())
    for axis in ("by_class", "by_tone", "by_class_and_tone"):
        assert sum(group["judged"] for group in told[axis].values()) == len(entries)


def test_panel_and_report(tmp_path):
    panel = GatePanel([BlurGate(), MaskGate(DarkSegmenter()), ClassGate(RedClassifier(), 0.5), CopyGate(CopyIndex())])
    explain = Explainer(tmp_path / "why")
    candidates = [
        Candidate("000000-t0", picture(1), disc(), "MEL", 2),
        Candidate("000001-t0", picture(2, x=80), disc(), "MEL", 6),
        Candidate("000002-t0", np.zeros((SIDE, SIDE, 3), np.uint8), disc(), "NV", 6),
        Candidate("000003-t0", picture(1), disc(), "MEL", 2), Candidate("000004-t0", picture(4), disc(), "NV", 1),
    ]
    decisions = panel.judge(candidates)
    for decision in decisions:
        explain.add(decision)
    assert [decision.refused_by for decision in decisions] == [None, "mask", "blur", "near-duplicate", "class"]
    assert decisions[0].scores()["mask"] > 0.8
    page = explain.finish(panel.tally, panel.settings(), "a test")
    lines = [json.loads(line) for line in (tmp_path / "why/refused.jsonl").read_text().splitlines()]
    assert [line["refused_by"] for line in lines] == ["mask", "blur", "near-duplicate", "class"]
    for line in lines:
        assert np.asarray(Image.open(tmp_path / "why" / line["thumbnail"])).shape == (SIDE, SIDE, 3)
    report = json.loads((tmp_path / "why/report.json").read_text())
    assert report["judged"] == 5 and report["kept"] == 1 and sum(report["refused"].values()) == 4
    assert report["by_tone"]["6"] == {"judged": 2, "refused by blur": 1, "refused by mask": 1}
    text = page.read_text()
    assert "IoU" in text and "000001-t0-mask.png" in text
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(GateError, match="something else"):
        Explainer(tmp_path / "other")


def test_a_name_twice_is_refused():
    with pytest.raises(GateError, match="each name once"):
        GatePanel([BlurGate(), BlurGate()])
