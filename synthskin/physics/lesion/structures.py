"""A lesion on its growth: common nevus first (network, globules, diffuse pigment), then the structures of its record.

Nothing is drawn on a picture: the pigment network is melanin in the basal layer of the rete ridges seen from above
(Argenziano 2003), globules are nests of melanocytes at and under the junction. Without structures that take pigment
away (regression, ulcers ...) every map is non-decreasing in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from synthskin.physics.lesion import dermal as deep
from synthskin.physics.lesion import keratin, pigment, vascular
from synthskin.physics.lesion.field import LIVING_EPIDERMIS_UM, NEUTRAL, LesionField
from synthskin.physics.lesion.growth import arrival_map, arrival_on_disc
from synthskin.physics.lesion.layers import Layers
from synthskin.physics.lesion.shapes import Ground, balls, whole_lesion
from synthskin.physics.mesh import Mesh, line_profile, polygon_mesh
from synthskin.physics.noise import F32, NoiseField, keyed_rng, smoothstep
from synthskin.record import SampleRecord

JUNCTION_UM = 14.0  # mean thickness of pigmented basal layer of a nevus, with its nests
LINE_HALF_WIDTH_MM = (0.022, 0.042)  # network lines 30-80 um wide
LINE_SHARE = 0.36  # mean of the line pattern over an intact network
TRANSFER_SHARE = 0.88  # share of the junction's melanin that keratinocytes carry up through the living epidermis
TRANSFER_SPREAD_MM = 0.03  # a melanocyte serves some 36 keratinocytes around it (Fitzpatrick & Breathnach 1963)
NOISE_LIMIT = 2.5  # standard deviations
NEST_SHARE = 0.20  # junctional share of a globule's fraction, over `junctional_melanin`
BORDER_WIDTH_SPREAD = 0.3  # of the logarithm of the border's width, along the border
#: Melanin differs from ridge to ridge and along each: sd of its logarithm over 0.1-0.2 mm, so that the contrast of
#: lesions at 0.1-0.3 mm is that of photographs (docs/realism.md, round 8)
GRAIN = 0.24
NEST_ROUNDNESS = 0.8  # exponent of a nest's thickness over its disc: 0.5 is a ball, 1 fades to its rim
#: In this order: what takes pigment away comes after what brings it, and an ulcer after all.
STRUCTURES: tuple[Callable[[Ground, Layers], None], ...] = (
    keratin.acanthosis,
    keratin.fissures,
    pigment.acral,
    pigment.follicular_pigment,
    pigment.blotch,
    pigment.negative_network,
    pigment.streaks,
    pigment.pseudopods,
    deep.leaf_like_areas,
    deep.ovoid_nests,
    deep.veil,
    pigment.dots,
    deep.regression,
    deep.central_white_patch,
    deep.shiny_white_streaks,
    vascular.arborizing_vessels,
    vascular.dotted_vessels,
    vascular.curved_vessels,
    vascular.red_lacunae,
    vascular.red_pseudonetwork,
    keratin.milia_like_cysts,
    keratin.comedo_like_openings,
    keratin.scale,
    vascular.ulceration,
)


def grow(record: SampleRecord, x_mm: F32, y_mm: F32, column_mm: float) -> LesionField:
    """The lesion of `record` on columns with 1-D centres x_mm, y_mm from the middle of the picture."""
    return grow_together([record], x_mm, y_mm, column_mm)[0]


def grow_together(records: list[SampleRecord], x_mm: F32, y_mm: F32, column_mm: float) -> list[LesionField]:
    """Lesions that differ in structures alone: all grow on the front, and within the reach, of the first."""
    record = records[0]
    lesion = record.lesion
    disc = arrival_on_disc(record)
    arrival = arrival_map(record, disc, x_mm, y_mm)
    # where the front was slow, isochrones lie close; without this the border would be cut off sharply there
    gy, gx = np.gradient(arrival, np.float32(column_mm * 2 / lesion.diameter_mm))
    crowding = np.clip(np.sqrt(gx * gx + gy * gy), np.float32(0.7), np.float32(6)) ** np.float32(0.75)
    box = _reach(record, arrival, crowding, column_mm)
    memory: dict[tuple[str, float, float], F32] | None = {} if len(records) > 1 else None
    x, y = x_mm[box[1]], y_mm[box[0]]
    whole = whole_lesion(record, disc, None if memory is None else {})
    return [
        _in_place(
            _grow_in(one, NoiseField(one, x, y, memory), column_mm, arrival[box], crowding[box], whole), arrival, box
        )
        for one in records
    ]


def _in_place(inner: LesionField, arrival: F32, box: tuple[slice, slice]) -> LesionField:
    """What has grown in `box`, on all columns."""
    arrival = arrival.copy()
    arrival[box] = inner.arrival

    def whole(part: Any, outside: float = 0) -> Any:
        full = np.full(arrival.shape, outside, part.dtype)
        full[box] = part
        return full

    optional = {name: getattr(inner, name) for name in NEUTRAL}
    return LesionField(
        arrival=arrival,
        presence=whole(inner.presence),
        maturity=whole(inner.maturity),
        ridge=whole(inner.ridge),
        epidermal_um=whole(inner.epidermal_um),
        junctional_um=whole(inner.junctional_um),
        dermal_um=whole(inner.dermal_um),
        dermal_depth_um=inner.dermal_depth_um,
        blood_factor=whole(inner.blood_factor, 1),
        footprints={name: whole(part) for name, part in inner.footprints.items()},
        **{name: whole(part, NEUTRAL[name]) for name, part in optional.items() if part is not None},
    )


def _border_width_mm(record: SampleRecord) -> float:
    """Mean width of the fade; no border is sharper than one and a half polygons of the ridges it ends in."""
    lesion = record.lesion
    return min(math.hypot(lesion.border_width_mm, 1.5e-3 * lesion.network_spacing_um), 0.3 * lesion.diameter_mm)


def _overhang_mm(record: SampleRecord) -> float:
    """How far structures of the border stand out of it."""
    s = record.structures
    reach = [0.0]
    if s.streaks_density_per_mm > 0:
        reach.append(1.0 * s.streaks_length_mm)
    if s.pseudopods_density_per_mm > 0:
        reach.append(1.0 * s.pseudopods_length_mm)
    if s.shiny_white_streaks_density_per_mm2 > 0:
        reach.append(0.7 * s.shiny_white_streaks_length_mm)
    if s.leaf_like_area_count > 0:
        reach.append(1.4 * s.leaf_like_area_length_mm)
    return max(reach)


def _jag(record: SampleRecord) -> float:
    """Fine displacement of the border, as a share of the arrival time at it."""
    radius = 0.5 * record.lesion.diameter_mm
    return min(0.16, 0.07 * radius) / radius


def _reach(record: SampleRecord, arrival: F32, crowding: F32, column_mm: float) -> tuple[slice, slice]:
    """Rows and columns outside which the lesion is nothing at any time: all noise at its limits, nests at the rim."""
    radius = 0.5 * record.lesion.diameter_mm
    widest = _border_width_mm(record) * math.exp(BORDER_WIDTH_SPREAD * NOISE_LIMIT)
    earliest = arrival - np.float32(_jag(record) * NOISE_LIMIT) * np.minimum(arrival, 1)
    inside = (1 - earliest) * (np.float32(radius) / crowding) + np.float32(0.5 * widest) > 0
    margin = math.ceil(max(0.25, _overhang_mm(record)) / column_mm) + 1
    box = []
    for axis in (1, 0):
        where = np.flatnonzero(inside.any(axis=axis))
        box.append(slice(max(int(where[0]) - margin, 0), int(where[-1]) + 1 + margin) if len(where) else slice(0, 1))
    return box[0], box[1]


def _grow_in(
    record: SampleRecord, noise: NoiseField, column_mm: float, arrival: F32, crowding: F32, whole: Ground
) -> LesionField:
    """`grow` on the columns that the lesion can reach, those of `noise`."""
    lesion = record.lesion
    radius = 0.5 * lesion.diameter_mm
    fine = np.clip(noise.octaves("border", (0.55, 0.28, 0.14), (1.0, 0.8, 0.5)), -NOISE_LIMIT, NOISE_LIMIT)
    arrival = np.maximum(arrival + np.float32(_jag(record)) * fine * np.minimum(arrival, 1), 0)
    varied = np.clip(noise("border width", 0.45 * lesion.diameter_mm), -NOISE_LIMIT, NOISE_LIMIT)
    width = np.float32(_border_width_mm(record)) * np.exp(np.float32(BORDER_WIDTH_SPREAD) * varied)
    inward = (np.float32(lesion.growth_time) - arrival) * (np.float32(radius) / crowding)
    presence = smoothstep((inward + np.float32(0.25) * width) / (np.float32(1.25) * width))
    maturity = smoothstep((np.float32(lesion.growth_time) - arrival) / np.float32(0.8))

    hue = heterogeneity(record, noise, arrival)
    grain = np.exp(np.float32(GRAIN) * noise.octaves("pigment grain", (0.2, 0.09), (0.6, 1.0)))
    ridge, lines, mesh = network(record, noise, arrival, presence, column_mm)
    # The network is lost first where the lesion is young and where noise says so: diffuse pigment takes its place.
    intact = smoothstep(np.float32(0.95) + np.float32(0.5) * noise.octaves("network region", (1.6, 0.6), (1.0, 0.6)))
    strength = np.float32(lesion.network_strength) * intact
    diffuse = presence * presence
    bed = diffuse * (np.float32(0.55) + np.float32(0.85) * ridge)  # even without lines there is more on a ridge
    junction = bed * grain * (1 - strength) + lines * np.sqrt(grain) * strength * np.float32(1 / LINE_SHARE)
    junctional = np.float32(lesion.junctional_melanin * JUNCTION_UM) * junction * hue
    # pigment inside the polygons: some are filled
    filled = smoothstep((mesh.cell - np.float32(0.86)) * 8) * np.float32(0.5) * presence
    halo = smoothstep((inward + np.float32(0.5) * width) / (np.float32(2) * width))
    epidermal = np.float32(lesion.epidermal_melanin * LIVING_EPIDERMIS_UM) * (halo * hue * grain + filled)

    # melanin taken up by keratinocytes lies above the line that made it; without it networks look blue, not brown
    carried = gaussian_filter(junctional, TRANSFER_SPREAD_MM / column_mm, truncate=3.0)
    epidermal += np.float32(TRANSFER_SHARE) * carried
    junctional *= np.float32(1 - TRANSFER_SHARE)
    nests = globules(record, noise, arrival, column_mm)
    junctional += np.float32(NEST_SHARE * lesion.junctional_melanin) * nests
    cloud = (
        np.float32(40)
        * maturity
        * presence
        * smoothstep(np.float32(0.75) + np.float32(0.15 + 0.45 * lesion.heterogeneity) * noise("dermal cloud", 0.7))
    )
    dermal = np.float32(lesion.dermal_melanin) * (nests + cloud) * np.sqrt(hue)
    blood = 1 + np.float32(lesion.blood_factor - 1) * presence
    layers = Layers(epidermal, junctional, dermal, blood, ridge)
    if lesion.network_strength >= 0.25 and lesion.junctional_melanin > 0:
        seen = (presence > 0.15) & (strength > 0.2)
        layers.mark("pigment_network", seen)
        if record.structures.pigment_network_atypia >= 0.5:
            layers.mark("atypical_pigment_network", seen)
    if lesion.globule_density_per_mm2 > 0:
        layers.mark("globules", nests > 0.15 * lesion.globule_diameter_um)
    ground = Ground(record, noise, column_mm, arrival, presence, lesion.growth_time, whole)
    for structure in STRUCTURES:
        structure(ground, layers)
    return LesionField(
        arrival=arrival,
        presence=presence,
        maturity=maturity,
        ridge=layers.ridge,
        epidermal_um=layers.epidermal_um,
        junctional_um=layers.junctional_um,
        dermal_um=layers.dermal_um,
        dermal_depth_um=lesion.dermal_depth_um,
        blood_factor=layers.blood_factor,
        footprints=layers.footprints,
        **layers.optional,
    )


def heterogeneity(record: SampleRecord, noise: NoiseField, arrival: F32) -> F32:
    """Factor on the lesion's melanin, fixed in space: blotches, a darker or paler centre, an eccentric spot."""
    lesion = record.lesion
    amount = lesion.heterogeneity
    rng = keyed_rng(record, "pattern")
    centre, spot, angle, where = rng.random(4)
    blotches = noise.octaves("blotches", (1.7, 0.8, 0.35), (1.0, 0.9, 0.6))
    log = np.float32(0.30 + 0.70 * amount) * blotches * np.float32(0.8)
    log += np.float32((centre - 0.35) * (0.5 + 0.8 * amount)) * np.exp(-((arrival / np.float32(0.5)) ** 2))
    radius = 0.5 * lesion.diameter_mm
    sx = lesion.centre_x_mm + 0.6 * where * radius * np.cos(2 * np.pi * angle)
    sy = lesion.centre_y_mm + 0.6 * where * radius * np.sin(2 * np.pi * angle)
    far = ((noise.x_mm - sx)[None, :] ** 2 + (noise.y_mm - sy)[:, None] ** 2) / np.float32((0.33 * radius) ** 2)
    log += np.float32(1.3 * amount * (spot > 0.4)) * np.exp(-far.astype(np.float32))
    return np.asarray(np.exp(np.minimum(log, np.float32(1.1))), np.float32)


