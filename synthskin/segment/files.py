"""Prediction on files: a folder, single pictures, or a data set; and scores against true masks.

Of pictures: OUT/masks/NAME.png (0 or 255), OUT/predictions.jsonl (a row a picture), OUT/preview.png, with --probability
OUT/probabilities/NAME.png. Of a data set: another data set, its masks replaced by predicted ones (mask_status), the
segmenter's SHA-256 as `checkpoint`, its licences added, parents named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.conventions import HEALTHY
from synthskin.dataset.encode import encode_sample, png_bytes
from synthskin.dataset.format import DatasetError, Sample
from synthskin.dataset.photo import ENDINGS, load_photo
from synthskin.dataset.preview import MAX_TILES, write_preview
from synthskin.dataset.reader import Dataset, Progress, bounding_box, open_dataset
from synthskin.dataset.writer import DatasetWriter
from synthskin.files import write_whole
from synthskin.segment import confidence as conf
from synthskin.segment.data import collect, joined
from synthskin.segment.errors import SegmentError
from synthskin.segment.network import read_bytes
from synthskin.segment.predict import Prediction, Segmenter
from synthskin.segment.settings import TrainSettings
from synthskin.segment.train import score_items

ROWS: Final = "predictions.jsonl"
MAX_ROWS_BYTES: Final = 1_000_000_000


@dataclass(frozen=True)
class Predicted:
    """Pictures in all, masks made in this call, and why others were left out."""

    total: int
    made: int
    left_out: dict[str, str]


def predict_files(segmenter: Segmenter, sources: Sequence[Path], out: Path, batch: int = 8, probability: bool = False,
                  skip_bad: bool = False, progress: Progress | None = None) -> Predicted:
    """Segment pictures or one data set into `out`; what is there already from this segmenter is kept.

    Raises SegmentError or DatasetError on a source that is none; a picture that cannot be read is an error too, or left
    out with `skip_bad`.
    """
    if batch < 1:
        raise SegmentError(f"batch={batch}: at least 1 is needed")
    if len(sources) == 1 and (sources[0] / "dataset.json").is_file():
        if probability:
            raise SegmentError("--probability: a data set has no place for probabilities; give its folder images/")
        return _predict_set(segmenter, open_dataset(sources[0]), out, batch, progress)
    return _predict_pictures(segmenter, find_pictures(sources), out, batch, probability, skip_bad, progress)


def find_pictures(sources: Sequence[Path]) -> dict[str, Path]:
    """{name of the mask without ending: path}, in order; raises SegmentError on none, or two of one name."""
    found: dict[str, Path] = {}
    for source in sources:
        if (source / "dataset.json").is_file():
            raise SegmentError(f"{source}: a data set among other sources; segment it by itself, or give its images/")
        if source.is_dir():
            here = sorted(p for p in source.iterdir() if p.suffix.lower() in ENDINGS and p.is_file())
            if not here:
                raise SegmentError(f"{source}: no pictures in that folder; endings are {', '.join(ENDINGS)}")
        elif source.is_file():
            here = [source]
        else:
            raise SegmentError(f"{source}: is not there; give a folder of pictures, picture files, or a data set")
        for path in here:
            if path.stem in found:
                raise SegmentError(f"{path} and {found[path.stem]}: masks of one name; segment them into two folders")
            found[path.stem] = path
    return found


def _predict_pictures(segmenter: Segmenter, pictures: dict[str, Path], out: Path, batch: int, probability: bool,
                      skip_bad: bool, progress: Progress | None) -> Predicted:
    rows = _known_rows(segmenter, out, probability)
    kept = {name for name in rows if name in pictures}
    missing = [name for name in pictures if name not in kept]
    left_out: dict[str, str] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not (out / ROWS).is_file():
            write_whole(out / ROWS, b"", SegmentError)  # from here on the folder is ours, whatever stops the call
        for folder in ("masks", "probabilities") if probability else ("masks",):
            (out / folder).mkdir(exist_ok=True)
    except OSError as error:
        raise SegmentError(f"{out}: cannot be made: {error.strerror or error}; choose another --out") from None
    if progress is not None:
        progress.start(len(pictures), len(kept))
    try:
        for start in range(0, len(missing), batch):
            names, images = [], []
            for name in missing[start : start + batch]:
                try:
                    images.append(load_photo(pictures[name]))
                    names.append(name)
                except DatasetError as error:
                    if not skip_bad:
                        raise SegmentError(f"{pictures[name]}: {error}; --skip-bad leaves it out") from None
                    left_out[str(pictures[name])] = str(error)
            for name, image, one in zip(names, images, segmenter.predict(images, batch), strict=True):
                write_whole(out / "masks" / f"{name}.png", png_bytes(_bytes(one.mask)), SegmentError)
                if probability:
                    levels = (one.probability * 255).round().astype(np.uint8)
                    write_whole(out / "probabilities" / f"{name}.png", png_bytes(levels), SegmentError)
                rows[name] = _row(name, pictures[name], image, one, segmenter)
            if progress is not None:
                progress.step(len(kept) + start + len(names))
    finally:
        if progress is not None:
            progress.stop()
        text = "".join(json.dumps(rows[name], ensure_ascii=False) + "\n" for name in sorted(rows))
        write_whole(out / ROWS, text.encode(), SegmentError)
    write_whole(out / "preview.png", _sheet({n: p for n, p in pictures.items() if n in rows}, out / "masks", rows),
                SegmentError)
    return Predicted(len(kept) + len(missing) - len(left_out), len(missing) - len(left_out), left_out)


def _row(name: str, path: Path, image: NDArray[Any], one: Prediction, segmenter: Segmenter) -> dict[str, Any]:
    return {"name": name, "picture": path.name, "mask": f"masks/{name}.png", "width": image.shape[1],
            "height": image.shape[0], "confidence": round(one.confidence, 4),
            "area_share": round(float(one.mask.mean()), 6), "bbox": bounding_box(one.mask),
            "checkpoint": segmenter.sha256}


def _known_rows(segmenter: Segmenter, out: Path, probability: bool) -> dict[str, dict[str, Any]]:
    """Rows of an earlier call whose masks are there; raises SegmentError where another segmenter made them."""
    if not (out / ROWS).is_file():
        if out.is_dir() and any(not p.name.startswith(".") for p in out.iterdir()):
            raise SegmentError(f"{out}: holds other files; choose a new or empty --out")
        return {}
    rows = {}
    for line in read_bytes(out / ROWS, MAX_ROWS_BYTES).splitlines():
        try:
            row = json.loads(line)
            name, made_by = str(row["name"]), str(row["checkpoint"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise SegmentError(f"{out / ROWS}: a line is no row of a prediction; choose another --out") from None
        if made_by != segmenter.sha256:
            raise SegmentError(f"{out}: holds masks of another segmenter ({made_by[:12]}...); choose another --out")
        folders = ("masks", "probabilities") if probability else ("masks",)
        if "/" not in name and all((out / folder / f"{name}.png").is_file() for folder in folders):
            rows[name] = row
    return rows


def _sheet(pictures: dict[str, Path], masks: Path, rows: dict[str, dict[str, Any]]) -> bytes:
    """Contact sheet of the first pictures with the outlines found, the confidence below."""
    from PIL import Image, ImageDraw

    names = list(pictures)[:MAX_TILES]
    side, columns = 192, max(min(8, len(names)), 1)
    sheet = Image.new("RGB", (columns * side, max(-(-len(names) // columns), 1) * (side + 14)), "white")
    pen = ImageDraw.Draw(sheet)
    for k, name in enumerate(names):
        at = (k % columns * side, k // columns * (side + 14))
        with Image.open(masks / f"{name}.png") as file:
            mask = file.convert("L")
        picture = Image.fromarray(outlined(load_photo(pictures[name]), np.asarray(mask) > 0, side - 2))
        sheet.paste(picture, at)
        pen.text((at[0] + 2, at[1] + side), f"{name[:22]}  {rows[name]['confidence']:.2f}", fill="black")
    return png_bytes(np.asarray(sheet))


def outlined(image: NDArray[np.uint8], mask: NDArray[np.bool_], side: int) -> NDArray[np.uint8]:
    """The picture with its longer side at `side` pixels and the mask's outline on it."""
    from PIL import Image

    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    tile = np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    inside = np.array(Image.fromarray(_bytes(mask)).resize(size, Image.Resampling.NEAREST)) > 0
    padded = np.pad(inside, 1, mode="edge")
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    tile[inside & ~core] = (70, 240, 255)
    return tile


