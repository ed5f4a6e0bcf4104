"""CPU time of a sample with artefacts, devices, a photograph, a region, over that of the plain nevus.

Usage: python benchmarks/extras_time.py [--samples N]. Process time, so that a loaded machine changes it little; the
same samples (seed 0, fst2, hair as drawn) in every row. The region is one picture of 1024 pixels, in seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time

from synthskin.conventions import ARTEFACTS
from synthskin.draw import draw
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.preset import load_preset

ROWS = {
    "plain nevus": [],
    **{name: [f"artefacts.{name}=1"] for name in ARTEFACTS},
    "all artefacts": [f"artefacts.{name}=1" for name in ARTEFACTS],
    "phone_dermoscope": ["device.profile=phone_dermoscope"],
    "photograph, window": ["camera.view=clinical"],
    "photograph, flash": ["camera.view=clinical", "clinical.light=flash"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=8)
    samples = parser.parse_args().samples
    engine = Engine(RenderSettings())
    base = load_preset("fst2").with_diagnosis("NV=1")
    engine.render(draw(base, 0, 0))
    records = {name: [draw(base.with_sets(sets), 0, k) for k in range(samples)] for name, sets in ROWS.items()}
    for own in records.values():
        engine.render(own[0])
    spent: dict[str, list[float]] = {name: [] for name in ROWS}
    for k in range(samples):  # sample by sample, so that a change of load falls on all rows
        for name, own in records.items():
            start = time.process_time()
            engine.render(own[k])
            spent[name].append(time.process_time() - start)
    plain = statistics.median(spent["plain nevus"])
    print(f"{'256 pixels, ' + str(samples) + ' samples':24} {'CPU s':>7} {'ratio':>7}")
    for name, seconds in spent.items():
        print(f"{name:24} {statistics.median(seconds):7.3f} {statistics.median(seconds) / plain:7.2f}")
    region = Engine(RenderSettings(size_px=1024, spp=6))
    region.render(draw(load_preset("region"), 0, 0))
    start, wall = time.process_time(), time.perf_counter()
    region.render(draw(load_preset("region").with_sets(["region.lesion_count=40"]), 0, 1))
    print(f"region of 40 lesions, 1024 pixels: {time.process_time() - start:.1f} CPU s, "
          f"{time.perf_counter() - wall:.1f} s")


if __name__ == "__main__":
    main()
