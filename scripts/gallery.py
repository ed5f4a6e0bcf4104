"""Redraw gallery/: each picture and sheet of gallery/gallery.toml from the command beside it, and gallery/README.md.

    python scripts/gallery.py [FILE ...]      only these files; overview.png is put together from the pictures there are
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from synthskin.dataset.encode import SOURCE_TYPES, png_bytes
from synthskin.draw import draw
from synthskin.preset import load_preset
from synthskin.run import EngineLike, EngineOptions, real_device, real_engine

FOLDER = Path(__file__).resolve().parent.parent / "gallery"
OVERVIEW = "overview.png"
OVERVIEW_TITLE = "Two lesions on each of the six skin tones"
OVERVIEW_COLUMNS = 6


def command_of(entry: dict[str, Any]) -> str:
    """What a user types to get the picture."""
    sets = "".join(f" --set {shlex.quote(text)}" for text in entry.get("set", []))
    return (f"synthskin render --preset {entry['preset']} --seed {entry['seed']} --n {entry['index'] + 1} "
            f"--size {entry['size']} --spp {entry['spp']}{sets}")


def pictures(command: str) -> list[np.ndarray]:
    """The pictures of a set made by a command, in order of the rows."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        subprocess.run([sys.executable, "-m", "synthskin.cli", *shlex.split(command)[1:], "--out", str(out)],
                       check=True, stdout=subprocess.DEVNULL)
        rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
        return [np.asarray(Image.open(out / row["file_name"]).convert("RGB")) for row in rows]


def grid(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    """Tiles of one size side by side, row by row."""
    tiles = tiles + [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    return np.concatenate([np.concatenate(tiles[i:i + columns], axis=1) for i in range(0, len(tiles), columns)])


def save(name: str, image: np.ndarray) -> None:
    (FOLDER / name).write_bytes(png_bytes(image, SOURCE_TYPES["physics"]))
    print(f"gallery/{name}", file=sys.stderr)


def overview(entries: list[dict[str, Any]]) -> np.ndarray:
    """Every second pixel of the gallery's pictures that are marked for it."""
    chosen = [FOLDER / entry["file"] for entry in entries if entry.get("overview")]
    return grid([np.asarray(Image.open(path).convert("RGB"))[::2, ::2] for path in chosen], OVERVIEW_COLUMNS)


def readme(content: dict[str, Any]) -> str:
    """Text of gallery/README.md: every picture with the command that makes it."""
    entries = content["picture"]
    marked = ", ".join(entry["file"] for entry in entries if entry.get("overview"))
    lines = ["# Gallery", "", "Every picture is synthetic; `make gallery` redraws it from the command beside it.", "",
             f"## {OVERVIEW_TITLE}", "", f"![{OVERVIEW_TITLE}]({OVERVIEW})", "",
             f"Every second pixel of {marked}, whose commands stand below, {OVERVIEW_COLUMNS} a row:", "",
             "```", f"python scripts/gallery.py {OVERVIEW}", "```", ""]
    for sheet in content["sheet"]:
        lines += [f"## {sheet['title']}", "", f"![{sheet['title']}]({sheet['file']})", "", "```"]
        lines += [*sheet["commands"], "```", ""]
    lines += ["## Single pictures", "", "| picture | the last one of |", "|---|---|"]
    lines += [f"| [{entry['file']}]({entry['file']}) | `{command_of(entry)}` |" for entry in entries]
    return "\n".join(lines) + "\n"


def main() -> None:
    content = tomllib.loads((FOLDER / "gallery.toml").read_text(encoding="utf-8"))
    entries, sheets = content["picture"], content["sheet"]
    wanted = set(sys.argv[1:])
    unknown = wanted - {OVERVIEW, *(entry["file"] for entry in entries + sheets)}
    if unknown:
        print(f"error: {', '.join(sorted(unknown))}: not in gallery/gallery.toml", file=sys.stderr)
        sys.exit(2)
    device = real_device("auto")
    engines: dict[tuple[int, int], EngineLike] = {}
    for entry in entries:
        if wanted and entry["file"] not in wanted:
            continue
        settings = (entry["size"], entry["spp"])
        if settings not in engines:
            engines[settings] = real_engine(EngineOptions(*settings, device=device))
        preset = load_preset(entry["preset"]).with_sets(entry.get("set", []))
        save(entry["file"], engines[settings].render(draw(preset, entry["seed"], entry["index"])).image)
    if not wanted or OVERVIEW in wanted:
        save(OVERVIEW, overview(entries))
    for sheet in sheets:
        if not wanted or sheet["file"] in wanted:
            save(sheet["file"], grid([tile for line in sheet["commands"] for tile in pictures(line)], sheet["columns"]))
    (FOLDER / "README.md").write_text(readme(content), encoding="utf-8")


if __name__ == "__main__":
    main()
