"""What the lens and the room do: defocus, the aperture's black surround, reflected lamps and windows."""

from __future__ import annotations

from typing import Final

import numpy as np

from synthskin.physics.artefacts.frame import F32, LUMINANCE, Bool, Frame
from synthskin.physics.noise import keyed_rng
from synthskin.record import SampleRecord

SEEN_BLUR_MM: Final = 0.025  # standard deviation; a dermatoscope in focus resolves 20-30 um
#: The same in pixels of the picture: there a blur takes 22-43 % of the finest detail (Laplacian of L*), and one pixel
#: in a hundred changes by CIEDE2000 1.7 or more (median of 21 pictures); at a third of a pixel it takes 3-5 %, and that
#: change is 0.7 (benchmarks/seen_artefacts.py).
SEEN_BLUR_PX: Final = 0.5
SEEN_GLARE: Final = 0.02  # radiance added, over that of the white tile
LEVELS: Final = 5  # blurred pictures between which the local blur is interpolated


def blur(linear: F32, record: SampleRecord, frame: Frame) -> tuple[F32, Bool]:
    """Defocus that changes along one direction (a tilted plate), and where SEEN_BLUR_MM and SEEN_BLUR_PX are reached.

    A Gaussian stands for the disc of confusion (same variance).
    """
    a = record.artefacts
    direction = 2 * np.pi * keyed_rng(record, "focus").random()
    axis = frame.axis_mm / np.float32(frame.half_mm)
    along = axis * np.float32(np.cos(direction)) + axis[:, None] * np.float32(np.sin(direction))
    sigma_mm = np.abs(np.float32(a.blur_um * 1e-3) * (1 + np.float32(a.blur_tilt) * along))
    return local_blur(linear, sigma_mm, frame), sigma_mm >= max(SEEN_BLUR_MM, SEEN_BLUR_PX * frame.pixel_mm)


def local_blur(linear: F32, sigma_mm: F32, frame: Frame) -> F32:
    """Gaussian blur whose standard deviation (size, size) differs from place to place."""
    levels = np.linspace(float(sigma_mm.min()), float(sigma_mm.max()), LEVELS)
    if levels[-1] - levels[0] < 1e-4:
        return frame.blur(linear, float(levels[0]))
    place = (sigma_mm - np.float32(levels[0])) / np.float32(levels[1] - levels[0])
    out = np.zeros_like(linear)
    for number, sigma in enumerate(levels):
        weight = np.clip(1 - np.abs(place - np.float32(number)), 0, 1)
        out += frame.blur(linear, float(sigma)) * weight[..., None]
    return out


def dark_corner(linear: F32, record: SampleRecord, frame: Frame) -> tuple[F32, Bool]:
    """The round aperture of the dermatoscope, out of focus; blue is imaged a little larger (lateral colour).

    The mask holds the pixels that lose more than half of their green light.
    """
    a = record.artefacts
    draws = keyed_rng(record, "aperture").random(5)
    axis = frame.axis_mm / np.float32(frame.half_mm)
    x, y = 0.08 * (draws[:2] - 0.5)
    radius = np.hypot(axis - np.float32(x), (axis - np.float32(y))[:, None])
    fringe = 0.012 * draws[2] * np.array([-0.4, 0.0, 1.0])
    stray = np.array([0.8, 0.9, 1.2], np.float32) * np.float32(0.0005 + 0.006 * draws[3] ** 2)
    width = np.float32(a.dark_corner_edge)
    inner = np.stack([np.clip(0.5 + (a.dark_corner_radius * (1 + f) - radius) / width, 0, 1) for f in fringe], axis=-1)
    inner = inner * inner * (3 - 2 * inner)
    view = inner[..., 1] > 0.5
    mean = float((linear @ LUMINANCE)[view].mean()) if view.any() else 0.0
    return (linear * inner + (1 - inner) * stray * np.float32(mean)).astype(np.float32), ~view


def glare(linear: F32, record: SampleRecord, frame: Frame, gain: F32) -> tuple[F32, Bool]:
    """White light of lamps or a window reflected by the plate, out of focus; `gain` is the lens's transmission."""
    a = record.artefacts
    rng = keyed_rng(record, "glare")
    kind, start, far, size, count, tilt = rng.random(6)
    axis = frame.axis_mm / np.float32(frame.half_mm)
    xx, yy = np.broadcast_arrays(axis[None, :], axis[:, None])
    added = np.zeros(xx.shape, np.float32)
    if kind < 0.5:  # diodes of the ring: beads on an arc
        lamps = 4 + int(9 * count)
        reach, middle = 0.25 + 0.5 * far, 0.3 * (rng.random(2) - 0.5)
        spread = 2 * np.pi * (1 if tilt < 0.5 else 0.4)
        for k in range(lamps):
            angle = 2 * np.pi * start + spread * k / lamps
            sigma = np.float32(0.015 + 0.03 * size)
            x, y = middle + reach * np.array([np.cos(angle), np.sin(angle)])
            strength = np.float32(0.5 + rng.random())
            added += strength * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * sigma**2)).astype(np.float32)
    else:  # a window or a ceiling panel: a soft-edged quadrilateral, with a veil around it
        angle = 2 * np.pi * start
        x, y = (0.2 + 0.7 * far) * np.array([np.cos(angle), np.sin(angle)])
        turn = np.pi * tilt
        u = (xx - x) * np.cos(turn) + (yy - y) * np.sin(turn)
        v = -(xx - x) * np.sin(turn) + (yy - y) * np.cos(turn)
        soft = np.float32(0.04 + 0.08 * rng.random())
        for across, half in ((u, 0.10 + 0.2 * size), (v, 0.08 + 0.15 * count)):
            edge = np.clip(0.5 - (np.abs(across) - half) / (2 * soft), 0, 1)
            side = (edge * edge * (3 - 2 * edge)).astype(np.float32)
            added = side if across is u else added * side
        added += np.float32(0.12) * np.exp(-(u**2 + v**2) / np.float32(0.35)).astype(np.float32)
    light = np.float32(a.glare_strength) * added * gain
    return linear + light[..., None], light >= SEEN_GLARE
