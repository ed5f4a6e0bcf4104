"""ToneShift against the truth: the same lesion rendered on two skins, fst2 and fst5, and under other cameras.

    python benchmarks/hooks_tone_truth.py --pairs 12 --out benchmarks/results/hooks_tone_truth.txt

A pair shares seed, index, lesion, hair and camera; the second has the skin group that fst5 draws at that place.
ToneShift gets one picture, the mask or none, and the ITA measured on the other. Skins differ in more than their tone
(blood, scattering, thickness, mottle), which no tool can know; `floor` is the difference that is left if the result is
moved to the truth's mean skin colour. Under the device profiles, which the table was not made with, source and truth
are both developed by the device; there the error of the lesion's contrast (CIEDE2000 of mean lesion and skin) counts.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from synthskin.conventions import DEVICE_PROFILES, HEALTHY
from synthskin.draw import draw
from synthskin.hooks import ColourSpaceShift, ToneShift
from synthskin.physics import camera, spectral
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.physics.hair import hair_mask
from synthskin.physics.labels import lesion_mask
from synthskin.preset import load_preset


def lab_of(image):
    linear = camera.decode(image).astype(np.float64)
    return spectral.xyz_to_lab(linear @ np.linalg.inv(spectral.XYZ_TO_LINEAR_SRGB).T)


def own_ita(image, where):
    return float(spectral.ita_deg(camera.mean_lab(image, where)))


def contrast(image, mask, skin):
    return float(spectral.ciede2000(camera.mean_lab(image, mask), camera.mean_lab(image, skin)))


def render_pairs(count, size, seed):
    """(record, {profile: (first, second)}, mask, hair) of `count` lesions."""
    engine = Engine(RenderSettings(size_px=size, threads=1))
    pale, brown = load_preset("fst2"), load_preset("fst5")
    index = 0
    while count > 0:
        first = draw(pale, seed, index)
        index += 1
        if first.diagnosis == HEALTHY:
            continue
        second = replace(first, skin=draw(brown, seed, index - 1).skin)
        linear = []
        for record in (first, second):
            scene = engine.scene(record)
            linear.append(engine.linear(record, scene).clean)
        view = first.camera.field_of_view_mm
        mask = lesion_mask(scene.lesion, scene.tissue.column_mm, scene.tissue.origin_mm, view, size)
        hair = hair_mask(scene.hair, size, view)
        if mask.sum() < 50:
            continue
        pictures = {}
        for profile in DEVICE_PROFILES:
            seen = [replace(r, device=replace(r.device, profile=profile)) for r in (first, second)]
            pictures[profile] = tuple(camera.develop(x, r) for x, r in zip(linear, seen, strict=True))
        count -= 1
        yield index - 1, pictures, mask, hair


def shifted(tool, image, mask, to):
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)
    toned = tool(tensor, None if mask is None else torch.from_numpy(mask), to)
    return toned.image.permute(1, 2, 0).numpy()


def summary(pairs, size, seed):
    """Rows of results: {(profile, direction, tool): {measure: [values]}}."""
    from scipy.ndimage import binary_dilation

    table: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    tools = (("ToneShift, mask", ToneShift(), True), ("ToneShift, no mask", ToneShift(), False),
             ("ColourSpaceShift", ColourSpaceShift(), True))
    for index, pictures, mask, hair in render_pairs(pairs, size, seed):
        skin = ~binary_dilation(mask, iterations=6) & ~binary_dilation(hair, iterations=2)
        lesion = mask & ~binary_dilation(hair, iterations=1)
        for profile, both in pictures.items():
            for direction, source, truth in (("fst2 -> fst5", *both), ("fst5 -> fst2", *both[::-1])):
                to = float(np.clip(own_ita(truth, skin), -60, 62))
                seen, goal = lab_of(source), lab_of(truth)
                for name, tool, given in tools:
                    out = shifted(tool, source, mask if given else None, to)
                    lab = lab_of(out)
                    moved = lab + (goal[skin].mean(0) - lab[skin].mean(0))
                    delta = spectral.ciede2000(lab, goal)
                    row = table.setdefault((profile, direction, name), {})
                    for measure, value in (
                        ("mean dE", delta.mean()), ("lesion", delta[lesion].mean()), ("skin", delta[skin].mean()),
                        ("floor", spectral.ciede2000(moved, goal).mean()),
                        ("unchanged", spectral.ciede2000(seen, goal).mean()),
                        ("ITA off", abs(own_ita(out, skin) - to)),
                        ("contrast true", contrast(truth, lesion, skin)),
                        ("contrast error", contrast(out, lesion, skin) - contrast(truth, lesion, skin)),
                        ("contrast before", contrast(source, lesion, skin)),
                    ):
                        row.setdefault(measure, []).append(float(value))
        print(f"pair {index} done", flush=True)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = summary(args.pairs, args.size, args.seed)
    lines = [f"{platform.machine()}, {args.pairs} pairs of {args.size} px, seed {args.seed}; CIEDE2000, means over "
             "pairs (worst pair)", "",
             f"{'colourimetric camera':34s} mean        lesion  skin   floor  not shifted  ITA off"]
    for (profile, direction, name), row in table.items():
        if profile == "colourimetric":
            m = {key: np.array(values) for key, values in row.items()}
            lines.append(f"{direction:13s} {name:20s} {m['mean dE'].mean():5.2f} ({m['mean dE'].max():5.2f}) "
                         f"{m['lesion'].mean():6.2f} {m['skin'].mean():6.2f} {m['floor'].mean():6.2f} "
                         f"{m['unchanged'].mean():10.2f} {m['ITA off'].mean():10.2f}")
    lines += ["", f"{'lesion contrast by camera':55s} source  truth  error   |error| (worst)"]
    for (profile, direction, name), row in table.items():
        m = {key: np.array(values) for key, values in row.items()}
        error = np.abs(m["contrast error"])
        lines.append(f"{profile:18s} {direction:13s} {name:20s} {m['contrast before'].mean():8.2f} "
                     f"{m['contrast true'].mean():6.2f} {m['contrast error'].mean():+6.2f} {error.mean():7.2f} "
                     f"({error.max():.2f})")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
