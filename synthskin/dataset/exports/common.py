"""What all exports share: the samples of a set, checked one by one, and a new folder that is there whole or not."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from synthskin.dataset.card import Card
from synthskin.dataset.format import DatasetError, Sample, media_paths
from synthskin.dataset.reader import Progress, iter_rows, load_sample, safe_path

SEGMENTATIONS: Final = ("polygon", "rle")
#: Options that a form reads; all others must be left at their defaults.
_READ: Final[dict[str, tuple[str, ...]]] = {
    "coco": ("segm",), "webdataset": ("shard_mb", "name"), "parquet": ("shard_mb",), "isic": (), "croissant": (),
}


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """segm: polygon or rle (coco). shard_mb: megabytes a file (webdataset, parquet). name: of shards (webdataset)."""

    segm: str = "polygon"
    shard_mb: int = 1000
    name: str | None = None


def checked_options(form: str, options: ExportOptions) -> None:
    """Raise DatasetError on a value that is not allowed, or an option that the form does not read."""
    for spec in fields(options):
        if getattr(options, spec.name) != spec.default and spec.name not in _READ[form]:
            reads = ", ".join(f"--{name.replace('_', '-')}" for name in _READ[form]) or "no option"
            raise DatasetError(f"--{spec.name.replace('_', '-')}: has no meaning for --to {form}, which takes {reads}")
    if options.segm not in SEGMENTATIONS:
        raise DatasetError(f"--segm {options.segm}: allowed are {', '.join(SEGMENTATIONS)}")
    if not 1 <= options.shard_mb <= 100_000:
        raise DatasetError(f"--shard-mb {options.shard_mb}: allowed is 1 to 100000")
    name = options.name
    if name is not None and (not name or not all(c.isascii() and (c.isalnum() or c in "_-") for c in name)):
        raise DatasetError(f"--name {name!r}: letters, digits, _ and - are allowed")


@dataclass(frozen=True)
class Source:
    """The set to export. Iterating gives (row, sample, {role: file bytes}), each sample whole, in the rows' order."""

    directory: Path
    card: Card
    run: dict[str, Any]
    count: int
    progress: Progress | None = None

    def __iter__(self) -> Iterator[tuple[dict[str, Any], Sample, dict[str, bytes]]]:
        if self.progress is not None:
            self.progress.start(self.count, 0)
        maps = bool(self.card.engine.get("maps"))
        try:
            for number, row in enumerate(iter_rows(self.directory), start=1):
                sample = load_sample(self.directory, row, self.card)
                paths = media_paths(row, maps=maps)
                yield row, sample, {role: safe_path(self.directory, path).read_bytes() for role, path in paths.items()}
                if self.progress is not None:
                    self.progress.step(number)
        finally:
            if self.progress is not None:
                self.progress.stop()


@contextlib.contextmanager
def new_folder(out: Path, source: Path | None = None) -> Iterator[Path]:
    """A folder to fill; it takes the place of `out` when the block ends well, and vanishes when it does not.

    Raises DatasetError where `out` is a file, a link, not empty, or inside `source`, and on a full disk.
    """
    where = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow the link that is refused below
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise DatasetError(f"--out {out}: is not a folder; choose another --out")
    if out.is_dir() and any(out.iterdir()):
        raise DatasetError(f"--out {out}: is not empty; choose a new folder")
    if source is not None and (source.resolve() == where or source.resolve() in where.resolve().parents):
        raise DatasetError(f"--out {out}: lies inside the set {source}; choose a folder elsewhere")
    temporary: Path | None = None
    try:
        try:
            where.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{where.name[:60]}.part-", dir=where.parent))
            temporary.chmod(0o755)
            yield temporary
            os.replace(temporary, where)
            temporary = None
        except OSError as error:
            raise DatasetError(f"--out {out}: cannot be written: {error.strerror or error}; free or fix it, or choose "
                               "another --out") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def need(library: str, form: str) -> Any:
    """Import a library of the extra `export`; raises DatasetError that says what to install."""
    import importlib

    try:
        return importlib.import_module(library)
    except ImportError:
        raise DatasetError(f"--to {form}: needs {library.partition('.')[0]}; "
                           "type pip install 'synthskin[export]'") from None
