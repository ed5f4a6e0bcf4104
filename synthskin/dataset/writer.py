"""Writing a data set so that the folder is valid at any moment and the same command continues after any stop.

A sample's files go to a temporary name and are renamed; its row is appended last, flushed and synced. So a row always
has its files. On opening, rows are read back, their files decoded whole, and what is not whole is made again. While a
set is open its card says so (`run.open`), so that a cut last line is known for a kill's or for damage. The rows
themselves stay on the disk: a writer holds two numbers a sample.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from synthskin.dataset.card import MAX_PRESET_BYTES, PRESET_HASH, Card, readme
from synthskin.dataset.encode import EncodedSample
from synthskin.dataset.format import MAX_ROW_BYTES, NAME_PATTERN, DatasetError, parse_row, short
from synthskin.dataset.reader import check_files, read_card, safe_path
from synthskin.files import FolderLock

LOCK: Final = ".synthskin.lock"
TEMP: Final = ".synthskin-tmp"
_OURS: Final = ("README.md", "dataset.json", "preset.toml", "metadata.jsonl", "preview.png")
_FOLDERS: Final = ("images", "masks", "instances", "hair", "maps")
_NAMED_FOLDERS: Final = ("attributes", "artefacts")
_MEDIA: Final = re.compile(r"\d{6,8}\.(png|npz)")
MAX_LAW_CHARACTERS: Final = 200
_CHECK_AT_ONCE: Final = 256  # rows whose files are decoded in one go when a set is opened again


@contextlib.contextmanager
def _told(directory: Path) -> Iterator[None]:
    """Turn an OSError (full, unwritable ...) into one line for the user."""
    try:
        yield
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else str(directory)
        raise DatasetError(f"{where}: cannot be written: {error.strerror or error}; free or fix it, "
                           "then give the same command again, or choose another --out") from error


def _settings(table: Any, name: str = "", law: bool = False) -> dict[str, str]:
    """Tables within tables as one line a setting, keys joined by dots; a field's law is one setting."""
    if not isinstance(table, dict):
        return {name: short(table)}
    if law:
        return {name: ", ".join(f"{short(key)[1:-1]} {short(value)}" for key, value in table.items()
                                if key not in ("source", "pinned"))[:MAX_LAW_CHARACTERS]}
    parts = (_settings(part, f"{name}.{own}" if name else own, name.rpartition(".")[2] == "fields")
             for own, part in table.items())
    return {key: line for part in parts for key, line in part.items()}


def preset_differences(here: str, asked: str, most: int = 3) -> str:
    """Which settings of two preset.toml differ, as a clause; empty where that cannot be told or none does."""
    try:
        old, new = _settings(tomllib.loads(here)), _settings(tomllib.loads(asked))
    except (tomllib.TOMLDecodeError, RecursionError):
        return ""
    names = [name for name in (*new, *(name for name in old if name not in new)) if old.get(name) != new.get(name)]
    told = [f"{short(name.removeprefix('fields.'))[1:-1]} = {old.get(name, 'absent')} where "
            f"{new.get(name, 'absent')} is asked for" for name in names[:most]]
    return "; ".join(told) + (f" and {len(names) - most} more settings" if len(names) > most else "")


def _preset_there(directory: Path) -> str:
    """Text of the set's preset.toml, empty where it cannot be read."""
    path = directory / "preset.toml"
    try:
        return path.read_text(encoding="utf-8") if path.stat().st_size <= MAX_PRESET_BYTES else ""
    except (OSError, UnicodeDecodeError):
        return ""


def check_target(directory: Path, card: Card, overwrite: bool | None = None, preset_toml: str = "") -> None:
    """Refuse what may not be written into, without touching anything; raises DatasetError.

    Allowed are: nothing there yet, an empty folder, and a set whose settings are those of `card`. With the text of the
    `preset_toml` that was asked for, settings that differ in it are named. `overwrite` is None where the command has no
    such option to name.
    """
    if not directory.exists() and not directory.is_symlink():
        parent = next((p for p in directory.absolute().parents if p.exists()), None)
        if parent is None or not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise DatasetError(f"{directory}: cannot be made in {parent}, which is not a writable folder; "
                               "choose another --out")
        return
    if not directory.is_dir():
        raise DatasetError(f"{directory}: is not a folder; choose another --out")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise DatasetError(f"{directory}: the folder is not writable; choose another --out")
    places = [directory / name for name in (*_OURS, *_FOLDERS, *_NAMED_FOLDERS)]
    for kind in _NAMED_FOLDERS:
        if (directory / kind).is_dir() and not (directory / kind).is_symlink():
            places += sorted((directory / kind).iterdir())
    for place in places:
        if place.is_symlink():
            raise DatasetError(f"{place}: is a symbolic link; a set keeps its files inside its own folder")
    if not (directory / "dataset.json").is_file():
        others = sorted(p.name for p in directory.iterdir() if p.name not in (LOCK, TEMP))
        if others:
            raise DatasetError(f"{directory}: holds other files ({others[0]}) and is no synthskin data set; "
                               "choose an empty or new --out")
        return
    if overwrite:
        return
    there, _ = read_card(directory)
    found = there.identity()
    differs = [name for name, wanted in card.identity().items() if found.get(name) != wanted]
    if differs:
        name = differs[0]
        if name == PRESET_HASH and preset_toml:
            told = preset_differences(_preset_there(directory), preset_toml)
            if not told and len(differs) > 1:  # the hash has the variation in it too, which tells more
                name = differs[1]
        else:
            told = ""
        told = told or f"{name} = {found.get(name)}, {card.identity()[name]} was asked for"
        allowed = "or another folder" if overwrite is None else "another --out, or --overwrite to start anew"
        raise DatasetError(f"{directory}: holds a set with {told}; give the same settings to continue it, {allowed}")
    for name, old, new in (("licence", there.licences, card.licences),
                           ("attribution", there.attribution, card.attribution)):
        lost = [text for text in old if text not in new]
        if lost:
            raise DatasetError(f"{directory}: holds pictures under the {name} {short(lost[0])}, which was not given "
                               "now and would be lost; give it again, or another folder")


