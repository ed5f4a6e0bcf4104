"""Surgical marker: an absorbing film of dye on the skin, which light passes twice.

Beer-Lambert with the dye's spectrum in the render's nine bands, over the reflectance of the sample's own skin, so that
the same ink is violet on pale and nearly black on dark skin. On its way in the light has spread by about 0.25 mm in
the skin: the film's shadow is softer than its edge (Yule-Nielsen effect).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from synthskin.physics import flat_skin, region, spectral
from synthskin.physics.artefacts.frame import F32, F64, Bool, Frame
from synthskin.physics.noise import NoiseField, keyed_rng, smoothstep
from synthskin.record import SampleRecord

SPREAD_MM: Final = 0.25  # about the transport length of light in skin, as the blur of the lesion mask
SEEN_ABSORBANCE: Final = 0.04  # of one pass at the peak: light lost there >= 9 %; less is not counted as ink
#: (centre nm, standard deviation nm, height) of the bands. Peaks: crystal violet 590 nm with a shoulder at 546,
#: methylene blue 664, and 605 of the dimers that a dense film is made of (PhotochemCAD, Du et al. 1998; Bergmann &
#: O'Konski 1963); widths by design. Carbon black is flat.
DYES: Final = {
    "gentian violet": ((590.0, 26.0, 1.0), (546.0, 30.0, 0.62), (430.0, 60.0, 0.06)),
    "methylene blue": ((664.0, 24.0, 0.7), (606.0, 32.0, 1.0), (560.0, 35.0, 0.25), (430.0, 60.0, 0.04)),
    "black": ((550.0, 1e6, 1.0),),
}
MAX_ABSORBANCE: Final = 8.0
REACH_MM: Final = 0.6  # ragged edges and pixels end well before
IN_FRAME: Final = 0.42  # of the frame's side: marks lie no further from its middle, so that ink drawn is ink seen


def dye_spectrum(colour: str) -> F32:
    """Absorbance (9,) at the render's wavelengths over that at the dye's peak."""
    wavelength = np.array(spectral.BAND_WAVELENGTH_NM)
    bands = [height * np.exp(-0.5 * ((wavelength - centre) / width) ** 2) for centre, width, height in DYES[colour]]
    return np.sum(bands, axis=0).astype(np.float32)


def colour_ratio(record: SampleRecord, absorbance: F32) -> F32:
    """Linear sRGB (..., 3) of the skin through films of peak absorbance (...), over that of the bare skin."""
    skin = flat_skin.reflectance([record.skin], spectral.BAND_WAVELENGTH_NM)[0]
    levels = np.linspace(0, MAX_ABSORBANCE, 161)
    films = 10.0 ** (-levels[:, None] * dye_spectrum(record.artefacts.ink_colour))
    colours = spectral.xyz_to_linear_srgb(spectral.xyz_from_bands(skin * films))
    ratio = colours / colours[0]
    seen = np.minimum(absorbance, MAX_ABSORBANCE)
    return np.stack([np.interp(seen, levels, ratio[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def film(record: SampleRecord, frame: Frame, relief: F32) -> F32:
    """Absorbance of one pass at the dye's peak, (size, size). Ink pools in furrows (relief: 0 plateau ... 1 bottom)."""
    a = record.artefacts
    axis = frame.axis_mm
    noise = NoiseField(record, axis, axis)
    rng = keyed_rng(record, "ink")
    ragged = np.float32(0.025) * noise("ink edge", 0.10) + np.float32(0.05) * noise("ink edge far", 0.7)
    distance = np.full((frame.size_px, frame.size_px), np.inf, np.float32)
    for line, half_width_mm in _marks(record, rng, IN_FRAME * frame.field_of_view_mm):
        _approach(distance, frame, line, half_width_mm)
    inside = smoothstep(np.float32(0.5) - (distance + ragged) / np.float32(max(0.10, frame.pixel_mm)))
    dry = 0.85 + np.float32(0.20) * noise("ink dry", 0.13) + np.float32(0.25) * noise("ink flow", 0.9)
    dry = np.clip(dry, np.float32(0.12), np.float32(1.8))
    uneven = dry * (np.float32(0.75) + np.float32(0.6) * relief)
    return np.float32(a.ink_density) * inside * uneven


def draw_ink(linear: F32, record: SampleRecord, frame: Frame, relief: F32) -> tuple[F32, Bool]:
    """The picture with the film on the skin, and where it is."""
    one_way = film(record, frame, relief)
    coming_in = frame.blur(np.power(np.float32(10), -one_way), SPREAD_MM)
    total = one_way - np.log10(np.maximum(coming_in, np.float32(1e-6)))
    return (linear * colour_ratio(record, total)).astype(np.float32), one_way >= SEEN_ABSORBANCE


