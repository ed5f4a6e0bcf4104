"""A synthskin set from elsewhere, usually an archive: every sample is checked and copied, the original left alone."""

from __future__ import annotations

from pathlib import Path

from synthskin.dataset.format import DatasetError
from synthskin.dataset.imports.common import Imported, Shown
from synthskin.dataset.merge import merge_sets


def take(folder: Path, out: Path, progress: Shown | None) -> Imported:
    root = folder
    if not (root / "dataset.json").is_file():
        inside = [path for path in sorted(folder.iterdir()) if (path / "dataset.json").is_file()]
        if len(inside) != 1:
            raise DatasetError(f"{folder.name}: holds no set (a folder with dataset.json), or several")
        root = inside[0]
    if root.is_symlink():
        raise DatasetError(f"{root.name}: is a symbolic link; files stay inside the folder")
    merged = merge_sets([root], out, None if progress is None else progress("importing"))
    return Imported(out, merged.samples, merged.copied)
