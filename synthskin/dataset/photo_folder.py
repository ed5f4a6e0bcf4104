"""Photographs of a plain folder: the pictures below it, without the masks that lie there too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from synthskin.dataset.format import DatasetError
from synthskin.dataset.photo import ENDINGS
from synthskin.laws import one_line

_MASK_FOLDERS: Final = ("mask", "masks")
#: As the ISIC archive and most tools name what is no photograph.
_MASK_NAME: Final = re.compile(r".+_(segmentation|mask|superpixels|attribute_[a-z0-9_]+)", re.IGNORECASE)
_LESION_NAME: Final = re.compile(r"(.+)_lesion", re.IGNORECASE)  # PH2's masks; a photograph may be called so as well


@dataclass(frozen=True, slots=True)
class PhotoFolder:
    """photographs in the order of their paths; masks: pictures left out as masks."""

    photographs: tuple[Path, ...]
    masks: tuple[Path, ...]


def find_photographs(folder: Path, masks: Path | None = None) -> PhotoFolder:
    """Pictures of a folder and its subfolders, those left out that are masks by place or name.

    Left out is what lies in `masks`, where that is a folder below, or in a folder called masks; what is called
    NAME_segmentation, NAME_mask, NAME_superpixels or NAME_attribute_X; and NAME_lesion where there is a picture NAME.

    Raises DatasetError where a data set lies below: its masks, hair and artefacts are pictures, too.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sets = [path.parent for path in files if path.name == "dataset.json" and path.parent != folder]
    if sets:
        more = f" and {len(sets) - 1} more" if len(sets) > 1 else ""
        raise DatasetError(f"{folder}: is no folder of photographs, a data set lies in it{more}; give the set: "
                           f"{sets[0]}")
    pictures = [path for path in files if path.suffix.lower() in ENDINGS]
    names = {path.stem.lower() for path in pictures}
    apart = None if masks is None or folder.resolve() not in masks.resolve().parents else masks.resolve()

    def is_mask(path: Path) -> bool:
        above = path.relative_to(folder).parts[:-1]
        lesion = _LESION_NAME.fullmatch(path.stem)
        return (any(part.lower() in _MASK_FOLDERS for part in above) or _MASK_NAME.fullmatch(path.stem) is not None
                or (lesion is not None and lesion[1].lower() in names)
                or (apart is not None and apart in path.resolve().parents))

    found = {path: is_mask(path) for path in pictures}
    return PhotoFolder(tuple(path for path, mask in found.items() if not mask),
                       tuple(path for path, mask in found.items() if mask))


def left_out_words(masks: Sequence[Path]) -> str:
    """That these were left out, or nothing."""
    if not masks:
        return ""
    if len(masks) == 1:
        return f"1 picture left out as a mask by name or folder, {one_line(str(masks[0]))}"
    return f"{len(masks)} pictures left out as masks by name or folder, first {one_line(str(masks[0]))}"
