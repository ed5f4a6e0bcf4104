"""Hair as the light sees it: what a ray keeps on its way through the fibres, and the shadows on the skin.

Under a contact plate hair lies in gel of index 1.40, so a fibre (1.55) is a weak lens: its surface returns well under
1 % and what one sees is light of the skin that the pigment of the fibre has absorbed. A fibre is a homogeneous
cylinder; a ray at offset h keeps (1 - F)^2 exp(-sigma_a 2 r sqrt(1 - (h/eta)^2)) with the pigment absorption of
d'Eon et al. 2011 (per fibre radius, red, green, blue), and its cuticle adds a faint diffuse sheen.

Drawn on a raster much finer than the picture, so that the walk reads one texel a path. Mitsuba's curve shape and hair
BSDF are not used in the picture: they compile a kernel for every new set of strands (0.3 s a sample); the test
compares our coverage with Mitsuba's curves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from synthskin.physics.hair import smooth_points
from synthskin.physics.scene import HairStrand

F32 = NDArray[np.float32]
EUMELANIN_RGB = np.array([0.419, 0.697, 1.37], np.float32)  # d'Eon et al. 2011, per fibre radius
PHEOMELANIN_RGB = np.array([0.187, 0.4, 1.05], np.float32)
ETA_FIBRE = 1.55 / 1.40
CUTICLE_SHEEN = 0.005  # by design: diffuse return of cuticle steps in gel
SHARPEST_DEG, MOST_PIECES = 8.0, 6  # a bend that is not seen; pieces between two points of a strand
VELLUS_PIGMENT = 0.25  # vellus fibres carry little pigment (by design)


def rasterise(
    strands: Sequence[HairStrand], raster: int, field_of_view_mm: float
) -> tuple[F32, F32, NDArray[np.int32]]:
    """Offset |h| in [0, 1], height above the skin (mm) and strand number of the topmost fibre; raster x raster.

    Where no fibre covers the texel's centre the strand number is -1 and the offset 2. A fibre thinner than a texel is
    drawn a texel wide, so that it has no gaps; `transmission` makes it as much fainter.
    """
    offset = np.full((raster, raster), 2.0, np.float32)
    height = np.zeros((raster, raster), np.float32)
    owner = np.full((raster, raster), -1, np.int32)
    texel = field_of_view_mm / raster
    for number, strand in enumerate(strands):
        points = along(strand)
        a, b = points[:-1], points[1:]
        for p, q in zip(a, b, strict=True):
            reach = max(p[3], q[3]) + texel
            x0 = max(int((min(p[0], q[0]) - reach) / texel), 0)
            x1 = min(int((max(p[0], q[0]) + reach) / texel) + 2, raster)
            y0 = max(int((min(p[1], q[1]) - reach) / texel), 0)
            y1 = min(int((max(p[1], q[1]) + reach) / texel) + 2, raster)
            if x0 >= x1 or y0 >= y1:
                continue
            xs = (np.arange(x0, x1, dtype=np.float32) + 0.5) * texel - p[0]
            ys = ((np.arange(y0, y1, dtype=np.float32) + 0.5) * texel - p[1])[:, None]
            dx, dy = q[0] - p[0], q[1] - p[1]
            length2 = max(float(dx * dx + dy * dy), 1e-12)
            s = np.clip((xs * dx + ys * dy) / length2, 0.0, 1.0)
            distance = np.hypot(xs - s * dx, ys - s * dy)
            h = distance / np.maximum(p[3] + s * (q[3] - p[3]), np.float32(0.5 * texel))
            z = -(p[2] + s * (q[2] - p[2]))
            window = (slice(y0, y1), slice(x0, x1))
            # the same strand: nearest piece; another strand: the higher one is on top
            better = (h <= 1.0) & np.where(owner[window] == number, h < offset[window], z >= height[window])
            offset[window][better] = h[better]
            height[window][better] = z[better]
            owner[window][better] = number
    return offset, height, owner


def along(strand: HairStrand) -> F32:
    """The strand's spline, which its mask follows too, in pieces so short that none turns by more than SHARPEST_DEG."""
    points = np.asarray(strand.points_mm, np.float32)
    step = np.diff(points[:, :2], axis=0).astype(np.float64)
    heading = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    turn = np.rad2deg(np.abs(np.diff(heading)).max(initial=0.0))
    return smooth_points(points, int(np.clip(np.ceil(turn / SHARPEST_DEG), 1, MOST_PIECES)))


