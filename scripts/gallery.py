"""Redraw gallery/: each picture from its (preset, seed, index) in gallery/gallery.toml, and the overview."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import numpy as np

from synthskin.dataset.encode import SOURCE_TYPES, png_bytes
from synthskin.draw import draw
from synthskin.preset import load_preset
from synthskin.run import EngineLike, EngineOptions, real_device, real_engine

FOLDER = Path(__file__).resolve().parent.parent / "gallery"


def main() -> None:
    entries = tomllib.loads((FOLDER / "gallery.toml").read_text(encoding="utf-8"))["picture"]
    device = real_device("auto")
    engines: dict[tuple[int, int], EngineLike] = {}
    drawn: dict[str, np.ndarray] = {}
    for entry in entries:
        settings = (entry["size"], entry["spp"])
        if settings not in engines:
            engines[settings] = real_engine(EngineOptions(*settings, device=device))
        preset = load_preset(entry["preset"]).with_sets(entry.get("set", []))
        rendered = engines[settings].render(draw(preset, entry["seed"], entry["index"]))
        drawn[entry["file"]] = rendered.image
        (FOLDER / entry["file"]).write_bytes(png_bytes(rendered.image, SOURCE_TYPES["physics"]))
        print(f"gallery/{entry['file']}", file=sys.stderr)
    shown = [drawn[entry["file"]][::2, ::2] for entry in entries if entry.get("overview")]
    if shown:
        columns = 6
        blank = np.full_like(shown[0], 255)
        shown += [blank] * (-len(shown) % columns)
        rows = [np.concatenate(shown[i:i + columns], axis=1) for i in range(0, len(shown), columns)]
        (FOLDER / "overview.png").write_bytes(png_bytes(np.concatenate(rows), SOURCE_TYPES["physics"]))


if __name__ == "__main__":
    main()
