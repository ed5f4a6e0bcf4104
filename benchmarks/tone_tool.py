"""How well does `synthskin tone` measure the tone of pictures whose tone is known? Against border patches too.

    python benchmarks/tone_tool.py render --preset fst1 [--n 100] [--seed 0] --out FOLDER      (once a preset)
    python benchmarks/tone_tool.py calibrate FOLDER --seeds 1 2       (OPTICS of synthskin/bias/tone.py; not the test's)
    python benchmarks/tone_tool.py measure FOLDER [--out benchmarks/results/tone_tool.json]
    python benchmarks/tone_tool.py reasons TONES.json [--out benchmarks/results/tone_photographs.json]

`render` writes FOLDER/fst1-s0.npz: every sample's linear picture developed by three camera profiles (the same skin,
light and noise-free light field in all three), lesion mask, hair mask, and the ITA of its skin's model. `measure`
compares: `synthskin.bias.tone.measure_tone` with the exact masks and with masks it finds itself, and the border-patch
rule of Bevan & Atapour-Abarghouei (2022, Detecting Melanoma Fairly) on the same pictures. `reasons` counts classes and
why it cannot be said in what `synthskin tone PHOTOGRAPHS --json` printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from synthskin.conventions import ita_class

PROFILES = ("colourimetric", "dslr_dermoscope", "phone_dermoscope")
PRESETS = tuple(f"fst{k}" for k in range(1, 7))


def render(preset: str, n: int, seed: int, size: int, folder: Path, sets: list[str]) -> None:
    from synthskin.draw import draw
    from synthskin.physics import artefacts, camera, flat_skin, labels
    from synthskin.physics.engine import Engine, RenderSettings, furrow_map
    from synthskin.physics.hair import hair_mask
    from synthskin.preset import load_preset

    engine = Engine(RenderSettings(size_px=size, spp=6))
    chosen = load_preset(preset).with_sets(sets)
    images, masks, hairs, itas, optics, start = [], [], [], [], [], time.perf_counter()
    for index in range(n):
        record = draw(chosen, seed, index)
        scene = engine.scene(record)
        finished, _ = artefacts.on_skin(engine.linear(record, scene).clean, record, furrow_map(scene, size), scene.hair)
        finished, _ = artefacts.in_lens(finished, record)
        images.append([camera.develop(finished, dataclasses.replace(
            record, device=dataclasses.replace(record.device, profile=profile))) for profile in PROFILES])
        tissue, fov = scene.tissue, record.camera.field_of_view_mm
        masks.append(labels.lesion_mask(scene.lesion, tissue.column_mm, tissue.origin_mm, fov, size))
        hairs.append(hair_mask(scene.hair, size, fov))
        itas.append(flat_skin.ita_of_skin(record.skin))
        optics.append(record.camera.dermoscopic_type)
        print(f"\r{preset} {index + 1}/{n} {time.perf_counter() - start:.0f} s", end="", file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{preset}-s{seed}.npz", images=np.array(images, np.uint8), masks=np.array(masks),
                        hair=np.array(hairs, bool), ita_deg=np.array(itas), optics=np.array(optics))
    print(f" {folder / f'{preset}-s{seed}.npz'}", file=sys.stderr)


def border_patches(image: np.ndarray) -> float:
    """ITA in degrees by the rule of Bevan & Atapour-Abarghouei (2022): the lightest of eight border patches.

    At 256 x 256 pixels, dark hair (black-hat by a 17 x 17 cross over 10 of 255) filled from around, eight patches of
    20 x 20: four in the middle of the sides, 5 pixels in, four in the corners, 20 in. Facts from the paper; own code.
    """
    from PIL import Image
    from scipy import ndimage
    from skimage.color import rgb2lab
    from skimage.morphology import black_tophat

    side = 256
    picture = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))
    grey = np.round(picture @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    cross = np.zeros((17, 17), np.uint8)
    cross[8] = cross[:, 8] = 1
    dark = black_tophat(grey, cross) > 10
    if dark.any() and not dark.all():
        nearest = ndimage.distance_transform_edt(dark, return_distances=False, return_indices=True)
        picture = picture[nearest[0], nearest[1]]
    lab = rgb2lab(picture)
    middle, near, far = 115, 5, 230
    low, high = 20, 216
    corners = [(low, low), (low, high), (high, low), (high, high)]
    places = [(far, middle), (near, middle), (middle, near), (middle, far), *corners]
    patches = [lab[y:y + 20, x:x + 20].mean(axis=(0, 1)) for y, x in places]
    return max(float(np.degrees(np.arctan((p[0] - 50) / p[2]))) if p[2] else 0.0 for p in patches)


def known_skins(folder: Path, seeds: list[int], sets: list[Path]) -> Iterator[tuple[str, np.ndarray, np.ndarray,
                                                                                  np.ndarray, float]]:
    """(optics, picture, mask, hair, true ITA) of colourimetric pictures, of `render` and of rendered sets."""
    from synthskin.dataset.reader import open_dataset

    for file in sorted(f for seed in seeds for f in folder.glob(f"fst*-s{seed}.npz")):
        with np.load(file) as z:
            yield from zip(map(str, z["optics"]), z["images"][:, 0], z["masks"], z["hair"], z["ita_deg"], strict=True)
    for directory in sets:
        for sample in open_dataset(directory):
            device = json.loads(sample.row["params"])["device"]
            if device["profile"] == "colourimetric" and device["exposure_ev"] == 0:
                yield (sample.row["dermoscopic_type"], sample.image, sample.mask > 0, sample.hair > 0,
                       sample.row["ita_deg"])


def calibrate(folder: Path, seeds: list[int], sets: list[Path]) -> None:
    """Prints the OPTICS of synthskin.bias.tone: least squares of ITA on colourimetric pictures, each class alike."""
    from scipy.optimize import least_squares

    from synthskin.bias import tone

    seen: dict[str, list[tuple[float, ...]]] = {}
    for optics, image, mask, hair, true in known_skins(folder, seeds, sets):
        skin, _, _ = tone.healthy_skin(image, mask, hair)
        if skin.sum() >= tone.LEAST_SKIN_PX:
            linear = tone._decode(image)
            lab = tone._lab(tone._encode(linear / tone._light(linear, skin)[..., None]))
            seen.setdefault(optics, []).append((*tone._skin_colour(lab, skin), true))
    for name, rows in sorted(seen.items()):
        table = np.array(rows)
        number = np.array([ita_class(v) for v in table[:, 3]])
        weight = np.sqrt(1 / np.array([(number == k).sum() for k in number]))

        def error(c: np.ndarray, table=table) -> np.ndarray:
            seen = np.array([tone.reflectance_colour(row[:3], tuple(c)) for row in table])
            return np.degrees(np.arctan2(seen[:, 0] - 50, seen[:, 2])) - table[:, 3]

        def cost(c: np.ndarray, error=error, weight=weight) -> np.ndarray:
            return np.concatenate([error(c) * weight, 0.1 * c[1:]])

        found = least_squares(cost, np.zeros(5)).x
        before, after = error(np.zeros(5)), error(found)
        print(f'"{name}": ({", ".join(f"{v:.3f}" for v in found)}),  # {len(table)} renders; mean |error| '
              f"{np.abs(before).mean():.2f} before, {np.abs(after).mean():.2f} after; by class "
              + " ".join(f"{k}: {after[number == k].mean():+.2f} ({(number == k).sum()})" for k in np.unique(number)))


def errors(measured: list[float | None], true: np.ndarray) -> dict[str, float | int | None]:
    """Bias, mean absolute error, 95th percentile, coverage, and share in the right class."""
    pairs = [(m - t, ita_class(m) == ita_class(t)) for m, t in zip(measured, true, strict=True) if m is not None]
    if not pairs:
        return {"n": len(true), "coverage": 0.0, "bias": None, "mae": None, "p95": None, "class_right": None}
    e = np.array([p[0] for p in pairs])
    return {"n": len(true), "coverage": round(len(pairs) / len(true), 4), "bias": round(float(e.mean()), 3),
            "mae": round(float(np.abs(e).mean()), 3), "p95": round(float(np.percentile(np.abs(e), 95)), 3),
            "class_right": round(float(np.mean([p[1] for p in pairs])), 4)}


def measure(folder: Path, seeds: list[int], out: Path | None, segment: bool) -> None:
    from synthskin.bias.tone import measure_tone
    from synthskin.cameras import camera_of_profile

    methods = ("tone, camera, optics", "tone, masks, optics", "tone, masks",
               *(("tone, own masks",) if segment else ()), "border patches")
    found: dict[str, dict[str, dict[str, dict]]] = {p: {m: {} for m in methods} for p in PROFILES}
    everything: dict[tuple[str, str], tuple[list, list]] = {(p, m): ([], []) for p in PROFILES for m in methods}
    why: dict[str, int] = {}
    for preset in PRESETS:
        files = [folder / f"{preset}-s{seed}.npz" for seed in seeds]
        files = [file for file in files if file.is_file()]
        if not files:
            sys.exit(f"{folder}: nothing of {preset} and seeds {seeds}; make it with: tone_tool.py render --preset "
                     f"{preset} --out {folder}")
        opened = [np.load(file) for file in files]
        images, masks, hair, true, optics = (np.concatenate([z[k] for z in opened])
                                             for k in ("images", "masks", "hair", "ita_deg", "optics"))
        for p, profile in enumerate(PROFILES):
            values: dict[str, list[float | None]] = {m: [] for m in methods}
            undone = camera_of_profile(profile)
            for k, image in enumerate(images[:, p]):
                for name in methods:
                    if name == "border patches":
                        values[name].append(border_patches(image))
                        continue
                    own = name == "tone, own masks"
                    tone = measure_tone(image, None if own else masks[k], None if own else hair[k],
                                        optics=str(optics[k]) if "optics" in name else None,
                                        camera=undone if "camera" in name else None)
                    values[name].append(tone.ita_deg)
                    if tone.reason is not None:
                        key = f"{profile}, {name}: {tone.reason.split(':')[0]}"
                        why[key] = why.get(key, 0) + 1
            for name in methods:
                found[profile][name][preset] = errors(values[name], true)
                everything[profile, name][0].extend(values[name])
                everything[profile, name][1].extend(true)
        print(f"{preset}: {len(true)} measured", file=sys.stderr, flush=True)
    for (profile, name), (values_, true_) in everything.items():
        found[profile][name]["all"] = errors(values_, np.array(true_))
    lines = [f"{'profile':18} {'method':20} {'set':5} {'n':>4} {'said':>6} {'bias':>7} {'MAE':>6} {'p95':>6} "
             f"{'class':>6}"]
    for profile in PROFILES:
        for name in methods:
            for preset in (*PRESETS, "all"):
                e = found[profile][name][preset]
                lines.append(f"{profile:18} {name:20} {preset:5} {e['n']:4d} {100 * e['coverage']:5.1f}% "
                             f"{e['bias']:+7.2f} {e['mae']:6.2f} {e['p95']:6.2f} {100 * e['class_right']:5.1f}%")
    lines += [f"cannot say: {key}: {count}" for key, count in sorted(why.items())]
    print("\n".join(lines))
    if out is not None:
        out.write_text(json.dumps({"seeds": seeds, "errors": found, "cannot_say": why}, indent=1) + "\n")
        out.with_suffix(".txt").write_text("\n".join(lines) + "\n")


def reasons(file: Path, out: Path | None) -> None:
    from collections import Counter

    tones = json.loads(file.read_text())["tones"]
    why = Counter(tone["reason"].partition(":")[0].partition(" is ")[0] for tone in tones if tone["reason"] is not None)
    classes = Counter(tone["ita_class"] for tone in tones if tone["reason"] is None)
    n, said = len(tones), sum(classes.values())
    found = {"n": n, "cannot_say": n - said, "share": round((n - said) / n, 4), "why": dict(why.most_common()),
             "classes": {str(k): classes[k] for k in range(1, 7)}}
    print(json.dumps(found))
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("render")
    one.add_argument("--preset", choices=PRESETS, required=True)
    one.add_argument("--n", type=int, default=100)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--size", type=int, default=96)
    one.add_argument("--set", action="append", default=[], dest="sets", help="key=value, as of synthskin render")
    one.add_argument("--out", type=Path, required=True)
    two = commands.add_parser("measure")
    two.add_argument("folder", type=Path)
    two.add_argument("--seeds", type=int, nargs="+", default=[0])
    two.add_argument("--segment", action="store_true", help="with masks of the segmenter too")
    two.add_argument("--out", type=Path)
    three = commands.add_parser("calibrate")
    three.add_argument("folder", type=Path)
    three.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    three.add_argument("--sets", type=Path, nargs="*", default=[], help="rendered sets whose camera is colourimetric")
    four = commands.add_parser("reasons")
    four.add_argument("file", type=Path)
    four.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.command == "reasons":
        reasons(args.file, args.out)
    elif args.command == "calibrate":
        calibrate(args.folder, args.seeds, args.sets)
    elif args.command == "render":
        render(args.preset, args.n, args.seed, args.size, args.out, args.sets)
    else:
        measure(args.folder, args.seeds, args.out, args.segment)


if __name__ == "__main__":
    main()
