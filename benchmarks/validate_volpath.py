"""The walk against Mitsuba's `volpathmis` on the same tissue: pale skin, dark skin, a lesion.

    python benchmarks/validate_volpath.py --out benchmarks/results/validate_volpath.txt

Both get the same voxels, a smooth n 1.40 surface and a constant sky; no plate, polarisation or hair. The region is the
whole picture. volpathmis gets one wavelength at a time in all three channels: over several its weights have such tails
(640 beside 445 nm: 9 times the variance) that a standard error means little. Each side walks until its own is small.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthskin.draw import draw
from synthskin.physics import anatomy, reference, render, spectral
from synthskin.preset import load_preset
from synthskin.record import SampleRecord

FIELD_MM = 4.0
COLUMNS = 96
SPP = 16  # of a pass of volpathmis
LIMIT_PERCENT = 1.5


def cases() -> list[tuple[str, int, SampleRecord]]:
    """Healthy pale and dark skin, and a nevus that fills the picture; with volpathmis's depth of Russian roulette."""
    out = []
    for name, preset, diagnosis, roulette in (
        ("pale", "fst1", "healthy", 100), ("dark", "fst6", "healthy", 20), ("lesion", "fst2", "NV", 50),
    ):
        record = draw(load_preset(preset).with_diagnosis(f"{diagnosis}=1"), 0, 2)
        lesion = replace(record.lesion, diameter_mm=6.0, centre_x_mm=0.0, centre_y_mm=0.0)
        out.append((f"{name} ({preset}, {diagnosis})", roulette,
                    replace(record, lesion=lesion, camera=replace(record.camera, field_of_view_mm=FIELD_MM))))
    return out


def until(render_pass, target_percent, most):  # type: ignore[no-untyped-def]
    """Mean, standard error and number of passes; passes go on until every channel's error is small enough."""
    passes = [render_pass(0), render_pass(1)]
    while True:
        mean, error = reference.mean_and_error(np.stack(passes))
        if (len(passes) >= 4 and (100 * error / mean).max() <= target_percent) or len(passes) >= most:
            return mean, error, len(passes)
        passes.append(render_pass(len(passes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=36)
    parser.add_argument("--error", type=float, default=0.38, help="standard error to reach, %%")
    parser.add_argument("--bands", type=int, nargs="+", default=[1, 5, 8], help="of the nine wavelengths")
    parser.add_argument("--most", type=int, default=90, help="passes at most")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    mi, dr, device = render.backend("auto")
    wavelength = np.array(spectral.BAND_WAVELENGTH_NM)
    lines = [f"device {device}, Mitsuba {mi.__version__}; mean reflectance of {args.size}^2 = {args.size**2} pixels, "
             f"{FIELD_MM:g} mm, without specular reflection, of the light that enters"]
    worst = 0.0
    for name, roulette, record in cases():
        scene = anatomy.build_scene(record, COLUMNS)
        tissue, top = reference.on_voxels(scene.tissue)
        columns, optics = render.upload(mi, dr, tissue, top), render.optics_of(record.skin)

        def walk_pass(k, columns=columns, optics=optics):  # type: ignore[no-untyped-def]
            return reference.walk_passes(mi, dr, columns, optics, FIELD_MM, args.size, 60, 1, 1 + k)[0][0]

        ours, our_error, _ = until(walk_pass, args.error / 2, 60)
        melanin_um = 1e3 * float((tissue.melanin_fine @ np.diff(tissue.z_edges_fine_mm)).mean())
        lines += ["", f"{name}: fine zone {top:.4f} mm, melanin column {melanin_um:.1f} um"]
        for b in args.bands:
            stage = reference.volpath_scene(mi, tissue, top, optics, (b, b, b), FIELD_MM, args.size, roulette)

            def mis_pass(k, stage=stage):  # type: ignore[no-untyped-def]
                return reference.volpath_passes(mi, stage, SPP, 1, 100 + k)[0][0]

            theirs, their_error, number = until(mis_pass, args.error, args.most)
            error_ours, error_theirs = 100 * our_error[b] / ours[b], 100 * their_error[0] / theirs[0]
            difference = 100 * (ours[b] / theirs[0] - 1)
            worst = max(worst, abs(difference))
            lines.append(f"  {wavelength[b]:.0f} nm  walk {ours[b]:.5f} (se {error_ours:.2f} %)  "
                         f"volpathmis {theirs[0]:.5f} (se {error_theirs:.2f} %, {number * SPP * args.size**2} paths)  "
                         f"difference {difference:+.2f} % (se {np.hypot(error_ours, error_theirs):.2f})")
            print(name, lines[-1], flush=True)
    verdict = "within" if worst <= LIMIT_PERCENT else "NOT within"
    lines += ["", f"largest difference {worst:.2f} %: {verdict} {LIMIT_PERCENT} %"]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)
    if worst > LIMIT_PERCENT:
        sys.exit(1)


if __name__ == "__main__":
    main()