class DatasetWriter:
    """One open set. Use as a context manager; `finished` holds the indices that need not be made again.

    directory   folder of the set, made if it is not there
    card        what the set is; a larger `n` extends
    preset_toml text of preset.toml
    overwrite   start anew; deletes only what synthskin writes; None where the command has no such option
    Raises DatasetError where `check_target` does, where a second run holds the folder, or it cannot be written.
    """

    def __init__(self, directory: Path, card: Card, preset_toml: str, overwrite: bool | None = None) -> None:
        self.directory = directory
        self.card = card
        self.run: dict[str, Any] = {}
        self._preset_toml = preset_toml
        self._overwrite = overwrite
        self._rows: dict[int, tuple[int, int]] = {}  # index: offset and length of its line, the line end left out
        self._metadata: int | None = None  # descriptor, unbuffered: nothing may be written later than it is asked for
        self._lock: FolderLock | None = None

    @property
    def finished(self) -> frozenset[int]:
        return frozenset(self._rows)

    def __enter__(self) -> DatasetWriter:
        check_target(self.directory, self.card, self._overwrite, self._preset_toml)
        with _told(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.directory, DatasetError, f"{self.directory}: another run is writing into this "
                                    "folder; wait for it, or choose another --out", LOCK)
        try:
            check_target(self.directory, self.card, self._overwrite, self._preset_toml)
            with _told(self.directory):
                self._open()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            if kind is None or kind is KeyboardInterrupt:
                self.finish()
        finally:
            self._release()

    def write(self, sample: EncodedSample) -> None:
        """Write one sample: files first, row last. Raises DatasetError; then nothing of it is in the metadata."""
        if sample.index in self._rows:
            raise DatasetError(f"index {sample.index} is in the set already")
        assert self._metadata is not None
        data = sample.line.encode("utf-8")
        with _told(self.directory):
            self._check_there()
            for relative, content in sample.files.items():
                self._put(relative, content)
            start = os.fstat(self._metadata).st_size
            try:
                _write_all(self._metadata, data)
                os.fsync(self._metadata)
            except OSError:
                os.ftruncate(self._metadata, start)
                raise
        self._rows[sample.index] = (start, len(data) - 1)

    def put_extra(self, name: str, data: bytes) -> None:
        """Write preview.png (or another file of our own at the top of the folder)."""
        if name not in _OURS:
            raise DatasetError(f"{name}: allowed are {', '.join(_OURS)}")
        with _told(self.directory):
            self._check_there()
            self._put(name, data)

    def finish(self) -> None:
        """Sort the rows by index and bring the card up to date."""
        with _told(self.directory):
            self._check_there()
            if self._metadata is not None:
                os.close(self._metadata)
                self._metadata = None
            self._write_rows()
            self.run.pop("open", None)
            self._put("dataset.json", self.card.to_json(self.run).encode())

    def _open(self) -> None:
        """Everything that happens under the lock, before the first sample."""
        _empty_temp(self.directory)
        (self.directory / TEMP).mkdir(exist_ok=True)
        if self._overwrite:
            _delete_ours(self.directory)
        elif (self.directory / "dataset.json").is_file():
            there, self.run = read_card(self.directory)
            self.card = replace(self.card, n=max(self.card.n, there.n))
        self.run["open"] = True
        self._put("dataset.json", self.card.to_json(self.run).encode())
        self._put("preset.toml", self._preset_toml.encode())
        self._put("README.md", readme(self.card).encode())
        for name in ("images", "masks", "hair"):
            (self.directory / name).mkdir(exist_ok=True)
        self._read_rows()
        self._write_rows()
        self._metadata = os.open(self.directory / "metadata.jsonl",
                                 os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)

    def _read_rows(self) -> None:
        """Keep the rows that are whole: readable, of this set, their files decodable."""
        path = self.directory / "metadata.jsonl"
        if not path.is_file():
            return
        candidates = self._candidates(path)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # decoding leaves Python's lock
            while some := list(itertools.islice(candidates, _CHECK_AT_ONCE)):
                faults = pool.map(lambda item: check_files(self.directory, item[0], self.card), some)
                for (row, offset, length), fault in zip(some, faults, strict=True):
                    if fault is None and row["index"] not in self._rows:
                        self._rows[row["index"]] = (offset, length)

    def _candidates(self, path: Path) -> Iterator[tuple[dict[str, Any], int, int]]:
        """(row, offset, length) of the lines that are rows of this set; what a kill cut off is made again."""
        with open(path, "rb") as handle:
            offset = 0
            while line := handle.readline(MAX_ROW_BYTES + 2):
                start, offset = offset, offset + len(line)
                line = line.removesuffix(b"\n")
                with contextlib.suppress(DatasetError):
                    row = parse_row(line)
                    if row["set_hash"] == self.card.set_hash and row["seed"] == self.card.seed:
                        yield row, start, len(line)

    def _write_rows(self) -> None:
        """Bring metadata.jsonl into the order of the indices, without what is no row of the set."""
        path = self.directory / "metadata.jsonl"
        size = path.stat().st_size if path.is_file() else -1
        order = sorted(self._rows)
        rows: dict[int, tuple[int, int]] = {}
        position = 0
        for index in order:
            rows[index] = (position, self._rows[index][1])
            position += self._rows[index][1] + 1
        if size == position and rows == self._rows:
            return
        temporary = self.directory / TEMP / "metadata.jsonl"
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(open(temporary, "wb"))
            source = stack.enter_context(open(path, "rb")) if order else None
            for index in order:
                assert source is not None
                start, length = self._rows[index]
                source.seek(start)
                out.write(source.read(length) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
        self._rows = rows

    def _put(self, relative: str, data: bytes) -> None:
        """Write to a temporary name, then rename: a file is there whole or not at all."""
        target = safe_path(self.directory, relative)
        temporary = self.directory / TEMP / relative.replace("/", "__")
        try:
            with open(temporary, "wb") as handle:
                handle.write(data)
                if relative in _OURS:
                    handle.flush()
                    os.fsync(handle.fileno())
            if not target.parent.is_dir():
                for k in range(1, relative.count("/") + 1):  # level by level: a folder that has vanished stays away
                    self.directory.joinpath(*relative.split("/")[:k]).mkdir(exist_ok=True)
            os.replace(temporary, target)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _check_there(self) -> None:
        """Refuse to go on in a folder that was moved, deleted, or replaced by another's while this run was writing."""
        if not self._is_ours():
            raise DatasetError(f"{self.directory}: was moved or deleted while this run was writing into it; bring it "
                               "back or choose another --out, and give the same command again")

    def _is_ours(self) -> bool:
        if self._lock is None or not self._lock.is_there():
            return False
        try:
            return self._metadata is None or os.path.samestat(os.fstat(self._metadata),
                                                              os.lstat(self.directory / "metadata.jsonl"))
        except OSError:
            return False

    def _release(self) -> None:
        if self._metadata is not None:
            os.close(self._metadata)
            self._metadata = None
        if self._lock is not None:
            if self._is_ours():  # not another run's, in a folder that took the place of ours
                with contextlib.suppress(OSError, DatasetError):
                    _empty_temp(self.directory)
                    (self.directory / TEMP).rmdir()
            self._lock.release()
            self._lock = None


def _write_all(handle: int, data: bytes) -> None:
    """os.write until all is written; a full disk may take a part first."""
    view = memoryview(data)
    while view:
        written = os.write(handle, view)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]


