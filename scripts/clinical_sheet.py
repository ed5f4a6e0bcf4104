"""Draws docs/img/clinical.jpg: six photographs of preset clinical, two regions and their boxes.

Usage: python scripts/clinical_sheet.py [SIZE]
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw

from synthskin.draw import draw
from synthskin.physics import engine
from synthskin.preset import load_preset
from synthskin.rows import make_sample

OUT = Path(__file__).resolve().parent.parent / "docs/img"


def main(size: int) -> None:
    whole = Image.new("RGB", (6 * size, 4 * size))
    renderer = engine.Engine(engine.RenderSettings(size_px=size))
    for k in range(6):
        picture = renderer.render(draw(load_preset("clinical").with_tones("fst1=1,fst3=1,fst5=1,fst6=1"), 3, k)).image
        whole.paste(Image.fromarray(picture), (k * size, 0))
    large = engine.Engine(engine.RenderSettings(size_px=3 * size, spp=6))
    for k in range(2):
        record = draw(load_preset("region"), 2, k)
        rendered = large.render(record)
        picture = Image.fromarray(rendered.image)
        pen = ImageDraw.Draw(picture)
        row = make_sample(record, rendered).row
        for number, (x, y, w, h) in enumerate(row["boxes"]):
            pen.rectangle((x - 2, y - 2, x + w + 1, y + h + 1), outline=(60, 220, 220) if number else (230, 40, 40))
        whole.paste(picture, (3 * k * size, size))
    OUT.mkdir(exist_ok=True)
    whole.save(OUT / "clinical.jpg", quality=85)
    print(OUT / "clinical.jpg")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 192)
