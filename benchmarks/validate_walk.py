"""The walk against layered adding-doubling, HG in the fine zone against HG everywhere, published slabs.

    python benchmarks/validate_walk.py --out benchmarks/results/validate_walk.txt

Adding-doubling is our own (checked against iadpython in the tests); both get the same layers of the same skins.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from synthskin.draw import draw
from synthskin.physics import flat_skin, reference, render, spectral
from synthskin.preset import load_preset


def walk_reflectance(mi, dr, skin, size, paths):  # type: ignore[no-untyped-def]
    thickness, _, _, _ = flat_skin.layers([skin], np.array([550.0]))
    t = thickness[0, 0]
    epidermis, living = t[:3].sum(), t[1] + t[2]
    column = skin.melanosome_fraction * epidermis
    share = skin.basal_melanin_share
    through = column * (1 - share) / living
    melanin = np.array([0.0, through, through + column * share / t[2], 0.0])
    blood = np.array([0.0, 0.0, 0.0, skin.blood_fraction])
    bottom = float(t[:5].sum())
    grid = reference.flat_tissue(np.array([*t[:3], bottom - epidermis]), melanin, blood, float(epidermis), bottom)
    columns = render.upload(mi, dr, grid, float(t[:4].sum()))
    entry = 1 - ((render.ETA_TISSUE - 1) / (render.ETA_TISSUE + 1)) ** 2  # adding-doubling counts the light that enters
    found, through_all, error = reference.walk_flat(mi, dr, columns, render.optics_of(skin), size, paths)
    return found * entry, through_all, error * entry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skins", type=int, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--paths", type=int, default=6)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    mi, dr, device = render.backend("auto")
    lines = [f"device {device}", ""]
    columns, optics = reference.slab(mi, dr, 1.0, 9.0, 0.75, 0.2, 1.0)
    r, t, _ = reference.walk_flat(mi, dr, columns, optics, 1400, 9, with_transmittance=True)
    lines.append(f"van de Hulst slab        Rd {r.mean():.5f} (0.09739)  Tt {t.mean():.5f} (0.66096)")
    columns, optics = reference.slab(mi, dr, 1.0, 9.0, 0.0, np.inf, 1.5)
    r, _, _ = reference.walk_flat(mi, dr, columns, optics, 800, 9)
    lines.append(f"Giovanelli half space    total {0.04 + 0.96 * r.mean():.5f} (0.2600)")
    columns, optics = reference.slab(mi, dr, 0.0, 20.0, 0.8, 0.3, 1.4)
    r, t, _ = reference.walk_flat(mi, dr, columns, optics, 500, 6, with_transmittance=True)
    lines += [f"no absorption            Rd + Tt {r.mean() + t.mean():.5f} (1)", ""]
    wavelength = np.array(spectral.BAND_WAVELENGTH_NM)
    lines.append(
        "walk against adding-doubling: relative difference in % over nine wavelengths (mean, largest and its error)"
    )
    means, worst = [], []
    for number in range(args.skins):
        preset = f"fst{number % 6 + 1}"
        skin = draw(load_preset(preset), 7, number).skin
        truth = flat_skin.reflectance([skin], wavelength)[0]
        found, _, error = walk_reflectance(mi, dr, skin, args.size, args.paths)
        relative = 100 * (found / truth - 1)
        big = int(np.argmax(np.abs(relative)))
        means.append(float(relative.mean()))
        worst.append(float(np.abs(relative).max()))
        lines.append(
            f"  {preset} {number:2d}  mean {relative.mean():+6.2f}  largest {relative[big]:+6.2f}"
            f" at {wavelength[big]:.0f} nm (se {100 * error[big] / truth[big]:.2f})"
            f"  R550 {truth[5]:.3f}"
        )
        print(lines[-1], flush=True)
    lines.append(
        f"  all: mean of |mean| {np.mean(np.abs(means)):.2f} %, largest |mean| {np.max(np.abs(means)):.2f} %,"
        f" largest single {np.max(worst):.2f} %"
    )
    lines += ["", "HG in the fine zone against HG everywhere (adding-doubling), relative difference in %"]
    at = np.array([450.0, 550.0, 650.0])
    for tone in range(1, 7):
        skin = draw(load_preset(f"fst{tone}"), 7, tone).skin
        from synthskin.physics.adding_doubling import layered_reflectance, quadrature

        everywhere = layered_reflectance(
            *flat_skin.layers([skin], at, anisotropic_everywhere=True), quadrature(), "normal"
        )[0]
        ours = flat_skin.reflectance([skin], at)[0]
        lines.append(
            f"  fst{tone}  "
            + "  ".join(f"{w:.0f} nm {100 * (a / b - 1):+5.2f}" for w, a, b in zip(at, ours, everywhere, strict=True))
        )
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
