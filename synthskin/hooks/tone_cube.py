"""Colours of skin as a cube: explained on one tone, built anew on another, and pictures mapped through it."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from synthskin.hooks.colour import decode, encode
from synthskin.hooks.tone_table import DOMAIN, ToneTable

SKIN_LIMIT: Final = 0.15  # healthy skin's own melanin varies by up to about this log ratio; more counts as added
OPAQUE: Final = (0.45, 0.9)  # log residual of the brightest channel: from here no skin, and wholly none (glare, paper)
CUBE_OFFSET: Final = 0.055  # added to encoded values: to the power 2.4 they are linear


def cube_coordinates(flat: Tensor, scale: Tensor) -> Tensor:
    """Positions (n, h, w, 3) in [-1, 1] of encoded colours with the gains (as powers 1/2.4) taken off."""
    free = (flat + CUBE_OFFSET) / scale[:, :, None, None] - CUBE_OFFSET
    return free.movedim(1, -1) * (2 / DOMAIN) - 1


class Explained(NamedTuple):
    """The cube's colours explained on the old skin by one rule (healthy skin's or the lesion's); (n, k) or (n, k, 3).

    share        of the tone's own melanin that is more than the mean (goes with the new tone's melanin)
    added_um     melanin added to it in absolute amount
    log_ratio    0, or under it where there is less melanin than the mean
    log_blood, log_rest (residual factor), contrast (mean |log| against bare skin)
    opaque       1 where the colour is brighter than skin can be; it is left as it is: `linear` (k, 3)
    """

    share: Tensor
    added_um: Tensor
    log_ratio: Tensor
    log_blood: Tensor
    log_rest: Tensor
    contrast: Tensor
    opaque: Tensor
    linear: Tensor


@cache
def _cube_colours(nodes: int, device: str) -> tuple[Tensor, Tensor]:
    """Linear colours (k, 3) of the cube, red slowest, and their logs."""
    axis = torch.linspace(0, DOMAIN, nodes, device=device)
    linear = decode(torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3))
    return linear, linear.clamp_min(5e-4).log()


def explain(table: ToneTable, tone: Tensor) -> list[Explained]:
    """The cube's colours on skin of `tone` (n,), by the rule of healthy skin and by that of lesions."""
    linear, log_rgb = _cube_colours(table.nodes, str(tone.device))
    pigment, log_blood = table.explain(tone)
    log_ratio, added = table.split(pigment)
    melanin = table.melanin(tone)[:, None]
    bare = table.colour(tone, tone.new_tensor(float(table.bare)), tone.new_zeros(1))[:, None]
    rules = []
    for limit in (SKIN_LIMIT, 0.0):
        own, ratio = torch.zeros_like(added), log_ratio
        if limit:
            own = limit * torch.tanh(torch.log1p(added / melanin) / limit)
            ratio = limit * torch.tanh(log_ratio / limit)
        share = torch.expm1(own)
        before = table.colour(tone[:, None], table.join(ratio, added), log_blood)
        rest = log_rgb - before
        opaque = ((rest.amax(-1, keepdim=True) - OPAQUE[0]) / (OPAQUE[1] - OPAQUE[0])).clamp(0, 1)
        contrast = (before - bare).abs().mean(-1)
        rules.append(Explained(share, added - share * melanin, ratio, log_blood, rest, contrast, opaque, linear))
    return rules


def build_cube(table: ToneTable, rules: list[Explained], new_tone: Tensor) -> Tensor:
    """(rules, n, 3, k, k, k), axes blue, green, red: encoded colour on the new skin by each rule."""
    melanin = table.melanin(new_tone)[:, None]
    bare = table.colour(new_tone, new_tone.new_tensor(float(table.bare)), new_tone.new_zeros(1))[:, None]
    sides = []
    for seen in rules:
        pigment = table.join(seen.log_ratio, seen.added_um + seen.share * melanin)
        after = table.colour(new_tone[:, None], pigment, seen.log_blood)
        # where the new tone hides part of the lesion it hides as much of what the model could not explain of it
        fade = (((after - bare).abs().mean(-1) + 0.15) / (seen.contrast + 0.15)).clamp(0.3, 1)[..., None]
        skin = torch.exp(after + fade * seen.log_rest.clamp_max(OPAQUE[1]))
        sides.append(encode(skin + (seen.linear - skin) * seen.opaque))
    n, k = len(new_tone), table.nodes
    return torch.stack(sides).reshape(-1, n, k, k, k, 3).permute(0, 1, 5, 4, 3, 2).contiguous()


def look_up(cube: Tensor, at: Tensor) -> Tensor:
    """Encoded colours (n, 3, h, w) of the first rule at positions (n, h, w, 3), trilinear.

    Two bilinear look-ups on the cube's slices laid under each other: PyTorch has these vectorised on the CPU, those in
    three dimensions not.
    """
    n, _, k = cube.shape[1:4]
    slices = cube[0].reshape(n, 3, k * k, k)
    red, green, blue = (at.unbind(-1)[0], *((x.clamp(-1, 1) + 1) * (0.5 * (k - 1)) for x in at.unbind(-1)[1:]))
    low = blue.floor().clamp_max(k - 2)
    row = (low * k + green) * (2 / (k * k - 1)) - 1
    found = [
        F.grid_sample(slices, torch.stack([red, y], -1), padding_mode="border", align_corners=True)
        for y in (row, row + 2 * k / (k * k - 1))
    ]
    return torch.lerp(found[0], found[1], (blue - low)[:, None])


def through_cube(cube: Tensor, at: Tensor, lesion: Tensor) -> Tensor:
    """Encoded colours (n, 3, h, w): healthy skin's rule, and the lesion's where there is lesion."""
    result = look_up(cube, at)
    for i in range(len(at)):
        there = lesion[i, 0] > 0.004
        if there.any():  # only the box around it
            (y0, y1), (x0, x1) = (_ends(there.any(dim)) for dim in (1, 0))
            box = (slice(i, i + 1), slice(None), slice(y0, y1), slice(x0, x1))
            other = look_up(cube[1:, i : i + 1], at[i : i + 1, y0:y1, x0:x1])
            result[box] = torch.lerp(result[box], other, lesion[i : i + 1, :, y0:y1, x0:x1])
    return result


def _ends(line: Tensor) -> tuple[int, int]:
    where = line.nonzero()
    return int(where[0, 0]), int(where[-1, 0]) + 1
