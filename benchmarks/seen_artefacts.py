"""Where pixels are too coarse for an artefact: CIEDE2000 and detail against the same picture without it.

Usage: python benchmarks/seen_artefacts.py [--samples N]. Blur, by its standard deviation in pixels: the CIEDE2000 that
one pixel in a hundred exceeds, and what is left of the finest detail (root mean square of the Laplacian of L*). Ruler
and hairs, by the width of a pixel: the median CIEDE2000 over their mask. Seed 0, hair left out, every view.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.ndimage import laplace

from synthskin.draw import draw
from synthskin.physics import clinical, spectral
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.preset import load_preset
from synthskin.record import SampleRecord

CASES = (("nv", 64), ("nv", 128), ("nv", 256), ("clinical", 128), ("clinical", 256), ("region", 128), ("region", 256))
SIGMAS_PX = (0.25, 1 / 3, 0.4, 0.5, 0.6, 0.75, 1.0)
MARKS = ("ruler", "thick_hair", "thin_hair")


def lab_of(image: Any) -> Any:
    """CIELAB of a finished picture (h, w, 3) uint8."""
    x = image / 255.0
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return spectral.xyz_to_lab(linear @ np.linalg.inv(spectral.XYZ_TO_LINEAR_SRGB).T)


def with_artefacts(record: SampleRecord, **values: Any) -> SampleRecord:
    return replace(record, artefacts=replace(record.artefacts, **values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=3)
    samples = parser.parse_args().samples
    changed: dict[float, list[float]] = {sigma: [] for sigma in SIGMAS_PX}
    left: dict[float, list[float]] = {sigma: [] for sigma in SIGMAS_PX}
    print(f"{'':14} {'um a pixel':>10} " + " ".join(f"{name:>10}" for name in MARKS))
    for name, size in CASES:
        engine = Engine(RenderSettings(size_px=size))
        preset = load_preset(name).with_sets(["hair.count=0", "hair.vellus_count=0"])
        widths, shown = [], {mark: [] for mark in MARKS}  # type: dict[str, list[float]]
        for index in range(samples):
            record = draw(preset, 0, index)
            flat = record.camera.view == "dermoscopic"
            width_mm = record.camera.field_of_view_mm / size if flat else clinical.view_of(record, size).pixel_mm
            plain = lab_of(engine.render(record).image)
            detail = np.sqrt((laplace(plain[..., 0]) ** 2).mean())
            widths.append(1000 * width_mm)
            for mark in MARKS:
                made = engine.render(with_artefacts(record, **{mark: 1}))
                if mark in made.artefacts:
                    there = made.artefacts[mark] > 0
                    shown[mark].append(float(np.median(spectral.ciede2000(plain[there], lab_of(made.image)[there]))))
            for sigma in SIGMAS_PX:
                um = float(np.clip(1000 * width_mm * sigma, 5, 600))
                soft = lab_of(engine.render(with_artefacts(record, blur=1, blur_um=um, blur_tilt=0.0)).image)
                changed[sigma].append(float(np.quantile(spectral.ciede2000(plain, soft), 0.99)))
                left[sigma].append(float(np.sqrt((laplace(soft[..., 0]) ** 2).mean()) / detail))
        print(f"{name:8} {size:5} {np.mean(widths):10.0f} "
              + " ".join(f"{np.median(own) if own else np.nan:10.1f}" for own in shown.values()), flush=True)
    print("blur, pixels   CIEDE2000 of 1 pixel in 100 (least, median, most)   detail left (least, median, most)")
    for sigma in SIGMAS_PX:
        print(f"{sigma:12.2f}   " + "   ".join(" ".join(f"{q:6.2f}" for q in np.quantile(own[sigma], (0, 0.5, 1)))
                                               for own in (changed, left)))


if __name__ == "__main__":
    main()
