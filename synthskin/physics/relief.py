"""Skin relief: criss-cross furrows, follicular openings, the loose horn of dry skin."""

from __future__ import annotations

import numpy as np

from synthskin.physics.mesh import line_profile
from synthskin.physics.noise import F32, NoiseField, keyed_rng, smoothstep
from synthskin.record import SampleRecord

DRY_LINE_MM = 0.018  # half the width of a secondary furrow's lifted edge
DRY_SPACING_MM = 0.16


def furrows(record: SampleRecord, noise: NoiseField, x_mm: F32, y_mm: F32) -> F32:
    """Furrow pattern 0 (plateau) ... 1 (bottom), (n, n): two dominant directions and a weaker third.

    Primary furrows (20-100 um deep) cross, with plateaus between (Hashimoto 1974); angles by design.
    """
    rng = keyed_rng(record, "furrows")
    main = rng.uniform(0, np.pi)
    crossing = rng.uniform(np.pi / 3, np.pi / 2)
    spacing = record.skin.furrow_spacing_mm
    pattern = np.zeros_like(x_mm)
    warp_a = noise("furrow warp a", 2.2 * spacing)
    warp_b = noise("furrow warp b", 0.8 * spacing)
    for number, (angle, strength) in enumerate(((main, 1.0), (main + crossing, 0.8), (main + 0.5 * crossing, 0.45))):
        across = (x_mm * np.float32(np.cos(angle)) + y_mm * np.float32(np.sin(angle))) / np.float32(spacing)
        sign = np.float32(1 - 2 * (number % 2))
        across = across.astype(np.float32) + np.float32(0.30) * sign * warp_a + np.float32(0.16) * warp_b
        line = np.floor(across)
        offsets = (rng.random(256, dtype=np.float32) - 0.5) * 0.5
        distance = np.abs(across - line - 0.5 - offsets.take(line.astype(np.int64) & 255))
        present = smoothstep(np.float32(0.62) + np.float32(0.5) * noise(f"furrow strength {number}", 1.5 * spacing))
        depth = smoothstep(np.float32(1) - distance / np.float32(0.14)) * present * np.float32(strength)
        np.maximum(pattern, depth, out=pattern)
    return pattern


def dry_horn(record: SampleRecord, noise: NoiseField, x_mm: F32, y_mm: F32, column_mm: float) -> F32:
    """Loose horn (n, n) of dry skin, about 0 ... 1 times `dryness`: lifted edges of secondary furrows, and flakes.

    Secondary furrows are finer and closer than the primary ones (Hashimoto 1974); glabrous skin has flakes alone.
    Directions and doses by design.
    """
    rng = keyed_rng(record, "dry lines")
    spacing = np.float32(max(0.5 * record.skin.furrow_spacing_mm, DRY_SPACING_MM))
    main, crossing, less = rng.uniform(0, np.pi), rng.uniform(np.pi / 4, np.pi / 2), rng.uniform(0.2, 0.9)
    bend = np.float32(0.9) * noise("dry bend", 1.8)
    horn = np.zeros_like(x_mm)
    families = () if record.skin.dermatoglyph_spacing_mm > 0 else ((main, 1.0), (main + crossing, less))
    for number, (angle, strength) in enumerate(families):
        across = (x_mm * np.float32(np.cos(angle)) + y_mm * np.float32(np.sin(angle))) / spacing + bend
        across = across.astype(np.float32) + np.float32(0.22) * noise(f"dry wobble {number}", 0.5)
        line = np.floor(across)
        own = line.astype(np.int64) & 255
        offsets = (rng.random(256, dtype=np.float32) - 0.5) * 0.7
        dose = np.exp(np.float32(0.45) * rng.standard_normal(256, dtype=np.float32)) * np.float32(strength)
        distance = np.abs(across - line - 0.5 - offsets.take(own)) * spacing
        shown = smoothstep(np.float32(0.5) + np.float32(0.6) * noise(f"dry lines {number}", 0.45))  # it breaks off
        np.maximum(horn, line_profile(distance, DRY_LINE_MM, column_mm) * shown * dose.take(own), out=horn)
    flakes = smoothstep(np.float32(-0.7) + np.float32(0.9) * noise.octaves("dry flakes", (0.2, 0.09), (0.8, 1.0)))
    places = np.exp(np.float32(0.35) * noise("dry places", 1.6))
    return np.asarray(np.float32(record.skin.dryness) * places * (horn + np.float32(0.25) * flakes), np.float32)


