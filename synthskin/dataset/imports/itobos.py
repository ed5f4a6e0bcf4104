"""iToBoS 2024 (Saha et al. 2025): tiles of 3-D total body photographs with a box a lesion, in YOLO's form."""

from __future__ import annotations

import math

from synthskin.dataset.format import DatasetError
from synthskin.dataset.imports.common import ImportOptions, Photo, Plan, Source
from synthskin.dataset.imports.splits import split_of

_MAX_BOXES = 10_000


def plan(source: Source, options: ImportOptions) -> Plan:
    labels = {path for path in source.files if path.lower().endswith(".txt") and "labels" in path.lower().split("/")}
    photos = []
    for image in source.photos_in(lambda path: "images" in path.lower().split("/")):
        parts = image.split("/")
        at = len(parts) - 1 - [part.lower() for part in parts[::-1]].index("images")
        text = "/".join([*parts[:at], "labels", *parts[at + 1:]]).rsplit(".", 1)[0] + ".txt"
        boxes = read_boxes(source, text) if text in labels else ()
        name = parts[-1].rsplit(".", 1)[0]
        split = split_of(image)
        photos.append(Photo(f"{split}-{name}" if split else name, image, None, None,
                            {"modality": "clinical", "split": split}, boxes=boxes,
                            source={"boxes_known": text in labels}))
    return Plan("itobos", "iToBoS 2024: tiles of total body photographs with lesion boxes", "iToBoS", tuple(photos),
                source, ("CC-BY-4.0",),
                ("iToBoS: Saha et al., Scientific Data (2025), doi 10.1038/s41597-025-05483-x",))


def read_boxes(source: Source, relative: str) -> tuple[tuple[float, float, float, float], ...]:
    """(x centre, y centre, width, height), shares of the picture, of each line `class x y w h`."""
    found = []
    lines = (source.root / relative).read_text(encoding="utf-8", errors="replace").splitlines()
    if len(lines) > _MAX_BOXES:
        raise DatasetError(f"{source.shown}/{relative}: more than {_MAX_BOXES} boxes")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            _, x, y, w, h = (float(cell) for cell in line.split())
        except ValueError:
            x = math.nan
        if not (math.isfinite(x) and all(0 <= v <= 1 for v in (x, y, w, h)) and w > 0 and h > 0):
            raise DatasetError(f"{source.shown}/{relative}, line {number}: a class and four numbers from 0 to 1 are "
                               "needed, the last two above 0")
        found.append((x, y, w, h))
    return tuple(found)
