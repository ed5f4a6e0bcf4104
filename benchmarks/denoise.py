"""What the denoiser does to colour: few paths denoised against many paths as they are.

    python benchmarks/denoise.py [--size 256] [--reference-spp 540] [--cases fst1:0 fst2:4 ...] [--out NAME.json]

The reference is the mean of many paths and never sees the denoiser (what a denoiser takes away from reference and
picture alike would not count as an error). Told are the mean CIEDE2000 over skin and lesion, both smoothed by one pixel
because the reference keeps some noise; and over healthy skin, in three bands of scale (differences of Gaussians, sigma
in pixels), the standard deviations of a* and b* over that of L*, the correlations of L* with a* and b*, and the
correlation of each channel's band with the reference's. `former` is the filter until 2026-11: a guide without blood
and ridges of 3e-3, at the same picture.
--hair alone: pixels of hair against 600 paths, on three hairy skins at sizes that do not divide the raster of the hair,
averaged over pixels and read at their middles (as it was until 2026-11); results/denoise_hair.json.
--horn alone: the contrast of dry skin's loose horn over that of 300 paths, on four skins, with and without its place in
the guide; results/denoise_horn.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from synthskin.draw import draw
from synthskin.physics import denoise, labels, spectral
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.preset import load_preset

ROOT = Path(__file__).resolve().parent.parent
XYZ = np.linalg.inv(spectral.XYZ_TO_LINEAR_SRGB)
BANDS = ((2, 4), (4, 8), (8, 16))
CASES = ("fst1:0", "fst2:1", "fst2:4", "fst3:2", "fst4:1", "fst5:3", "fst6:0", "fst6:9")


def lab(linear: np.ndarray) -> np.ndarray:
    return spectral.xyz_to_lab(np.clip(linear, 0, 1) @ XYZ.T)


def bands(picture: np.ndarray, skin: np.ndarray) -> list[np.ndarray]:
    """Each band of L*, a*, b* at the pixels of `skin`: (n, 3)."""
    planes = [lab(picture)[..., k] for k in range(3)]
    return [np.stack([gaussian_filter(p, low) - gaussian_filter(p, high) for p in planes], -1)[skin]
            for low, high in BANDS]


def described(band: np.ndarray, reference: np.ndarray) -> list[float]:
    """a*/L*, b*/L*, corr(L*, a*), corr(L*, b*), and the correlation of L*, a*, b* with the reference."""
    spread, mutual = band.std(0), np.corrcoef(band.T)
    alike = [np.corrcoef(band[:, k], reference[:, k])[0, 1] for k in range(3)]
    return [spread[1] / spread[0], spread[2] / spread[0], mutual[0, 1], mutual[0, 2], *alike]


def smooth(picture: np.ndarray) -> np.ndarray:
    return np.stack([gaussian_filter(picture[..., k], 1.0) for k in range(3)], -1)


def middles(values: np.ndarray, count: int) -> np.ndarray:
    """The element in the middle of each part, in place of its mean."""
    n = values.shape[-1]
    return values[..., np.minimum(((np.arange(count) + 0.5) * n / count).astype(int), n - 1)]


def hair(sizes: tuple[int, ...] = (96, 224), indices: tuple[int, ...] = (3, 5, 6), spp: int = 600) -> None:
    """Mean CIEDE2000 over the pixels of hair, and over all."""
    from skimage.color import rgb2lab

    rows, means = [], denoise.box_means
    for size in sizes:
        for index in indices:
            record = draw(load_preset("fst2").with_sets(("hair.count=12",)), 0, index)
            paths = Engine(RenderSettings(size_px=size, spp=spp, denoise=False)).render(record)
            row = {"size_px": size, "index": index, "spp": spp}
            for name, way in (("averaged", means), ("middles", middles)):
                denoise.box_means = way
                picture = Engine(RenderSettings(size_px=size)).render(record).image
                away = spectral.ciede2000(rgb2lab(picture), rgb2lab(paths.image))
                row[name] = [round(float(away[paths.hair > 0].mean()), 2), round(float(away.mean()), 2)]
            denoise.box_means = means
            rows.append(row)
            print(row, flush=True)
    (ROOT / "benchmarks/results/denoise_hair.json").write_text(json.dumps(rows, indent=1) + "\n")


def of_horn(picture: np.ndarray, horn: np.ndarray) -> float:
    """Relative luminance that a unit of the horn adds, by regression over less than six pixels."""
    light = picture @ denoise.LUMINANCE
    light, horn = light / gaussian_filter(light, 6) - 1, horn - gaussian_filter(horn, 6)
    return float((horn * light).sum() / (horn * horn).sum())


def loose_horn(size: int, cases: tuple[str, ...] = ("fst2:0", "fst2:3", "fst5:0", "fst5:3"), spp: int = 300) -> None:
    engine, rows, usual = Engine(RenderSettings(size_px=size)), [], denoise.LOOSE_HORN_GUIDE
    for case in cases:
        name, index = case.split(":")
        sets = ("skin.dryness=1", "hair.count=0", "hair.vellus_count=0")
        record = draw(load_preset(name).with_sets(sets), 0, int(index))
        scene = engine.scene(record)
        whole = scene.loose_horn[(margin := len(scene.loose_horn) // 12):-margin, margin:-margin]
        horn = denoise.box_means(denoise.box_means(whole, size).T, size).T
        paths = of_horn(engine.linear(record, scene, spp=spp).noisy, horn)
        row = {"case": case, "size_px": size, "light": record.camera.dermoscopic_type, "paths": round(paths, 3)}
        for label, strength in (("denoised", usual), ("not in the guide", np.float32(0))):
            denoise.LOOSE_HORN_GUIDE = strength
            row[label] = round(of_horn(engine.linear(record, scene).clean, horn) / paths, 2)
        denoise.LOOSE_HORN_GUIDE = usual
        rows.append(row)
        print(row, flush=True)
    (ROOT / "benchmarks/results/denoise_horn.json").write_text(json.dumps(rows, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--reference-spp", type=int, default=540)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/denoise.json")
    parser.add_argument("--hair", action="store_true")
    parser.add_argument("--horn", action="store_true")
    asked = parser.parse_args()
    if asked.horn:
        loose_horn(asked.size)
        return
    if asked.hair:
        hair()
        return
    engine = Engine(RenderSettings(size_px=asked.size))
    found: dict[str, list] = {}
    seconds: dict[str, list] = {}
    for case in asked.cases:
        name, index = case.split(":")
        record = draw(load_preset(name), 0, int(index))
        fov, scene = record.camera.field_of_view_mm, engine.scene(record)
        few = engine.linear(record, scene)
        total, done = np.zeros_like(few.noisy, np.float64), 0
        while done < asked.reference_spp:
            total += 90 * engine.linear(record, scene, spp=90, seed=1000 + done).noisy
            done += 90
        reference = (total / done).astype(np.float32)
        lesion = labels.lesion_mask(scene.lesion, scene.tissue.column_mm, scene.tissue.origin_mm, fov, asked.size)
        edge = asked.size // 20
        skin = ~binary_dilation(lesion, iterations=edge)
        skin[:edge] = skin[-edge:] = skin[:, :edge] = skin[:, -edge:] = False
        pictures = {"reference": (reference, 0.0), "noisy": (few.noisy, 0.0)}
        plain = few.guide.copy()
        plain[..., 3] = 0
        for label, guide, ridge in (("denoised", few.guide, denoise.FILTER_EPSILON), ("former", plain, 3e-3)):
            kept, denoise.FILTER_EPSILON = denoise.FILTER_EPSILON, ridge
            start = time.process_time()
            pictures[label] = denoise.denoise(few.noisy, guide, fov), time.process_time() - start
            denoise.FILTER_EPSILON = kept
        own = bands(reference, skin)
        for label, (picture, spent) in pictures.items():
            delta = spectral.ciede2000(lab(smooth(picture)), lab(smooth(reference)))
            found.setdefault(label, []).append(
                [delta[skin].mean(), delta[lesion].mean() if lesion.any() else np.nan,
                 *np.ravel([described(a, b) for a, b in zip(bands(picture, skin), own, strict=True)])])
            seconds.setdefault(label, []).append(spent)
        print(case, {label: [round(float(v), 2) for v in rows[-1][:2]] for label, rows in found.items()}, flush=True)
    names = ("a/L", "b/L", "corr La", "corr Lb", "with reference L", "a", "b")
    report = {"machine": platform.processor() or platform.machine(), "size_px": asked.size, "cases": asked.cases,
              "reference_spp": asked.reference_spp}
    for label, rows in found.items():
        middle = np.nanmedian(np.array(rows, float), 0)
        report[label] = {
            "ciede2000 skin": round(float(np.mean([row[0] for row in rows])), 2),
            "ciede2000 lesion": round(float(np.nanmean([row[1] for row in rows])), 2),
            "seconds": round(float(np.mean(seconds[label])), 4),
            **{f"{low}-{high} px": {name: round(float(v), 2) for name, v in
                                    zip(names, middle[2 + 7 * k:9 + 7 * k], strict=True)}
               for k, (low, high) in enumerate(BANDS)}}
        print(label, json.dumps(report[label]))
    asked.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
