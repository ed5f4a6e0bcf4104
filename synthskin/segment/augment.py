"""Augmentation: what other cameras, crops and skins do to a picture, on batches, keyed by (seed, step).

Ranges are by design: chosen so that lesions fill 1 to 98 % of the frame or are cut by it, that any white balance and
exposure of real dermatoscopes is met, and that sharpness, noise and JPEG say nothing. Renders bring most artefacts with
them; hairs, rulers and round views are drawn here too, so that sets without them can be learnt from.
"""

from __future__ import annotations

import io
import math
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

_YIQ: Final = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))  # NTSC 1953


class Dice:
    """Random numbers of one step: uniform, normal and yes or no, (n, 1, 1, 1) each."""

    def __init__(self, rng: np.random.Generator, like: Tensor) -> None:
        self.rng, self._like = rng, like

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        return self._as(self.rng.uniform(low, high, (len(self._like), channels)))

    def normal(self, sigma: float, channels: int = 1) -> Tensor:
        return self._as(self.rng.normal(0, sigma, (len(self._like), channels)))

    def yes(self, probability: float) -> Tensor:
        return self._as(self.rng.random((len(self._like), 1)) < probability)

    def _as(self, value: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.asarray(value, np.float32)).to(self._like.device)[:, :, None, None]


def augment(image: Tensor, mask: Tensor, aspect: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(n, 3, s, s) in [0, 1] and (n, 1, s, s) of 0 and 1, both changed alike; `aspect` (n,) is the originals' w / h."""
    dice = Dice(rng, image)
    image, mask = crop(image, mask, aspect, dice)
    image = relight(image, mask, dice)
    image = recolour(image, dice)
    image = draw_things(image, rng)
    image, mask = round_view(image, mask, dice)
    image = resharpen(image, dice)
    image = add_noise(image, dice)
    return recode(image, rng), mask


def crop(image: Tensor, mask: Tensor, aspect: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """Turned, mirrored, sheared, stretched and zoomed; half the time so that the lesion fills what was drawn."""
    n, _, _, side = image.shape
    rng = dice.rng
    area = mask.mean((1, 2, 3)).cpu().numpy()
    axis = (torch.arange(side, device=image.device) * 2 + 1) / side - 1
    total = mask.sum((1, 2, 3)).clamp_min(1)
    middle = torch.stack([(mask.sum(2) * axis).sum((1, 2)) / total, (mask.sum(3) * axis).sum((1, 2)) / total], 1)
    zoom = np.exp(rng.uniform(math.log(0.75), math.log(1.6), n))
    wanted = np.exp(rng.uniform(math.log(0.012), math.log(1.1), n))
    aimed = (rng.random(n) < 0.55) & (area > 0.003)
    zoom = np.where(aimed, np.sqrt(wanted / np.maximum(area, 1e-4)), zoom).clip(0.7, 3.0)
    spread = np.where(rng.random(n) < 0.25, 0.5, 0.2)  # a quarter is moved far enough to be cut
    centre = torch.where(torch.from_numpy(aimed).to(image.device)[:, None], middle, torch.zeros_like(middle))
    centre = centre + torch.from_numpy((rng.normal(0, 1, (n, 2)) * spread[:, None] / zoom[:, None])
                                       .astype(np.float32)).to(image.device)
    room = torch.from_numpy(np.maximum(1.25 - 1 / zoom, 0.2).astype(np.float32)).to(image.device)[:, None]
    centre = torch.maximum(torch.minimum(centre, room), -room)  # the frame stays on the picture, by and large
    angle = rng.uniform(0, 2 * math.pi, n)
    stretch = np.exp(rng.uniform(-0.15, 0.15, n))
    shear = rng.normal(0, 0.06, n)
    flip = rng.choice([-1.0, 1.0], n)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cos * flip, -sin], 1), np.stack([sin * flip, cos], 1)], 1)
    shape = np.zeros((n, 2, 2))
    shape[:, 0, 0], shape[:, 0, 1], shape[:, 1, 1] = stretch, shear, 1 / stretch
    # from the new frame to the old one; squares of the cache are un-squashed by the aspect of the original
    wide = np.sqrt(aspect.cpu().numpy())
    lens = np.zeros((n, 2, 2))
    lens[:, 0, 0], lens[:, 1, 1] = 1 / wide, wide
    linear = torch.from_numpy((lens @ shape @ turn / zoom[:, None, None]).astype(np.float32)).to(image.device)
    grid = F.affine_grid(torch.cat([linear, centre[:, :, None]], 2), list(image.shape), align_corners=False)
    both = F.grid_sample(torch.cat([image, mask], 1), grid, mode="bilinear", padding_mode="reflection",
                         align_corners=False)
    inside = (grid.abs().amax(-1) <= 1)[:, None].to(image)  # some frames show what lies around the picture: black
    both = torch.where(dice.yes(0.08) > 0, both * inside, both)
    return both[:, :3].clamp(0, 1), (both[:, 3:] >= 0.5).to(image)


