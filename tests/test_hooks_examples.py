"""The examples, run on a little painted data: they finish, and they learn something."""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from standin import FakeEngine, FakeRendered, device

from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunRequest, render_run

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
torch.set_num_threads(1)


class Painter(FakeEngine):
    """Skin of the record's tone with a brown disc where there is a lesion."""

    def render(self, record):
        side = self.options.size_px
        rng = np.random.default_rng(record.index)
        y, x = np.mgrid[:side, :side] / side
        cy, cx, radius = *rng.uniform(0.35, 0.65, 2).tolist(), rng.uniform(0.15, 0.25)
        inside = np.hypot(y - cy, x - cx) < radius
        if record.diagnosis == "healthy":
            inside &= False
        tone = math.exp(-6 * record.skin.melanosome_fraction)
        image = np.array([225, 180, 150]) * tone + rng.normal(0, 4, (side, side, 1))
        image[inside] = np.array([110, 70, 50]) * tone
        mask = np.where(inside, 255, 0).astype(np.uint8)
        nothing = np.zeros_like(mask)
        return FakeRendered(np.clip(image, 0, 255).astype(np.uint8), mask, nothing, {}, {}, {}, 40.0, 39.0, None, None)


def painted(folder, n, preset="fst2", healthy=0.3):
    mixed = replace(load_preset(preset), diagnosis=(("NV", 1 - healthy), ("healthy", healthy)))
    render_run(RunRequest(mixed, n, 1, folder, EngineOptions(size_px=32)), Painter, device)
    return str(folder)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("examples")
    return painted(root / "pale", 24), painted(root / "dark", 12, "fst4", 0.5)


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_segmentation(sets, capsys):
    score = example("segment_pytorch")([sets[0], "--epochs", "4", "--size", "32", "--workers", "0"])
    assert score > 0.75
    assert capsys.readouterr().out.count("Dice on held-out") == 4


def test_classification_with_monai(sets, capsys):
    right = example("classify_monai")([*sets, "--epochs", "2", "--size", "32", "--samples", "16", "--workers", "0",
                                       "--classes", "NV", "healthy"])
    assert 0.0 <= right <= 1.0
    out = capsys.readouterr().out
    assert "80 % synthetic" in out and "20 % synthetic" in out


def test_invariant_training(sets, capsys):
    loose = example("invariant_circle")([sets[0], "--epochs", "2", "--size", "32", "--workers", "0", "--weight", "0"])
    tight = example("invariant_circle")([sets[0], "--epochs", "2", "--size", "32", "--workers", "0", "--weight", "3"])
    assert tight < loose  # the features move less with the tone
    assert capsys.readouterr().out.count("tone moves features") == 4
    example("invariant_circle")([sets[0], "--epochs", "1", "--size", "32", "--workers", "0", "--baseline"])


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, path
