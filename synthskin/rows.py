"""From a record and what was rendered of it to a Sample: labels, ids and the caption of the physics generator."""

from __future__ import annotations

import json
import math
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from synthskin.conventions import BENIGN_MALIGNANT, HEALTHY, ita_class
from synthskin.dataset.format import Sample, empty_row, stem
from synthskin.dataset.reader import bounding_box
from synthskin.record import SampleRecord

#: Words for ITA classes 1..6 (Chardon 1991; Del Bino & Bernerd 2013).
TONE_WORDS: Final = ("very light", "light", "intermediate", "tan", "brown", "dark")
#: Below this share of the mask that shows on the actual skin the caption calls the lesion barely visible.
BARELY_VISIBLE_SHARE: Final = 0.25
_LESION_WORDS: Final = {"NV": "a common nevus"}
_STRUCTURE_WORDS: Final = {
    "pigment_network": "a pigment network",
    "network": "a pigment network",
    "globules": "globules",
    "blue_white_veil": "a blue-white veil",
    "structureless": "structureless areas",
}


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


def make_sample(record: SampleRecord, rendered: Rendered) -> Sample:
    """The sample of a physics render. Structures without a pixel are left out; numbers are rounded to 1e-4."""
    attributes = {name: array for name, array in sorted(rendered.attributes.items()) if array.any()}
    artefacts = {name: array for name, array in sorted(rendered.artefacts.items()) if array.any()}
    healthy = record.diagnosis == HEALTHY
    box: list[Any] = bounding_box(rendered.mask)
    name = stem(record.index)
    # Draws are keyed by (preset name, seed, index), so sets that differ in an override share a lesion: one group.
    group = f"physics-{record.preset}-s{record.seed}-{name}"
    row = empty_row() | {
        "file_name": f"images/{name}.png",
        "mask_file_name": f"masks/{name}.png",
        "hair_file_name": f"hair/{name}.png",
        "attributes": list(attributes),
        "artefacts": list(artefacts),
        "index": record.index,
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
        "boxes": [box] if box else [],
        "lesions": [record.diagnosis] if box else [],
        "modality": "dermoscopic",
        "dermoscopic_type": record.camera.dermoscopic_type,
        "lesion_id": None if healthy else f"{group}-lesion",
        "patient_id": f"{group}-person",
        "group_id": group,
        "caption": caption(record, rendered, list(attributes), box),
        "params": json.dumps(record.to_dict(), ensure_ascii=False, allow_nan=False),
    }
    return Sample(row, rendered.image, rendered.mask, rendered.hair, attributes, artefacts, None, rendered.maps)


def caption(record: SampleRecord, rendered: Rendered, attributes: list[str], box: list[Any]) -> str:
    """One English sentence that says only what the masks and the record bear out."""
    view = {"contact polarized": "Polarized", "contact non-polarized": "Non-polarized"}.get(
        record.camera.dermoscopic_type, "Contact")
    tone = TONE_WORDS[ita_class(rendered.ita_deg) - 1]
    if record.diagnosis == HEALTHY or not box:
        subject = f"healthy {tone} skin" if record.diagnosis == HEALTHY else f"{tone} skin without a visible lesion"
    else:
        height, width = rendered.mask.shape
        cut = box[0] == 0 or box[1] == 0 or box[0] + box[2] == width or box[1] + box[3] == height
        area_mm2 = float((rendered.mask > 0).mean()) * record.camera.field_of_view_mm**2
        across = 2.0 * math.sqrt(area_mm2 / math.pi)
        size = "that reaches the edge of the picture" if cut else f"about {across:.1f} mm across"
        words = [_STRUCTURE_WORDS.get(name, name.replace("_", " ")) for name in attributes]
        structures = ""
        if words:
            joined = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
            structures = f" with {joined}"
        what = _LESION_WORDS.get(record.diagnosis, "a lesion")
        if rendered.visible_delta_e is not None and rendered.visible_delta_e < BARELY_VISIBLE_SHARE:
            what = what.replace("a ", "a barely visible ", 1)
        subject = f"{what} {size}{structures} on {tone} skin"
    covered = float((rendered.hair > 0).mean())
    if covered == 0.0:
        hair = "without hair"
    elif covered < 0.01:
        hair = "with a little hair"
    else:
        hair = "with some hair" if covered < 0.05 else "with much hair"
    return f"{view} contact dermoscopy of {subject}, {hair}."


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