def relight(image: Tensor, mask: Tensor, dice: Dice) -> Tensor:
    """The lesion darker, fainter or of another hue, with a border of any softness; uneven light over everything."""
    side = image.shape[-1]
    soft = mask
    for _ in range(int(dice.rng.integers(1, 4))):
        soft = F.avg_pool2d(soft, 5, 1, 2, count_include_pad=False)
    gain = (dice.uniform(-0.5, 0.12) + dice.normal(0.1, 3)) * dice.yes(0.4)
    image = image * torch.exp(gain * soft)
    axis = torch.linspace(-1, 1, side, device=image.device)
    x, y = axis[None, None, None, :], axis[None, None, :, None]
    field = dice.normal(0.18) * x + dice.normal(0.18) * y - dice.uniform(-0.08, 0.22) * (x * x + y * y)
    image = image * torch.exp(field * dice.yes(0.5))
    coarse = F.interpolate(dice.normal(1.0, 36).reshape(-1, 1, 6, 6), (side, side), mode="bicubic")  # redness, tan
    tint = dice.normal(0.06, 3)
    return (image * torch.exp(coarse * tint * dice.yes(0.4))).clamp(0, 1)


def recolour(image: Tensor, dice: Dice) -> Tensor:
    """White balance, exposure, gamma, contrast, saturation, hue, and now and then grey."""
    gain = torch.exp(dice.normal(0.12, 3) * dice.yes(0.8) + dice.normal(0.15))
    image = (image * gain).clamp(1e-4, 1)
    image = image ** torch.exp(dice.normal(0.2) * dice.yes(0.6))
    mean = image.mean((2, 3), keepdim=True)
    image = mean + (image - mean) * torch.exp(dice.uniform(-0.4, 0.35))
    yiq = torch.einsum("ij,njhw->nihw", image.new_tensor(_YIQ), image)
    turn = dice.normal(0.12)
    strength = torch.exp(dice.uniform(-0.8, 0.75)) * (1 - dice.yes(0.04))
    i, q = yiq[:, 1:2] * strength, yiq[:, 2:] * strength
    yiq = torch.cat([yiq[:, :1], i * turn.cos() - q * turn.sin(), i * turn.sin() + q * turn.cos()], 1)
    return torch.einsum("ij,njhw->nihw", torch.linalg.inv(image.new_tensor(_YIQ)), yiq).clamp(0, 1)


