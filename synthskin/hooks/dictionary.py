"""The transforms under MONAI's names, on dictionaries: `ToneShiftd(keys=...)`, `RandToneShiftd(keys=...)` ...

Pictures are (3, h, w), in [0, 1] or uint8: put them before intensity normalisation. The random ones take their numbers
from MONAI's state (`set_random_state`, `set_determinism`); their added keys are there also when nothing was done, so
that batches collate. Needs MONAI.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform, RandomizableTransform
from monai.utils.type_conversion import convert_to_dst_type
from torch import Tensor

from synthskin.hooks.baseline import ColourSpaceShift
from synthskin.hooks.overlay import DEFAULT_VIEW_MM, ArtefactOverlay, HairOverlay
from synthskin.hooks.tone import ITA_RANGE_DEG, TONE_NAMES, ToneShift, parse_tone
from synthskin.preset import Preset

REACHED = "ita_reached_deg"
Data = Mapping[Hashable, Any]
Tones = tuple[float, float] | Sequence[str]


def _plain(x: Any) -> Any:
    """The tensor inside a MetaTensor."""
    return x.as_tensor() if hasattr(x, "as_tensor") else x


class ToneShiftd(MapTransform):
    """Dictionary version of ToneShift; adds `ita_reached_deg`.

    keys       of the pictures
    to         ITA in degrees or "fst1" ... "fst6"
    mask_key   of the lesion mask; where it is missing or None ToneShift finds the lesion itself
    """

    tool: type[ToneShift] = ToneShift

    def __init__(self, keys: KeysCollection, to: float | str, mask_key: str | None = "mask",
                 allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.shift, self.mask_key = self.tool(to), mask_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            _shift(result, key, self.shift, self.mask_key, None)
        return result


class RandToneShiftd(RandomizableTransform, MapTransform):
    """With probability `prob` a random tone: uniform in ITA between two degrees, or one of several names.

    keys       of the pictures; all of a dictionary get the same tone
    to         (lowest, highest) ITA in degrees, or names such as ["fst4", "fst5", "fst6"]
    mask_key   as in ToneShiftd

    `ita_reached_deg` is NaN where nothing was done.
    """

    tool: type[ToneShift] = ToneShift

    def __init__(self, keys: KeysCollection, to: Tones = TONE_NAMES, prob: float = 0.5,
                 mask_key: str | None = "mask", allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        values: list[Any] = [] if isinstance(to, str) or not isinstance(to, Iterable) else list(to)
        self.named = all(isinstance(value, str) for value in values)
        if not values or (not self.named and (len(values) != 2 or parse_tone(values[0]) > parse_tone(values[1]))):
            raise ValueError(f"to={to!r}: (lowest, highest) ITA from {ITA_RANGE_DEG[0]:g} to {ITA_RANGE_DEG[1]:g} "
                             f"degrees, or names of {', '.join(TONE_NAMES)} are needed")
        self.tones = [parse_tone(value) for value in values]
        self.shift, self.mask_key = self.tool(), mask_key
        self.goal = self.tones[0]

    def randomize(self, data: Any = None) -> None:
        super().randomize(None)
        u = float(self.R.random_sample())
        if self.named:
            self.goal = self.tones[min(int(u * len(self.tones)), len(self.tones) - 1)]
        else:
            self.goal = self.tones[0] + u * (self.tones[1] - self.tones[0])

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize()
        for key in self.key_iterator(result):
            if self._do_transform:
                _shift(result, key, self.shift, self.mask_key, self.goal)
            else:
                result[REACHED] = torch.tensor(torch.nan)
        return result


class ColourSpaceShiftd(ToneShiftd):
    """Dictionary version of ColourSpaceShift."""

    tool = ColourSpaceShift


class RandColourSpaceShiftd(RandToneShiftd):
    """Random version of ColourSpaceShift; parameters as RandToneShiftd."""

    tool = ColourSpaceShift


def _shift(result: dict[Hashable, Any], key: Hashable, shift: ToneShift, mask_key: str | None,
           goal: float | None) -> None:
    mask = None if mask_key is None else _plain(result.get(mask_key))
    toned = shift(_plain(result[key]), mask, goal)
    result[key] = convert_to_dst_type(toned.image, result[key])[0]
    result[REACHED] = toned.ita_deg


class RandHairOverlayd(RandomizableTransform, MapTransform):
    """With probability `prob` hair over the pictures; the mask goes to `hair_key` (added to one that is there)."""

    def __init__(self, keys: KeysCollection, prob: float = 0.5, preset: str | Path | Preset = "fst4",
                 count: tuple[int, int] = (3, 25), field_of_view_mm: float = DEFAULT_VIEW_MM,
                 hair_key: str = "hair", pool: int | None = 32, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.overlay: HairOverlay | ArtefactOverlay = HairOverlay(preset, count, field_of_view_mm, pool=pool)
        self.cover_key, self.mask_key = hair_key, None

    cover_key: str
    mask_key: str | None

    def randomize(self, data: Any = None) -> None:
        super().randomize(None)
        self.key_number = int(self.R.randint(2**31 - 1))

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize()
        for key in self.key_iterator(result):
            image = _plain(result[key])
            cover: Tensor = image.new_zeros((1, *image.shape[-2:]), dtype=torch.float32)
            if self._do_transform:
                mask = None if self.mask_key is None else _plain(result.get(self.mask_key))
                done = self.overlay(image, key=self.key_number, mask=mask)
                result[key] = convert_to_dst_type(done.image, result[key])[0]
                cover = done.mask
            old = result.get(self.cover_key)
            result[self.cover_key] = cover if old is None else torch.maximum(cover, _plain(old).to(cover))
        return result


class HairOverlayd(RandHairOverlayd):
    """Hair over every picture; parameters as RandHairOverlayd, without `prob`."""

    def __init__(self, keys: KeysCollection, **settings: Any) -> None:
        super().__init__(keys, prob=1.0, **settings)


class RandArtefactOverlayd(RandHairOverlayd):
    """With probability `prob` artefacts (see ArtefactOverlay); their mask goes to `artefact_key`."""

    def __init__(self, keys: KeysCollection, prob: float = 0.5,
                 names: Sequence[str] = ("ruler", "ink", "gel_bubble"), each: float = 0.5,
                 preset: str | Path | Preset = "fst2", field_of_view_mm: float = DEFAULT_VIEW_MM,
                 mask_key: str | None = "mask", artefact_key: str = "artefact",
                 allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.overlay = ArtefactOverlay(names, each, preset, field_of_view_mm)
        self.cover_key, self.mask_key = artefact_key, mask_key


class ArtefactOverlayd(RandArtefactOverlayd):
    """Artefacts over every picture; parameters as RandArtefactOverlayd, without `prob`."""

    def __init__(self, keys: KeysCollection, **settings: Any) -> None:
        super().__init__(keys, prob=1.0, **settings)
