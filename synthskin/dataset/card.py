"""dataset.json and README.md: what a set is, and the block `run`, which comparisons leave out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from synthskin import __version__
from synthskin.conventions import GENERATORS
from synthskin.dataset.format import FORMAT_VERSION, MAX_SAMPLES, MAX_SIDE_PX, ROW_KEYS, DatasetError, short
from synthskin.dataset.licences import RENDER_LICENCE, hugging_face_name

MAX_CARD_BYTES: Final = 4_000_000
MAX_PRESET_BYTES: Final = 4_000_000
PRESET_HASH: Final = "preset hash (preset, --set, --diagnosis, --tone, --confound, values)"


@dataclass(frozen=True, slots=True)
class Card:
    """What a set is.

    generator          physics, diffusion, gan, real
    preset, set_hash   name and hash of the resolved preset
    seed, n            seed; number of samples asked for
    size_px            width and height of the pictures
    field_of_view_mm   one number, or [low, high] where it varies; None if unknown
    engine             settings that decide the pixels (spp, denoise, device, maps ...)
    licences           SPDX or plain names; all those of parents and weights too
    attribution        whom to name
    """

    generator: str
    preset: str
    set_hash: str
    seed: int
    n: int
    size_px: int
    field_of_view_mm: float | list[float] | None
    engine: dict[str, Any]
    licences: list[str] = field(default_factory=lambda: [RENDER_LICENCE])
    attribution: list[str] = field(default_factory=lambda: ["synthskin (synthetic images, no patient data)"])
    description: str = ""
    synthskin_version: str = __version__
    format_version: int = FORMAT_VERSION

    def identity(self) -> dict[str, Any]:
        """Settings that must match when a run is continued, by the name a user knows them by."""
        return {
            "format_version": self.format_version,
            "synthskin version": self.synthskin_version,
            "generator": self.generator,
            "preset": self.preset,
            PRESET_HASH: self.set_hash,
            "--seed": self.seed,
            "--size": self.size_px,
            **{f"engine setting {key}": value for key, value in sorted(self.engine.items())},
        }

    def to_json(self, run: dict[str, Any]) -> str:
        ordered = {"format_version": self.format_version, **asdict(self), "run": run}
        return json.dumps(ordered, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parse_card(text: str) -> tuple[Card, dict[str, Any]]:
    """Card and run block of dataset.json; raises DatasetError on anything that is not one."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"dataset.json: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise DatasetError("dataset.json: not a JSON object")
    version = data.get("format_version")
    if version != FORMAT_VERSION:
        raise DatasetError(f"dataset.json: format_version {version!r}; this synthskin reads {FORMAT_VERSION}")
    run = data.pop("run", {})
    kinds: dict[str, Any] = {
        "generator": str, "preset": str, "set_hash": str, "seed": int, "n": int, "size_px": int,
        "field_of_view_mm": (int, float, list, type(None)), "engine": dict, "licences": list, "attribution": list,
        "description": str, "synthskin_version": str, "format_version": int,
    }
    for key, kind in kinds.items():
        if key not in data:
            raise DatasetError(f"dataset.json: the key '{key}' is missing")
        if not isinstance(data[key], kind) or isinstance(data[key], bool):
            raise DatasetError(f"dataset.json: {key} = {str(data[key])[:60]!r} has the wrong type")
    if not 0 <= data["n"] <= MAX_SAMPLES or not 0 <= data["size_px"] <= MAX_SIDE_PX or data["seed"] < 0:
        raise DatasetError(f"dataset.json: n, size_px or seed = {short((data['n'], data['size_px'], data['seed']))}: "
                           f"allowed are 0 to {MAX_SAMPLES}, 0 to {MAX_SIDE_PX}, and from 0")
    if data["generator"] not in GENERATORS:
        raise DatasetError(f"dataset.json: generator = {short(data['generator'])}: allowed are {', '.join(GENERATORS)}")
    for key in ("preset", "set_hash", "synthskin_version"):
        if not data[key].isprintable():
            raise DatasetError(f"dataset.json: {key} = {short(data[key])}: one line of text is needed")
    for key in ("licences", "attribution"):
        texts = data[key]
        if not texts or not all(isinstance(name, str) and name.strip() and name.isprintable() for name in texts):
            raise DatasetError(f"dataset.json: {key} = {short(data[key])}: a list of texts is needed, at least one")
    unknown = sorted(set(data) - set(kinds))
    if unknown:
        raise DatasetError(f"dataset.json: unknown key '{unknown[0]}'")
    if not isinstance(run, dict):
        raise DatasetError("dataset.json: run is not an object")
    return Card(**data), run


