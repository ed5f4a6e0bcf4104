"""The way back from `synthskin export --to webdataset`: shards and the dataset.json beside them to a set again.

Members are placed by what their row says, never by their own names; every sample is then checked as any other.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from synthskin.dataset.archive import safe_member
from synthskin.dataset.card import readme
from synthskin.dataset.exports.webdataset import member_name
from synthskin.dataset.format import MAX_ROW_BYTES, MAX_SIDE_PX, DatasetError, encode_row, media_paths, parse_row, short
from synthskin.dataset.imports.common import Imported, Shown
from synthskin.dataset.merge import merge_sets
from synthskin.dataset.reader import read_card, safe_path

_MEMBER: Final = re.compile(r"(\d{6,8})\.([a-z0-9_]+\.(?:png|npz)|json)")
_MAX_MEMBER_BYTES: Final = 4 * MAX_SIDE_PX**2
_ADDED: Final = ("licences", "attribution")


def take(folder: Path, out: Path, progress: Shown | None) -> Imported:
    if not (folder / "dataset.json").is_file():
        inside = [path for path in sorted(folder.iterdir()) if (path / "dataset.json").is_file()]
        folder = inside[0] if len(inside) == 1 else folder
    card, _ = read_card(folder)
    shards = sorted(path for path in folder.glob("*.tar") if path.is_file() and not path.is_symlink())
    if not shards:
        raise DatasetError(f"{folder.name}: no shards (*.tar) in it; a synthskin set in an archive is what "
                           "`synthskin import set` takes")
    parent = next(p for p in (out.absolute().parent, *out.absolute().parents) if p.is_dir())
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name[:60]}.unpack-", dir=parent))
    except OSError as error:
        raise DatasetError(f"{out}: cannot be written: {error.strerror}; choose another folder") from None
    try:
        for name in ("dataset.json", "preset.toml"):
            shutil.copyfile(safe_path(folder, name), temporary / name)
        (temporary / "README.md").write_text(readme(card), encoding="utf-8")
        maps = bool(card.engine.get("maps"))
        with open(temporary / "metadata.jsonl", "w", encoding="utf-8") as rows:
            for shard in shards:
                for key, members in _samples(shard):
                    rows.write(_place(shard, key, members, temporary, maps))
        merged = merge_sets([temporary], out, None if progress is None else progress("importing"))
        return Imported(out, merged.samples, merged.copied)
    except OSError as error:
        raise DatasetError(f"{out}: cannot be written: {error.strerror or error}; free or fix it, then give the same "
                           "command again") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _samples(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, {ending: bytes}) of a shard; raises DatasetError on what no export of ours writes."""
    key, members = "", dict[str, bytes]()
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                found = _MEMBER.fullmatch(safe_member(member.name))
                if found is None or not member.isreg():
                    raise DatasetError(f"{shard}: member {short(member.name)} does not belong to such a shard")
                if member.size > _MAX_MEMBER_BYTES:
                    raise DatasetError(f"{shard}: member {short(member.name)} is larger than {_MAX_MEMBER_BYTES} bytes")
                if found[1] != key:
                    if members:
                        yield key, members
                    key, members = found[1], {}
                if found[2] in members:
                    raise DatasetError(f"{shard}: member {short(member.name)} comes twice")
                source = tar.extractfile(member)
                assert source is not None
                members[found[2]] = source.read()
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{shard}: is damaged: {error}") from None
    if members:
        yield key, members


def _place(shard: Path, key: str, members: dict[str, bytes], folder: Path, maps: bool) -> str:
    """Write the files of a sample to where its row says; gives the line of its row."""
    where = f"{shard}, {key}"
    text = members.pop("json", b"")
    if not text or len(text) > 2 * MAX_ROW_BYTES:
        raise DatasetError(f"{where}: its JSON is missing or too large")
    try:
        data: Any = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("not an object")
        row = parse_row(json.dumps({name: value for name, value in data.items() if name not in _ADDED}))
    except (ValueError, RecursionError, DatasetError) as error:
        raise DatasetError(f"{where}: {error}") from None
    if int(key) != row["index"]:
        raise DatasetError(f"{where}: its row has index {row['index']}")
    paths = {member_name(role): path for role, path in media_paths(row, maps=maps).items()}
    if set(paths) != set(members):
        raise DatasetError(f"{where}: members and row differ in {', '.join(sorted(set(paths) ^ set(members)))}")
    for ending, path in paths.items():
        target = safe_path(folder, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(members[ending])
    return encode_row(row)
