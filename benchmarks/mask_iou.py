"""The exact mask against the CIEDE2000 = 3 contour between converged renders with and without the lesion.

The mask comes from a model of single columns and a blur (labels.py); the contour from the walk itself: hairless
pictures on the reference skin, not polarised, even light, the same random numbers with and without the lesion.
Linear colours are blurred a little (0.1 mm) against the noise that is left.

python benchmarks/mask_iou.py [--n 8] [--out benchmarks/results/mask_iou.txt]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthskin.draw import draw
from synthskin.physics import labels, spectral
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.physics.lesion_colour import REFERENCE_SKIN
from synthskin.preset import load_preset
from synthskin.record import SampleRecord


def lab_of(linear: NDArray[np.float32], sigma_px: float) -> NDArray[np.float64]:
    blurred = gaussian_filter(linear.astype(np.float64), (sigma_px, sigma_px, 0), mode="nearest")
    return spectral.xyz_to_lab(blurred @ np.linalg.inv(spectral.XYZ_TO_LINEAR_SRGB).T)


def reference_record(index: int) -> SampleRecord:
    """Sample of fst2 on the reference skin, without hair, in even light that is not polarised."""
    record = draw(load_preset("fst2"), 0, index)
    camera = dataclasses.replace(
        record.camera, dermoscopic_type="contact non-polarized", glare=0.0, light_falloff=0.0, vignette=0.0
    )
    hair = dataclasses.replace(record.hair, count=0, vellus_count=0)
    return dataclasses.replace(record, diagnosis="NV", skin=REFERENCE_SKIN, camera=camera, hair=hair)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=8, help="lesions")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--spp", type=int, default=150)
    parser.add_argument("--blur-mm", type=float, default=0.1)
    parser.add_argument("--full", action="store_true", help="walk every path to its end; else it may end in the table")
    parser.add_argument("--save", type=Path, help="folder for the CIEDE2000 pictures (npz)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    start = time.perf_counter()
    engine = Engine(RenderSettings(size_px=args.size, spp=args.spp))
    lines = [
        f"{args.n} lesions of fst2 on the reference skin, {args.size} px, {args.spp} paths a pixel, denoised, "
        f"blurred by {args.blur_mm} mm",
        "index  mask mm^2  contour mm^2    IoU  mean offset of the border, mm (mask inside: negative)",
    ]
    found: list[float] = []
    for index in range(args.n):
        record = reference_record(index)
        field_mm = record.camera.field_of_view_mm
        labs, mask, model = [], None, None
        for with_lesion in (True, False):
            scene = engine.scene(record, with_lesion)
            linear = engine.linear(record, scene, ending=not args.full).clean
            labs.append(lab_of(linear, args.blur_mm * args.size / field_mm))
            if scene.lesion is not None:
                where = (scene.tissue.column_mm, scene.tissue.origin_mm, field_mm, args.size)
                mask = labels.lesion_mask(scene.lesion, *where)
                model = labels.delta_e_map(scene.lesion, *where)
        assert mask is not None and model is not None
        delta_e = spectral.ciede2000(labs[0], labs[1])
        contour = labels.mask_of_delta_e(delta_e, field_mm)
        iou = float((mask & contour).sum() / max((mask | contour).sum(), 1))
        pixel = (field_mm / args.size) ** 2
        area = [float(m.sum() * pixel) for m in (mask, contour)]
        perimeter = 2 * np.sqrt(np.pi * max(area[1], 1e-9))
        lines.append(f"{index:5d}{area[0]:11.2f}{area[1]:14.2f}{iou:7.3f}{(area[0] - area[1]) / perimeter:8.3f}")
        print(lines[-1], flush=True)
        found.append(iou)
        if args.save:
            args.save.mkdir(parents=True, exist_ok=True)
            np.savez(args.save / f"{index}.npz", model=model, rendered=delta_e, labs=np.array(labs))
    lines.append(f"mean IoU {np.mean(found):.3f}, least {min(found):.3f} (target: 0.90)")
    lines.append(f"{time.perf_counter() - start:.0f} s on {os.cpu_count()} CPU cores, device {engine.device_name}")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