def follicle_sites(record: SampleRecord, half_mm: float) -> tuple[F32, F32, F32]:
    """Centres x, y (k,) of the follicular openings as in `follicles`, and four uniforms each (k, 4): size, kind, more.

    half_mm is that of the grid: half its width less half a column.
    """
    count = round(record.skin.follicle_density_per_cm2 * (2 * half_mm / 10) ** 2)
    draws = keyed_rng(record, "follicles").random((count, 4), dtype=np.float32)
    more = keyed_rng(record, "follicle rings").random((count, 2), dtype=np.float32)
    centre = (2 * draws[:, :2] - 1) * np.float32(half_mm)
    return centre[:, 0], centre[:, 1], np.concatenate([draws[:, 2:], more], axis=1)


def dermatoglyphs(record: SampleRecord, noise: NoiseField) -> tuple[F32, F32, F32]:
    """Glabrous skin: (crest, furrow, pore), maps 0..1 (n, n): parallel ridges, furrows between, sweat pores on ridges.

    Ridges are 0.4-0.6 mm apart (Cummins & Midlo 1943); pores stand 0.5-0.7 mm apart along them.
    """
    spacing = record.skin.dermatoglyph_spacing_mm
    rng = keyed_rng(record, "dermatoglyphs")
    angle = float(rng.random()) * np.pi
    x, y = noise.x_mm[None, :], noise.y_mm[:, None]
    across = (x * np.cos(angle) + y * np.sin(angle)) / np.float32(spacing)
    along = (-x * np.sin(angle) + y * np.cos(angle)) / np.float32(0.6)
    across = across + np.float32(1.5) * noise("dermatoglyph bend", 6.0) + np.float32(0.15) * noise("ridge wobble", 0.9)
    phase = (across - np.floor(across)).astype(np.float32)
    middle = np.abs(phase - np.float32(0.5)) * 2  # 0 in the middle of a crest, 1 in the furrow
    crest = smoothstep((np.float32(0.9) - middle) * np.float32(1.6))
    furrow = smoothstep((middle - np.float32(0.72)) * np.float32(4.5))
    shift = rng.random(256, dtype=np.float32).take(np.floor(across).astype(np.int64) & 255)
    place = along + shift
    distance = np.hypot((place - np.floor(place) - 0.5) * 0.6, (phase - 0.5) * spacing)
    pore = np.exp(-((distance / 0.06) ** 2)).astype(np.float32)
    pore *= smoothstep(np.float32(0.75) + np.float32(0.6) * noise("pores", 0.5))  # some are closed
    return crest, furrow, pore


def follicles(record: SampleRecord, x_mm: F32, y_mm: F32, column_mm: float, half_mm: float) -> tuple[F32, F32]:
    """Openings of hair follicles: (pale, dimple), two (n, n) maps 0..1.

    pale    disc around the opening where pigment is less (perifollicular hypopigmentation), with a darker rim
    dimple  depth of the funnel
    """
    n = x_mm.shape[1]
    pale = np.zeros_like(x_mm)
    dimple = np.zeros_like(x_mm)
    count = round(record.skin.follicle_density_per_cm2 * (2 * half_mm / 10) ** 2)
    if count == 0:
        return pale, dimple
    draws = keyed_rng(record, "follicles").random((count, 4), dtype=np.float32)
    start = float(x_mm[0, 0])
    axis = x_mm[0]
    for px, py, size, kind in draws.tolist():
        cx, cy = (2 * px - 1) * half_mm, (2 * py - 1) * half_mm
        radius = 0.05 + 0.07 * size
        reach = 3.0 * radius
        c0, c1 = (int((c - reach - start) / column_mm) for c in (cx, cy))
        span = int(2 * reach / column_mm) + 2
        xs, ys = slice(max(c0, 0), min(c0 + span, n)), slice(max(c1, 0), min(c1 + span, n))
        if xs.start >= xs.stop or ys.start >= ys.stop:
            continue
        r2 = ((axis[xs] - cx) ** 2 + (axis[ys][:, None] - cy) ** 2) / np.float32(radius**2)
        core = np.exp(-r2)
        rim = np.exp(-((np.sqrt(r2) - 1.7) ** 2) * 3)
        pale[ys, xs] += core * np.float32(0.35 + 0.65 * kind) - np.float32(0.35 * (1 - kind)) * rim
        np.maximum(dimple[ys, xs], core, out=dimple[ys, xs])
    return np.clip(pale, -0.5, 1.0, out=pale), dimple
