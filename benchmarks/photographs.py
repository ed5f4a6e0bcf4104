"""The photographs on which the figures are measured, from what isic-cli downloads of ISIC's collection UDA-1 (CC0).

    isic collection list                                    (tells the number of UDA-1)
    isic image download --collections NUMBER download
    python benchmarks/photographs.py download photographs   [--by-class] [--short-side 320]

Writes photographs/images/ISIC_0000000.jpg ..., short side at most 320 pixels, and photographs/metadata.jsonl with
file_name, isic_id and diagnosis: NV where a diagnosis column of the download's metadata.csv says nevus, MEL where one
says melanoma; pictures that say neither are left out and told. With --by-class the pictures lie in images/NV and
images/MEL, as `synthskin import folder` wants them.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image

from synthskin.dataset.format import DatasetError
from synthskin.dataset.photo import load_photo

WORDS = {"melanoma": "MEL", "nevus": "NV"}  # in this order: a melanoma may tell of the nevus it grew in


def diagnosis_of(record: dict[str, str]) -> str | None:
    """MEL, NV or None of a row of metadata.csv: `diagnosis`, or now `diagnosis_1` (coarse) to `diagnosis_5`."""
    told = " ".join(value or "" for key, value in record.items() if key and key.startswith("diagnosis")).lower()
    return next((name for word, name in WORDS.items() if word in told), None)


def prepare(download: Path, out: Path, short_side: int, by_class: bool) -> dict[str, int]:
    """Write the pictures and their metadata.jsonl; returns how many of each diagnosis, and how many were left out."""
    out.mkdir(parents=True)
    lines, counts = [], {"MEL": 0, "NV": 0, "left out": 0}
    with open(download / "metadata.csv", newline="", encoding="utf-8") as table:
        records = sorted(csv.DictReader(table), key=lambda record: record["isic_id"])
    for record in records:
        name, kind = record["isic_id"], diagnosis_of(record)
        found = sorted(download.glob(f"**/{name}.*")) if re.fullmatch(r"ISIC_\d{7}", name) else []
        source = next(iter(found), None)
        if kind is None or source is None:
            counts["left out"] += 1
            continue
        place = Path("images", *([kind] if by_class else []), f"{name}.jpg")
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(load_photo(source))
        scale = short_side / min(picture.size)
        if scale < 1:
            picture = picture.resize((round(picture.width * scale), round(picture.height * scale)),
                                     Image.Resampling.LANCZOS)
        picture.save(out / place, quality=95)
        lines.append(json.dumps({"file_name": str(place), "isic_id": name, "diagnosis": kind}) + "\n")
        counts[kind] += 1
    (out / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("download", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--by-class", action="store_true")
    parser.add_argument("--short-side", type=int, default=320)
    asked = parser.parse_args()
    if not (asked.download / "metadata.csv").is_file():
        parser.error(f"{asked.download}: holds no metadata.csv; give the folder of `isic image download`")
    if asked.short_side < 1:
        parser.error(f"--short-side {asked.short_side}: 1 pixel or more is needed")
    if asked.out.exists():
        parser.error(f"{asked.out}: is there already; give a new folder")
    with tempfile.TemporaryDirectory(dir=asked.out.absolute().parent, prefix=".photographs-") as half:
        try:
            counts = prepare(asked.download, Path(half) / "out", asked.short_side, asked.by_class)
        except DatasetError as error:
            sys.exit(f"{asked.download}: {error}")
        (Path(half) / "out").rename(asked.out)
    print(", ".join(f"{number} {name}" for name, number in counts.items()) + f" in {asked.out}")


if __name__ == "__main__":
    main()
