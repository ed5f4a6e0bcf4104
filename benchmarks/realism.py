"""Do renders look like photographs? A two-sample test of NV and MEL renders against 555 real dermoscopic photographs.

    python benchmarks/realism.py --among [--photographs DIR]
    python benchmarks/realism.py RENDERS_DIR [--out benchmarks/results/realism_NAME.json] [--half develop|report]
        [--size 128] [--no-cnn] [--top 40] [--kinds NV,MEL] [--photographs DIR] [--sheet FILE.jpg] [--groups]
        [--plain] [--inputs] [--matched] [--stored]

Both sides are cut to the central square, resized and JPEG-coded alike. The photographs (ISIC UDA-1, CC0) are halved
by a hash of their id: `develop` is what the model is improved against, `report` is looked at once, at the end.
Lesion and skin are found by one automatic rule on both sides; where the renders have exact masks, their agreement with
it is told. Effects are (renders - photographs) in standard deviations of the photographs. --sheet puts 16 renders above
16 photographs. --among says what AUCs mean: those of photographs whose person's age is on record against those without,
which came to the archive by different ways, and of NV against MEL. --groups tells the AUC of each kind of statistics
alone, and of all the others without it. --plain leaves out renders with artefacts or terminal hair. --inputs tells
which inputs of the renders go with their score (extra-trees; wants some hundred renders) and the AUC of the quarter
that passes best, learnt anew. --matched tells the AUC that is left where each statistic of the renders is shifted to
the photographs' mean (the shift is taken from the tested pictures too, so the true one is higher). --stored codes
renders of 320 pixels as the copies of the photographs are (JPEG, quality 88, 4:2:0) before they are reduced.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import colour
import numpy as np
from PIL import Image

from synthskin.bias import alike
from synthskin.bias import compare_statistics as cs
from synthskin.dataset.encode import read_png
from synthskin.dataset.photo import load_photo

REAL = Path("photographs")  # docs/formats.md says how to get them
PARTS = ("skin", "lesion", "whole")


def half_of(isic_id: str) -> str:
    return "develop" if hashlib.sha256(isic_id.encode()).digest()[0] % 2 == 0 else "report"


def photographs(folder: Path, half: str, size: int, kinds: set[str]) -> alike.Group:
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    rows = [row for row in rows if half_of(row["isic_id"]) == half and row["diagnosis"] in kinds]
    images = [cs.fitted(load_photo(folder / row["file_name"]), size) for row in rows]
    ids, labels = [row["isic_id"] for row in rows], [row["diagnosis"] for row in rows]
    key = hashlib.sha256(Path(cs.__file__).read_bytes() + repr((half, size, sorted(kinds), ids)).encode()).hexdigest()
    cache = Path(tempfile.gettempdir()) / f"synthskin-realism-{key[:16]}.json"
    if cache.is_file():
        found = json.loads(cache.read_text())
        return alike.Group(np.stack(images), tuple(found), tuple(ids), tuple(labels))
    group = alike.make_group(images, ids, labels)
    cache.write_text(json.dumps(group.statistics))
    return group


def stored(picture: np.ndarray) -> np.ndarray:
    """The picture as the copies of the photographs are kept."""
    coded = io.BytesIO()
    Image.fromarray(picture).save(coded, "JPEG", quality=88, subsampling=2)
    return np.asarray(Image.open(coded))


def renders(folder: Path, size: int, kinds: set[str], plain: bool = False, keep: bool = False,
            ) -> tuple[alike.Group, list[dict], list[float], list[int]]:
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines() if line.strip()]
    rows = [row for row in rows if row["diagnosis"] in kinds and row["modality"] == "dermoscopic"]
    if plain:
        rows = [row for row in rows if not row["artefacts"] and json.loads(row["params"])["hair"]["count"] == 0]
    images, overlap, sides = [], [], []
    for row in rows:
        picture = read_png(folder / row["file_name"])
        picture = stored(picture) if keep else picture
        sides.append(min(picture.shape[:2]))
        images.append(cs.fitted(picture, size))
        if row["mask_file_name"]:
            mask = cs.fitted_mask(read_png(folder / row["mask_file_name"]), size)
            lesion, _ = cs.find_lesion(cs.to_lab(images[-1]))
            overlap.append(float((mask & lesion).sum() / max((mask | lesion).sum(), 1)))
    group = alike.make_group(images, [row["group_id"] for row in rows], [row["diagnosis"] for row in rows])
    return group, rows, overlap, sides


def grey_skin(group: alike.Group) -> tuple[float, float]:
    """Shares of the pictures whose mean skin has a chroma under 6, and an a* under 0.5."""
    a, b = (np.array([table[f"skin.{c}.mean"] for table in group.statistics]) for c in "ab")
    return float((np.hypot(a, b) < 6).mean()), float((a < 0.5).mean())


def pigment(group: alike.Group) -> list[tuple[int, float | None, float | None]]:
    """How a lesion takes light away, whatever the white balance.

    Of lesions whose median green is less than the skin's by 0.5-0.8, 0.8-1.2, 1.2-1.7 (logarithms of linear light): how
    many, and medians of red's and blue's loss over green's (None of none).
    """
    rows = []
    for image in group.images:
        lesion, skin = cs.find_lesion(cs.to_lab(image))
        if lesion.sum() < 200 or skin.sum() < 400:
            continue
        light = colour.models.eotf_sRGB(image / 255.0)
        loss = np.log(np.median(light[skin], 0) + 1e-3) - np.log(np.median(light[lesion], 0) + 1e-3)
        rows.append((loss[1], loss[0] / loss[1], loss[2] / loss[1]))
    table = np.array(rows, np.float64).reshape(-1, 3)
    steps = [table[(table[:, 0] >= low) & (table[:, 0] < high)] for low, high in ((0.5, 0.8), (0.8, 1.2), (1.2, 1.7))]
    medians = [tuple(map(float, np.median(step[:, 1:], 0))) if len(step) else (None, None) for step in steps]
    return [(len(step), red, blue) for step, (red, blue) in zip(steps, medians, strict=True)]


def told_by_inputs(made: alike.Group, rows: list[dict], scores: np.ndarray, real: alike.Group, most: int = 12) -> None:
    """Print what of the renders' scores follows from their inputs, and how well the best quarter passes."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import cross_val_predict

    def flat(table: dict, name: str = "") -> dict[str, float]:
        found: dict[str, float] = {}
        for key, value in table.items():
            if isinstance(value, dict):
                found |= flat(value, f"{name}{key}.")
            elif isinstance(value, int | float):
                found[name + key] = float(value)
            elif key in ("profile", "variant", "dermoscopic_type"):
                found[f"{name}{key}={value}"] = 1.0
        return found

    drawn = [flat({key: value for key, value in json.loads(row["params"]).items() if key not in ("index", "seed")})
             | {f"{name} in it": 1.0 for name in row["artefacts"]} for row in rows]
    names = sorted({name for row in drawn for name in row})
    x = np.array([[row.get(name, 0.0) for name in names] for row in drawn])
    trees = ExtraTreesRegressor(500, min_samples_leaf=3, max_features=0.4, random_state=0)
    held_out = cross_val_predict(trees, x, scores, cv=5)
    told = 1 - ((held_out - scores) ** 2).mean() / scores.var()
    print(f"\nof the scores' variance the inputs tell {told:.2f}; the first:")
    weight = trees.fit(x, scores).feature_importances_
    for k in np.argsort(-weight)[:most]:
        print(f"{names[k]:40} importance {weight[k]:.3f}, r {np.corrcoef(x[:, k], scores)[0, 1]:+.2f}")
    best = np.argsort(scores)[:len(scores) // 4]
    few = alike.Group(made.images[best], *(tuple(part[k] for k in best) for part in
                                           (made.statistics, made.groups, made.kinds)))
    print(f"the {len(best)} that pass best, learnt anew: AUC {alike.linear_auc(real, few).auc:.3f}")


def among(folder: Path, half: str, size: int, kinds: set[str]) -> None:
    """Print the linear AUC of photographs against photographs of the same archive."""
    real = photographs(folder, half, size, kinds)
    rows = {row["isic_id"]: row for row in map(json.loads, (folder / "metadata.jsonl").read_text().splitlines())}
    for name, chosen in (("age on record against not", [rows[n]["age_approx"] is not None for n in real.groups]),
                         ("NV against MEL", [kind == "NV" for kind in real.kinds])):
        first, second = (alike.Group(real.images[k], *(tuple(part[i] for i in k) for part in
                                                       (real.statistics, real.groups, real.kinds)))
                         for k in (np.flatnonzero(chosen), np.flatnonzero(~np.array(chosen))))
        found = alike.linear_auc(first, second)
        print(f"{name:26} {len(first)}, {len(second)} photographs: "
              f"AUC {found.auc:.3f} ({found.low:.3f} to {found.high:.3f})")


def matched(real: alike.Group, made: alike.Group) -> alike.Auc:
    """The linear model's AUC where no statistic differs by its mean."""
    names = list(real.statistics[0])
    table = made.table(names)
    table = table - table.mean(0) + real.table(names).mean(0)
    rows = tuple(dict(zip(names, map(float, row), strict=True)) for row in table)
    return alike.linear_auc(real, replace(made, statistics=rows))


def groups_of(names: list[str]) -> dict[str, list[str]]:
    """Statistics by what they are about."""
    ends = {"contrast of L*": (".L",), "contrast of a*, b*": (".a", ".b"), "ab/L": ("ab/L",),
            "skew, kurtosis": ("skew", "kurtosis"), "colour with lightness": ("corr.La", "corr.Lb")}
    found = {f"{part}, {what}": [n for n in names if n.startswith(f"{part}.contrast") and n.endswith(end)]
             for part in PARTS for what, end in ends.items()}
    relations = ("share", "corner-middle", "lesion-skin.", "whole.corr")
    found |= {f"{part}, levels": [n for n in names if n.startswith(f"{part}.") and not any(
        word in n for word in ("contrast", "gradient", *relations))] for part in PARTS}
    found["relations, shares"] = [n for n in names if any(word in n for word in relations)]
    found["gradients"] = [n for n in names if "gradient" in n]
    found |= {f"spectrum of {c}*": [n for n in names if n.startswith(f"spectrum.{c}")] for c in cs.CHANNELS}
    return found


def write_sheet(path: Path, above: np.ndarray, below: np.ndarray, columns: int = 8, rows: int = 2) -> None:
    """Some of each set (n, s, s, 3), evenly from all of it, as one JPEG."""
    lines = []
    for images in (above, below):
        pick = images[np.linspace(0, len(images) - 1, columns * rows).astype(int)]
        lines += [np.concatenate(list(pick[i:i + columns]), axis=1) for i in range(0, len(pick), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(lines)).save(path, "JPEG", quality=88)


def table(found: list[alike.Giveaway], names: list[str]) -> str:
    by = {g.name: g for g in found}
    lines = [f"{'':34} {'real mean':>10} {'sd':>7} {'render':>9} {'sd':>7} {'effect':>7} {'AUC':>6}"]
    for name in names:
        if name in by:
            g = by[name]
            lines.append(f"{name:34} {g.first:10.3f} {g.first_sd:7.3f} {g.second:9.3f} {g.second_sd:7.3f} "
                         f"{g.effect:+7.2f} {g.auc:6.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("renders", type=Path, nargs="?")
    parser.add_argument("--among", action="store_true")
    parser.add_argument("--photographs", type=Path, default=REAL)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--half", choices=("develop", "report"), default="develop")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--top", type=int, default=40)
    parser.add_argument("--kinds", default="NV,MEL")
    parser.add_argument("--no-cnn", action="store_true")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--groups", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--inputs", action="store_true")
    parser.add_argument("--matched", action="store_true")
    parser.add_argument("--stored", action="store_true")
    args = parser.parse_args()
    if not (args.photographs / "metadata.jsonl").is_file():
        parser.error(f"--photographs {args.photographs}: holds no metadata.jsonl; docs/formats.md says how to get them")
    kinds = set(args.kinds.split(","))
    if args.among:
        among(args.photographs, args.half, args.size, kinds)
        return
    if args.renders is None:
        parser.error("RENDERS_DIR is missing: a folder made by `synthskin render`; or ask --among")
    real = photographs(args.photographs, args.half, args.size, kinds)
    made, rows, overlap, sides = renders(args.renders, args.size, kinds, args.plain, args.stored)
    if args.sheet is not None:
        write_sheet(args.sheet, made.images, real.images)
    linear = alike.linear_auc(real, made)
    colour = alike.linear_auc(real, made, [n for n in real.statistics[0] if cs.is_colour(n)])
    texture = alike.linear_auc(real, made, [n for n in real.statistics[0] if not cs.is_colour(n)])
    if args.groups:
        names = list(real.statistics[0])
        for name, group in groups_of(names).items():
            alone = alike.linear_auc(real, made, group).auc
            others = alike.linear_auc(real, made, [n for n in names if n not in group]).auc
            print(f"{name:32} {len(group):3d} statistics: alone {alone:.3f}, the others {others:.3f}", flush=True)
    cnn = None if args.no_cnn else alike.cnn_auc(real, made)
    ranked, apart = alike.giveaways(real, made), alike.distances(real, made)

    print(f"{len(real)} photographs ({args.half} half), {len(made)} renders of {args.renders.name}, {args.size} px")
    if min(sides) < 2 * args.size:
        print(f"note: renders of {min(sides)} px are reduced less than the photographs (320 px): "
              "the finest scale is not compared alike")
    for name, auc in (("linear, all", linear), ("linear, colour", colour), ("linear, texture", texture), ("CNN", cnn)):
        if auc is not None:
            print(f"AUC {name:16} {auc.auc:.3f}  ({auc.low:.3f} to {auc.high:.3f})")
    grey = [grey_skin(group) for group in (real, made)]
    print("skin without colour (photographs, renders): chroma under 6 in "
          f"{grey[0][0]:.1%}, {grey[1][0]:.1%}; a* under 0.5 in {grey[0][1]:.1%}, {grey[1][1]:.1%}")
    colours = [pigment(group) for group in (real, made)]
    told = [["none" if red is None else f"{red:.2f}, {blue:.2f} (n {n})" for n, red, blue in own] for own in colours]
    print("loss of light in lesions, red and blue over green (photographs | renders), where green's is 0.5-0.8, "
          "0.8-1.2, 1.2-1.7: " + "; ".join(" | ".join(pair) for pair in zip(*told, strict=True)))
    print("distances  " + "  ".join(f"{k} {v:.2f}" for k, v in apart.items()))
    if overlap:
        print(f"automatic against exact masks of the renders: IoU median {np.median(overlap):.2f}, "
              f"under 0.5 in {np.mean(np.array(overlap) < 0.5):.0%}")
    print(f"\nwhat gives the renders away ({args.top} of {len(ranked)})")
    print(table(ranked, [g.name for g in ranked[:args.top]]))
    print("\nlevels")
    print(table(ranked, [f"{p}.{c}.{m}" for p in PARTS for c in cs.CHANNELS for m in ("mean", "sd", "p5", "p95")]
                + [f"{p}.{m}" for p in PARTS for m in ("chroma.mean", "hue.median")]
                + [f"lesion-skin.{c}" for c in (*cs.CHANNELS, "delta_e76")]
                + ["lesion.share", "surround.share", "lesion.border.gradient"]
                + [f"skin.corner-middle.{c}" for c in cs.CHANNELS]))
    print("\ncontrast by scale (px)")
    print(table(ranked, [f"{p}.contrast.{s}.{m}" for p in ("skin", "lesion") for m in (*cs.CHANNELS, "ab/L", "kurtosis")
                         for s in ("<1", *cs.BANDS)]))
    print("\nspectrum, log10 power, coarse to fine")
    print(table(ranked, [f"spectrum.{c}.{k}" for c in cs.CHANNELS for k in range(cs.SPECTRUM_BANDS)]))
    order = np.argsort(linear.scores[len(real):])
    print("\nrenders (index) that pass best:", *[rows[k]["index"] for k in order[:12]])
    print("renders that pass worst:       ", *[rows[k]["index"] for k in order[::-1][:12]])
    if args.matched:
        left = matched(real, made)
        print(f"AUC linear, every mean matched {left.auc:.3f}  ({left.low:.3f} to {left.high:.3f})")
    if args.inputs:
        told_by_inputs(made, rows, np.array(linear.scores[len(real):]), real)
    if args.out is not None:
        result = {"renders": args.renders.name, "n_renders": len(made), "n_photographs": len(real), "half": args.half,
                  "size_px": args.size, "render_px": min(sides), "jpeg_quality": cs.JPEG_QUALITY,
                  "set_hash": rows[0]["set_hash"], "linear": linear.to_dict(), "linear_colour": colour.to_dict(),
                  "linear_texture": texture.to_dict(), "cnn": None if cnn is None else cnn.to_dict(),
                  "distances": {k: round(v, 4) for k, v in apart.items()},
                  "pigment": {"photographs": colours[0], "renders": colours[1]},
                  "grey_skin": {"photographs": grey[0], "renders": grey[1]},
                  "automatic_mask_iou_median": round(float(np.median(overlap)), 4) if overlap else None,
                  "giveaways": [{"name": g.name, "auc": round(g.auc, 4), "effect": round(g.effect, 3),
                                 "photographs": [round(g.first, 4), round(g.first_sd, 4)],
                                 "renders": [round(g.second, 4), round(g.second_sd, 4)]} for g in ranked]}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written {args.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
