"""From a kept candidate to a Sample of the contract: labels as asked or inherited, lineage, lawful captions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthskin.conventions import BENIGN_MALIGNANT, DIAGNOSES, HEALTHY, handed_on, ita_class
from synthskin.dataset.format import Sample, empty_row, stem
from synthskin.dataset.reader import bounding_box

PRESET = "diffusion"


def make_sample(
    index: int, seed: int, set_hash: str, image: NDArray[np.uint8], mask: NDArray[np.uint8], mask_status: str,
    diagnosis: str | None, prompt: str, ita_image_deg: float | None, checkpoint: str, params: dict[str, Any],
    parent: Mapping[str, Any] | None, parent_ref: dict[str, str] | None, modality: str | None,
) -> Sample:
    """The sample. Of a parent's row group and split are inherited, and from a render the ids, modality and site; hair,
    structures and artefacts are not: nobody has looked whether they are still there."""
    name = stem(index)
    healthy = diagnosis == HEALTHY
    if healthy:
        mask = np.zeros_like(mask)
    box: list[Any] = bounding_box(mask)
    group = f"diffusion-{set_hash}-{name}"
    inherits = parent is not None and params["way"] == "physics-set"
    status = handed_on(parent["diagnosis_status"]) if parent is not None and inherits else "requested"
    row = empty_row() | {
        "file_name": f"images/{name}.png", "mask_file_name": f"masks/{name}.png", "index": index, "seed": seed,
        "preset": PRESET, "set_hash": set_hash, "generator": "diffusion", "mask_status": mask_status,
        "diagnosis": diagnosis, "diagnosis_raw": diagnosis,
        "diagnosis_scheme": None if diagnosis is None else "ISIC 2018 Task 3 and healthy",
        "diagnosis_status": "unknown" if diagnosis is None else status,
        "benign_malignant": None if diagnosis is None else BENIGN_MALIGNANT[diagnosis],
        "ita_image_deg": None if ita_image_deg is None else round(ita_image_deg, 4),
        "ita_class": None if ita_image_deg is None else ita_class(ita_image_deg),
        "tone_source": None if ita_image_deg is None else "image",
        "bbox": box, "boxes": [box] if box else [],
        "lesions": [diagnosis] if box and diagnosis in DIAGNOSES else [],
        "modality": modality, "group_id": group, "checkpoint": checkpoint,
        "caption": f"Synthetic picture made by a diffusion model that was asked for: {prompt}.",
        "parents": [] if parent_ref is None else [parent_ref],
        "params": json.dumps(params, ensure_ascii=False, allow_nan=False),
    }
    if inherits:
        assert parent is not None
        for key in ("modality", "dermoscopic_type", "anatom_site", "age_approx", "sex", "lesion_id", "patient_id"):
            row[key] = parent[key]
    if parent is not None:  # a mask, too, is a lesion's outline
        own = parent["group_id"] or parent["lesion_id"] or parent["patient_id"]
        row["group_id"] = own or f"{parent['set_hash']}/{parent['file_name']}"
        row["split"] = parent["split"]
    return Sample(row, image, mask)

