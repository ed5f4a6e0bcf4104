"""ToneShift: another skin tone on a real photograph, by the optics of the renderer and without training.

1. Regions: black surround, hair, lesion (given, or found by a simple rule), the rest is healthy skin.
2. Camera: the mean healthy colour is explained as skin of some tone and blood times three channel gains (exposure and
   white balance, kept small by a prior). A smooth grey field takes up uneven light.
3. Inversion: each colour, gains taken off, becomes pigment and blood on skin of that tone by the table of the forward
   model; what it cannot explain stays as a residual factor. Colours brighter than any skin (glare, paper) are kept.
4. Replacement: the skin's melanin becomes the new tone's. What a lesion adds to it is kept in absolute amount; the
   faint variation of healthy skin is kept as a share of its melanin.
5. Forward again through the same table, residual and gains put back. The tone is then measured on the picture's
   healthy skin and corrected until it is the one asked for.

Steps 3 to 5 act on a cube of colours a picture (a 3-D look-up table), the picture is then mapped through it.

What it does not do: light that spreads sideways inside the skin (columns are independent), structures that the new
tone would bring (its own rete pattern), a real calibration of the camera. `docs/hooks.md` has the measured figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from synthskin.conventions import ITA_CLASS_LOWER_DEG
from synthskin.hooks import regions
from synthskin.hooks.colour import LUMINANCE, ita_deg, lab, mean_linear
from synthskin.hooks.tone_cube import CUBE_OFFSET, build_cube, cube_coordinates, explain, look_up, through_cube
from synthskin.hooks.tone_table import ToneTable, load_table

ITA_RANGE_DEG: Final = (-60.0, 62.0)  # what the table reaches with room for the correction
TONE_NAMES: Final = ("fst1", "fst2", "fst3", "fst4", "fst5", "fst6")
EXPOSURE_SIGMA: Final = 0.25  # log gain common to the channels; by design
BALANCE_SIGMA: Final = 0.15  # log gain of each channel beside it; by design
BLOOD_SIGMA: Final = 0.35  # log blood factor of a person's skin; presets vary it by 0.2-0.4
HEALTHY_LEAST: Final = 0.02  # share of the picture that must be healthy skin; else the brightest pixels stand in for it
CAST_STEPS: Final = tuple(k / 8 for k in range(9))  # how much of the camera's cast may be kept
CAST_DELTA: Final = 5.0  # L*a*b* distance that the kept cast may cause on the new skin
TONE_PRIOR_DEG: Final = (30.0, 35.0)  # ITA of the people photographed; weak, decides only where the cast is strong
MARGIN: Final = 1  # pixels of the reduced picture between lesion and healthy skin
FEW: Final = (80, 80)  # pixels on which mean colours are measured
CHUNK: Final = 4

Masker = Callable[[Tensor], Tensor]


class Toned(NamedTuple):
    """What ToneShift returns.

    image         as it came: (3, h, w) or (n, 3, h, w), uint8 or float
    ita_deg       () or (n,) ITA of the healthy skin measured on the result
    before_deg    the same on the input
    cast_kept     () or (n,) share of the camera's colour cast that was kept; less where the tone cannot be had with it
    """

    image: Tensor
    ita_deg: Tensor
    before_deg: Tensor
    cast_kept: Tensor


class Regions(NamedTuple):
    """Soft weights (n, 1, h, w), `healthy` reduced, and the picture with its hair filled in."""

    filled: Tensor
    hair: Tensor
    surround: Tensor
    lesion: Tensor
    healthy: Tensor


def parse_tone(to: float | str) -> float:
    """ITA in degrees of a number or of fst1 ... fst6 (the middle of the class; 60 and -45 at the open ends)."""
    if isinstance(to, str):
        if to not in TONE_NAMES:
            raise ValueError(f"to={to!r}: allowed are {', '.join(TONE_NAMES)} or an ITA in degrees from "
                             f"{ITA_RANGE_DEG[0]:g} to {ITA_RANGE_DEG[1]:g}")
        upper, lower = (65.0, *ITA_CLASS_LOWER_DEG), (*ITA_CLASS_LOWER_DEG, -60.0)
        number = TONE_NAMES.index(to)
        return 0.5 * (upper[number] + lower[number])
    if isinstance(to, bool) or not isinstance(to, (int, float)) or not ITA_RANGE_DEG[0] <= to <= ITA_RANGE_DEG[1]:
        raise ValueError(f"to={to!r}: an ITA in degrees from {ITA_RANGE_DEG[0]:g} to {ITA_RANGE_DEG[1]:g} or one of "
                         f"{', '.join(TONE_NAMES)} is needed")
    return float(to)


class ToneShift:
    """Change the skin tone of photographs.

    to     ITA in degrees (-60 ... 62) or "fst1" ... "fst6"
    mask   lesion mask (h, w), (1, h, w) or (n, 1, h, w), or a function from pictures (n, 3, h, w) in [0, 1] to
           (n, 1, h, w); None: the shipped segmenter, or `regions.otsu_lesion` where MONAI is not installed

    Calling it: `shift(image)`, `shift(image, mask)`, `shift(image, mask, to)` with a picture (3, h, w) or a batch
    (n, 3, h, w), uint8 or float in [0, 1], returns `Toned`; `to` may be a tensor (n,). `shift(sample)` with a dict of
    `image` and perhaps `mask` returns a copy with `image` replaced and `ita_reached_deg` added. Deterministic, holds no
    state, may be pickled. Raises ValueError on what it cannot take.
    """

    def __init__(self, to: float | str | None = None, mask: Tensor | Masker | None = None) -> None:
        self.to = None if to is None else parse_tone(to)
        self.mask = mask

    def __repr__(self) -> str:
        return f"ToneShift(to={self.to})"

    def __call__(self, image: Any, mask: Tensor | None = None, to: float | str | Tensor | None = None) -> Any:
        if isinstance(image, Mapping):
            toned = self._shift(image["image"], image.get("mask") if mask is None else mask, to)
            return {**image, "image": toned.image, "ita_reached_deg": toned.ita_deg}
        return self._shift(image, mask, to)

    @torch.no_grad()
    def _shift(self, image: Tensor, mask: Tensor | None, to: float | str | Tensor | None) -> Toned:
        batch, single, whole = as_batch(image)
        goal = self._goal(to, batch)
        lesion = self._lesion(batch, mask)
        parts = []
        for start in range(0, len(batch), CHUNK):  # a few at a time stay in the cache
            few = slice(start, start + CHUNK)
            parts.append(self._shift_batch(batch[few], None if lesion is None else lesion[few], goal[few]))
        shifted, reached, before, cast = (torch.cat(values) for values in zip(*parts, strict=True))
        result = (shifted * 255).round().to(torch.uint8) if whole else shifted.to(image.dtype)
        if single:
            return Toned(result[0], reached[0], before[0], cast[0])
        return Toned(result, reached, before, cast)

    def _shift_batch(self, batch: Tensor, lesion: Tensor | None, goal: Tensor) -> tuple[Tensor, ...]:
        """Picture, tone reached, tone before and share of the cast kept; what a subclass replaces."""
        return shift_tone(batch, find_regions(batch, lesion), goal)

    def _goal(self, to: float | str | Tensor | None, batch: Tensor) -> Tensor:
        if to is None:
            if self.to is None:
                raise ValueError("ToneShift: no tone given; write ToneShift(to=...) or shift(image, to=...)")
            return batch.new_full((len(batch),), self.to)
        if isinstance(to, Tensor):
            goal = to.to(batch).reshape(-1).expand(len(batch))
            if not ((goal >= ITA_RANGE_DEG[0]) & (goal <= ITA_RANGE_DEG[1])).all():
                raise ValueError(f"to={goal.tolist()}: allowed is {ITA_RANGE_DEG[0]:g} to {ITA_RANGE_DEG[1]:g} degrees")
            return goal
        return batch.new_full((len(batch),), parse_tone(to))

    def _lesion(self, batch: Tensor, mask: Tensor | None) -> Tensor | None:
        if mask is None and callable(self.mask) and not isinstance(self.mask, Tensor):
            mask = self.mask(batch)
        elif mask is None and isinstance(self.mask, Tensor):
            mask = self.mask
        if mask is None:
            return None
        h, w = batch.shape[-2:]
        if mask.shape[-2:] != (h, w) or mask.numel() not in (h * w, len(batch) * h * w):
            raise ValueError(f"mask {tuple(mask.shape)} does not fit pictures {tuple(batch.shape)}; "
                             f"one channel of {h} x {w} is needed")
        mask = mask.to(batch).reshape(-1, 1, h, w).expand(len(batch), 1, h, w)
        return mask / 255 if mask.numel() and mask.nan_to_num().max() > 1 else mask


def as_batch(image: Tensor) -> tuple[Tensor, bool, bool]:
    """(float batch (n, 3, h, w), was one picture, was uint8); raises ValueError."""
    good = isinstance(image, Tensor) and image.ndim in (3, 4) and image.numel() > 0
    if not good or image.shape[-3] != 3 or min(image.shape[-2:]) < 16:
        came = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"image {came}: a tensor (3, h, w) or (n, 3, h, w) of at least 16 x 16 pixels is needed")
    whole = image.dtype == torch.uint8
    if not whole and not image.is_floating_point():
        raise ValueError(f"image of {image.dtype}: uint8 or floating point is needed")
    batch = image.contiguous().to(torch.float32)
    if whole:
        batch = batch / 255
    if not whole and batch.numel() and not (batch.amin() >= -1e-4 and batch.amax() <= 1.0001):
        raise ValueError(f"image from {float(batch.amin()):g} to {float(batch.amax()):g}: values in [0, 1] are needed; "
                         "shift the tone before the pictures are normalised")
    return (batch[None] if image.ndim == 3 else batch).clamp(0, 1), image.ndim == 3, whole


def find_regions(image: Tensor, mask: Tensor | None) -> Regions:
    """Split pictures (n, 3, h, w). Of a `mask` (n, 1, h, w), pictures whose mask is NaN get the fallback."""
    small = regions.reduced(image)
    black = regions.dilate(regions.surround(small), 2)
    filled = regions.closed(small)
    strands = regions.hair(small, filled) * (1 - black)
    clean = small + (filled - small) * strands
    if mask is None or mask.isnan().any():
        guess = regions.lesion(clean, (black < 0.5).to(image))
        lesion = guess if mask is None else regions.reduced(mask)
        if mask is not None:
            lesion = torch.where(lesion.isnan(), guess, lesion)
    else:
        lesion = regions.reduced(mask)
    lesion = regions.blur(lesion)
    away = (regions.dilate(lesion, MARGIN) < 0.5) & (regions.dilate(black, 4) < 0.5)
    plain = (regions.dilate(strands, 1) < 0.3) & (small.amin(1, keepdim=True) < 0.98)
    healthy = (away & plain).to(image)
    few = healthy.mean((1, 2, 3)) < HEALTHY_LEAST
    if few.any():
        stand_in = _brightest(clean, (black < 0.5) & plain)
        healthy = torch.where(few[:, None, None, None], stand_in, healthy)
    lesion = regions.blur(lesion, 6)  # the two rules pass into each other without an edge
    if not strands.any():
        black, lesion = regions.enlarged(torch.cat([black, lesion], 1), image).split(1, 1)
        return Regions(image, torch.zeros_like(black), black, lesion, healthy)
    filled, strands, black, lesion = regions.enlarged(
        torch.cat([filled, strands, black, lesion], 1), image).split([3, 1, 1, 1], 1)
    gap = (filled - image).clamp_min(0)
    depth = gap.sum(1, keepdim=True) / filled.sum(1, keepdim=True).clamp_min(0.75)
    strands = strands * ((depth - 0.06) / 0.06).clamp(0, 1)
    return Regions(image + gap * strands, strands, black, lesion, healthy)


def _brightest(image: Tensor, valid: Tensor) -> Tensor:
    """The brighter quarter of the valid pixels: what stands for healthy skin where a lesion fills the picture."""
    value = image.mean(1, keepdim=True).masked_fill(~valid, -1.0)
    flat = value.flatten(1)
    count = valid.flatten(1).sum(1).clamp_min(4)
    order = flat.sort(1, descending=True).values
    cut = order.gather(1, (count // 4)[:, None])
    return (value >= cut[:, :, None, None]).to(image)


def shift_tone(image: Tensor, found: Regions, goal: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(picture, ITA reached, ITA before, share of the cast kept) of a batch."""
    table = load_table(str(image.device))
    light = uneven_light(regions.reduced(found.filled), found.healthy, image.shape[-2:])
    flat = (found.filled + CUBE_OFFSET) / light - CUBE_OFFSET
    skin = mean_linear(F.interpolate(flat, FEW), F.interpolate(found.healthy, FEW))
    tone, blood, gain = fit_skin(table, skin)
    new_tone, cast = find_tone(table, goal, blood, gain)
    kept = (gain ** cast[:, None]) ** (1 / 2.4)
    source = cube_coordinates(flat, gain ** (1 / 2.4))
    explained = explain(table, tone)
    few = tuple(F.interpolate(x, FEW) for x in (source.movedim(-1, 1), light, found.healthy))
    spots = few[0].movedim(1, -1)
    cube = build_cube(table, explained[:1], new_tone)
    now = (look_up(cube, spots) + CUBE_OFFSET) * kept[:, :, None, None] * few[1] - CUBE_OFFSET
    # the tone is judged on the picture, where pixels are not all alike; nodes lie 5 degrees apart
    step = (goal - ita_deg(mean_linear(now.clamp(0, 1), few[2]))) / 5.0
    new_tone = (new_tone - step.nan_to_num().clamp(-4, 4)).clamp(0, table.tones - 1)
    cube = build_cube(table, explained, new_tone)
    shifted = (through_cube(cube, source, found.lesion) + CUBE_OFFSET) * (kept[:, :, None, None] * light) - CUBE_OFFSET
    shifted = _put_back(image, found, shifted).clamp(0, 1)
    before, after = (ita_deg(mean_linear(F.interpolate(x, FEW), few[2])) for x in (image, shifted))
    return shifted, after, before, cast