def network(
    record: SampleRecord, noise: NoiseField, arrival: F32, presence: F32, column_mm: float
) -> tuple[F32, F32, Mesh]:
    """Ridges (geometry), pigment lines (with the gaps of a dissolving border) and the mesh they follow."""
    lesion = record.lesion
    rng = keyed_rng(record, "lesion mesh")
    spacing = lesion.network_spacing_um * 1e-3
    # polygons are drawn out along the direction of growth near the border, more in some lesions than in others
    splay = 1 - np.float32(0.14 * rng.random()) * smoothstep((arrival - np.float32(0.55)) / np.float32(0.6))
    # and along the tension of the skin, as its papillae are
    tension, along = keyed_rng(record, "mesh tension").random(2)
    stretch, along = math.exp(0.3 * tension), math.pi * along
    dx, dy = noise.x_mm[None, :] - np.float32(lesion.centre_x_mm), noise.y_mm[:, None] - np.float32(lesion.centre_y_mm)
    x = (dx * np.float32(math.cos(along) / stretch) + dy * np.float32(math.sin(along) / stretch)) * splay
    y = (dy * np.float32(math.cos(along) * stretch) - dx * np.float32(math.sin(along) * stretch)) * splay
    atypia = record.structures.pigment_network_atypia
    for axis, values in (("x", x), ("y", y)):
        values += np.float32(0.20 * spacing) * noise(f"mesh warp {axis}", 0.8 * spacing)
        values += np.float32((0.40 + 0.75 * atypia) * spacing) * noise(f"mesh warp far {axis}", 4 * spacing)
    mesh = polygon_mesh(rng, x, y, spacing)
    thin, thick = (w * min(1.0, spacing / 0.2) for w in LINE_HALF_WIDTH_MM)
    regional = smoothstep(np.float32(0.5) + np.float32(0.25) * noise("line width", 1.2))
    half: F32 = np.float32(thin) + np.float32(thick - thin) * (np.float32(0.6) * regional + np.float32(0.4) * mesh.side)
    half = half * np.exp(np.float32(0.25) * noise.octaves("line width fine", (0.5, 0.16), (1.0, 1.0)))
    if atypia > 0:  # lines of uneven width, thick in some places and lost in others (Argenziano 2003)
        uneven = noise.octaves("atypical width", (1.3, 0.45), (1.0, 0.8))
        half = half * np.float32(1 + 0.45 * atypia) * np.exp(np.float32(0.55 * atypia) * uneven)
    ridge = line_profile(mesh.edge_mm, np.float32(0.3 * spacing), column_mm)
    # each side of a polygon appears at its own stage of the fade, so the network breaks up instead of blurring out
    stage: F32 = np.float32(1.35) * presence - np.float32(0.6) * (1 - mesh.side)
    lines = line_profile(mesh.edge_mm, half, column_mm) * smoothstep(stage / np.float32(0.6))
    lines *= np.float32(0.15) + np.float32(0.85) * presence
    lines *= np.float32(0.7) + np.float32(0.6) * mesh.side
    lines *= np.exp(np.float32(0.3) * noise.octaves("line dose", (0.6, 0.2), (1.0, 0.6)))
    if atypia > 0:
        lines *= np.exp(np.float32(0.7 * atypia) * np.minimum(noise("atypical dose", 0.9), np.float32(1.5)))
    return ridge, lines, mesh


