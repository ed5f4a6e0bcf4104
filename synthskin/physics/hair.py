"""Hair as tapered curves lying under the contact plate, and the pixels it covers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from synthskin.physics.noise import F32, keyed_rng
from synthskin.physics.scene import HairStrand
from synthskin.record import SampleRecord

POINTS = 32
SUPERSAMPLING = 4
PER_SEGMENT = 3
VELLUS_LENGTH_MM = (0.8, 2.6)  # vellus hair: under 2-3 mm, under 30 um thick (Otberg 2004)
VELLUS_RADIUS_MM = (0.004, 0.010)
THICK_UM = (90.0, 150.0)  # coarse terminal hair: scalp to 120 um (Franbourg 2003), beard thicker
THIN_UM = (20.0, 45.0)  # fine pigmented body hair: 17-55 um (Otberg 2004)


def grow_hair(record: SampleRecord) -> tuple[HairStrand, ...]:
    """Strands of `record`: terminal hairs, vellus, then artefacts. Strand k does not depend on the counts."""
    hair, artefacts = record.hair, record.artefacts
    strands = [_terminal(record, k) for k in range(hair.count)]
    strands += [_vellus(record, k) for k in range(hair.vellus_count)]
    if artefacts.thick_hair:
        strands += [_extra(record, "thick_hair", k, THICK_UM, 1.3) for k in range(artefacts.thick_hair_count)]
    if artefacts.thin_hair:
        strands += [_extra(record, "thin_hair", k, THIN_UM, 0.8) for k in range(artefacts.thin_hair_count)]
    return tuple(strands)


def _curve(rng: np.random.Generator, length_mm: float, heading: float, curl: float) -> tuple[F32, F32]:
    """Plane curve of a hair from the origin: arc-length steps of a heading that bends, waves and turns."""
    s = np.linspace(0, 1, POINTS)
    bend, bend2, phase, wave, flip = rng.random(5)
    sign = 1 if flip < 0.5 else -1
    # total turning of the arc: nearly straight to more than a full turn
    turning = sign * (0.15 + 0.75 * bend + 5.5 * curl**1.5 * (0.4 + bend)) * min(1.6, length_mm / 8)
    angle = heading + turning * (s - 0.15 * s**2) + 0.5 * (bend2 - 0.5) * np.sin(np.pi * s)
    waves = (0.6 + 1.6 * wave) * (1 + 2 * curl) * length_mm / 8
    angle += (0.05 + 0.85 * curl**1.5) * np.sin(2 * np.pi * (waves * s + phase)) * s**0.5
    step = length_mm / (POINTS - 1)
    x = np.concatenate([[0.0], np.cumsum(np.cos(angle[:-1]))]) * step
    y = np.concatenate([[0.0], np.cumsum(np.sin(angle[:-1]))]) * step
    return x.astype(np.float32), y.astype(np.float32)


def _strand(x: F32, y: F32, z: F32, radius: F32, vellus: bool) -> HairStrand:
    points = np.stack([x, y, z, radius], axis=1).astype(np.float32)
    points.flags.writeable = False
    return HairStrand(points, vellus)


def _terminal(record: SampleRecord, number: int) -> HairStrand:
    return _hair(record, f"hair {number}", record.hair.thickness_um, record.hair.length_mm)


def _extra(
    record: SampleRecord, kind: str, number: int, thickness_um: tuple[float, float], longer: float
) -> HairStrand:
    """Hair number `number` of an artefact: the pigment and direction of the person's hair, its own thickness."""
    share = float(keyed_rng(record, f"{kind} thickness {number}").random())
    mean_um = thickness_um[0] + (thickness_um[1] - thickness_um[0]) * share
    return replace(_hair(record, f"{kind} {number}", mean_um, longer * record.hair.length_mm, varied=0.0), kind=kind)


