"""Prediction on files: a folder, single pictures, or a data set; and scores against true masks.

Of pictures: OUT/masks/NAME.png (0 or 255), OUT/predictions.jsonl (a row a picture), OUT/preview.png, with --probability
OUT/probabilities/NAME.png. Of a data set: another data set, its masks replaced by predicted ones (mask_status), the
segmenter's SHA-256 as `checkpoint`, its licences added, parents named.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.conventions import HEALTHY
from synthskin.dataset.encode import encode_sample, png_bytes
from synthskin.dataset.format import DatasetError, Sample, parse_row
from synthskin.dataset.photo import ENDINGS, check_photo, check_side, load_photo
from synthskin.dataset.preview import MAX_TILES, write_preview
from synthskin.dataset.reader import Dataset, Progress, bounding_box, open_dataset, read_lines, safe_path
from synthskin.dataset.writer import DatasetWriter, check_target
from synthskin.files import write_whole
from synthskin.segment import confidence as conf
from synthskin.segment.data import collect, joined
from synthskin.segment.errors import SegmentError
from synthskin.segment.network import read_bytes
from synthskin.segment.predict import LEAST_SIDE_PX, Prediction, Segmenter
from synthskin.segment.settings import TrainSettings
from synthskin.segment.train import score_items

ROWS: Final = "predictions.jsonl"
MAX_ROWS_BYTES: Final = 1_000_000_000


@dataclass(frozen=True)
class Predicted:
    """Pictures in all, masks made in this call, why others were left out, and how many of those made were made again.

    redone    a mask was there, of another picture of that name in the same folder, or of one nobody knows any more
    """

    total: int
    made: int
    left_out: dict[str, str]
    redone: int = 0


def predict_files(segmenter: Segmenter, sources: Sequence[Path], out: Path, batch: int = 8, probability: bool = False,
                  skip_bad: bool = False, progress: Progress | None = None) -> Predicted:
    """Segment pictures or one data set into `out`; what is there already of these pictures and this segmenter is kept.

    A picture that was replaced is segmented again. Raises SegmentError or DatasetError on a source that is none, and
    where `out` has masks of other pictures under these names. A picture that cannot be read, or is under 8 pixels, is
    an error too, found before anything is written or else undone: `out` gains no mask from such a call. With `skip_bad`
    it is left out. A data set is segmented whole; one that stops at a damaged sample is continued once that is mended.
    """
    if batch < 1:
        raise SegmentError(f"batch={batch}: at least 1 is needed")
    if len(sources) == 1 and (sources[0] / "dataset.json").is_file():
        if probability:
            raise SegmentError("--probability: a data set has no place for probabilities; give its folder images/")
        if skip_bad:
            raise SegmentError("--skip-bad: a data set is segmented whole; mend what `synthskin validate` names, or "
                               "give its folder images/")
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
    stale = _stale(rows, pictures, out)
    kept = {name for name in rows if name in pictures and name not in stale}
    missing = [name for name in pictures if name not in kept]
    left_out: dict[str, str] = {}
    if not skip_bad:
        _refuse_bad([pictures[name] for name in missing])
    before = _made_folder(out, probability)
    try:
        for name in stale:  # no mask of another picture stays, whatever stops the call
            del rows[name]
            _delete_masks(out, name)
    except OSError as error:
        raise SegmentError(f"{out}: cannot be written: {error.strerror or error}; choose another --out") from None
    made: list[str] = []
    if progress is not None:
        progress.start(len(pictures), len(kept))
    try:
        for start in range(0, len(missing), batch):
            names, images, hashes = [], [], {}
            for name in missing[start : start + batch]:
                try:
                    hashes[name] = _file_hash(pictures[name])
                    images.append(_load(pictures[name]))
                    names.append(name)
                except DatasetError as error:
                    if not skip_bad:
                        raise _bad(pictures[name], error) from None
                    left_out[str(pictures[name])] = str(error)
            for name, image, one in zip(names, images, segmenter.predict(images, batch), strict=True):
                made.append(name)
                write_whole(out / "masks" / f"{name}.png", png_bytes(_bytes(one.mask)), SegmentError)
                if probability:
                    levels = (one.probability * 255).round().astype(np.uint8)
                    write_whole(out / "probabilities" / f"{name}.png", png_bytes(levels), SegmentError)
                rows[name] = _row(name, pictures[name], image, one, segmenter) | {
                    "sha256": hashes[name], "folder": _folder(pictures[name], out)}
            if progress is not None:
                progress.step(len(kept) + start + len(names))
    except _BadPictureError:
        for name in made:
            del rows[name]
            _delete_masks(out, name)
        if before is not None:
            _unmake_folder(out, before)
        raise
    finally:
        if progress is not None:
            progress.stop()
        if (out / ROWS).is_file():  # not where the call undid itself
            text = "".join(json.dumps(rows[name], ensure_ascii=False) + "\n" for name in sorted(rows))
            write_whole(out / ROWS, text.encode(), SegmentError)
    write_whole(out / "preview.png", _sheet({n: p for n, p in pictures.items() if n in rows}, out / "masks", rows),
                SegmentError)
    return Predicted(len(kept) + len(missing) - len(left_out), len(missing) - len(left_out), left_out,
                     sum(name in rows for name in stale))


class _BadPictureError(SegmentError):
    """One picture cannot be segmented; all that the call has written is undone."""


def _bad(path: Path, why: Exception, more: int = 0) -> _BadPictureError:
    others = f" ({more} more are bad)" if more > 1 else " (another is bad)" if more else ""
    return _BadPictureError(f"{path}: {why}{others}; mend it, or --skip-bad leaves it out; no mask was added")


def _load(path: Path) -> NDArray[np.uint8]:
    """A picture that the segmenter takes; raises DatasetError."""
    image = load_photo(path)
    check_side(image.shape[1], image.shape[0], LEAST_SIDE_PX)
    return image


def _refuse_bad(paths: Sequence[Path]) -> None:
    """Raise SegmentError, before anything is written, where headers and ends of files tell that some are bad."""
    bad: list[tuple[Path, DatasetError]] = []
    for path in paths:
        try:
            check_photo(path, LEAST_SIDE_PX)
        except DatasetError as error:
            bad.append((path, error))
    if bad:
        raise _bad(*bad[0], len(bad) - 1)


def _made_folder(out: Path, probability: bool) -> list[Path] | None:
    """Make `out` ready. The folders that this made, innermost first, if it was not ours already; else None."""
    fresh = not (out / ROWS).is_file()
    new = [path for path in (out, *out.parents) if not path.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        if fresh:
            write_whole(out / ROWS, b"", SegmentError)  # from here on the folder is ours, whatever stops the call
        for folder in ("masks", "probabilities") if probability else ("masks",):
            (out / folder).mkdir(exist_ok=True)
    except OSError as error:
        raise SegmentError(f"{out}: cannot be made: {error.strerror or error}; choose another --out") from None
    return [out / "masks", out / "probabilities", *new] if fresh else None


def _unmake_folder(out: Path, folders: Sequence[Path]) -> None:
    (out / ROWS).unlink(missing_ok=True)
    for folder in folders:
        with contextlib.suppress(OSError):  # not there, or somebody put something in
            folder.rmdir()


def _delete_masks(out: Path, name: str) -> None:
    for folder in ("masks", "probabilities"):
        (out / folder / f"{name}.png").unlink(missing_ok=True)


def _file_hash(path: Path) -> str:
    """SHA-256; empty where the file cannot be read, which decoding it will tell."""
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError:
        return ""


def _folder(picture: Path, out: Path) -> str:
    """Where a picture lies, told from `out`."""
    return os.path.relpath(picture.parent.resolve(), out.resolve())


def _stale(rows: dict[str, dict[str, Any]], pictures: dict[str, Path], out: Path) -> list[str]:
    """Names whose mask is of another picture, or of one that its row does not tell (it was written before rows did).

    Raises SegmentError where that other picture lies in another folder: its mask is not ours to write over.
    """
    stale = [name for name, path in pictures.items() if name in rows and rows[name].get("sha256") != _file_hash(path)]
    others = [name for name in stale if rows[name].get("folder") not in (None, _folder(pictures[name], out))]
    if others:
        first = os.path.normpath(out.resolve() / str(rows[others[0]]["folder"]))
        more = f", and {len(others) - 1} more" if len(others) > 1 else ""
        raise SegmentError(f"{out}: holds the mask of another {pictures[others[0]].name} (of {first}){more}; choose "
                           "another --out, one for each folder of pictures")
    return stale


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
    check_target(out, card, preset_toml=toml)
    _refuse_replaced(data, out)
    for row in data.rows:
        try:
            check_photo(safe_path(data.directory, row["file_name"]), LEAST_SIDE_PX)
        except DatasetError as error:
            raise SegmentError(f"{data.directory}/{row['file_name']}: {error}; mend the set, or give its folder "
                               "images/ with --skip-bad") from None
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


def _refuse_replaced(data: Dataset, out: Path) -> None:
    """Raise SegmentError where a row of `out` is of another picture than `data` has now: a set is never changed."""
    rows = {row["index"]: row for row in data.rows}
    kept = []
    for _, line, _ in read_lines(out) if (out / "metadata.jsonl").is_file() else ():
        with contextlib.suppress(DatasetError):  # what is no row the writer makes again
            kept.append(parse_row(line))
    for there in kept:
        row, parent = rows.get(there["index"]), (there["parents"] or [{}])[-1]
        if row is not None and parent.get("sha256") != _file_hash(safe_path(data.directory, row["file_name"])):
            raise SegmentError(f"{out}: was made from another {row['file_name']} than {data.directory} holds now; "
                               "choose another --out")


def _replaced(sample: Sample, one: Prediction, data: Dataset, key: str, sha256: str) -> Sample:
    row = dict(sample.row)
    mask = np.zeros_like(one.mask) if row["diagnosis"] == HEALTHY else one.mask
    box = bounding_box(mask)
    digest = _file_hash(data.directory / row["file_name"])
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
