"""Folders for results: whether one may be written into shows before any work, and a refusal leaves nothing behind."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from synthskin.bias.errors import BiasError


def check_folder(out: Path, ours: Collection[str], what: str, strange: Callable[[Path], str | None]) -> None:
    """Raise BiasError where `out` cannot be written to, or holds anything that is no part of a former `what`.

    ours      names that a former one leaves; hidden files are let be
    strange   given the folder, the name of an entry of those that is not ours by its content, or None
    """
    with new_folder(out):
        try:
            there = sorted(path.name for path in out.iterdir())
            with tempfile.TemporaryFile(dir=out):
                pass
        except OSError as error:
            raise _unwritable(out, error) from None
        other = next((name for name in there if name not in ours and not name.startswith(".")), None) or strange(out)
        if other is not None:
            raise BiasError(f"{out}: holds {other[:60]!r}, which is no part of {what}; choose another --out")


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[None]:
    """Make the folder; when the block ends, those that were made and are empty go again. Raises BiasError."""
    made: list[Path] = []
    try:
        try:
            made += [path for path in (out, *out.parents) if not path.exists()]
            for path in (out, *out.parents):
                if path.exists() and not path.is_dir():
                    raise BiasError(f"{path}: is a file; a folder is needed, choose another --out")
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(out, error) from None
        yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def _unwritable(out: Path, error: OSError) -> BiasError:
    return BiasError(f"{out}: cannot be written: {error.strerror or error}; choose another --out")
