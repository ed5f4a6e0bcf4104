"""Parquet with embedded images, as Hugging Face `datasets` writes it: struct {bytes, path}, features in the metadata.

Columns are the keys of the row; `*_file_name` become the image columns image, mask, hair, and `attribute_masks`,
`artefact_masks` hold one mask a name in `attributes`, `artefacts`. Files are named train, validation and test by the
rows' `split`; rows without one are in train. Maps have no place in this form.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from synthskin.dataset.card import readme
from synthskin.dataset.exports.common import ExportOptions, Source, need
from synthskin.dataset.exports.parts import Parts
from synthskin.dataset.format import ROW_KEYS

_ROWS_A_GROUP: Final = 100  # as datasets does for images
_IMAGE: Final = {"_type": "Image"}
_TYPES: Final[dict[str, Any]] = {
    "str": {"dtype": "string", "_type": "Value"},
    "int": {"dtype": "int64", "_type": "Value"},
    "float": {"dtype": "float64", "_type": "Value"},
}
_LISTS: Final[dict[str, Any]] = {
    "names": _TYPES["str"], "strs": _TYPES["str"], "floats": _TYPES["float"],
    "boxes": {"feature": _TYPES["float"], "_type": "Sequence"},
}
#: Hugging Face's names of the parts.
_SPLITS: Final = {"train": "train", "val": "validation", "test": "test"}
_MASK_LISTS: Final = {"attribute_masks": "attributes", "artefact_masks": "artefacts"}


def features() -> dict[str, Any]:
    """Hugging Face features by column."""
    found: dict[str, Any] = {}
    for key, (kind, _) in ROW_KEYS.items():
        if key.endswith("file_name"):
            found[key.removesuffix("file_name").rstrip("_") or "image"] = _IMAGE
        elif kind in _TYPES:
            found[key] = _TYPES[kind]
        elif kind == "parents":
            found[key] = [dict.fromkeys(("set_hash", "file_name", "sha256"), _TYPES["str"])]
        else:
            found[key] = {"feature": _LISTS[kind], "_type": "Sequence"}
    found["instances"] = _IMAGE
    for column in _MASK_LISTS:
        found[column] = {"feature": _IMAGE, "_type": "Sequence"}
    return found


def write(source: Source, folder: Path, options: ExportOptions) -> list[str]:
    pa = need("pyarrow", "parquet")
    pq = need("pyarrow.parquet", "parquet")
    columns = features()
    card = source.card
    told = {"info": {"features": columns, "license": " AND ".join(card.licences)}}
    schema = pa.schema([pa.field(name, _arrow(pa, kind)) for name, kind in columns.items()],
                       metadata={"huggingface": json.dumps(told), "licences": json.dumps(card.licences),
                                 "attribution": json.dumps(card.attribution)})
    (folder / "data").mkdir()
    limit = options.shard_mb * 1_000_000
    parts = Parts()
    files = {part: _Files(pa, pq, schema, folder / "data", name, limit) for part, name in _SPLITS.items()}
    try:
        for row, _, media in source:
            files[parts.of(row)].add(_record(row, media), sum(map(len, media.values())))
        written = [each.name for each in files.values() if each.finish()]
    finally:
        for each in files.values():
            each.close()
    (folder / "README.md").write_text(_readme(source, written), encoding="utf-8")
    return (["maps/ have no place in this form and were left out"] if card.engine.get("maps") else []) + parts.remarks()


class _Files:
    """The files of a split: rows of one schema, a new file where `limit` bytes of pictures would be passed."""

    def __init__(self, pa: Any, pq: Any, schema: Any, folder: Path, name: str, limit: int) -> None:
        self._pa, self._pq, self._schema, self._folder, self._limit = pa, pq, schema, folder, limit
        self.name = name
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None
        self._count = self._size = 0

    def add(self, record: dict[str, Any], size: int) -> None:
        """Take a row whose pictures have `size` bytes."""
        if self._writer is not None and self._size + size > self._limit:
            self._flush()
            self.close()
        if self._writer is None:
            self._writer = self._pq.ParquetWriter(self._folder / f"{self.name}-{self._count:05d}.part", self._schema)
            self._count, self._size = self._count + 1, 0
        self._rows.append(record)
        self._size += size
        if len(self._rows) == _ROWS_A_GROUP:
            self._flush()

    def close(self) -> None:
        """Close the file that is open, whole or not."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def finish(self) -> bool:
        """Write what is left and give the files their names; False if there are none."""
        self._flush()
        self.close()
        for k in range(self._count):
            os.replace(self._folder / f"{self.name}-{k:05d}.part",
                       self._folder / f"{self.name}-{k:05d}-of-{self._count:05d}.parquet")
        return self._count > 0

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._pa.Table.from_pylist(self._rows, schema=self._schema),
                                     row_group_size=_ROWS_A_GROUP)
            self._rows.clear()


def _arrow(pa: Any, feature: Any) -> Any:
    if isinstance(feature, list):
        return pa.list_(_arrow(pa, feature[0]))
    kind = feature.get("_type")
    if kind == "Image":
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if kind == "Sequence":
        return pa.list_(_arrow(pa, feature["feature"]))
    if kind == "Value":
        return pa.type_for_alias({"string": "string", "int64": "int64", "float64": "double"}[feature["dtype"]])
    return pa.struct([(name, _arrow(pa, inner)) for name, inner in feature.items()])


def _record(row: dict[str, Any], media: dict[str, bytes]) -> dict[str, Any]:
    def image(role: str) -> dict[str, Any] | None:
        return {"bytes": media[role], "path": f"{role.replace('/', '_')}_{row['index']:06d}.png"} \
            if role in media else None

    record = {key: value for key, value in row.items() if not key.endswith("file_name")}
    for role in ("image", "mask", "hair", "instances"):
        record[role] = image(role)
    for column, key in _MASK_LISTS.items():
        record[column] = [image(f"{key}/{name}") for name in row[key]]
    return record


def _readme(source: Source, splits: list[str]) -> str:
    """The set's own data card, pointing at the Parquet files (which hold the features)."""
    text = readme(source.card)
    head, body = text.split("dataset_info:\n", 1)
    body = body.split("---\n", 1)[1]
    files = "".join(f"  - split: {name}\n    path: data/{name}-*.parquet\n" for name in splits)
    return f"{head}configs:\n- config_name: default\n  data_files:\n{files}---\n{body}"
