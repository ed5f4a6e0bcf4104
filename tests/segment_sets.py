"""Brown spots on pale skin as a set, and a small segmenter that learnt from them, for tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from standin import FakeEngine, FakeRendered, device

from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunRequest, render_run
from synthskin.segment.settings import TrainSettings
from synthskin.segment.train import train_segmenter

SMALL = (8, 8, 16, 16, 16)


def spot(rng, side, radius=None):
    """(picture, mask) of a brown ellipse on pale skin."""
    y, x = np.mgrid[:side, :side] / side
    a, b = (rng.uniform(0.12, 0.3, 2) if radius is None else (radius, radius))
    u, v = rng.uniform(0.35, 0.65, 2)
    mask = ((x - u) / a) ** 2 + ((y - v) / b) ** 2 < 1
    image = np.where(mask[..., None], (120, 75, 55), (225, 185, 165)) + rng.normal(0, 5, (side, side, 3))
    return image.clip(0, 255).astype(np.uint8), mask


class SpotEngine(FakeEngine):
    def render(self, record):
        fake = super().render(record)
        rng = np.random.default_rng(record.index)
        image, mask = spot(rng, self.options.size_px)
        mask &= record.diagnosis != "healthy"
        image[~mask & (fake.mask > 0)] = (225, 185, 165)
        if record.diagnosis == "healthy":
            image[:] = (225, 185, 165)
        data = np.where(mask, 255, 0).astype(np.uint8)
        return FakeRendered(image, data, np.zeros_like(data), {}, {}, {}, 40.0, 39.0,
                            None if record.diagnosis == "healthy" else 20.0,
                            None if record.diagnosis == "healthy" else 1.0, {})


def make_set(out):
    """24 spots of 64 pixels, and healthy skin."""
    preset = replace(load_preset("fst2"), diagnosis=(("NV", 0.8), ("healthy", 0.2)))
    preset = preset.with_sets(["hair.count=0"])
    render_run(RunRequest(preset, 24, 3, out, EngineOptions(size_px=64)), SpotEngine, device)
    return out


def settings(**changes):
    return TrainSettings(**{"size_px": 64, "steps": 4, "batch": 4, "channels": SMALL, "warmup": 2, **changes})


def make_model(folder, out):
    """Trained for 60 steps."""
    train_segmenter([folder], out, settings(steps=60, warmup=5, ema=0.9), "cpu")
    return out
