"""The gates of a run, set up from a request; the segmenter's answers kept for the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthskin.dataset.format import DatasetError
from synthskin.diffusion.data import load_training_set
from synthskin.diffusion.errors import DiffusionError
from synthskin.diffusion.request import GenerateRequest
from synthskin.diffusion.state import FOLDERS
from synthskin.files import read_json
from synthskin.gates import BlurGate, ClassGate, CopyGate, GatePanel, MaskGate, ToneGate


class Remembering:
    """A segmenter that is asked once a picture: the gate and the row read the same answer."""

    def __init__(self, segmenter: Any) -> None:
        self._segmenter = segmenter
        self._found: dict[bytes, Any] = {}

    @property
    def sha256(self) -> str:
        return str(getattr(self._segmenter, "sha256", ""))

    def forget(self) -> None:
        self._found.clear()

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Any]:
        keys = [hashlib.sha1(image.tobytes(), usedforsecurity=False).digest() for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self._found}
        if new:
            self._found |= dict(zip(new, self._segmenter.predict(list(new.values())), strict=True))
        return [self._found[key] for key in keys]


def load_panel(request: GenerateRequest, size_px: int, data_hash: str | None,
               classes: Sequence[str | None]) -> tuple[GatePanel, Remembering | None]:
    """Gates in order of their cost, and the segmenter; raises DiffusionError where something they need is missing."""
    wanted = [name for name in ("blur", "mask", "tone", "class", "near-duplicate") if name not in request.skip_gates]
    known = None
    if {"blur", "near-duplicate"} & set(wanted):
        folders = _training_folders(request, data_hash)
        if folders:
            known = load_training_set(folders, size_px, prompt="any")
    segmenter = None
    if "mask" in wanted or request.way == "text":
        from synthskin.segment import load_segmenter

        segmenter = Remembering(load_segmenter(request.segmenter))
    gates: list[Any] = []
    for name in wanted:
        if name == "blur":
            gates.append(BlurGate() if known is None else BlurGate.calibrated(known.images[::1 + len(known) // 200]))
        elif name == "mask":
            assert segmenter is not None
            gates.append(MaskGate(segmenter, request.min_iou, request.min_confidence))
        elif name == "tone":
            gates.append(ToneGate(request.max_tone_error_deg))
        elif name == "class" and request.classifier is not None:
            from synthskin.classify import load_classifier

            gate = ClassGate(load_classifier(request.classifier), request.min_probability)
            gate.check(classes)
            gates.append(gate)
        elif name == "near-duplicate":
            if known is None:
                raise DiffusionError("the near-duplicate gate needs the training pictures: give --train-data SET, or "
                                     "leave the gate out with --skip-gate near-duplicate")
            gates.append(CopyGate.of(known.images, list(known.names), list(known.groups)))
    return GatePanel(gates), segmenter


def _training_folders(request: GenerateRequest, data_hash: str | None) -> list[Path]:
    """Those given, else those the LoRA's training folder remembers, if they are still the same sets."""
    if request.train_data:
        return list(request.train_data)
    for place in (request.model / "training" / FOLDERS, request.model / FOLDERS):
        if place.is_file():
            told = read_json(place, DiffusionError)
            folders = [Path(str(folder)) for folder in told.get("folders", [])]
            if told.get("data_hash") == data_hash and all((folder / "dataset.json").is_file() for folder in folders):
                return folders
    if request.from_set is not None and "near-duplicate" in request.skip_gates:
        return [request.from_set]
    return []


def measured_tone(image: NDArray[np.uint8], mask: NDArray[Any] | None) -> float | None:
    """ITA of the picture in degrees, None where it cannot be said."""
    from synthskin.gates.tone import default_measure

    try:
        return default_measure(image, mask).ita_deg
    except DatasetError:
        return None
