"""HairOverlay and ArtefactOverlay: the renderer's hair, rulers, ink, bubbles ... over photographs, with their masks.

The shapes and optics are those of `synthskin.physics` (NumPy only, loaded at the first call): a fibre lets through what
its pigment leaves of the skin's light and shades the skin under it; ink absorbs twice; bubbles refract. What a
photograph does not tell is set by the caller: the field of view, and that its exposure is that of a white tile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthskin.draw import draw, hash_uniform
from synthskin.hooks import regions
from synthskin.hooks.colour import decode, encode
from synthskin.hooks.shards import worker_seed
from synthskin.hooks.tone import as_batch
from synthskin.preset import Preset, load_preset
from synthskin.record import SampleRecord

#: Artefacts that are drawn over a finished picture; hair has its own overlay.
ARTEFACTS: Final = ("ruler", "ink", "gel_bubble", "dark_corner", "colour_patch", "glare", "blur")
DEFAULT_VIEW_MM: Final = 14.0  # dermatoscopes show 10-20 mm
MOST_HAIRS: Final = 400
DRAWING_PX: Final = 640  # strands are drawn at about this many pixels a side and averaged
F32 = NDArray[np.float32]


class Overlaid(NamedTuple):
    """image as it came; mask (1, h, w) or (n, 1, h, w) float32, 0 or 1: pixels that the overlay covers."""

    image: Tensor
    mask: Tensor


class Drawing(NamedTuple):
    """Hair as it lies over a picture: light kept (h, w, 3), light returned (h, w, 3), covered pixels (h, w)."""

    kept: F32
    sheen: F32
    covered: NDArray[np.bool_]


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


class _Overlay:
    """What both overlays share: a key a call, batches, samples as dicts, pictures that are not square."""

    sample_key = ""

    def __init__(self, preset: str | Path | Preset, field_of_view_mm: float, seed: int) -> None:
        if not (_is_real(field_of_view_mm) and 2.0 <= field_of_view_mm <= 30.0):
            raise ValueError(f"field_of_view_mm={field_of_view_mm!r}: a number from 2 to 30 is needed")
        if not (_is_whole(seed) and seed >= 0):
            raise ValueError(f"seed={seed!r}: a whole number of 0 or more is needed")
        if not isinstance(preset, (str, Path, Preset)):
            raise ValueError(f"preset={preset!r}: a name such as 'fst4', the path of a TOML file or a Preset is needed")
        self.preset = preset if isinstance(preset, Preset) else load_preset(preset)
        self.field_of_view_mm, self.seed = float(field_of_view_mm), seed
        self._calls = 0

    def __call__(self, image: Any, key: int | None = None, mask: Tensor | None = None) -> Any:
        if isinstance(image, Mapping):
            done = self._apply(image["image"], key, image.get("mask") if mask is None else mask)
            old = image.get(self.sample_key)
            return {**image, "image": done.image,
                    self.sample_key: done.mask if old is None else torch.maximum(done.mask, old.to(done.mask))}
        return self._apply(image, key, mask)

    def _apply(self, image: Tensor, key: int | None, mask: Tensor | None) -> Overlaid:
        batch, single, whole = as_batch(image)
        if key is None:
            key, self._calls = self._calls, self._calls + 1
            origin = worker_seed()  # new in every worker and epoch, set by the DataLoader's generator
        else:
            origin = -1
        results, covers = [], []
        for number, picture in enumerate(batch):
            where = None if mask is None else mask.reshape(-1, *mask.shape[-2:])
            own = None if where is None else where[min(number, len(where) - 1)].cpu().numpy() > 0
            record = self._record(f"{self.seed}|{origin}|{key}|{number}")
            linear = decode(picture).permute(1, 2, 0).cpu().numpy()
            h, w = linear.shape[:2]
            side = max(h, w)
            top, left = (side - h) // 2, (side - w) // 2
            edges = ((top, side - h - top), (left, side - w - left))
            square = np.pad(linear, (*edges, (0, 0)), mode="edge").astype(np.float32)
            result, cover = self._draw(square, record, None if own is None else np.pad(own, edges))
            results.append(torch.from_numpy(np.ascontiguousarray(result[top : top + h, left : left + w])))
            covers.append(torch.from_numpy(np.ascontiguousarray(cover[top : top + h, left : left + w])))
        shown = encode(torch.stack(results).permute(0, 3, 1, 2)).clamp(0, 1).to(batch.device)
        output = (shown * 255).round().to(torch.uint8) if whole else shown.to(image.dtype)
        found = torch.stack(covers)[:, None].to(torch.float32).to(batch.device)
        return Overlaid(output[0], found[0]) if single else Overlaid(output, found)

    def _record(self, text: str) -> SampleRecord:
        """A record that the preset could have drawn, keyed by the text."""
        index = int(hash_uniform("overlay", text) * 2**53)
        record = draw(self.preset, self.seed, index)
        return replace(record, camera=replace(record.camera, field_of_view_mm=self.field_of_view_mm))

    def _draw(self, linear: F32, record: SampleRecord, mask: NDArray[np.bool_] | None) -> tuple[F32, NDArray[np.bool_]]:
        raise NotImplementedError


class HairOverlay(_Overlay):
    """Hair over pictures.

    preset             whose hair: colour, length, thickness, curl ("fst2" blond to dark brown, "fst5" dark)
    count              (fewest, most) terminal hairs in a picture, whole numbers from 0 to 400
    field_of_view_mm   of the pictures; sets how thick a hair looks
    seed               with the number of the call, and the DataLoader worker's seed, it decides the hair
    pool               drawing strands takes far longer than laying them over a picture, so that many drawings are kept
                       and used again, turned and mirrored; None: every picture gets its own

    `overlay(image, key=...)` takes the key instead of the call's number, so that the same hair comes again; returns
    `Overlaid`. `overlay(sample)` replaces `image` and adds to the mask `hair`.
    """

    sample_key = "hair"

    def __init__(self, preset: str | Path | Preset = "fst4", count: tuple[int, int] = (3, 25),
                 field_of_view_mm: float = DEFAULT_VIEW_MM, seed: int = 0, pool: int | None = 32) -> None:
        super().__init__(preset, field_of_view_mm, seed)
        pair = isinstance(count, (tuple, list)) and len(count) == 2 and all(_is_whole(number) for number in count)
        if not (pair and 0 <= count[0] <= count[1] <= MOST_HAIRS):
            raise ValueError(f"count={count!r}: a pair (fewest, most) of whole numbers >= 0, at most {MOST_HAIRS}, is "
                             "needed; (30, 30) gives always 30")
        if pool is not None and not (_is_whole(pool) and pool >= 1):
            raise ValueError(f"pool={pool!r}: a whole number of 1 or more, or None, is needed")
        self.count, self.pool = (int(count[0]), int(count[1])), pool
        self._drawn: dict[tuple[int, int], Drawing] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_drawn": {}}

    def _draw(self, linear: F32, record: SampleRecord, mask: NDArray[np.bool_] | None) -> tuple[F32, NDArray[np.bool_]]:
        size = linear.shape[0]
        if self.pool is None:
            drawing = self._strands(record, size)
        else:
            slot, turn = record.index % self.pool, record.index // self.pool % 8
            if (slot, size) not in self._drawn:
                self._drawn[slot, size] = self._strands(self._record(f"{self.seed}|pool|{slot}"), size)
            drawing = Drawing(*(_turned(values, turn) for values in self._drawn[slot, size]))
        return linear * drawing.kept + drawing.sheen, drawing.covered

    def _strands(self, record: SampleRecord, size: int) -> Drawing:
        from synthskin.physics import hair, strands

        low, high = self.count
        chosen = low + int(hash_uniform("count", record.seed, record.index) * (high - low + 1))
        record = replace(record, hair=replace(record.hair, count=chosen, vellus_count=0))
        view, factor = self.field_of_view_mm, max(1, round(DRAWING_PX / size))
        grown = hair.grow_hair(record)
        offset, height, owner = strands.rasterise(grown, size * factor, view)
        through = strands.transmission(
            offset, owner, grown, record.hair.eumelanin, record.hair.pheomelanin, view / (size * factor)
        )
        lit = strands.shadows(through[1, ..., 0], height, view, record.camera.ring_elevation_deg, size)
        seen = through[::-1].reshape(3, size, factor, size, factor, 2).mean((2, 4)).transpose(1, 2, 0, 3)  # red first
        kept = seen[..., 0] * lit[..., None]
        return Drawing(kept.astype(np.float32), seen[..., 1].astype(np.float32), hair.hair_mask(grown, size, view))


def _turned(values: NDArray[Any], turn: int) -> NDArray[Any]:
    """One of the eight symmetries of a square."""
    values = np.rot90(values, turn % 4)
    return values[:, ::-1] if turn >= 4 else values


class ArtefactOverlay(_Overlay):
    """Rulers, ink, bubbles, dark corners, stickers, glare, blur over pictures.

    names              which may come; `each` of them with this probability, at least one always
    preset             whose ranges their parameters are drawn from
    field_of_view_mm, seed, key   as in HairOverlay

    Ink is drawn beside the lesion: that of a mask (`overlay(image, mask=...)`, or `mask` in the sample), else what the
    shipped segmenter finds; where MONAI is not installed, beside the middle. Returns
    `Overlaid`; `overlay(sample)` replaces `image` and adds to the mask `artefact`. Blur hides nothing and is not in it.
    """

    sample_key = "artefact"

    def __init__(self, names: Sequence[str] = ("ruler", "ink", "gel_bubble"), each: float = 0.5,
                 preset: str | Path | Preset = "fst2", field_of_view_mm: float = DEFAULT_VIEW_MM,
                 seed: int = 0) -> None:
        super().__init__(preset, field_of_view_mm, seed)
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise ValueError(f"names={names!r}: a list of names is needed; allowed are {', '.join(ARTEFACTS)}")
        self.names = tuple(names)
        for name in self.names:
            if name not in ARTEFACTS:
                raise ValueError(f"artefact {name!r}: allowed are {', '.join(ARTEFACTS)}")
        if not self.names:
            raise ValueError(f"no artefacts named; allowed are {', '.join(ARTEFACTS)}")
        if not (_is_real(each) and 0 < each <= 1):
            raise ValueError(f"each={each!r}: a probability above 0, at most 1, is needed")
        self.each = each

    def _draw(self, linear: F32, record: SampleRecord, mask: NDArray[np.bool_] | None) -> tuple[F32, NDArray[np.bool_]]:
        from synthskin.physics import artefacts

        size, view = linear.shape[0], self.field_of_view_mm
        draws = {name: hash_uniform("artefact", record.seed, record.index, name) for name in self.names}
        first = min(draws, key=lambda name: draws[name])
        chosen = {name for name in draws if draws[name] < self.each or name == first}
        switched: dict[str, Any] = {name: int(name in chosen) for name in ARTEFACTS}
        lesion = record.lesion
        if mask is None and "ink" in chosen:
            found = regions.segmented_lesion(encode(torch.from_numpy(linear).permute(2, 0, 1)[None]).clamp(0, 1))
            mask = None if found is None else found[0, 0].numpy() > 0.5
        if mask is not None and mask.any():
            y, x = np.nonzero(mask)
            centre = (np.array([x.mean(), y.mean()]) + 0.5) * view / size - 0.5 * view
            across = 2 * np.sqrt(mask.mean() / np.pi) * view
            lesion = replace(lesion, centre_x_mm=float(np.clip(centre[0], -10, 10)),
                             centre_y_mm=float(np.clip(centre[1], -10, 10)),
                             diameter_mm=float(np.clip(across, 0.5, 20.0)), elongation=1.0)
        record = replace(record, lesion=lesion, artefacts=replace(record.artefacts, thick_hair=0, thin_hair=0,
                                                                  **switched))
        result, masks = artefacts.apply(linear, record, np.zeros((size, size), np.float32))
        return result, artefacts.hides_skin(masks, size)
