"""Parquet with embedded images, as Hugging Face `datasets` writes it: struct {bytes, path}, features in the metadata.

Columns are the keys of the row; `*_file_name` become the image columns image, mask, hair, and `attribute_masks`,
`artefact_masks` hold one mask a name in `attributes`, `artefacts`. Maps have no place in this form.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from synthskin.dataset.card import readme
from synthskin.dataset.exports.common import ExportOptions, Source, need
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
    data = folder / "data"
    data.mkdir()
    limit = options.shard_mb * 1_000_000
    rows: list[dict[str, Any]] = []
    writer: Any = None
    files = size = 0

    def flush() -> None:
        if rows:
            assert writer is not None
            writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=_ROWS_A_GROUP)
            rows.clear()

    try:
        for row, _, media in source:
            total = sum(map(len, media.values()))
            if writer is not None and size + total > limit:
                flush()
                writer.close()
                writer = None
            if writer is None:
                writer = pq.ParquetWriter(data / f"{files:05d}.part", schema)
                files, size = files + 1, 0
            rows.append(_record(row, media))
            size += total
            if len(rows) == _ROWS_A_GROUP:
                flush()
        flush()
    finally:
        if writer is not None:
            writer.close()
    for k in range(files):
        os.replace(data / f"{k:05d}.part", data / f"train-{k:05d}-of-{files:05d}.parquet")
    (folder / "README.md").write_text(_readme(source), encoding="utf-8")
    return ["maps/ have no place in this form and were left out"] if card.engine.get("maps") else []


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


def _readme(source: Source) -> str:
    """The set's own data card, pointing at the Parquet files (which hold the features)."""
    text = readme(source.card)
    head, body = text.split("dataset_info:\n", 1)
    body = body.split("---\n", 1)[1]
    return (head + "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*.parquet\n"
            "---\n" + body)