def _hair(record: SampleRecord, name: str, thickness_um: float, length_mm: float, varied: float = 0.22) -> HairStrand:
    hair = record.hair
    fov = record.camera.field_of_view_mm
    rng = keyed_rng(record, name)
    place = rng.random(2)
    size = rng.standard_normal(3)
    length = float(np.clip(length_mm * np.exp(0.35 * size[0]), 0.3 * length_mm, 2.5 * length_mm))
    radius = 0.5e-3 * thickness_um * float(np.clip(1 + varied * size[1], 0.5, 1.6))
    heading = np.deg2rad(hair.direction_deg + hair.direction_spread_deg * size[2])
    x, y = _curve(rng, length, float(heading), hair.curl)
    middle = POINTS // 2  # the middle of the hair lies in the picture, its root may not
    x += np.float32(fov * place[0]) - x[middle]
    y += np.float32(fov * place[1]) - y[middle]
    s = np.linspace(0, 1, POINTS)
    taper = np.minimum(1, 0.75 + 1.5 * s) * np.sqrt(np.clip((1.02 - s) / 0.35, 0, 1))
    r = (radius * np.maximum(taper, 0.12)).astype(np.float32)
    # pressed flat by the plate: leaves the skin at the root, then lies between skin and plate
    lift = (0.015 + 0.10 * rng.random()) * np.sin(np.pi * np.minimum(1, 0.15 + s * (0.6 + 0.6 * rng.random()))) ** 2
    return _strand(x, y, -(r + lift).astype(np.float32), r, False)


def _vellus(record: SampleRecord, number: int) -> HairStrand:
    fov = record.camera.field_of_view_mm
    rng = keyed_rng(record, f"vellus {number}")
    place = rng.random(2)
    length, thick = rng.random(2)
    length_mm = VELLUS_LENGTH_MM[0] + (VELLUS_LENGTH_MM[1] - VELLUS_LENGTH_MM[0]) * float(length)
    radius = VELLUS_RADIUS_MM[0] + (VELLUS_RADIUS_MM[1] - VELLUS_RADIUS_MM[0]) * float(thick)
    spread = 1.5 * record.hair.direction_spread_deg * rng.standard_normal()
    x, y = _curve(rng, length_mm, float(np.deg2rad(record.hair.direction_deg + spread)), 0.25)
    s = np.linspace(0, 1, POINTS)
    r = (radius * np.maximum(0.2, np.sqrt(np.clip(1.03 - s, 0, 1)))).astype(np.float32)
    z = -(r + 0.03 * np.sin(np.pi * s)).astype(np.float32)
    return _strand(x + np.float32(fov * place[0]), y + np.float32(fov * place[1]), z, r, True)


def hair_mask(strands: tuple[HairStrand, ...], size_px: int, field_of_view_mm: float) -> NDArray[np.bool_]:
    """Pixels covered by hair, (size, size): their centre lies in the fibre or within half a pixel of its axis.

    For fibres wider than a pixel that is coverage of at least one half; thinner ones stay lines without gaps.
    Seen from straight above (orthographic camera); strands outside the picture cover nothing.
    """
    scale = size_px * SUPERSAMPLING / field_of_view_mm
    picture = Image.new("1", (size_px * SUPERSAMPLING, size_px * SUPERSAMPLING))
    draw = ImageDraw.Draw(picture)
    for strand in strands:
        points = smooth_points(strand.points_mm)
        xy = points[:, :2] * scale
        half = np.maximum(points[:, 3] * scale, 0.5 * SUPERSAMPLING)[:, None]
        tangent = np.gradient(xy, axis=0)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
        normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) * half
        left, right = xy + normal, xy - normal
        for k in range(0, len(xy) - 1, PER_SEGMENT):  # short pieces, so that a curl does not cross itself
            piece = np.concatenate([left[k : k + PER_SEGMENT + 1], right[k : k + PER_SEGMENT + 1][::-1]])
            draw.polygon(piece.ravel().tolist(), fill=1)
    fine = np.asarray(picture)
    middle = SUPERSAMPLING // 2
    inside = fine.reshape(size_px, SUPERSAMPLING, size_px, SUPERSAMPLING)[
        :, middle - 1 : middle + 1, :, middle - 1 : middle + 1
    ]
    return np.asarray(inside.sum(axis=(1, 3)) >= 2)


def smooth_points(points: F32, per_segment: int = PER_SEGMENT) -> F32:
    """The strand as a cubic B-spline (what the renderer's curve shape draws), sampled; ends repeated to reach them."""
    p = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    u = (np.arange(per_segment) / per_segment)[:, None, None]
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    basis = ((1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3)
    curve = (basis[0] * a + basis[1] * b + basis[2] * c + basis[3] * d) / 6
    curve = curve.transpose(1, 0, 2).reshape(-1, points.shape[1])
    return np.asarray(np.concatenate([curve, points[-1:]]), np.float32)