def globules(record: SampleRecord, noise: NoiseField, arrival: F32, column_mm: float) -> F32:
    """Thickness of nests in each column, um: a clumped point process; a nest is born when the front has passed."""
    lesion = record.lesion
    rows, n = arrival.shape
    thickness = np.zeros_like(arrival)
    half = 0.5 * lesion.diameter_mm * 1.7 * float(np.sqrt(lesion.elongation))
    count = round(lesion.globule_density_per_mm2 * (2 * half) ** 2)
    if count == 0:
        return thickness
    draws = keyed_rng(record, "globules").random((count, 6), dtype=np.float32)
    start, start_y = float(noise.x_mm[0]), float(noise.y_mm[0])
    cx = lesion.centre_x_mm + (2 * draws[:, 0] - 1) * half
    cy = lesion.centre_y_mm + (2 * draws[:, 1] - 1) * half
    ix = np.floor((cx - start) / column_mm + 0.5).astype(np.int64)
    iy = np.floor((cy - start_y) / column_mm + 0.5).astype(np.int64)
    seen = (ix >= 0) & (ix < n) & (iy >= 0) & (iy < rows)
    place = np.where(seen, iy * n + ix, 0)
    clump = smoothstep(np.float32(0.5) + np.float32(0.6) * noise("clumps", 0.8)).ravel()[place]
    born = arrival.ravel()[place]
    rim = np.exp(-(((born - 0.85) / 0.2) ** 2))
    anywhere = (draws[:, 2] < 0.35 + 0.9 * clump + 0.3 * rim) & (draws[:, 2] * 1.4 < 0.2 + 2 * clump)
    at_rim = np.abs(born / lesion.growth_time - 0.93) < 0.06
    seen &= np.where(draws[:, 5] < record.structures.globules_rim, at_rim, anywhere)
    seen &= born < lesion.growth_time - 0.02
    size = np.exp(0.35 * np.sqrt(-2 * np.log(1 - draws[:, 3])) * np.cos(2 * np.pi * draws[:, 4])) * (0.75 + 0.25 * rim)
    radius = np.clip(0.5 * lesion.globule_diameter_um * size, 20, 200)[seen] * 1e-3
    young = np.clip((lesion.growth_time - born[seen]) / 0.15, 0, 1)  # a nest grows to its size after its birth
    radius *= 0.5 + 0.5 * young
    cx, cy = cx[seen], cy[seen]
    if len(cx) == 0:
        return thickness
    ground = Ground(record, noise, column_mm, arrival, arrival, lesion.growth_time)
    # a nest is two that have run together, and holds more or less melanin than the next
    shape = keyed_rng(record, "globule shape").random((count, 4), dtype=np.float32)[seen]
    turn, apart = 2 * math.pi * shape[:, 0], radius * (0.15 + 0.4 * shape[:, 1])
    xs, ys = (np.concatenate([c - apart * f, c + apart * f]) for c, f in ((cx, np.cos(turn)), (cy, np.sin(turn))))
    size = np.concatenate([radius * 0.92, radius * (0.6 + 0.3 * shape[:, 2])])
    dose = np.tile(0.45 + 0.75 * shape[:, 3], 2)
    return balls(ground, xs, ys, size.astype(np.float32), dose.astype(np.float32), NEST_ROUNDNESS)
