"""Bias of two shortcuts of the walk: the tabulated ending, and absorption as a weight on a grid of columns.

Ending: mean of the linear picture with paths that end in the table over that of paths that walk to their end, same
random numbers, over several seeds, each with a table of its own; overall and for the darkest 5 % of the pixels.
These are chosen on a denoised picture of another seed, so that noise does not choose them.

Absorption: the same field on a grid of half the column width (each column four times), walked to the end. "same
dermis" repeats the walk's own columns; "finer dermis" lets the dermal cells, averaged over 4 x 4 fine columns,
become half as wide.

python benchmarks/ending_bias.py [--out benchmarks/results/ending_bias.txt]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthskin.conventions import HEALTHY
from synthskin.draw import draw
from synthskin.physics import camera, denoise, render, tissue_columns
from synthskin.physics.engine import Engine, RenderSettings, walk_key
from synthskin.preset import load_preset
from synthskin.record import SampleRecord

F32 = NDArray[np.float32]
#: Preset, with its lesion or healthy, and how many times the seeds: dark pixels are noisy and their walks short.
CASES = (("fst1", False, 1), ("fst2", True, 2), ("fst4", False, 1), ("fst6", False, 3))
PICK_SEED = 1000


def record_of(preset: str, lesion: bool) -> SampleRecord:
    """First sample of a preset without hair, healthy or with its lesion."""
    record = draw(load_preset(preset), 0, 1)
    hair = dataclasses.replace(record.hair, count=0, vellus_count=0)
    return dataclasses.replace(record, hair=hair, diagnosis="NV" if lesion else HEALTHY)


def darkest(picture: F32, share: float = 0.05) -> NDArray[np.bool_]:
    level = picture @ denoise.LUMINANCE
    return np.asarray(level <= np.quantile(level, share))


def ratios(
    one: Callable[[int], F32], other: Callable[[int], F32], dark: NDArray[np.bool_], seeds: int
) -> list[tuple[float, float]]:
    """(percent of `one` over `other` less 1, its standard error), overall and in the dark, from the seeds' spread."""
    means = np.array([[(p.mean(), p[dark].mean()) for p in (one(seed), other(seed))] for seed in range(seeds)])
    out = []
    for region in range(2):
        a, b = means[:, 0, region], means[:, 1, region]
        ratio = a.mean() / b.mean()
        error = np.std(a - ratio * b, ddof=1) / np.sqrt(seeds) / b.mean()
        out.append((100 * (ratio - 1), 100 * float(error)))
    return out


def repeated(mi: Any, columns: tissue_columns.Columns) -> tissue_columns.Columns:
    """The device's columns, each four times at half the width."""
    n, m = columns.n_fine, columns.n_coarse

    def twice(values: Any, side: int) -> NDArray[Any]:
        return np.asarray(values).reshape(side, side, -1).repeat(2, 0).repeat(2, 1).ravel()

    cells, layers = np.array(columns.cells), np.array(columns.layers)
    cells = np.concatenate([twice(cells[: 2 * columns.first_coarse], n), twice(cells[2 * columns.first_coarse :], m)])
    layers = np.concatenate([twice(layers[: 4 * n * n], n), twice(layers[4 * n * n :], m)])
    return dataclasses.replace(
        columns,
        cells=mi.UInt32(cells),
        first_coarse=4 * columns.first_coarse,
        layers=tissue_columns.on_device(mi, layers),
        n_fine=2 * columns.n_fine,
        n_coarse=2 * columns.n_coarse,
        column_mm=columns.column_mm / 2,
        coarse_column_mm=columns.coarse_column_mm / 2,
    )


def finer(tissue: Any) -> Any:
    """The tissue's fine columns, each four times at half the width; dermal cells then average over half the width."""

    def twice(values: F32) -> F32:
        return values.repeat(2, 0).repeat(2, 1)

    extra = ("keratin_to_mm", "keratin_scale", "dermal_scale", "birefringence")
    maps = {name: twice(value) for name in extra if (value := getattr(tissue, name)) is not None}
    return dataclasses.replace(
        tissue,
        column_mm=tissue.column_mm / 2,
        melanin_fine=twice(tissue.melanin_fine),
        blood_fine=twice(tissue.blood_fine),
        dej_mm=twice(tissue.dej_mm),
        melanin_coarse=twice(tissue.melanin_coarse),
        blood_coarse=twice(tissue.blood_coarse),
        **maps,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--spp", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    start = time.perf_counter()
    engine = Engine(RenderSettings(size_px=args.size, spp=args.spp, denoise=False))
    judge = Engine(RenderSettings(size_px=args.size, spp=30))
    lines = [f"{args.size} px, {args.spp} paths a pixel, {args.seeds} seeds, no hair; per cent, with standard errors"]

    def add(label: str, pair: list[tuple[float, float]]) -> None:
        (a, ea), (b, eb) = pair
        lines.append(f"{label:34s}{a:8.2f} +- {ea:.2f}{b:12.2f} +- {eb:.2f}")
        print(lines[-1], flush=True)

    lines.append("tabulated ending over full walk      all pixels    darkest 5 %")
    for preset, lesion, times in CASES:
        record = record_of(preset, lesion)
        scene = engine.scene(record)

        def picture(seed: int, ending: bool, record: SampleRecord = record, scene: Any = scene) -> F32:
            keyed = dataclasses.replace(record, index=PICK_SEED + seed)  # another table and another walk, same scene
            return engine.linear(keyed, scene, ending=ending).noisy

        dark = darkest(judge.linear(record, scene).clean)
        label = f"{preset} {'with a lesion' if lesion else 'healthy'}"
        add(
            label, ratios(lambda seed: picture(seed, True), lambda seed: picture(seed, False), dark, times * args.seeds)
        )

    lines.append("columns of half the width            all pixels    darkest 5 %")
    record = record_of("fst2", True)
    scene = engine.scene(record)
    dark = darkest(judge.linear(record, scene).clean)
    through, light = render.hair_maps(scene, record)
    job = render.make_job(engine.mi, engine.dr, scene, record, walk_key(record), through, light, False)

    def walked(columns: tissue_columns.Columns, seed: int) -> F32:
        engine.integrator.job = dataclasses.replace(job, columns=columns)
        xyz = np.array(engine.integrator.render(engine.stage, seed=seed, spp=args.spp))
        return camera.finish(xyz, record.camera)

    kept: dict[int, F32] = {}

    def as_it_is(seed: int) -> F32:
        if seed not in kept:
            kept[seed] = walked(job.columns, seed)
        return kept[seed]

    for label, columns in (
        ("fst2 with a lesion, same dermis", repeated(engine.mi, job.columns)),
        ("fst2 with a lesion, finer dermis", render.upload(engine.mi, engine.dr, finer(scene.tissue))),
    ):
        add(label, ratios(lambda seed, columns=columns: walked(columns, seed), as_it_is, dark, args.seeds))  # type: ignore[misc]
    lines.append(f"{time.perf_counter() - start:.0f} s on {os.cpu_count()} CPU cores, device {engine.device_name}")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
