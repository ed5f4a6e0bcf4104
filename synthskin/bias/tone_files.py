"""Tone of many pictures: files, folders of pictures, and synthskin sets (whose masks and hair are used)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synthskin.bias.errors import BiasError
from synthskin.bias.tone import WCAG, Camera, MissingToolError, Tone, measure_tone
from synthskin.dataset.format import DatasetError
from synthskin.dataset.photo import ENDINGS, load_mask, load_photo
from synthskin.dataset.photo_folder import find_photographs, left_out_words
from synthskin.dataset.reader import open_dataset, safe_path
from synthskin.laws import one_line

#: Camera of a row, or None where it is not known.
CameraOf = Callable[[dict[str, Any]], Camera | None]


class Progress(Protocol):
    def start(self, total: int, done: int) -> None: ...
    def step(self, done: int) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Source:
    """A picture to measure; `mask` and `hair` are files, or None where they have to be found.

    known_deg   `ita_deg` of a set's row, where it has one
    optics      `dermoscopic_type` of a set's row, where it has one
    camera      undoes the device of a rendered row; None: unknown
    """

    name: str
    image: Path
    mask: Path | None = None
    hair: Path | None = None
    known_deg: float | None = None
    optics: str | None = None
    camera: Camera | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Tones by picture, in order, and what could not be read."""

    tones: tuple[tuple[Source, Tone], ...]
    unread: dict[str, str]

    def by_class(self) -> dict[str, int]:
        """Number of pictures by ITA class, `cannot say` last."""
        counts = {str(k): 0 for k in range(1, 7)} | {"cannot say": 0}
        for _, tone in self.tones:
            counts["cannot say" if tone.ita_class is None else str(tone.ita_class)] += 1
        return counts


def check_wcag(wcag: str) -> None:
    """Raise BiasError on another --wcag than there is."""
    if wcag not in WCAG:
        raise BiasError(f"--wcag {one_line(wcag)}: allowed are {', '.join(WCAG)}")


def find_sources(paths: Sequence[Path], masks: Path | None = None, camera_of: CameraOf | None = None,
                 left_out: list[Path] | None = None) -> list[Source]:
    """Pictures of files, folders and sets; `masks` is a folder of masks that carry their pictures' names.

    camera_of   tells the camera of a set's row, as `synthskin.cameras.camera_of_row` does; without it none is known
    left_out    takes what lies in the folders and is a mask, no photograph (`find_photographs`)
    Raises BiasError where there is no picture, DatasetError where a set is broken or lies below a folder.
    """
    aside: list[Path] = [] if left_out is None else left_out
    if masks is not None and not masks.is_dir():
        raise BiasError(f"--masks {masks}: {'is no' if masks.exists() else 'there is no such'} folder; give the folder "
                        "of the lesion masks, or leave it out")
    found: list[Source] = []
    for path in paths:
        if not path.exists():
            raise BiasError(f"{path}: there is no such file or folder")
        if path.is_dir() and (path / "dataset.json").is_file():
            found += _of_set(path, camera_of)
        elif path.is_dir():
            there = find_photographs(path, masks)
            found += [Source(str(p), p) for p in there.photographs]
            aside += there.masks
        else:
            found.append(Source(str(path), path))
    if masks is not None:
        found = _with_masks(found, masks, aside)
    if not found:
        raise BiasError(f"{', '.join(map(str, paths))}: no picture there{_but(aside)}; allowed are "
                        f"{', '.join(ENDINGS)}, a folder of them, or a synthskin set")
    return found


def _but(aside: Sequence[Path]) -> str:
    return f" ({left_out_words(aside)})" if aside else ""


def _of_set(directory: Path, camera_of: CameraOf | None) -> Iterator[Source]:
    for row in open_dataset(directory).rows:
        def path(key: str, row: dict[str, Any] = row) -> Path | None:
            return safe_path(directory, row[key]) if row[key] else None

        image = safe_path(directory, row["file_name"])
        yield Source(str(image), image, path("mask_file_name"), path("hair_file_name"), row["ita_deg"],
                     row["dermoscopic_type"], None if camera_of is None else camera_of(row))


def _with_masks(sources: Sequence[Source], folder: Path, aside: list[Path]) -> list[Source]:
    """Each with its mask; what is the mask of another, where pictures and masks share a folder, goes aside."""
    masks = [_mask_of(source.image, folder) for source in sources]
    used = {mask.resolve() for mask in masks if mask is not None}
    found = []
    for source, mask in zip(sources, masks, strict=True):
        if source.image.resolve() in used:
            aside.append(source.image)
        elif mask is None:
            stem = source.image.stem
            raise BiasError(f"{source.image}: no mask {stem}.png or {stem}_segmentation.png in {folder}")
        else:
            found.append(replace(source, mask=mask))
    return found


def _mask_of(image: Path, folder: Path) -> Path | None:
    stem = image.stem
    names = (f"{stem}.png", f"{stem}_segmentation.png", f"{stem}_lesion.bmp", f"{stem}_mask.png", f"{stem}.bmp")
    return next((folder / name for name in names
                 if (folder / name).is_file() and (folder / name).resolve() != image.resolve()), None)


def measure_sources(sources: Sequence[Source], wcag: str = "linear", progress: Progress | None = None,
                    camera: Camera | None = None) -> Measured:
    """Tones of all sources; a picture that cannot be read is told in `unread` and the rest go on.

    camera   that of all pictures, in place of what a set says of its own
    """
    tones, unread = [], {}
    if progress is not None:
        progress.start(len(sources), 0)
    try:
        for number, source in enumerate(sources, start=1):
            try:
                image = load_photo(source.image, upright=source.mask is None)
                tones.append((source, measure_tone(image, _mask(source.mask, image), _mask(source.hair, image),
                                                   optics=source.optics, camera=camera or source.camera,
                                                   wcag=wcag)))
            except MissingToolError:
                raise  # the same for every picture
            except (DatasetError, BiasError) as error:
                unread[source.name] = str(error)
            if progress is not None:
                progress.step(number)
    finally:
        if progress is not None:
            progress.stop()
    return Measured(tuple(tones), unread)


def _mask(path: Path | None, image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    if path is None:
        return None
    height, width = image.shape[:2]
    return load_mask(path, (height, width))