def uneven_light(image: Tensor, healthy: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Smooth grey factor (n, 1, h, w) on encoded values: a plane and a bowl through log luminance of the skin."""
    luma = (image * image.new_tensor(LUMINANCE)[:, None, None]).sum(1, keepdim=True) + CUBE_OFFSET  # to the power 2.4
    weight = regions.reduced(healthy, 32)
    size = weight.shape[-2:]
    log = 2.4 * (regions.reduced(luma * healthy, 32) / weight.clamp_min(1e-3)).clamp_min(CUBE_OFFSET).log()
    w = weight.flatten(1)
    total = w.sum(1, keepdim=True).clamp_min(1e-3)
    mean = (w * log.flatten(1)).sum(1, keepdim=True) / total
    y = log.flatten(1) - mean

    def basis(height: int, width: int) -> Tensor:
        v = torch.linspace(-1, 1, height, device=image.device)[:, None].expand(height, width)
        u = torch.linspace(-1, 1, width, device=image.device)[None].expand(height, width)
        return torch.stack([u, v, u * u + v * v - 2 / 3, u * u - v * v, u * v]).flatten(1)

    b = basis(*size)
    centred = b[None] - (w[:, None] * b[None]).sum(2, keepdim=True) / total[:, None]
    ridge = 0.02 * w.shape[1] * torch.eye(5, device=image.device)
    normal = torch.einsum("nik,nk,njk->nij", centred, w, centred) + ridge
    right = torch.einsum("nik,nk->ni", centred, w * y)
    slope = torch.linalg.solve(normal, right)
    field = slope @ basis(*shape)
    offset = (slope * (w[:, None] * b[None]).sum(2) / total).sum(1, keepdim=True)
    return torch.exp((field - offset).clamp(-0.7, 0.5) / 2.4).reshape(len(image), 1, *shape)


def fit_skin(table: ToneTable, skin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(tone position, log blood, channel gains (n, 3)) that explain mean colours (n, 3): the most likely on a grid."""
    n = len(skin)
    tones = torch.linspace(0, table.tones - 1, 4 * (table.tones - 1) + 1, device=skin.device)
    bloods = torch.linspace(-0.9, 0.9, 13, device=skin.device)
    model = table.colour(tones[:, None], skin.new_tensor(float(table.bare)), bloods[None])
    gain = skin.clamp_min(1e-3).log()[:, None, None] - model
    a, e = 1 / BALANCE_SIGMA**2, EXPOSURE_SIGMA**2
    total = gain.sum(-1)
    # inverse of BALANCE^2 I + EXPOSURE^2 11^T by Sherman and Morrison
    cost = 0.5 * (a * (gain**2).sum(-1) - a * a * e / (1 + 3 * a * e) * total**2) + 0.5 * (bloods / BLOOD_SIGMA) ** 2
    ita = table.ita_deg[0] - 5.0 * tones
    cost = cost + 0.5 * ((ita - TONE_PRIOR_DEG[0]) / TONE_PRIOR_DEG[1])[:, None] ** 2
    best = cost.flatten(1).argmin(1)
    tone, blood = tones[best // len(bloods)], bloods[best % len(bloods)]
    return tone, blood, gain.reshape(n, -1, 3)[torch.arange(n, device=skin.device), best].exp()


def find_tone(table: ToneTable, goal: Tensor, blood: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """Tone whose bare skin, seen through the camera's gains, has the ITA asked for; and how much of the cast is kept.

    The largest share with which the new skin still looks like skin: within CAST_DELTA of the model's at that ITA.
    """
    tones = torch.linspace(0, table.tones - 1, 8 * (table.tones - 1) + 1, device=goal.device)
    colour = table.colour(tones[None], goal.new_tensor(float(table.bare)), blood[:, None])
    shares = goal.new_tensor(CAST_STEPS)[:, None, None, None]
    values = lab(torch.exp(colour + shares * gain.log()[:, None]))  # (shares, n, tones, 3)
    ita = torch.rad2deg(torch.atan2(values[..., 0] - 50.0, values[..., 2]))
    off, where = (ita - goal[:, None]).abs().min(2)
    seen = values.gather(2, where[..., None, None].expand(*where.shape, 1, 3))[:, :, 0]
    good = (off < 2.0) & ((seen - seen[:1]).norm(dim=2) < CAST_DELTA)
    good[0] = True
    best = (good * torch.arange(1, len(shares) + 1, device=goal.device)[:, None]).argmax(0)
    every = torch.arange(len(goal), device=goal.device)
    return tones[where[best, every]], shares[best, 0, 0, 0]


def _put_back(image: Tensor, found: Regions, shifted: Tensor) -> Tensor:
    """Hair over the new skin (thin hair lets it shine through, thick hair stays as it was), and the black surround."""
    if found.hair.any():
        ratio = ((image + CUBE_OFFSET) / (found.filled + CUBE_OFFSET)).clamp_max(1)
        through = (shifted + CUBE_OFFSET) * ratio - CUBE_OFFSET
        opaque = found.hair * ((0.75 - ratio.mean(1, keepdim=True)) / 0.3).clamp(0, 1)
        shifted = through + (image - through) * opaque
    if found.surround.any():
        black = found.surround * ((0.25 - image.amax(1, keepdim=True)) / 0.12).clamp(0, 1)
        shifted = shifted + (image - shifted) * black
    return shifted
