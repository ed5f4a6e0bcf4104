"""Processor time of a sample of each variant over that of a plain reticular nevus, 256 px, middle of --n samples.

python benchmarks/variant_speed.py [--n 3] [--only BKL,AKIEC/bowen]     results of a part join those on disk
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from synthskin.conventions import DIAGNOSES, default_spp
from synthskin.draw import draw
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.preset import load_preset

RESULT = Path(__file__).with_name("results") / "variant_speed.json"
PAGE = Path(__file__).resolve().parent.parent / "docs/diagnoses.md"
SETS = ("camera.field_of_view_mm=12", "hair.count=5", "camera.dermoscopic_type=contact polarized")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=3)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    engine = Engine(RenderSettings(size_px=256, spp=default_spp(256)))

    def seconds(diagnosis: str, variant: str) -> float:
        preset = load_preset(diagnosis.lower()).with_sets(SETS).with_diagnosis(f"{diagnosis}/{variant}=1")
        spent = []
        for index in range(arguments.n):
            start = time.process_time()
            engine.render(draw(preset, 0, index))
            spent.append(time.process_time() - start)
        return float(np.median(spent))

    seconds("NV", "reticular")  # compiles
    names = [f"{name}/{form.name}" for name in DIAGNOSES for form in load_preset(name.lower()).reachable]
    rows = {}
    wanted = arguments.only.split(",") if arguments.only else names
    plain: dict[str, float] = {}
    for key in (name for name in names if any(name == one or name.startswith(f"{one}/") for one in wanted)):
        diagnosis, variant = key.split("/")
        if diagnosis not in plain:  # beside each diagnosis: a machine under load is slower at some times
            plain[diagnosis] = seconds("NV", "reticular")
        own = seconds(diagnosis, variant)
        share = own / plain[diagnosis]
        rows[key] = {"cpu_s": round(own, 2), "over_plain_nevus": round(share, 2)}
        print(f"{key:34} {own:5.2f} s of processor, {share:4.2f} of a plain nevus", flush=True)
        before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
        RESULT.write_text(json.dumps({**before, **rows}, indent=1) + "\n", encoding="utf-8")
    write_page({**before, **rows})


def write_page(rows: dict[str, dict[str, float]]) -> None:
    """The factors of all variants, between the marks of docs/diagnoses.md."""
    begin, end = "<!-- speed: begin -->", "<!-- speed: end -->"
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(begin)
    lines = []
    for name in DIAGNOSES:
        own = [f"{key.split('/')[1].replace('_', ' ')} {row['over_plain_nevus']:.2f}" for key, row in rows.items()
               if key.startswith(f"{name}/")]
        lines.append(f"- {name}: {', '.join(own)}")
    PAGE.write_text(before + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
