"""The gates of a run, set up from a request; the segmenter's answers kept for the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthskin.dataset.format import DatasetError
from synthskin.diffusion.data import TrainingSet, load_training_set
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


def load_panel(request: GenerateRequest, size_px: int, told: dict[str, Any], classes: Sequence[str | None],
               say: Callable[[str], None]) -> tuple[GatePanel, Remembering | None]:
    """Gates in order of their cost, and the segmenter; raises DiffusionError where something they need is missing.

    told   card of the model
    say    takes a remark
    """
    wanted = [name for name in ("blur", "mask", "tone", "class", "near-duplicate") if name not in request.skip_gates]
    known = None
    if {"blur", "near-duplicate"} & set(wanted):
        known = _training_set(request, size_px, told, "near-duplicate" in wanted, say)
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
            gates.append(CopyGate.of(known.images, [picture for picture, _ in known.files], list(known.groups)))
    return GatePanel(gates), segmenter


def classifier_sha256(request: GenerateRequest) -> str | None:
    """Of the weights of the class gate; None without one."""
    if request.classifier is None or "class" in request.skip_gates:
        return None
    from synthskin.classify.card import read_card

    return read_card(request.classifier).weights_sha256


def _training_set(request: GenerateRequest, size_px: int, told: dict[str, Any], needed: bool,
                  say: Callable[[str], None]) -> TrainingSet | None:
    """The sets given, else those the model's training folder remembers, if their files are those of its card."""
    if request.train_data:
        return load_training_set(request.train_data, size_px, prompt="any", with_test=True)
    folders = _remembered(request, told.get("data_hash"))
    if folders:
        content = told.get("content")
        try:
            known = load_training_set(folders, size_px, prompt="any", with_test=content is None)
        except (DiffusionError, DatasetError):
            known = None
        if known is not None and content is None:
            say(f"{request.model}: was trained before cards told the hash of the training pictures; whether "
                f"{', '.join(map(str, folders))} still holds them is not known")
        if known is not None and content in (None, known.content()):
            return known
        if needed:
            raise DiffusionError(f"{', '.join(map(str, folders))}: holds other pictures or masks than {request.model} "
                                 "was trained on, and the near-duplicate gate needs those: give --train-data SET, or "
                                 "leave the gate out with --skip-gate near-duplicate")
    if request.from_set is not None and not needed:
        return load_training_set([request.from_set], size_px, prompt="any", with_test=True)
    return None


def _remembered(request: GenerateRequest, data_hash: str | None) -> list[Path]:
    for place in (request.model / "training" / FOLDERS, request.model / FOLDERS):
        if place.is_file():
            told = read_json(place, DiffusionError)
            folders = [Path(str(folder)) for folder in told.get("folders", [])]
            if told.get("data_hash") == data_hash and all((folder / "dataset.json").is_file() for folder in folders):
                return folders
    return []


def measured_tone(image: NDArray[np.uint8], mask: NDArray[Any] | None) -> float | None:
    """ITA of the picture in degrees, None where it cannot be said."""
    from synthskin.gates.tone import default_measure

    try:
        return default_measure(image, mask).ita_deg
    except DatasetError:
        return None
