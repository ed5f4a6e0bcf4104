"""From a record and what was rendered of it to a Sample: labels, ids and the caption of the physics generator."""

from __future__ import annotations

import json
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synthskin.captions import caption
from synthskin.conventions import BENIGN_MALIGNANT, HEALTHY, ita_class
from synthskin.dataset.format import Sample, empty_row, stem
from synthskin.dataset.reader import bounding_box
from synthskin.facts import Facts
from synthskin.record import SampleRecord


class Rendered(Protocol):
    """What the engine returns for one record (physics.engine.RenderedSample)."""

    @property
    def image(self) -> NDArray[np.uint8]: ...
    @property
    def mask(self) -> NDArray[np.uint8]: ...
    @property
    def hair(self) -> NDArray[np.uint8]: ...
    @property
    def attributes(self) -> dict[str, NDArray[np.uint8]]: ...
    @property
    def artefacts(self) -> dict[str, NDArray[np.uint8]]: ...
    @property
    def maps(self) -> dict[str, NDArray[np.float32]]: ...
    @property
    def ita_deg(self) -> float: ...
    @property
    def ita_image_deg(self) -> float | None: ...
    @property
    def contrast(self) -> float | None: ...
    @property
    def visible_delta_e(self) -> float | None: ...
    @property
    def timings_s(self) -> dict[str, float]: ...


def make_sample(record: SampleRecord, rendered: Rendered, index: int | None = None) -> Sample:
    """The sample of a physics render. Structures without a pixel are left out; numbers are rounded to 1e-4.

    `index` is its place in the set, where that is not the record's own (siblings share a record's index and group).
    """
    index = record.index if index is None else index
    attributes = {name: array for name, array in sorted(rendered.attributes.items()) if array.any()}
    artefacts = {name: array for name, array in sorted(rendered.artefacts.items()) if array.any()}
    seen: dict[str, float] = getattr(rendered, "attributes_delta_e", {})
    instances, boxes, kinds = _lesions(record, rendered)
    healthy = record.diagnosis == HEALTHY
    box: list[Any] = bounding_box(rendered.mask)
    name = stem(index)
    # Draws are keyed by (preset name, seed, index), so sets that differ in an override share a lesion: one group.
    group = f"physics-{record.preset}-s{record.seed}-{stem(record.index)}"
    row = empty_row() | {
        "file_name": f"images/{name}.png",
        "mask_file_name": f"masks/{name}.png",
        "hair_file_name": f"hair/{name}.png",
        "attributes": list(attributes),
        "attributes_delta_e": [_rounded(seen[name]) for name in attributes] if set(attributes) <= set(seen) else [],
        "artefacts": list(artefacts),
        "index": index,
        "seed": record.seed,
        "preset": record.preset,
        "set_hash": record.set_hash,
        "generator": "physics",
        "mask_status": "exact",
        "diagnosis": record.diagnosis,
        "diagnosis_raw": record.diagnosis,
        "diagnosis_scheme": "ISIC 2018 Task 3 and healthy",
        "diagnosis_status": "by_construction",
        "benign_malignant": BENIGN_MALIGNANT[record.diagnosis],
        "ita_deg": _rounded(rendered.ita_deg),
        "ita_image_deg": _rounded(rendered.ita_image_deg),
        "ita_class": ita_class(rendered.ita_deg),
        "tone_source": "model",
        "contrast": None if healthy else _rounded(rendered.contrast),
        "visible_delta_e": None if healthy else _rounded(rendered.visible_delta_e),
        "bbox": box,
        "boxes": boxes,
        "lesions": kinds,
        "modality": "dermoscopic" if record.camera.view == "dermoscopic" else "clinical",
        "dermoscopic_type": record.camera.dermoscopic_type if record.camera.view == "dermoscopic" else None,
        "lesion_id": None if healthy else f"{group}-lesion",
        "patient_id": f"{group}-person",
        "group_id": group,
        "params": json.dumps(record.to_dict(), ensure_ascii=False, allow_nan=False),
    }
    sample = Sample(row, rendered.image, rendered.mask, rendered.hair, attributes, artefacts, instances, rendered.maps)
    row["caption"] = caption(Facts.of(sample))
    return sample


def _lesions(record: SampleRecord, rendered: Rendered) -> tuple[NDArray[Any] | None, list[list[Any]], list[str]]:
    """Label map (None for one lesion), a box a lesion and its diagnosis; labels that show nowhere are closed up."""
    labels = getattr(rendered, "instances", None)
    if labels is None:
        box = bounding_box(rendered.mask)
        return None, [box] if box else [], [record.diagnosis] if box else []
    diagnoses: tuple[str, ...] = getattr(rendered, "diagnoses", ())
    seen = [label for label in range(1, len(diagnoses) + 1) if (labels == label).any()]
    closed = np.zeros_like(labels)
    boxes = []
    for number, label in enumerate(seen, start=1):
        own = labels == label
        closed[own] = number
        boxes.append(bounding_box(np.where(own, 255, 0).astype(np.uint8)))
    return (closed if len(seen) > 1 else None), boxes, [diagnoses[label - 1] for label in seen]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
