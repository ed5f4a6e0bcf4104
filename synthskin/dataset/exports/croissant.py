"""MLCommons Croissant 1.1: croissant.json (JSON-LD) beside a copy of the set.

The record set `samples` has the row's fields out of metadata.jsonl, joined with the image by file name; each kind of
mask is a record set of its own with the same file names (readers join two sources, no more). Masks are
`cr:SegmentationMask`; their encoding, 0 and 255, is stated. The rai: fields say what the set itself bears out.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from synthskin.dataset.card import Card
from synthskin.dataset.exports.common import ExportOptions, Source
from synthskin.dataset.format import ROW_KEYS, media_paths
from synthskin.dataset.licences import url
from synthskin.dataset.reader import safe_path

_CONTEXT: Final[dict[str, Any]] = {
    "@language": "en", "@vocab": "https://schema.org/", "arrayShape": "cr:arrayShape", "citeAs": "cr:citeAs",
    "column": "cr:column", "conformsTo": "dct:conformsTo", "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty", "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5",
    "name": {"@container": "@language"}, "parentField": "cr:parentField", "path": "cr:path",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "samplingRate": "cr:samplingRate", "sc": "https://schema.org/",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}
_TYPES: Final = {"str": "sc:Text", "int": "cr:Int64", "float": "cr:Float64"}
_MASK_TEXT: Final = "8-bit PNG of one channel and the picture's size: 255 where {what}, 0 elsewhere."
_TEXTS: Final = {
    "image": "8-bit sRGB PNG.", "mask": _MASK_TEXT.format(what="the lesion is (all 0 for healthy skin)"),
    "hair": _MASK_TEXT.format(what="hair covers the skin"),
}
_FOLDERS: Final = {"image": "images", "mask": "masks", "hair": "hair"}


def write(source: Source, folder: Path, options: ExportOptions) -> list[str]:
    seen: set[str] = set()
    maps = bool(source.card.engine.get("maps"))
    mask_status: set[str] = set()
    diagnosis_status: set[str] = set()
    for row, _, files in source:
        for role, path in media_paths(row, maps=maps).items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(files[role])
            seen.add(role)
        mask_status.add(row["mask_status"])
        diagnosis_status.add(row["diagnosis_status"])
    for name in ("metadata.jsonl", "dataset.json", "preset.toml", "README.md"):
        (folder / name).write_bytes(safe_path(source.directory, name).read_bytes())
    data = _document(source, folder, seen, _rai(source.card, mask_status, diagnosis_status))
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "croissant.json").write_text(text + "\n", encoding="utf-8")
    return []


def _document(source: Source, folder: Path, roles: set[str], rai: dict[str, Any]) -> dict[str, Any]:
    card = source.card
    created = str(source.run.get("created") or "")
    date = created[:10] if re.match(r"\d{4}-\d\d-\d\d", created) else datetime.now(UTC).date().isoformat()
    named = sorted(role for role in roles if "/" in role)
    masks = [role for role in ("mask", "hair", "instances") if role in roles] + named
    sets = [_file_set(role, f"{_FOLDERS[role]}/*.png", "image/png") for role in _FOLDERS if role in roles]
    sets += [_file_set(role, f"{role}/*.png", "image/png") for role in named]
    if "instances" in roles:
        sets.append(_file_set("instances", "instances/*.png", "image/png"))
    if "maps" in roles:
        sets.append(_file_set("maps", "maps/*.npz", "application/x-npz"))
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": re.sub(r"[^A-Za-z0-9_-]+", "-", f"synthskin-{card.preset}-s{card.seed}"),
        "description": card.description or "Skin images with labels and masks.",
        "license": [url(name) or name for name in card.licences],
        "url": f"urn:synthskin:{card.set_hash}:s{card.seed}",
        "creator": [{"@type": "sc:Organization", "name": name} for name in card.attribution],
        "citeAs": "; ".join(card.attribution),
        "datePublished": date,
        "version": f"{card.format_version}.0.0",
        "keywords": ["dermatology", "skin", "segmentation", card.generator,
                     *(["synthetic"] if card.generator != "real" else [])],
        **rai,
        "distribution": [
            _file_object(folder, "metadata.jsonl", "application/jsonlines", "One JSON object a sample."),
            _file_object(folder, "dataset.json", "application/json", "What the set is."),
            _file_object(folder, "preset.toml", "application/toml", "What the samples were drawn from."),
            *sets,
        ],
        "recordSet": [_samples(), *(_masks(role) for role in masks)],
    }


def _file_object(folder: Path, name: str, encoding: str, text: str) -> dict[str, Any]:
    return {"@type": "cr:FileObject", "@id": name, "name": name, "description": text, "contentUrl": name,
            "encodingFormat": encoding, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}


def _identifier(role: str) -> str:
    return f"files-{role.replace('/', '-')}"


def _file_set(role: str, pattern: str, encoding: str) -> dict[str, Any]:
    return {"@type": "cr:FileSet", "@id": _identifier(role), "name": _identifier(role), "encodingFormat": encoding,
            "includes": pattern, "description": _text(role)}


def _text(role: str) -> str:
    if role == "instances":
        return "8- or 16-bit PNG label map: 0 = skin, k = the k-th lesion."
    if role == "maps":
        return "NumPy archive of float32 maps of the picture's size."
    return _TEXTS.get(role) or _MASK_TEXT.format(what=f"{role.partition('/')[2].replace('_', ' ')} is")


def _samples() -> dict[str, Any]:
    fields: list[dict[str, Any]] = []
    for key, (kind, _) in ROW_KEYS.items():
        if kind not in _TYPES or key == "file_name":
            continue
        field = {"@type": "cr:Field", "@id": f"samples/{key}", "name": f"samples/{key}", "dataType": _TYPES[kind],
                 "description": key.replace("_", " "),
                 "source": {"fileObject": {"@id": "metadata.jsonl"}, "extract": {"column": key}}}
        fields.append(field)
    fields.append({
        "@type": "cr:Field", "@id": "samples/file", "name": "samples/file", "dataType": "sc:Text",
        "description": "Name that the image and all masks of the sample share.",
        "source": {"fileObject": {"@id": "metadata.jsonl"}, "extract": {"column": "file_name"},
                   "transform": {"regex": "^(?:images/)?(.+)$"}},
        "references": {"fileSet": {"@id": _identifier("image")}, "extract": {"fileProperty": "filename"}}})
    fields.append(_content("samples", "image", "image"))
    return {"@type": "cr:RecordSet", "@id": "samples", "name": "samples", "description": "One record a sample.",
            "key": {"@id": "samples/file"}, "field": fields}


def _masks(role: str) -> dict[str, Any]:
    name = {"mask": "masks"}.get(role, role.replace("/", "-"))
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": _text(role),
            "field": [_file(name, role), _content(name, role, "mask")]}


def _file(record_set: str, role: str) -> dict[str, Any]:
    return {"@type": "cr:Field", "@id": f"{record_set}/file", "name": f"{record_set}/file", "dataType": "sc:Text",
            "description": "Name of the sample's files.",
            "source": {"fileSet": {"@id": _identifier(role)}, "extract": {"fileProperty": "filename"}}}


def _content(record_set: str, role: str, name: str) -> dict[str, Any]:
    kinds: Any = "sc:ImageObject" if role == "image" else ["sc:ImageObject", "cr:SegmentationMask"]
    return {"@type": "cr:Field", "@id": f"{record_set}/{name}", "name": f"{record_set}/{name}", "dataType": kinds,
            "description": _text(role),
            "source": {"fileSet": {"@id": _identifier(role)}, "extract": {"fileProperty": "content"}}}


_MADE: Final = {
    "physics": ("Computed by light transport through a model of skin; no person was photographed.",
                "Software Collection"),
    "diffusion": ("Generated by a diffusion model trained on the material named under licences and attribution.",
                  "Software Collection"),
    "gan": ("Translated from other pictures by a generative network; each row names its parents.",
            "Software Collection"),
    "real": ("Photographs of patients, taken over from the published set named under attribution.",
             "Secondary Data analysis"),
}
_MASKS_SAID: Final = {
    "exact": "computed from the model of the lesion",
    "inherited": "carried over from a parent picture, not checked anew",
    "predicted": "predicted by a segmentation network", "human": "drawn by people", "none": "there is none",
}
_LABELS_SAID: Final = {
    "by_construction": "what the model was set to make", "requested": "what a generator was asked for, not checked",
    "inherited": "taken over from a parent picture", "histopathology": "histopathology",
    "clinical": "clinical judgement",
    "predicted": "predicted by a network", "unknown": "not stated by the source",
}


def _rai(card: Card, mask_status: set[str], diagnosis_status: set[str]) -> dict[str, Any]:
    """Responsible-AI fields, only as far as the set itself bears them out."""
    made, kind = _MADE[card.generator]
    masks = "; ".join(f"{name}: {_MASKS_SAID[name]}" for name in sorted(mask_status))
    labels = "; ".join(f"{name}: {_LABELS_SAID[name]}" for name in sorted(diagnosis_status))
    personal = ["Photographs of patients; not anonymous."] if card.generator == "real" else (
        ["None: no person was photographed."] if card.generator == "physics" else
        ["Pictures derived from patients' photographs are not anonymous."])
    tools = [f"synthskin {card.synthskin_version}"] if mask_status & {"exact", "predicted", "inherited"} else []
    return {
        "rai:dataCollection": made,
        "rai:dataCollectionType": [kind],
        "rai:dataAnnotationProtocol": [f"Masks (mask_status): {masks}.", f"Diagnoses (diagnosis_status): {labels}."],
        **({"rai:machineAnnotationTools": tools} if tools else {}),
        "rai:dataUseCases": ["Training and testing of software for skin images; not diagnosis."],
        "rai:dataLimitations": [
            "Not evidence about any patient. ita_class is a class of skin colour, not a Fitzpatrick type. "
            "Split by group_id: rows that share one show the same lesion or person."],
        "rai:personalSensitiveInformation": personal,
    }
