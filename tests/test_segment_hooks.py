"""The hooks find lesions by the shipped segmenter, and by Otsu's threshold where MONAI is not installed."""

import numpy as np
import pytest
import torch

from synthskin import segment
from synthskin.hooks import ArtefactOverlay, ToneShift, regions

torch.set_num_threads(1)


@pytest.fixture
def picture():
    """(1, 3, 96, 96): a brown disc, off the middle, on pale skin."""
    y, x = np.mgrid[:96, :96]
    lesion = (x - 36) ** 2 + (y - 60) ** 2 < 16**2
    image = np.where(lesion[..., None], (110, 70, 50), (222, 182, 160)).astype(float)
    image += np.random.default_rng(0).normal(0, 4, (96, 96, 3))
    return torch.from_numpy(image.clip(0, 255).astype(np.float32) / 255).permute(2, 0, 1)[None]


class Counted:
    """A segmenter that finds the left half and counts its calls."""

    def __init__(self):
        self.calls = 0

    def soft_masks(self, image):
        self.calls += 1
        found = torch.zeros_like(image[:, :1])
        found[..., : image.shape[-1] // 2] = 1
        return found


def test_tone_shift_asks_the_segmenter(picture, monkeypatch):
    counted = Counted()
    monkeypatch.setattr(segment, "default_segmenter", lambda device: counted, raising=False)
    monkeypatch.setattr(segment, "has_default", lambda: True, raising=False)
    found = ToneShift("fst5")(picture)
    assert counted.calls == 1
    given = ToneShift("fst5")(picture, mask=counted.soft_masks(picture))
    assert torch.allclose(found.image, given.image, atol=0.02)
    ToneShift("fst5")(picture, mask=torch.zeros(1, 1, 96, 96))
    assert counted.calls == 2


def test_falls_back_without_monai(picture, monkeypatch):
    def missing(name):
        raise ImportError(f"{name} needs monai")

    monkeypatch.setattr(segment, "__getattr__", missing)
    assert regions.segmented_lesion(picture) is None
    valid = torch.ones(1, 1, 96, 96)
    assert torch.equal(regions.lesion(picture, valid), regions.otsu_lesion(picture, valid))
    assert ToneShift("fst5")(picture).image.shape == picture.shape


def test_ink_is_drawn_beside_what_is_found(picture, monkeypatch):
    counted = Counted()
    monkeypatch.setattr(segment, "default_segmenter", lambda device: counted, raising=False)
    monkeypatch.setattr(segment, "has_default", lambda: True, raising=False)
    overlay = ArtefactOverlay(names=["ink"])
    by_itself = overlay(picture, key=3)
    given = overlay(picture, key=3, mask=counted.soft_masks(picture))
    assert counted.calls == 2 and torch.equal(by_itself.mask, given.mask)
    assert not torch.equal(overlay(picture, key=3, mask=torch.zeros(1, 1, 96, 96)).mask, given.mask)


def test_the_shipped_segmenter_finds_the_disc(picture):
    found = regions.lesion(picture, torch.ones(1, 1, 96, 96))[0, 0] > 0.5
    y, x = np.mgrid[:96, :96]
    truth = torch.from_numpy((x - 36) ** 2 + (y - 60) ** 2 < 16**2)
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.75