def _predict_set(segmenter: Segmenter, data: Dataset, out: Path, batch: int, progress: Progress | None) -> Predicted:
    """A data set with predicted masks. Healthy skin keeps its empty mask."""
    if out.resolve() == data.directory.resolve():
        raise SegmentError(f"{out}: is the set itself; choose another --out")
    key = hashlib.sha256(f"{data.card.set_hash} segmented by {segmenter.sha256}".encode()).hexdigest()[:16]
    engine = {**data.card.engine, "segmenter": segmenter.sha256, "maps": False}
    card = replace(data.card, set_hash=key, engine=engine, n=len(data),
                   licences=joined([data.card.licences, segmenter.card["licences"]]),
                   attribution=joined([data.card.attribution, segmenter.card["attribution"]]))
    preset = data.directory / "preset.toml"
    toml = preset.read_text(encoding="utf-8") if preset.is_file() else ""
    with DatasetWriter(out, card, toml) as writer:
        missing = [k for k, row in enumerate(data.rows) if row["index"] not in writer.finished]
        if progress is not None:
            progress.start(len(data), len(data) - len(missing))
        try:
            for start in range(0, len(missing), batch):
                samples = [data.load(k) for k in missing[start : start + batch]]
                found = segmenter.predict([_rgb(sample.image) for sample in samples], batch)
                for sample, one in zip(samples, found, strict=True):
                    writer.write(encode_sample(_replaced(sample, one, data, key, segmenter.sha256)))
                if progress is not None:
                    progress.step(len(data) - len(missing) + min(start + batch, len(missing)))
        finally:
            if progress is not None:
                progress.stop()
    write_preview(out)
    return Predicted(len(data), len(missing), {})


