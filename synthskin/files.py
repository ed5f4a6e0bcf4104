"""Files that are there whole or not at all, JSON of bounded size, and folders that one run at a time writes into.

Each function takes the error class of the package that calls it; what it raises is one line meant for the user. Sets
of samples have their own writer (dataset/writer.py): it must not sync every picture. Nothing here syncs the folder, so
a power cut may bring back the file that was there before.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

MAX_JSON_BYTES: Final = 64_000_000  # of a file that is read at once; ours are far smaller
LOCK: Final = ".lock"
_THEN: Final = "free or fix it, then give the same command again"


@contextlib.contextmanager
def replacing(path: Path, error: type[Exception], then: str = _THEN) -> Iterator[Path]:
    """A name beside `path` to write to: synced and put in its place when the block ends well, deleted when it does not.

    then   what the user is to do; raises `error` where the file cannot be written, in the block too
    """
    if not path.name:
        raise error(f"{path}: is a folder; name a file")
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.unlink(missing_ok=True)  # a kill's, or a link that would be followed
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException as why:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(why, OSError):
            raise error(f"{path}: cannot be written: {why.strerror or why}; {then}") from None
        raise


def write_whole(path: Path, content: bytes, error: type[Exception], then: str = _THEN) -> None:
    """Write a file in a folder that exists, as `replacing` does."""
    with replacing(path, error, then) as temporary, open(temporary, "xb") as handle:
        handle.write(content)


def json_bytes(value: Any, indent: int = 1) -> bytes:
    """Readable JSON; raises ValueError on NaN and infinities, which JSON does not have."""
    return (json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode()


def parse_json(text: str | bytes) -> Any:
    """JSON without NaN and infinities; raises ValueError or RecursionError."""
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a finite number")


def read_json(path: Path, error: type[Exception], most: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The object in a file of at most `most` bytes; raises `error`."""
    try:
        with open(path, "rb") as handle:
            content = handle.read(most + 1)
        if len(content) > most:
            raise error(f"{path}: larger than {most} bytes")
        value = parse_json(content.decode())
    except error:
        raise
    except FileNotFoundError:
        raise error(f"{path}: is missing") from None
    except (OSError, ValueError, RecursionError) as why:
        raise error(f"{path}: is damaged: {str(why)[:120]}") from None
    if not isinstance(value, dict):
        raise error(f"{path}: is damaged: not a JSON object")
    return value


class FolderLock:
    """This process's hold on a folder, taken when it is made. The system drops it when the process ends, however.

    folder   is there already
    error    raised with the text `taken` where another process holds the folder; OSError where it is not writable
    name     of the file that is locked; a link under that name is not followed. It goes with the lock.
    """

    def __init__(self, folder: Path, error: type[Exception], taken: str, name: str = LOCK) -> None:
        self._path = folder / name
        self._handle = self._take(error, taken)

    def _take(self, error: type[Exception], taken: str) -> int:
        import fcntl

        while True:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                raise error(taken) from None
            except OSError:
                os.close(handle)
                raise
            if self._is(handle):
                return handle
            os.close(handle)  # the other run removed the file between our open and our lock

    def _is(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), os.lstat(self._path))
        except OSError:
            return False

    def is_there(self) -> bool:
        """Does the folder under its name still hold this lock? No, if it was moved, deleted or replaced."""
        return self._is(self._handle)

    def release(self) -> None:
        """Let the folder go, and delete the file that was locked."""
        if self.is_there():  # not another run's, in a folder that took the place of ours
            with contextlib.suppress(OSError):
                self._path.unlink()
        os.close(self._handle)

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.release()
