"""Shiny white streaks of melanomas, basal cell carcinomas and dermatofibromas: what renders show and what labels tell.

python benchmarks/shine.py [--out benchmarks/results/shine.json]

Nine lesions as their presets draw them, with streaks and without, on six tones, between crossed polarisers and without:
median CIEDE2000 over the mask, noise and 8 bits included (about 0.4 where nothing shows), beside `attributes_delta_e`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from skimage.color import rgb2lab

from synthskin.draw import draw
from synthskin.physics import spectral, visibility
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.preset import load_preset

RESULT = Path(__file__).with_name("results") / "shine.json"
NAME, SIZE, VIEW_MM, SEED, LEAST_PX = "shiny_white_streaks", 160, 8.25, 5, 30
LESIONS = {"mel": range(5), "bcc": range(2), "df": range(2)}
TONES = tuple(f"fst{k}" for k in range(1, 7))
KINDS = ("contact polarized", "contact non-polarized")
SETS = ("hair.count=0", "hair.vellus_count=0", f"camera.field_of_view_mm={VIEW_MM}", "lesion.centre_x_mm=0",
        "lesion.centre_y_mm=0", f"structures.{NAME}_density_per_mm2=2")


def measure(engine: Engine, preset: str, tone: str, kind: str, index: int) -> dict[str, Any] | None:
    """What one lesion shows and tells; None where it has next to no streaks."""
    own = load_preset(preset).with_tones(f"{tone}=1").with_sets((*SETS, f"camera.dermoscopic_type={kind}"))
    record = draw(own, SEED, index)
    there, gone = engine.render(record), engine.render(visibility.without(record, visibility.SWITCHES[NAME]))
    mask = there.attributes.get(NAME)
    if mask is None or np.count_nonzero(mask) < LEAST_PX:
        return None
    lab = [rgb2lab(picture.image)[mask > 0] for picture in (there, gone)]
    return {"lesion": f"{preset}:{index}", "tone": tone, "kind": kind,
            "shown": round(float(np.median(spectral.ciede2000(*lab))), 3), "label": there.attributes_delta_e[NAME]}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Factors between label and render: middle, 90 %, largest."""
    found = {}
    for kind in KINDS:
        apart = [max(r["shown"] / r["label"], r["label"] / r["shown"]) for r in rows if r["kind"] == kind]
        found[kind] = {"pictures": len(apart), **{name: round(float(np.percentile(apart, q)), 3)
                                                  for name, q in (("median", 50), ("p90", 90), ("most", 100))}}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    out = parser.parse_args().out
    engine = Engine(RenderSettings(size_px=SIZE, spp=30))
    rows = []
    for preset, indices in LESIONS.items():
        for tone in TONES:
            for index in indices:
                for kind in KINDS:
                    row = measure(engine, preset, tone, kind, index)
                    if row is not None:
                        row["label"] = round(row["label"], 3)
                        rows.append(row)
                        print(json.dumps(row), flush=True)
    found = summary(rows)
    print(json.dumps(found))
    out.write_text(json.dumps({"summary": found, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