def _replaced(sample: Sample, one: Prediction, data: Dataset, key: str, sha256: str) -> Sample:
    row = dict(sample.row)
    mask = np.zeros_like(one.mask) if row["diagnosis"] == HEALTHY else one.mask
    box = bounding_box(mask)
    digest = hashlib.sha256((data.directory / row["file_name"]).read_bytes()).hexdigest()
    params = {**json.loads(row["params"]), "segmenter_confidence": round(one.confidence, 4)}
    row |= {
        "set_hash": key, "mask_status": "predicted", "mask_file_name": f"masks/{Path(row['file_name']).name}",
        "bbox": box, "boxes": [box] if box else [], "contrast": None, "visible_delta_e": None, "checkpoint": sha256,
        "lesions": [row["diagnosis"]] if box and row["lesions"] and row["diagnosis"] else [],
        "parents": [*row["parents"], {"set_hash": data.card.set_hash, "file_name": row["file_name"],
                                      "sha256": digest}],
        "params": json.dumps(params),
    }
    return Sample(row=row, image=sample.image, mask=_bytes(mask), hair=sample.hair, attributes=sample.attributes,
                  artefacts=sample.artefacts)


def score_sets(segmenter: Segmenter, sets: Sequence[Path], masks: Sequence[str],
               progress: Progress | None = None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(a row a sample, figures) against the true masks of sets; all splits count. Raises SegmentError."""
    settings = TrainSettings(masks=tuple(masks))
    items = collect(sets, settings, for_test=True).items
    rows = score_items(segmenter, items, progress)
    return rows, conf.summary(rows)


def _rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _bytes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(mask, np.uint8(255), np.uint8(0))