_HF_TYPES: Final = {"str": "string", "int": "int64", "float": "float64"}


def _features() -> list[str]:
    """`features` of the Hugging Face data card: `*_file_name` become images, lists keep their type when empty."""
    lines = []
    for key, (kind, _) in ROW_KEYS.items():
        if key == "file_name":
            lines.append("    - name: image\n      dtype: image")
        elif key.endswith("_file_name"):
            lines.append(f"    - name: {key.removesuffix('_file_name')}\n      dtype: image")
        elif kind in _HF_TYPES:
            lines.append(f"    - name: {key}\n      dtype: {_HF_TYPES[kind]}")
        elif kind in ("names", "strs"):
            lines.append(f"    - name: {key}\n      sequence: string")
        elif kind == "floats":
            lines.append(f"    - name: {key}\n      sequence: float64")
        elif kind == "boxes":
            lines.append(f"    - name: {key}\n      sequence:\n        sequence: float64")
        elif kind == "parents":
            fields = "".join(f"\n        - name: {name}\n          dtype: string"
                             for name in ("set_hash", "file_name", "sha256"))
            lines.append(f"    - name: {key}\n      list:{fields}")
    return lines


_MADE: Final = {
    False: "Made by synthskin {card.synthskin_version}, generator `{card.generator}`. Each row of `metadata.jsonl` is "
           "one sample;\n`params` holds every parameter it was made with. `preset.toml` with the seed and the index "
           "redraws it.",
    True: "Taken over by synthskin {card.synthskin_version}. Each row of `metadata.jsonl` is one photograph; `params` "
          "names its source file.",
}
_LIMITS: Final = {
    False: "These pictures are synthetic. They are for training and testing software, not for diagnosis, and are no "
           "evidence about\nany patient.",
    True: "These are photographs of patients: they are not anonymous, and their licences below bind. They are for "
          "training and\ntesting software, not for diagnosis. `load_dataset` gives all rows as `train`: where the "
          "column `split`\nnames a test part, filter by it.",
}


def readme(card: Card) -> str:
    """The data card README.md. Holds no counts and no dates: counts follow from the rows."""
    licence = hugging_face_name(card.licences)
    features = "\n".join(_features())
    licences = "\n".join(f"- {name}" for name in card.licences)
    names = "\n".join(f"- {name}" for name in card.attribution)
    field_of_view = card.field_of_view_mm
    view = "not known" if field_of_view is None else (
        f"{field_of_view[0]:g} to {field_of_view[1]:g} mm" if isinstance(field_of_view, list)
        else f"{field_of_view:g} mm")
    size = f"{card.size_px} x {card.size_px} pixels" if card.size_px else "of various sizes"
    real = card.generator == "real"
    tags = "" if real else "- synthetic\n"
    return f"""---
license: {licence}
pretty_name: {json.dumps(f"synthskin {card.preset} seed {card.seed}")}
task_categories:
- image-segmentation
- image-classification
tags:
{tags}- dermatology
- medical
dataset_info:
  features:
{features}
configs:
- config_name: default
  features:
{features}
  data_files:
  - split: train
    path:
    - metadata.jsonl
    - images/*.png
    - masks/*.png
    - hair/*.png
---
# synthskin `{card.preset}`, seed {card.seed}

{card.description or ("Photographs of skin." if real else "Synthetic skin images.")}

{_MADE[real].format(card=card)}

- Pictures: {size}, 8-bit sRGB, field of view {view}.
- Masks: `masks/`, `hair/`, `attributes/<name>/`, `artefacts/<name>/`: one channel, 0 or 255, same size.
- Engine: {", ".join(f"{key} {value}" for key, value in sorted(card.engine.items()))}.

## Limits
{_LIMITS[real]} `ita_class` is a class of skin colour (individual typology angle), not a Fitzpatrick type,
which describes the skin's reaction to sun. Split by `group_id`: rows that share one show the same lesion or person.

## Licences
{licences}

## Attribution
{names}
"""
