"""ToneShift on real photographs: is the tone there that was asked for, and does the lesion keep its structure?

    python benchmarks/hooks_tone_real.py PHOTOGRAPHS --n 50 --out benchmarks/results/hooks_tone_real.txt
    python benchmarks/hooks_tone_real.py PHOTOGRAPHS --page docs/img/hooks_tone.jpg --names ISIC_0000117 ...

PHOTOGRAPHS is a folder of dermoscopic pictures without masks (the figures are of ISIC "UDA-1", CC0; every eleventh in
the order of their names). The judge shares no code with ToneShift: scikit-image's L*a*b*; its own lesion by Otsu on
green and blue of the original, largest component; skin is the rest, MARGIN pixels away from the lesion and without a
black surround (dark pixels that touch the border), without its own darkest and brightest tenths (hair, glare); ITA of
the mean linear colour. As other judges would draw the skin elsewhere, the tone is also judged with other margins.
Structure is L* less its Gaussian blur of 6 pixels, correlated over the judge's lesion.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.filters import threshold_otsu

from synthskin.hooks import ColourSpaceShift, ToneShift
from synthskin.hooks.tone import TONE_NAMES, parse_tone

SIZE = 256
MARGIN = 8
OTHER_MARGINS = (4, 12, 20)


def load(path):
    """The middle square, 256 px."""
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def judge(image, margin=MARGIN):
    """(lesion, skin) as the judge sees them on the original."""
    dark = image.max(-1) < 50
    labels, _ = ndimage.label(dark)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    surround = ndimage.binary_dilation(np.isin(labels, border[border > 0]), iterations=8)
    value = ndimage.gaussian_filter(image[..., 1:].mean(-1), 2)
    lesion = (value < threshold_otsu(value[~surround])) & ~surround
    labels, count = ndimage.label(lesion)
    if count:
        lesion = labels == 1 + np.argmax(ndimage.sum_labels(lesion, labels, range(1, count + 1)))
    skin = ~ndimage.binary_dilation(lesion, iterations=margin) & ~surround
    if skin.mean() < 0.02:
        skin = ~lesion & ~surround
    low, high = np.percentile(value[skin], [10, 90])
    return lesion, skin & (value >= low) & (value <= high)


def ita(image, skin):
    srgb = image[skin] / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).mean(0)
    mean = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    lab = rgb2lab(mean[None, None])[0, 0]
    return float(np.degrees(np.arctan2(lab[0] - 50, lab[2])))


def structure(image, lesion):
    lightness = rgb2lab(image)[..., 0]
    return (lightness - ndimage.gaussian_filter(lightness, 6))[lesion]


def shifted(tool, image, to):
    toned = tool(torch.from_numpy(image.copy()).permute(2, 0, 1), None, to)
    return toned.image.permute(1, 2, 0).numpy(), toned


def measure(paths):
    results = {}
    for tool in (ToneShift(), ColourSpaceShift()):
        rows = []
        for path in paths:
            image = load(path)
            lesion, skin = judge(image)
            before = structure(image, lesion)
            others = [judge(image, margin)[1] for margin in OTHER_MARGINS]
            for name in TONE_NAMES:
                out, toned = shifted(tool, image, name)
                rows.append((path.stem, name, ita(out, skin) - parse_tone(name), float(toned.ita_deg) - ita(out, skin),
                             np.corrcoef(before, structure(out, lesion))[0, 1], float(toned.cast_kept),
                             [ita(out, other) - parse_tone(name) for other in others]))
        results[type(tool).__name__] = rows
    return results


def report(results, count):
    lines = [f"{platform.machine()}, {count} photographs without masks, six tones each"]
    for tool, rows in results.items():
        off = np.array([row[2] for row in rows])
        told = np.array([row[3] for row in rows])
        kept = np.array([row[4] for row in rows])
        lines += ["", tool, f"  ITA within 5 degrees of what was asked for: {100 * np.mean(np.abs(off) <= 5):.1f} % "
                  f"(median |off| {np.median(np.abs(off)):.2f}, 95th percentile {np.percentile(np.abs(off), 95):.1f})",
                  "  the same with other margins between lesion and skin: " + ", ".join(
                      f"{margin} px {100 * np.mean([abs(row[6][k]) <= 5 for row in rows]):.1f} %"
                      for k, margin in enumerate(OTHER_MARGINS)),
                  f"  ITA that the tool itself returned, less the judge's: median |difference| "
                  f"{np.median(np.abs(told)):.2f}",
                  f"  correlation of lesion structure: mean {kept.mean():.3f}, at least 0.85 in "
                  f"{100 * np.mean(kept >= 0.85):.1f} %, lowest {kept.min():.3f}",
                  f"  share of the camera's colour cast kept: mean {np.mean([row[5] for row in rows]):.2f}"]
        for name in TONE_NAMES:
            part = [row for row in rows if row[1] == name]
            lines.append(f"    {name} ({parse_tone(name):+.1f}): within 5 degrees "
                         f"{100 * np.mean([abs(row[2]) <= 5 for row in part]):5.1f} %, structure "
                         f"{np.mean([row[4] for row in part]):.3f} (lowest {min(row[4] for row in part):.3f})")
        worst = sorted(rows, key=lambda row: -abs(row[2]))[:6]
        lines.append("  farthest: " + ", ".join(f"{row[0]} {row[1]} {row[2]:+.1f}" for row in worst))
    return "\n".join(lines) + "\n"


def page(paths, out):
    """A row a photograph: itself, then six tones; last row the colour space baseline of the first."""
    rows = []
    for path, tool in [*((p, ToneShift()) for p in paths), (paths[0], ColourSpaceShift())]:
        image = load(path)
        rows.append(np.concatenate([image, *(shifted(tool, image, name)[0] for name in TONE_NAMES)], axis=1))
    sheet = Image.fromarray(np.concatenate(rows, axis=0))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((sheet.width * 5 // 8, sheet.height * 5 // 8), Image.Resampling.LANCZOS).save(out, quality=88)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--n", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="position of the first of them; others for another")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--names", nargs="*", default=[], help="stems of the photographs of the page")
    args = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(p for p in args.photographs.iterdir() if p.suffix.lower() in (".jpg", ".png"))
    if not paths:
        raise SystemExit(f"{args.photographs}: no .jpg or .png there")
    if args.page:
        by_name = {p.stem: p for p in paths}
        page([by_name[name] for name in args.names] if args.names else paths[:6], args.page)
        return
    chosen = paths[args.first :: max(len(paths) // args.n, 1)][: args.n]
    text = report(measure(chosen), len(chosen))
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
