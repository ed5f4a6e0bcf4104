"""Processor time of a sample of each variant over that of a plain reticular nevus, 256 px, median of --n samples.

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
    for key in (name for name in names if any(name == one or name.startswith(f"{one}/") for one in wanted)):
        plain, own = seconds("NV", "reticular"), seconds(*key.split("/"))
        rows[key] = {"cpu_s": round(own, 2), "over_plain_nevus": round(own / plain, 2)}
        print(f"{key:34} {own:5.2f} s of processor, {own / plain:4.2f} of a plain nevus", flush=True)
        before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
        RESULT.write_text(json.dumps({**before, **rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
