"""What lies on or under the contact plate: scales, stickers, and bubbles of air in the gel.

Prints and stickers are opaque: they hide the light of the skin and return their own reflectance of the light that
falls there. A bubble is a flat cavity of air (n 1.00) in gel (n 1.40): its middle loses two Fresnel transmissions, its
rounded rim refracts up to the critical angle and reflects the skin beside it beyond; the lamps of the ring are seen
in it where the rim stands at half their angle in gel, and only without crossed polarisers.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.ndimage import map_coordinates

from synthskin.physics.artefacts.frame import F32, F64, Bool, Frame, text_strokes, turned
from synthskin.physics.noise import NoiseField, keyed_rng
from synthskin.record import SampleRecord

PRINT_REFLECTANCE: Final = 0.03  # black print or etching on glass
PAPER_REFLECTANCE: Final = (0.86, 0.85, 0.81)  # uncoated white paper; by design
#: Linear sRGB reflectance; hues seen in ISIC's SONIC pictures (Rieger et al. 2020), values by design.
PATCH_REFLECTANCE: Final = {
    "blue": (0.06, 0.22, 0.50), "green": (0.10, 0.38, 0.14), "yellow": (0.80, 0.62, 0.06),
    "orange": (0.78, 0.30, 0.05), "pink": (0.75, 0.25, 0.38), "white": (0.85, 0.85, 0.83),
}
ETA_GEL: Final = 1.40
GEL_MM: Final = 0.4  # thickness of the gel; by design
CRITICAL_SINE: Final = 1.0 / ETA_GEL
#: Light of gel and plate in a rim, polarised or not; by design, after the white rims of ISIC_0000111.
RIM_RETURN: Final = {True: 0.22, False: 0.32}
SUPERSAMPLING: Final = 3  # of bubbles: their rims are thinner than a pixel
LAMPS: Final = 16  # light-emitting diodes of the ring; by design


def draw_ruler(linear: F32, record: SampleRecord, frame: Frame, light: F32) -> tuple[F32, Bool]:
    """A millimetre scale; `light` (size, size) is what a white tile returns there."""
    a = record.artefacts
    rng = keyed_rng(record, "ruler")
    draws = rng.random(8)
    angle = np.radians(a.ruler_angle_deg)
    x, y = a.ruler_offset * frame.half_mm * np.array([np.cos(angle), np.sin(angle)])
    turn = angle - 0.5 * np.pi  # the scale's own "up" looks towards the middle or away
    if a.ruler_style == "paper":
        return _paper(linear, frame, light, turn, x, y, draws)
    if a.ruler_style == "ticks":
        lines = _ticks(frame, draws)
        bold = 0.045 + 0.045 * draws[0]
    else:
        length = min(10.0, np.floor(1.5 * frame.half_mm)) if draws[1] < 0.7 else np.floor(3.0 * frame.half_mm)
        lines = turned(_scale(length, draws), turn, x, y)
        bold = 0.018 + 0.022 * draws[0]
    cover = frame.strokes(lines, bold)
    # as in hair masks, lines thinner than a pixel stay lines without gaps: they show, though they cover less than half
    wide = 0.5 * frame.pixel_mm
    where = cover if bold >= wide else frame.strokes(lines, wide)
    # thin print at this size covers pixels in part; its shadow is a little wider than itself
    shadow = 1 - np.float32(0.25) * frame.blur(cover, 0.15)
    dark = np.float32(0.75 + 0.25 * draws[2]) * cover[..., None]
    return linear * shadow[..., None] * (1 - dark) + dark * (PRINT_REFLECTANCE * light)[..., None], where >= 0.5


def _scale(length_mm: float, draws: F64) -> list[F64]:
    """Baseline, a tick each millimetre (longer at 5), and "mm" or digits: what is etched on plates."""
    lines = [np.array([[-0.5 * length_mm, 0.0], [0.5 * length_mm, 0.0]])]
    tall = 0.35 + 0.25 * draws[3]
    for k in range(int(length_mm) + 1):
        reach = tall * (1.5 if k % 5 == 0 else 1.0)
        lines.append(np.array([[k - 0.5 * length_mm, 0.0], [k - 0.5 * length_mm, -reach]]))
    if draws[4] < 0.6:
        lines += turned(text_strokes("mm", 0.55), 0.0, max(-0.5 * length_mm + 0.6, -4.0), 0.85)
    else:
        for k in range(0, int(length_mm) + 1, 5):
            lines += turned(text_strokes(str(k), 0.6), 0.0, k - 0.5 * length_mm, 0.95)
    return lines


def _ticks(frame: Frame, draws: F64) -> list[F64]:
    """Bars at two edges of the picture, a millimetre apart: what contact caps carry at their rim."""
    half = frame.half_mm
    lines = []
    long_mm = 0.5 + 0.7 * draws[3]
    for side in range(2 if draws[4] < 0.7 else 1):
        inset = -half * (0.97 - 0.12 * draws[5])
        for k in np.arange(2 - np.floor(half), np.floor(half) + 1):
            bar = np.array([[inset, k], [inset + long_mm * (1.6 if k % 5 == 0 else 1.0), k]])
            lines.append(bar[:, ::-1] if side else bar)
        for k in np.arange(0 if half < 7 else 5 - np.floor(half / 5) * 5, half, 5):
            at = (inset + 1.6 * long_mm + 0.7, k + 0.35)
            lines += turned(text_strokes(str(abs(int(k))), 0.7), 0.0, *(at[::-1] if side else at))
    return lines


def _paper(
    linear: F32, frame: Frame, light: F32, turn: float, x: float, y: float, draws: F64
) -> tuple[F32, Bool]:
    """A strip of paper from the ruler's line outwards, printed in black, with a soft contact shadow at its edge."""
    axis = frame.axis_mm
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    outward = -(axis - np.float32(x)) * s + (axis[:, None] - np.float32(y)) * c
    strip = frame.coverage(-outward)
    lines = []
    reach = int(np.ceil(2.2 * frame.half_mm))
    first = int(20 * draws[1])
    for k in range(-reach, reach + 1):
        tall = 1.8 if (k + first) % 10 == 0 else 1.35 if (k + first) % 5 == 0 else 0.9
        lines.append(np.array([[k, 0.0], [k, tall]]))
        if (k + first) % 10 == 0:
            lines += turned(text_strokes(str(abs(k + first) // 10), 1.3), 0.0, k, 3.5)
    ink = frame.strokes(turned(lines, turn, x, y), 0.05 + 0.03 * draws[2])[..., None] * strip[..., None]
    paper: F32 = np.array(PAPER_REFLECTANCE, np.float32) * light[..., None]
    shade = 1 - np.float32(0.45) * frame.blur(strip, 0.25) * (1 - strip)
    body: F32 = paper * (1 - ink) + ink * (PRINT_REFLECTANCE * light)[..., None]
    return linear * shade[..., None] * (1 - strip[..., None]) + body * strip[..., None], strip >= 0.5


def draw_patch(linear: F32, record: SampleRecord, frame: Frame, light: F32) -> tuple[F32, Bool]:
    """A round sticker, mostly cut by the frame: whoever put it there left the middle half of the picture free."""
    a = record.artefacts
    draws = keyed_rng(record, "colour patch").random(3)
    angle = np.radians(a.colour_patch_angle_deg)
    radius = 0.5 * a.colour_patch_diameter_mm
    far = frame.half_mm * (0.5 + 0.35 * draws[0]) + radius
    cover = frame.disc(far * np.cos(angle), far * np.sin(angle), radius)
    noise = NoiseField(record, frame.axis_mm, frame.axis_mm)
    weave = 1 + np.float32(0.02) * noise("patch weave", 0.15) + np.float32(0.015) * noise("patch weave far", 2.0)
    edge = 1 - np.float32(0.25) * (1 - frame.blur(cover, 0.12)) * cover
    colour: F32 = np.array(PATCH_REFLECTANCE[a.colour_patch_hue], np.float32) * (light * weave * edge)[..., None]
    shade = 1 - np.float32(0.4) * frame.blur(cover, 0.3) * (1 - cover)
    return linear * shade[..., None] * (1 - cover[..., None]) + colour * cover[..., None], cover >= 0.5


def fresnel(cosine: F32, eta: float) -> F32:
    """Unpolarised reflectance at a step of index `eta` (to over from), 1 beyond the critical angle."""
    sine2 = (1 - cosine**2) / np.float32(eta**2)
    inner = np.sqrt(np.maximum(1 - sine2, 0))
    s = (cosine - eta * inner) / (cosine + eta * inner)
    p = (eta * cosine - inner) / (eta * cosine + inner)
    return np.where(sine2 >= 1, 1, 0.5 * (s**2 + p**2)).astype(np.float32)


def draw_bubbles(linear: F32, record: SampleRecord, frame: Frame, light: F32) -> tuple[F32, Bool]:
    """Bubbles one after another; each shows what lies under and beside it."""
    a = record.artefacts
    draws = keyed_rng(record, "gel bubbles").random((a.gel_bubble_count, 6))
    gathered = frame.half_mm * (2 * keyed_rng(record, "bubble nest").random(2) - 1)
    polarised = record.camera.dermoscopic_type == "contact polarized"
    lamp = np.arcsin(np.cos(np.radians(record.camera.ring_elevation_deg)) / ETA_GEL)  # from the vertical, in gel
    out = linear.copy()
    mask = np.zeros(linear.shape[:2], bool)
    for u in draws:
        spread = np.sqrt(-2 * np.log(1 - 0.999 * u[0])) * np.cos(2 * np.pi * u[1])
        radius = float(np.clip(0.5 * a.gel_bubble_diameter_mm * np.exp(0.55 * spread), 0.02, 0.5 * frame.half_mm))
        x, y = frame.half_mm * 1.05 * (2 * u[2:4] - 1)
        if u[4] < 0.35:  # bubbles keep together
            x, y = gathered + 0.35 * (np.array([x, y]))
        _bubble(out, mask, frame, light, float(x), float(y), radius, u[5], polarised, float(lamp))
    return out, mask


def _bubble(
    out: F32, mask: Bool, frame: Frame, light: F32, x: float, y: float, radius: float, phase: float, polarised: bool,
    lamp: float,
) -> None:
    """One bubble into `out` and `mask`, in its own window."""
    axis = frame.axis_mm
    reach = radius + 2 * frame.pixel_mm
    x0, x1 = np.searchsorted(axis, (x - reach, x + reach))
    y0, y1 = np.searchsorted(axis, (y - reach, y + reach))
    if x0 >= x1 or y0 >= y1:
        return
    offset = (np.arange(SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5
    fine_x = (np.arange(x0, x1)[:, None] + offset).ravel()
    fine_y = (np.arange(y0, y1)[:, None] + offset).ravel()[:, None]
    dx = (fine_x + 0.5) * frame.pixel_mm - frame.half_mm - x
    dy = (fine_y + 0.5) * frame.pixel_mm - frame.half_mm - y
    r = np.hypot(dx, dy)
    rim = min(radius, 0.5 * GEL_MM)
    sine = np.clip((r - (radius - rim)) / rim, 0, 0.999).astype(np.float32)
    theta = np.arcsin(sine)
    passes = sine < CRITICAL_SINE
    refracted = np.arcsin(np.minimum(sine * ETA_GEL, 1)) - theta
    leaning = np.where(passes, refracted, np.minimum(np.pi - 2 * theta, np.radians(75)))
    height = 0.5 * GEL_MM * (1 + np.sqrt(1 - sine**2))
    moved = np.minimum(height * np.tan(np.minimum(leaning, np.radians(75))), 1.5)
    unit = 1 / np.maximum(r, 1e-6)
    rows = (fine_y + moved * dy * unit / frame.pixel_mm).astype(np.float32)
    columns = (fine_x + moved * dx * unit / frame.pixel_mm).astype(np.float32)
    seen = np.stack([map_coordinates(out[..., k], (rows, columns), order=1, mode="nearest") for k in range(3)], axis=-1)
    kept = (1 - fresnel(np.cos(theta), 1 / ETA_GEL)) ** 2 * np.float32(0.97)  # and the film of gel left on the skin
    sideways = np.sin(np.clip(leaning, 0, np.pi / 2)) ** 2
    kept = np.where(passes, kept, 0.95 - 0.55 * sideways)
    tile = np.repeat(np.repeat(light[y0:y1, x0:x1], SUPERSAMPLING, 0), SUPERSAMPLING, 1)
    added = np.where(passes, 0.0, RIM_RETURN[polarised] * (1 - sideways))
    if not polarised:
        azimuth = np.arctan2(dy, dx)
        beads = np.exp(4.0 * (np.cos(LAMPS * azimuth + 2 * np.pi * phase) - 1))
        on_lamp = np.exp(-0.5 * ((2 * theta - lamp) / np.radians(8)) ** 2)
        # a white tile returns 1 / pi of the ring's light; the ring fills about 0.7 sr, its diodes a third of that
        added = added + fresnel(np.cos(theta), 1 / ETA_GEL) * on_lamp * beads * np.float32(np.pi / 0.7 * 3)
        added = np.where(passes | (added < 0.5), added, 0.5)
    inside = (r < radius)[..., None]
    body = np.where(inside, seen * kept[..., None] + (added * tile)[..., None], 0)
    shape = (y1 - y0, SUPERSAMPLING, x1 - x0, SUPERSAMPLING, -1)
    cover = inside.reshape(shape).mean((1, 3))
    out[y0:y1, x0:x1] = out[y0:y1, x0:x1] * (1 - cover) + body.reshape(shape).mean((1, 3))
    mask[y0:y1, x0:x1] |= cover[..., 0] >= 0.5
