"""Draws the contact sheets of docs/artefacts.md and docs/cameras.md. Usage: python scripts/artefact_sheets.py [SIZE]"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from synthskin.conventions import DEVICE_PROFILES
from synthskin.draw import draw
from synthskin.physics import artefacts, camera, engine
from synthskin.preset import load_preset

OUT = Path(__file__).resolve().parent.parent / "docs/img"
CASES = (
    {"ruler": 1, "ruler_style": "scale", "ruler_angle_deg": 80.0, "ruler_offset": 0.7},
    {"ruler": 1, "ruler_style": "ticks"},
    {"ruler": 1, "ruler_style": "paper", "ruler_angle_deg": 200.0, "ruler_offset": 0.7},
    {"ink": 1, "ink_pattern": "dots"}, {"ink": 1, "ink_pattern": "line"},
    {"ink": 1, "ink_pattern": "ring", "ink_colour": "methylene blue"}, {"ink": 1, "ink_pattern": "stamp"},
    {"gel_bubble": 1, "gel_bubble_count": 25, "gel_bubble_diameter_mm": 0.8},
    {"dark_corner": 1, "dark_corner_radius": 0.8}, {"dark_corner": 1, "dark_corner_radius": 1.15},
    {"colour_patch": 1}, {"glare": 1, "glare_strength": 0.6}, {"blur": 1, "blur_um": 120.0},
    {"thick_hair": 1, "thick_hair_count": 14}, {"thin_hair": 1, "thin_hair_count": 50},
    {"ink": 1, "ruler": 1, "dark_corner": 1, "gel_bubble": 1, "dark_corner_radius": 1.1},
)


def sheet(pictures: list[np.ndarray], columns: int, name: str) -> None:
    size = pictures[0].shape[0]
    whole = Image.new("RGB", (columns * size, -(-len(pictures) // columns) * size))
    for k, picture in enumerate(pictures):
        whole.paste(Image.fromarray(picture), (k % columns * size, k // columns * size))
    OUT.mkdir(exist_ok=True)
    whole.save(OUT / name, quality=88)
    print(OUT / name)


def main(size: int) -> None:
    renderer = engine.Engine(engine.RenderSettings(size_px=size))
    pictures, devices = [], []
    for preset in ("fst2", "fst5"):
        fixed = ["hair.count=0", "artefacts.ink_colour=gentian violet", "artefacts.ink_density=0.6"]
        record = draw(load_preset(preset).with_sets(fixed).with_diagnosis("NV=1"), 0, 4)
        for case in CASES:
            pictures.append(renderer.render(replace(record, artefacts=replace(record.artefacts, **case))).image)
        scene = renderer.scene(record)
        linear = renderer.linear(record, scene).clean
        for name in DEVICE_PROFILES:
            own = replace(record, device=replace(record.device, profile=name))
            finished, _ = artefacts.apply(linear, own, engine.furrow_map(scene, size))
            devices.append(camera.develop(finished, own))
    sheet(pictures, 8, "artefacts.jpg")
    sheet(devices, len(DEVICE_PROFILES), "cameras.jpg")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 192)