def _empty_temp(directory: Path) -> None:
    temp = directory / TEMP
    if temp.is_symlink():
        raise DatasetError(f"{temp}: is a symbolic link; remove it")
    if temp.is_dir():
        for path in temp.iterdir():
            path.unlink()


def delete_set(directory: Path) -> None:
    """Delete a set: what synthskin writes and nothing else; raises DatasetError while a run writes into it."""
    with _told(directory):
        lock = FolderLock(directory, DatasetError, f"{directory}: another run is writing into this folder; wait for it",
                          LOCK)
        try:
            _empty_temp(directory)
            _delete_ours(directory)
            (directory / "dataset.json").unlink(missing_ok=True)
        finally:
            lock.release()
        with contextlib.suppress(OSError):
            directory.rmdir()


def _delete_ours(directory: Path) -> None:
    """Delete what synthskin writes and nothing else. The card stays until it is replaced: a kill here can be mended."""
    for name in ("metadata.jsonl", "README.md", "preview.png", "preset.toml"):  # rows first: a row has its files
        (directory / name).unlink(missing_ok=True)
    folders = [directory / name for name in _FOLDERS]
    for kind in _NAMED_FOLDERS:
        parent = directory / kind
        if parent.is_dir() and not parent.is_symlink():
            folders += [p for p in sorted(parent.iterdir()) if NAME_PATTERN.fullmatch(p.name) and not p.is_symlink()]
            folders.append(parent)
    for folder in folders:
        if not folder.is_dir() or folder.is_symlink():
            continue
        for path in folder.iterdir():
            if _MEDIA.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode):
                path.unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()
