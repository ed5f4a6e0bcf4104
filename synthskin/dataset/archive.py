"""Archives from elsewhere: zip and tar, unpacked so that nothing can be written outside the folder given.

All members are looked at before the first is written. Absolute names, `..`, backslashes, links, devices, two members of
one name, encryption, and archives that swell beyond reason are refused; nothing of the archive is ever executed.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from synthskin.dataset.format import DatasetError, short

MAX_MEMBERS: Final = 5_000_000
MAX_NAME: Final = 1_000
#: An archive may unpack to this many bytes, or to SWELL times its own size if that is more.
FREE_BYTES: Final = 1_000_000_000
SWELL: Final = 100
_CHUNK: Final = 1 << 20
_MOST_AT_ONCE: Final = 16 << 20
_ENDINGS: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_DAMAGE: Final = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError,
                  NotImplementedError, RuntimeError)


def is_archive(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(_ENDINGS)


def safe_member(name: str) -> str:
    """The name of a member as a relative path; raises DatasetError on one that could lead elsewhere."""
    if not name or len(name) > MAX_NAME or not name.isprintable() or "\\" in name or name.startswith("/"):
        raise DatasetError(f"member {short(name)}: relative names without control characters or backslashes are needed")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or (parts and len(parts[0]) > 1 and parts[0][1] == ":"):
        raise DatasetError(f"member {short(name)}: leads out of the folder")
    return "/".join(parts)


def unpack(path: Path, folder: Path) -> None:
    """Unpack an archive into the empty `folder`; raises DatasetError naming archive and member, before writing."""
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                _unpack_zip(path, archive, folder)
        else:
            with _decompressed(path) as stream, tarfile.open(fileobj=_bounded(stream), mode="r:") as tar:
                members = _checked_tar(path, tar)
                for member, name in members:
                    source = tar.extractfile(member)
                    if source is not None:
                        _write(source, folder / name, member.size)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}; the archive is refused") from None
    except _DAMAGE as error:
        raise DatasetError(f"{path}: cannot be unpacked: {' '.join(str(error).split())[:200]}") from None


def _unpack_zip(path: Path, archive: zipfile.ZipFile, folder: Path) -> None:
    names = _Names(path)
    members = []
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DatasetError(f"member {short(info.filename)}: is a link or a special file")
        if info.flag_bits & 1:
            raise DatasetError(f"member {short(info.filename)}: is encrypted")
        if info.is_dir():
            safe_member(info.filename)
            continue
        members.append((info, names.add(info.filename, info.file_size)))
    for info, name in members:
        with archive.open(info) as source:
            _write(source, folder / name, info.file_size)


def _checked_tar(path: Path, tar: tarfile.TarFile) -> list[tuple[tarfile.TarInfo, str]]:
    names = _Names(path)
    members = []
    for member in tar:
        if member.isdir():
            safe_member(member.name)
        elif member.isreg():
            members.append((member, names.add(member.name, member.size)))
        else:
            raise DatasetError(f"member {short(member.name)}: is a link or a special file")
    return members


def _decompressed(path: Path) -> Any:
    low = path.name.lower()
    if low.endswith((".gz", ".tgz")):
        return gzip.open(path)
    return bz2.open(path) if low.endswith(".bz2") else lzma.open(path) if low.endswith(".xz") else open(path, "rb")


class _Bounded:
    """A stream that never hands out more than a member's chunk at once: a header may claim any length."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_AT_ONCE:
            raise DatasetError(f"one of its headers is longer than {_MOST_AT_ONCE} bytes")
        data: bytes = self._stream.read(size)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())


def _bounded(stream: Any) -> Any:
    return _Bounded(stream)


class _Names:
    """Members seen so far: no name twice, no file that is a folder of another, bounded in number and bytes."""

    def __init__(self, path: Path) -> None:
        self._limit = max(FREE_BYTES, SWELL * path.stat().st_size)
        self._bytes = 0
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, raw: str, size: int) -> str:
        name = safe_member(raw)
        if not name:
            raise DatasetError(f"member {short(raw)}: has no name")
        parents = {name.rsplit("/", k)[0] for k in range(1, name.count("/") + 1)}
        if name in self._files or name in self._folders or parents & self._files:
            raise DatasetError(f"member {short(raw)}: its name comes twice")
        self._files.add(name)
        self._folders |= parents
        self._bytes += size
        if len(self._files) > MAX_MEMBERS:
            raise DatasetError(f"has more than {MAX_MEMBERS} members")
        if self._bytes > self._limit:
            raise DatasetError(f"unpacks to more than {self._limit / 1e9:.1f} GB, {SWELL} times its size")
        return name


def _write(source: IO[bytes] | Any, target: Path, size: int) -> None:
    """Copy at most `size` bytes into a new file; a member that is longer than it said is refused."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = size
    with open(target, "xb") as out:
        while chunk := source.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise DatasetError(f"member {short(target.name)}: is longer than it says")
            out.write(chunk)
    if left:
        raise DatasetError(f"member {short(target.name)}: is cut off")


@contextlib.contextmanager
def opened(source: Path, beside: Path) -> Iterator[Path]:
    """The folder to read: `source` itself, or what an archive holds, unpacked beside `beside` for the time being."""
    if source.is_dir():
        yield source
        return
    if not source.exists():
        raise DatasetError(f"{source}: is not there; give a folder or an archive ({', '.join(_ENDINGS)})")
    if not is_archive(source):
        raise DatasetError(f"{source}: is neither a folder nor an archive ({', '.join(_ENDINGS)})")
    parent = next(p for p in (beside.absolute().parent, *beside.absolute().parents) if p.is_dir())
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{beside.name[:60]}.unpack-", dir=parent))
    except OSError as error:
        raise DatasetError(f"{beside}: cannot be written: {error.strerror}; choose another folder") from None
    try:
        unpack(source, temporary)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
