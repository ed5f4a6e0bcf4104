"""The tabulated ending: it agrees with walks to the end, and light reflected under the plate comes back elsewhere."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest

from synthskin.conventions import HEALTHY, default_spp
from synthskin.draw import draw
from synthskin.physics import denoise, fluence, render
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.preset import load_preset
from synthskin.record import SampleRecord

RED, BLUE = 8, 0


@cache
def engine() -> Engine:
    return Engine(RenderSettings(size_px=48, spp=48, denoise=False))


def bald(preset: str, diagnosis: str) -> SampleRecord:
    record = draw(load_preset(preset), 0, 1)
    hair = dataclasses.replace(record.hair, count=0, vellus_count=0)
    return dataclasses.replace(record, hair=hair, diagnosis=diagnosis)


@pytest.mark.parametrize(("preset", "diagnosis"), [("fst2", "NV"), ("fst5", HEALTHY)])
def test_it_agrees_with_walks_to_the_end(preset: str, diagnosis: str) -> None:
    record = bald(preset, diagnosis)
    scene = engine().scene(record)
    short, full = (engine().linear(record, scene, ending=ending).noisy @ denoise.LUMINANCE for ending in (True, False))
    assert short.mean() == pytest.approx(full.mean(), rel=0.025)
    blocks = full.reshape(6, 8, 6, 8).mean((1, 3))
    dark = (blocks <= np.quantile(blocks, 0.25)).repeat(8, 0).repeat(8, 1)  # chosen by blocks: not by their noise
    assert short[dark].mean() == pytest.approx(full[dark].mean(), rel=0.03)


def diffuse(melanin_over_usual: float, plate_mm: float, view_mm: float | None = None) -> np.ndarray:
    """Mean radiance (9, cells, cells) just below the pigment of an even skin with a disc of 2 mm of other melanin."""
    made = engine()
    record = bald("fst2", HEALTHY)
    if view_mm is not None:
        record = dataclasses.replace(record, camera=dataclasses.replace(record.camera, field_of_view_mm=view_mm))
    tissue = made.scene(record).tissue
    even: dict[str, Any] = {}
    for name in ("melanin_fine", "blood_fine", "melanin_coarse", "blood_coarse"):
        values = getattr(tissue, name)
        even[name] = np.broadcast_to(values.mean((0, 1)), values.shape).astype(np.float32)
    n = tissue.dej_mm.shape[0]
    x = (np.arange(n) + 0.5 - n / 2) * tissue.column_mm
    disc = np.hypot(x, x[:, None]) < 1.0
    even["melanin_fine"] = even["melanin_fine"] * np.where(disc, melanin_over_usual, 1)[..., None].astype(np.float32)
    tissue = dataclasses.replace(tissue, **even)
    columns, optics = render.upload(made.mi, made.dr, tissue), render.optics_of(record.skin)
    cells = fluence.CELLS
    through = fluence.transmission(tissue, optics, columns.fine_to_mm, cells)
    light = np.ones((cells, cells), np.float32)
    levels = fluence.solve(
        made.mi, made.dr, tissue, optics, columns.fine_to_mm, through, cells, light, 2 * plate_mm
    )
    return np.array(levels[0]).reshape(9, cells, cells)


def test_even_skin_does_not_know_the_plate() -> None:
    bare, plate = diffuse(1.0, 0.0), diffuse(1.0, 2.0)
    assert plate == pytest.approx(bare, rel=0.02)


def test_a_dark_spot_is_lit_by_the_skin_around_it() -> None:
    bare, plate = diffuse(40.0, 0.0), diffuse(40.0, 2.0)
    middle = fluence.CELLS // 2
    assert plate[RED, middle, middle] > 1.01 * bare[RED, middle, middle]
    assert plate[BLUE, middle, middle] < 0.5 * plate[BLUE, 2, 2]
    corner = plate[:, 2, 2] / bare[:, 2, 2]
    assert np.all((corner > 0.9) & (corner < 1.02))  # what the spot takes the skin around it gives


def test_light_spreads_as_far_in_a_small_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relaxation carries light one cell further, and cells of a small field are small: the middle of a dark spot of
    2 mm was up to a quarter too dark there."""
    middle = fluence.CELLS // 2
    solve = fluence.solve
    for view_mm in (4.0, 8.0):
        found = diffuse(40.0, 0.0, view_mm)[:, middle, middle]
        monkeypatch.setattr(fluence, "SWEEP_CELL_MM", 0.0)  # no start from larger cells
        before = diffuse(40.0, 0.0, view_mm)[:, middle, middle]
        monkeypatch.setattr(fluence, "solve", lambda *arguments: solve(*arguments, 300))
        settled = diffuse(40.0, 0.0, view_mm)[:, middle, middle]
        monkeypatch.undo()
        assert found[RED] == pytest.approx(settled[RED], rel=0.04) and before[RED] < 0.85 * settled[RED]
        assert np.abs(found - settled).max() < 0.3 * np.abs(before - settled).max()


def test_more_paths_for_dark_skin_and_small_pictures() -> None:
    counts = [engine_for(size).spp(bald(preset, HEALTHY)) for size in (256, 512) for preset in ("fst2", "fst6")]
    assert counts == [6, 15, 3, 6]
    assert [default_spp(256), default_spp(512)] == [15, 6]
    # a small picture has as many paths as one of 256 pixels, down to 128
    assert [default_spp(size, 1.0) for size in (32, 128, 160, 192, 224)] == [24, 24, 15, 9, 6]
    assert [default_spp(size) * size**2 <= 15 * 256**2 for size in (128, 160, 192, 224)] == [True] * 4


def engine_for(size: int) -> Engine:
    return Engine(RenderSettings(size_px=size))
