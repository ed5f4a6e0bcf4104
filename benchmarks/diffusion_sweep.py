"""Strength sweep of `generate --from`: mask, tone and colour before the gates, and what the gates let through.

    python benchmarks/diffusion_sweep.py MODEL SET REAL --judge SEGMENTER [--n 42] [--out NAME]

MODEL    folder of a LoRA or base; SET: renders; REAL: a set of photographs (their colours)
--judge  a segmenter that is not the gate's (its IoU with the inherited mask is told; the gate's is told beside it)
Each strength starts from the same parents with the same seeds. Told are, before any gate: IoU of the inherited mask
with the judge's mask, signed and absolute tone error (ITA of the picture less that of its render), and the distance of
the pooled colours to the photographs' (mean over L*, a*, b* of the 1-D Wasserstein distance, in units of L*a*b*); then
the share the gates accept, by class and tone. Writes benchmarks/results/NAME.json and docs/img/NAME.png.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import wasserstein_distance
from skimage.color import rgb2lab

from synthskin.dataset.reader import open_dataset
from synthskin.diffusion.data import square
from synthskin.diffusion.generate import _Run
from synthskin.diffusion.judge import measured_tone
from synthskin.diffusion.pipeline import quiet_diffusers
from synthskin.diffusion.request import GenerateRequest
from synthskin.gates import GatePanel, iou

ROOT = Path(__file__).resolve().parent.parent


def colours(images, rng, most=20_000):
    pixels = np.concatenate([image.reshape(-1, 3) for image in images])
    return rgb2lab(pixels[rng.integers(0, len(pixels), min(most, len(pixels)))][None])[0]


def distance(first, second):
    return float(np.mean([wasserstein_distance(first[:, k], second[:, k]) for k in range(3)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("set", type=Path)
    parser.add_argument("real", type=Path)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--gate", type=Path, help="the gate's segmenter, instead of the one that ships")
    parser.add_argument("--n", type=int, default=42)
    parser.add_argument("--skip-copies", action="store_true", help="leave the near-duplicate gate out: it is slow")
    parser.add_argument("--skip-blur", action="store_true",
                        help="leave the blur gate out, which refuses most of what a small autoencoder draws")
    parser.add_argument("--train-data", type=Path, nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--strengths", default="0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9")
    parser.add_argument("--out", default="diffusion_sweep")
    options = parser.parse_args()
    from synthskin.segment import load_segmenter

    judge = load_segmenter(options.judge)
    rng = np.random.default_rng(0)
    real = open_dataset(options.real)
    some = sorted({int(k) for k in np.linspace(0, len(real) - 1, 120)})
    real_colours = colours([square(real.load(k).image, 64) for k in some], rng)
    report = {"model": options.model.name, "parents": options.n, "steps": options.steps, "guidance": options.guidance,
              "strengths": {}}
    parents = images = None
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place, quiet_diffusers():
        run = _Run(GenerateRequest(
            options.model, Path(place) / "set", options.n, "MEL=1,NV=1,BCC=1,AKIEC=1,BKL=1,DF=1,VASC=1",
            "fst1=1,fst2=1,fst3=1,fst4=1,fst5=1,fst6=1", from_set=options.set, steps=options.steps,
            guidance=options.guidance, segmenter=options.gate, train_data=tuple(options.train_data),
            skip_gates=(*(("near-duplicate",) if options.skip_copies else ()),
                        *(("blur",) if options.skip_blur else ()))))
        gates = run.panel.gates
        for text in options.strengths.split(","):
            strength = float(text)
            object.__setattr__(run.request, "strength", strength)
            run.panel = GatePanel([gate for gate in gates if gate.name != "near-duplicate"])  # told apart below
            run.set_hash = "sweep"
            tries = [run._try(slot, 0) for slot in run.slots]
            made = np.concatenate([run._pictures(tries[k:k + 16]) for k in range(0, len(tries), 16)])
            if parents is None:
                images = [t.image for t in tries]
                masks = [found.mask for found in judge.predict(images)]
                parents = {"iou": [iou(mask, t.mask) for mask, t in zip(masks, tries, strict=True)], "masks": masks,
                           "ita": [measured_tone(t.image, t.mask) for t in tries]}
                report["renders themselves"] = {
                    "median IoU": round(float(np.median(parents["iou"])), 3),
                    "judge has IoU >= 0.8 on": int((np.array(parents["iou"]) >= 0.8).sum()),
                    "colour distance": round(distance(colours(images, rng), real_colours), 2)}
            judged = judge.predict(list(made))
            overlap = np.array([iou(found.mask, t.mask) for found, t in zip(judged, tries, strict=True)])
            same = [iou(found.mask, mask) for found, mask in zip(judged, parents["masks"], strict=True)]
            able = np.array(parents["iou"]) >= 0.8
            tones = [measured_tone(picture, t.mask) for picture, t in zip(made, tries, strict=True)]
            errors = np.array([a - b for a, b in zip(tones, parents["ita"], strict=True)
                               if a is not None and b is not None])
            candidates = [run._candidate(t, picture) for t, picture in zip(tries, made, strict=True)]
            decisions = run.panel.judge(candidates)
            copies = [] if options.skip_copies else gates[-1].judge(candidates[:12])
            if run.segmenter is not None:
                run.segmenter.forget()
            tally = run.panel.tally.to_json()
            gate_iou = [d.verdict("mask").value for d in decisions]
            report["strengths"][text] = {
                "median IoU, judge": round(float(np.median(overlap)), 3),
                "IoU >= 0.8, judge": round(float((overlap >= 0.8).mean()), 3),
                "median IoU where the judge is right on the render": round(float(np.median(overlap[able])), 3)
                if able.any() else None,
                "median IoU with the judge's mask of the render": round(float(np.median(same)), 3),
                "median IoU, gate": round(float(np.median(gate_iou)), 3),
                "IoU by tone, judge": {
                    str(k): round(float(np.median(overlap[[s.ita_class == k for s in run.slots]])), 3)
                    for k in range(1, 7)},
                "tone error, degrees": round(float(np.mean(errors)), 1),
                "absolute tone error": round(float(np.mean(np.abs(errors))), 1),
                "colour distance": round(distance(colours(list(made), rng), real_colours), 2),
                "copies of training pictures, of 12": round(float(np.mean([not v.passed for v in copies])), 3)
                if copies else None,
                "accepted": round(tally["kept"] / tally["judged"], 3), "refused": tally["refused"],
                **{f"accepted by {axis}": {k: round(v.get("kept", 0) / v["judged"], 2)
                                           for k, v in tally[f"by_{axis}"].items()} for axis in ("class", "tone")},
            }
            print(text, json.dumps(report["strengths"][text]), f"{time.monotonic() - started:.0f} s", flush=True)
            save_sheet(images, made, text, options.out)
    (ROOT / f"benchmarks/results/{options.out}.json").write_text(json.dumps(report, indent=1) + "\n")
    plot(report, ROOT / f"docs/img/{options.out}.png")


_ROWS: dict[str, np.ndarray] = {}


def save_sheet(images, made, strength, name):
    """docs/img/NAME_pictures.jpg: renders in the first row, then a row a strength."""
    from PIL import Image

    some = [int(k) for k in np.linspace(0, len(made) - 1, 12)]
    _ROWS.setdefault("renders", np.concatenate([images[k] for k in some], axis=1))
    _ROWS[strength] = np.concatenate([made[k] for k in some], axis=1)
    Image.fromarray(np.concatenate(list(_ROWS.values()))).save(ROOT / f"docs/img/{name}_pictures.jpg", quality=88)


def plot(report, path):
    from PIL import Image, ImageDraw

    rows = {float(k): v for k, v in report["strengths"].items()}
    far = report["renders themselves"]["colour distance"]
    panels = [
        ("Mask: IoU and share accepted", 1.0, [("median IoU, judge", "#1f5fbf"),
                                               ("median IoU where the judge is right on the render", "#7fb2e5"),
                                               ("accepted", "#bf3f1f")], 0.8),
        ("Tone error, degrees of ITA", None, [("absolute tone error", "#1f5fbf")], None),
        (f"Colour distance (line: renders {far:g})", None, [("colour distance", "#1f5fbf")], far),
    ]
    picture = Image.new("RGB", (1050, 300), "white")
    draw = ImageDraw.Draw(picture)
    for k, (title, top, lines, level) in enumerate(panels):
        left, low, width, height = 350 * k + 45, 255, 285, 215
        most = top or 1.1 * max([*(r[name] for r in rows.values() for name, _ in lines), level or 0.0])
        draw.text((left, 8), title, fill="black")
        draw.line([(left, low - height), (left, low), (left + width, low)], fill="black")
        for tick in range(5):
            y = low - height * tick / 4
            draw.text((left - 38, y - 6), f"{most * tick / 4:.2g}", fill="black")
        for strength in rows:
            draw.text((left + width * strength - 8, low + 4), f"{strength:g}", fill="black")
        draw.text((left + width / 2 - 25, low + 22), "strength", fill="black")
        if level is not None:
            y = low - height * level / most
            draw.line([(left, y), (left + width, y)], fill="#999999")
        for number, (name, colour) in enumerate(lines):
            if any(r[name] is None for r in rows.values()):
                continue
            points = [(left + width * s, low - height * min(r[name], most) / most) for s, r in rows.items()]
            draw.line(points, fill=colour, width=2)
            for x, y in points:
                draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)
            draw.text((left + 8, low - 15 * (len(lines) - number) - 4), name, fill=colour)
    picture.save(path)


if __name__ == "__main__":
    main()
