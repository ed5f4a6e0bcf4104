"""Masks drawn by rule: one smooth, irregular lesion, for mask-conditioned pictures without a source set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthskin.diffusion.devices import keyed


def draw_mask(size_px: int, *key: object) -> NDArray[np.uint8]:
    """(size_px, size_px) uint8 of 0 and 255: a disc of 3 to 35 % of the frame with a rippled edge, somewhat off centre.

    Radius r(t) = r0 exp(sum a_k cos(k t + p_k)), with a_k falling as 1 / k^1.5. All follows from `key`.
    """
    rng = np.random.Generator(np.random.Philox(key=keyed("mask", *key)))
    radius = size_px * np.sqrt(np.exp(rng.uniform(np.log(0.03), np.log(0.35))) / np.pi)
    orders = np.arange(1, 13)
    amplitudes = rng.uniform(0.05, 0.25) * rng.normal(size=12) / orders**1.5
    phases = rng.uniform(0, 2 * np.pi, 12)
    y0, x0 = size_px / 2 + rng.uniform(-0.1, 0.1, 2) * size_px
    y, x = np.mgrid[:size_px, :size_px] + 0.5
    angle = np.arctan2(y - y0, x - x0)
    edge = radius * np.exp(sum(a * np.cos(k * angle + p) for a, k, p in zip(amplitudes, orders, phases, strict=True)))
    return np.where(np.hypot(y - y0, x - x0) < edge, np.uint8(255), np.uint8(0))
