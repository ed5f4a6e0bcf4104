"""Tar shards for webdataset: `name-000000.tar`, members `000123.image.png`, `000123.mask.png`, `000123.json` ...

No dots in the key. The JSON is the row with `licences` and `attribution` added, so that a shard alone carries them;
dataset.json and preset.toml lie beside the shards. Member times and owners are zero: the same set, the same bytes.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

from synthskin.dataset.exports.common import ExportOptions, Source
from synthskin.dataset.format import stem
from synthskin.dataset.reader import safe_path


def write(source: Source, folder: Path, options: ExportOptions) -> list[str]:
    name = options.name or re.sub(r"[^A-Za-z0-9_-]+", "-", source.card.preset).strip("-") or "synthskin"
    limit = options.shard_mb * 1_000_000
    shard, size, tar = 0, 0, None
    extra = {"licences": source.card.licences, "attribution": source.card.attribution}
    try:
        for row, _, files in source:
            members = {f"{stem(row['index'])}.{member_name(role)}": data for role, data in files.items()}
            text = json.dumps(row | extra, ensure_ascii=False, allow_nan=False)
            members[f"{stem(row['index'])}.json"] = text.encode("utf-8")
            total = sum(512 + -(-len(data) // 512) * 512 for data in members.values())
            if tar is not None and size + total > limit:
                tar.close()
                tar = None
            if tar is None:
                tar = tarfile.open(folder / f"{name}-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
                shard, size = shard + 1, 0
            _add(tar, members)
            size += total
    finally:
        if tar is not None:
            tar.close()
    for file in ("dataset.json", "preset.toml"):
        (folder / file).write_bytes(safe_path(source.directory, file).read_bytes())
    return []


def member_name(role: str) -> str:
    """image.png, mask.png, hair.png, instances.png, attribute_<name>.png, artefact_<name>.png, maps.npz."""
    if role == "maps":
        return "maps.npz"
    kind, _, name = role.partition("/")
    return f"{kind.removesuffix('s')}_{name}.png" if name else f"{role}.png"


def _add(tar: tarfile.TarFile, members: Mapping[str, bytes]) -> None:
    for name, data in members.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)
        info.mode = 0o644
        tar.addfile(info, io.BytesIO(data))
