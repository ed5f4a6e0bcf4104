"""Time at equal RMSE: the walk against Mitsuba's `volpathmis`, the same tissue and light in one run.

    python benchmarks/speed_vs_mitsuba.py --out benchmarks/results/speed_vs_mitsuba.txt

Cost is variance of one path in one pixel times the seconds of one path, the mean over three wavelengths; the ratio of
two costs is the ratio of the times to equal RMSE. One run of the walk gives all nine wavelengths, one of volpathmis
three. "A triple" charges the walk its whole time for the three it is compared on; "all nine" is what a picture needs,
three runs of volpathmis. volpathmis gets the easier conditions: a hero group as its three colours (over a wider range
its weights explode), no sampling of emitters, no specular reflection, media stacked so that each has its own majorant,
and the best of several depths for Russian roulette.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthskin.draw import draw
from synthskin.physics import anatomy, reference, render
from synthskin.preset import load_preset

BANDS = (3, 4, 5)
COLUMNS = 192


def cost(passes, seconds, paths):  # type: ignore[no-untyped-def]
    """(variance a path (channels,), seconds a path of one pixel) from passes of `paths` paths a pixel."""
    return passes.var(0, ddof=1).mean(0) * paths, min(seconds) / (passes.shape[1] * paths)


def report(theirs, their_seconds, what, passes, seconds, size, paths, table):  # type: ignore[no-untyped-def]
    """Two lines on the walk; `table` are seconds a picture to add."""
    variance, _ = cost(passes[..., list(BANDS)], seconds, paths)
    each = (min(seconds) + table) / (size * size * paths)
    gain, rate = theirs / float(variance.mean() * each), their_seconds / each
    return [
        f"  walk, {what}: {1 / each:.0f} paths/s of nine wavelengths, variance a path {variance.mean():.3f}, "
        f"mean {passes[..., list(BANDS)].mean():.4f}, cost {variance.mean() * each:.3e}",
        f"    time at equal RMSE {gain:.1f} times less a triple, {3 * gain:.1f} times less for all nine; "
        f"paths/s {rate:.1f} times more a triple, {3 * rate:.1f} for all nine",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="pixels across for the tabulated ending")
    parser.add_argument("--small", type=int, default=96, help="pixels across for the two full walks")
    parser.add_argument("--paths", type=int, default=5)
    parser.add_argument("--roulette", type=int, nargs="+", default=[5, 50, 200])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    mi, dr, device = render.backend("auto")
    lines = [f"device {device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Mitsuba {mi.__version__}; "
             f"wavelengths 500, 525, 550 nm; {args.small}^2 pixels, with the ending {args.size}^2; "
             f"{args.paths} paths a pixel; least time of two passes"]
    for name, diagnosis in (("pale", "healthy"), ("lesion", "NV")):
        record = draw(load_preset("fst2").with_diagnosis(f"{diagnosis}=1"), 0, 2)
        record = replace(record, lesion=replace(record.lesion, diameter_mm=8.0, centre_x_mm=0.0, centre_y_mm=0.0))
        field = record.camera.field_of_view_mm
        tissue, top = reference.on_voxels(anatomy.build_scene(record, COLUMNS).tissue)
        columns, optics = render.upload(mi, dr, tissue, top), render.optics_of(record.skin)
        lines += ["", f"{name}: {field:g} mm, {COLUMNS}^2 columns"]

        theirs, their_seconds = np.inf, 0.0
        for depth in args.roulette:
            stage = reference.volpath_scene(mi, tissue, top, optics, BANDS, field, args.small, depth)
            reference.volpath_passes(mi, stage, 1, 1)
            passes, seconds = reference.volpath_passes(mi, stage, args.paths, 2, 10)
            variance, each = cost(passes, seconds, args.paths)
            value = float(variance.mean() * each)
            lines.append(f"  volpathmis, roulette from depth {depth:3d}: {1 / each:8.0f} paths/s, variance a path "
                         f"{variance.mean():.3f}, mean {passes.mean():.4f}, cost {value:.3e}")
            if value < theirs:
                theirs, their_seconds = value, each

        reference.walk_passes(mi, dr, columns, optics, field, args.small, 1, 1)
        passes, seconds = reference.walk_passes(mi, dr, columns, optics, field, args.small, args.paths, 2)
        lines += report(theirs, their_seconds, "to the end        ", passes, seconds, args.small, args.paths, 0.0)
        ending = reference.uniform_ending(mi, dr, tissue, columns, optics, field)
        start = time.perf_counter()
        ending = reference.uniform_ending(mi, dr, tissue, columns, optics, field, 2)
        dr.eval(ending.table)
        dr.sync_thread()
        table = time.perf_counter() - start
        reference.walk_passes(mi, dr, columns, optics, field, args.size, 1, 1, ending=ending)
        passes, seconds = reference.walk_passes(mi, dr, columns, optics, field, args.size, args.paths, 2, ending=ending)
        for what, extra in ((f"with ending and table ({table:.2f} s)", table), ("with ending, table not counted", 0.0)):
            lines += report(theirs, their_seconds, what, passes, seconds, args.size, args.paths, extra)
        print("\n".join(lines), flush=True)
    text = "\n".join(lines) + "\n"
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