def _approach(distance: F32, frame: Frame, line: F64, half_width_mm: float) -> None:
    """Lower `distance` (mm, negative inside) to that from a stroke along a polyline (k, 2), up to REACH_MM away."""
    axis = frame.axis_mm
    for p, q in pairwise(line):
        low, high = np.minimum(p, q) - half_width_mm - REACH_MM, np.maximum(p, q) + half_width_mm + REACH_MM
        x0, x1 = np.searchsorted(axis, (low[0], high[0]))
        y0, y1 = np.searchsorted(axis, (low[1], high[1]))
        dx, dy = axis[x0:x1] - np.float32(p[0]), (axis[y0:y1] - np.float32(p[1]))[:, None]
        along = (q - p).astype(np.float32)
        s = np.clip((dx * along[0] + dy * along[1]) / max(float(along @ along), 1e-9), 0, 1)
        away = np.hypot(dx - s * along[0], dy - s * along[1]) - np.float32(half_width_mm)
        np.minimum(distance[y0:y1, x0:x1], away, out=distance[y0:y1, x0:x1])


def _marks(record: SampleRecord, rng: np.random.Generator, most_mm: float) -> list[tuple[F64, float]]:
    """Polylines (k, 2) in mm with half widths: what a surgeon draws beside or around the lesion.

    In a region that is the ugly duckling, at its place and as large as it has grown.
    A mark further than `most_mm` from the middle of the frame is moved in, onto that circle: a lesion that fills the
    frame has its ink on its edge, so that `--confound ink:MEL=0.9` shows ink on nine melanomas of ten.
    """
    lesion = record.lesion
    centre = np.array([lesion.centre_x_mm, lesion.centre_y_mm])
    radius = 0.5 * lesion.diameter_mm * np.sqrt(lesion.elongation)
    if record.camera.view == "region":
        duckling = region.sites(record)[0]
        centre, radius = np.array([duckling.x_mm, duckling.y_mm]), duckling.radius_mm
    draws = rng.random(64)
    start = 2 * np.pi * draws[0]

    def at(angle: float, distance: float) -> F64:
        place = centre + distance * np.array([np.cos(angle), np.sin(angle)])
        return np.asarray(place * min(1.0, most_mm / max(float(np.hypot(*place)), 1e-9)))

    pattern = record.artefacts.ink_pattern
    if pattern == "dots":
        count = 2 + int(4 * draws[1])
        dots = []
        for k in range(count):
            p = at(start + 2 * np.pi * (k + 0.4 * draws[40 + k]) / count, radius + 0.9 + 1.2 * draws[50 + k])
            dots.append((np.stack([p, p + 0.3 * (draws[20 + 2 * k : 22 + 2 * k] - 0.5)]), 0.35 + 0.5 * draws[10 + k]))
        return dots
    if pattern == "line":
        marks = []
        for k in range(1 + int(2 * draws[1])):
            side = start + np.pi * k
            middle = at(side, radius + 0.8 + 1.5 * draws[2 + k])
            along = side + 0.5 * np.pi * (1 if draws[6] < 0.6 else 0.15) + 0.3 * (draws[8 + k] - 0.5)
            half = 1.0 + 2.2 * draws[4 + k]
            t = np.linspace(-1, 1, 9)[:, None]
            bow = 0.25 * half * (draws[12 + k] - 0.5) * (1 - t**2)
            line = middle + t * half * np.array([np.cos(along), np.sin(along)])
            marks.append((line + bow * np.array([-np.sin(along), np.cos(along)]), 0.30 + 0.35 * draws[10 + k]))
        return marks
    if pattern == "ring":
        turn = 2 * np.pi * (0.55 + 0.47 * draws[1])
        angle = start + np.linspace(0, turn, 40)
        wave = 1 + 0.05 * np.sin(3 * angle + 6 * draws[2]) + 0.04 * np.sin(5 * angle + 6 * draws[3])
        far = (radius + 0.8 + 0.9 * draws[4]) * wave
        line = centre + far[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        away = np.hypot(*line.T)
        if away.min() > most_mm:
            line *= (most_mm / away)[:, None]
        return [(line, 0.28 + 0.3 * draws[5])]
    middle = at(start, radius + 1.6)  # a stamp: a lattice of fine dots whose print fades
    tilt = np.pi * draws[1]
    axes = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    print_strength = rng.random((12, 7))
    marks = []
    for i in range(12):
        for j in range(7):
            if print_strength[i, j] < 0.8:
                point = middle + (np.array([i - 5.5, j - 3.0]) * 0.33) @ axes
                marks.append((np.stack([point, point + 0.02]), 0.04 + 0.06 * print_strength[i, j]))
    return marks