def transmission(
    offset: F32, owner: NDArray[np.int32], strands: Sequence[HairStrand], eumelanin: float, pheomelanin: float,
    texel_mm: float = 0.0,
) -> F32:
    """(3 groups blue to red, raster, raster, 2): share of light kept on the way down, and sheen towards the camera.

    With `texel_mm`, the raster's, fibres that were drawn wider than they are take that much less light.
    """
    raster = offset.shape[0]
    out = np.zeros((3, raster, raster, 2), np.float32)
    out[..., 0] = 1.0
    hit = owner >= 0
    if not hit.any():
        return out
    h = offset[hit]
    vellus = np.array([s.vellus for s in strands])[owner[hit]]
    strength = np.where(vellus, VELLUS_PIGMENT, 1.0).astype(np.float32)
    chord = 2.0 * np.sqrt(1.0 - (h / ETA_FIBRE) ** 2)
    cos_i = np.sqrt(np.maximum(1.0 - h * h, 1e-6))
    cos_t = np.sqrt(1.0 - (h / ETA_FIBRE) ** 2)
    r_s = (cos_i - ETA_FIBRE * cos_t) / (cos_i + ETA_FIBRE * cos_t)
    r_p = (ETA_FIBRE * cos_i - cos_t) / (ETA_FIBRE * cos_i + cos_t)
    fresnel = 0.5 * (r_s**2 + r_p**2)
    sigma = eumelanin * EUMELANIN_RGB + pheomelanin * PHEOMELANIN_RGB
    thickest = np.array([s.points_mm[:, 3].max() for s in strands], np.float32)[owner[hit]]
    cover = np.minimum(thickest / max(0.5 * texel_mm, 1e-9), 1.0).astype(np.float32)
    for group, channel in enumerate((2, 1, 0)):  # hero groups run from blue to red
        kept = (1.0 - fresnel) ** 2 * np.exp(-sigma[channel] * strength * chord)
        out[group, ..., 0][hit] = 1.0 - cover * (1.0 - kept)
        out[group, ..., 1][hit] = cover * (CUTICLE_SHEEN * strength + 0.3 * fresnel * strength)
    return out


def shadows(through_green: F32, height: F32, field_of_view_mm: float, elevation_deg: float, size: int) -> F32:
    """Share of the ring light that reaches each texel of a size x size map of the skin, fibres taken into account.

    The ring stands at `elevation_deg` in air; in gel its rays steepen by Snell. Twelve azimuths are averaged.
    """
    factor = through_green.shape[0] // size
    blocked = 1.0 - through_green.reshape(size, factor, size, factor).mean((1, 3))
    if not (blocked > 0).any():
        return np.ones((size, size), np.float32)
    tall = maximum_filter(height.reshape(size, factor, size, factor).max((1, 3)), size=9)
    sine = np.cos(np.radians(elevation_deg)) / 1.40
    reach = tall * np.float32(sine / np.sqrt(1.0 - sine * sine) * size / field_of_view_mm)
    rows, columns = np.nonzero(tall > 0)
    reach = reach[rows, columns]
    total = np.zeros(rows.size, np.float32)
    for azimuth in np.arange(12) * (2 * np.pi / 12):
        r = np.clip(np.rint(rows + np.sin(azimuth) * reach).astype(np.int32), 0, size - 1)
        c = np.clip(np.rint(columns + np.cos(azimuth) * reach).astype(np.int32), 0, size - 1)
        total += blocked[r, c]
    lit = np.ones((size, size), np.float32)
    lit[rows, columns] = 1.0 - total / 12.0
    return lit