def draw_things(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Hairs on a fifth of the pictures, a ruler on one of fourteen, ink on one of twenty."""
    n, _, _, side = image.shape
    chosen = rng.random((n, 3)) < (0.2, 0.07, 0.05)
    if not chosen.any():
        return image
    image = image.clone()
    for k in np.flatnonzero(chosen.any(1)):
        layer = Image.new("RGBA", (side, side))
        pen = ImageDraw.Draw(layer, "RGBA")
        if chosen[k, 0]:
            _hairs(pen, side, rng)
        if chosen[k, 1]:
            _ruler(pen, side, rng)
        if chosen[k, 2]:
            _ink(pen, side, rng)
        drawn = torch.from_numpy(np.array(layer)).to(image.device).permute(2, 0, 1).float() / 255
        image[k] = image[k] * (1 - drawn[3]) + drawn[:3] * drawn[3]
    return image


def _hairs(pen: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    base = rng.choice([20, 45, 80, 200]) + rng.integers(-15, 16)
    direction = rng.uniform(0, math.pi)
    t = np.linspace(0, 1, 12)[:, None]
    for _ in range(int(rng.integers(1, 22))):
        angle = direction + rng.normal(0, 0.5)
        start = rng.uniform(-0.1, 1.1, 2) * side
        reach = rng.uniform(0.2, 1.1) * side * np.array([math.cos(angle), math.sin(angle)])
        bend = rng.normal(0, 0.12, 2) * side
        points = start + t * reach + 4 * t * (1 - t) * bend
        shade = int(np.clip(base + rng.integers(-15, 16), 0, 255))
        colour = (shade, int(shade * 0.85), int(shade * 0.7), int(rng.integers(110, 256)))
        pen.line([tuple(p) for p in points.tolist()], fill=colour, width=1 + int(rng.random() < 0.3 * side / 192))


def _ruler(pen: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    gap, at = side * rng.uniform(0.03, 0.11), side * rng.choice([rng.uniform(0.01, 0.1), rng.uniform(0.9, 0.98)])
    dark, upright = int(rng.integers(0, 90)), rng.random() < 0.5
    for k in range(int(side / gap) + 1):
        long = side * (0.06 if k % 5 == 0 else 0.035)
        ends = [(k * gap, at), (k * gap, at + long * (1 if at < side / 2 else -1))]
        pen.line([e[::-1] if upright else e for e in ends], fill=(dark, dark, dark, 230), width=1)


def _ink(pen: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    colour = (*(int(v) for v in rng.choice([(70, 40, 120), (40, 60, 150), (30, 120, 90), (20, 20, 30)])),
              int(rng.integers(120, 240)))
    at, step = rng.uniform(0, side, 2), rng.normal(0, side / 5, 2)
    points = [tuple((at + k * step + rng.normal(0, side / 40, 2)).tolist()) for k in range(4)]
    pen.line(points, fill=colour, width=int(side * rng.uniform(0.015, 0.05)) + 1, joint="curve")


def round_view(image: Tensor, mask: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """The black surround of a round field of view; there is no lesion in it."""
    side = image.shape[-1]
    axis = torch.linspace(-1, 1, side, device=image.device)
    x, y = axis[None, None, None, :], axis[None, None, :, None]
    distance = ((x - dice.normal(0.08)) ** 2 + (y - dice.normal(0.08)) ** 2).sqrt()
    seen = ((dice.uniform(0.72, 1.4) - distance) / dice.uniform(0.01, 0.12)).clamp(0, 1)
    on = dice.yes(0.16)
    seen = 1 - on * (1 - seen)
    return image * seen + (1 - seen) * dice.uniform(0.0, 0.06), mask * (seen > 0.5).to(mask)


def resharpen(image: Tensor, dice: Dice) -> Tensor:
    """Blurred (also by a coarse sampling) or sharpened."""
    sigma = dice.uniform(0.3, 1.9) * dice.yes(0.55) + 1e-3
    reach = torch.arange(-4, 5, device=image.device, dtype=image.dtype)[None, None, None]
    kernel = torch.exp(-0.5 * (reach / sigma) ** 2)
    kernel = (kernel / kernel.sum(-1, keepdim=True)).repeat_interleave(3, 0)
    flat = image.reshape(1, -1, *image.shape[-2:])
    flat = F.conv2d(F.pad(flat, (4, 4, 0, 0), mode="replicate"), kernel, groups=flat.shape[1])
    flat = F.conv2d(F.pad(flat, (0, 0, 4, 4), mode="replicate"), kernel.transpose(2, 3), groups=flat.shape[1])
    blurred = flat.reshape(image.shape)
    sharp = (image + (image - blurred) * dice.uniform(0.3, 1.8)).clamp(0, 1)
    image = torch.where(dice.yes(0.3) > 0, sharp, blurred)
    side = image.shape[-1]
    small = F.interpolate(image, (side // 2 + side // 8,) * 2, mode="area")
    coarse = F.interpolate(small, (side, side), mode="bilinear")
    return torch.where(dice.yes(0.15) > 0, coarse, image)


def add_noise(image: Tensor, dice: Dice) -> Tensor:
    sigma = dice.uniform(0.0, 0.045) * dice.yes(0.45)
    noise = torch.from_numpy(dice.rng.standard_normal(image.shape, dtype=np.float32)).to(image.device)
    grey = noise[:, :1]
    return (image + sigma * torch.where(dice.yes(0.5) > 0, noise, grey)).clamp(0, 1)


def recode(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Through JPEG, two of five."""
    chosen = rng.random(len(image)) < 0.4
    quality = rng.integers(30, 96, len(image))
    if not chosen.any():
        return image
    image = image.clone()
    for k in np.flatnonzero(chosen):
        pixels = (image[k] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        held = io.BytesIO()
        Image.fromarray(pixels).save(held, "JPEG", quality=int(quality[k]))
        back = np.array(Image.open(held))
        image[k] = torch.from_numpy(back).permute(2, 0, 1).to(image) / 255
    return image
