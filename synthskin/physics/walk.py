"""The random walk through skin, as one Dr.Jit kernel: camera paths from the surface to where they leave it again.

What one iteration of the loop does for every lane: fly to the nearest of (next collision, column wall, zone face);
weigh absorption over that flight exactly; then scatter, cross, or meet the surface.

- Only scattering is sampled; absorption is a weight exp(-integral of mu_a). Each column keeps the *cumulative*
  melanosome and blood fractions over depth at its cell edges, so the integral over a flight inside one column is two
  look-ups, exact for any number of cells: no quadrature, no Jensen bias, no majorant made of the darkest voxel.
- A path carries the three wavelengths of its hero group: it is sampled with the scattering of the middle one and
  the others are weighted by exp(-(mu_s,j - mu_s,hero) t) and mu_s,j / mu_s,hero, which is unbiased.
- The fine zone scatters by Henyey-Greenstein, the zones below by their own g (0 in skin). Inside the fine zone
  mu_s(x) = mu_s,epi s(x), s = 1 in the epidermis and `papillary_ratio` under it (a null collision otherwise).
- At the surface a path gives W (1 - F) E(x, y) and goes on with W F: no coin is tossed. Under a contact plate the
  reflected part comes back displaced by 2 t tan(theta) in the glass. E is the irradiance relative to the white tile.
- Crossed polarisers weigh 1 - q, where q starts at 1 and is multiplied at each scattering by the zone's factor.
- Finished lanes start their next path at once. Lanes are (pixel, hero group); sums are block sums: no atomics, so
  the same input gives the same bits. Random numbers follow from (key, pixel, path, draw) alone.

This module imports Dr.Jit and Mitsuba lazily through `render.backend()`; see `physics/engine.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthskin.physics.tissue_columns import (
    BIREFRINGENCE_STEPS,
    COARSE_MIX,
    FINE_RUN_CELLS,
    FINE_RUN_MM,
    FINE_STEP_MM,
    LEVEL_STEP,
    SECOND_STEP_MM,
    Columns,
    on_device,
)

F32 = NDArray[np.float32]
#: Horn (keratin of cysts, plugs, scale) scatters many times within its thickness: by similarity with this anisotropy
#: and the same mu_s', which needs a fifth of the collisions.
HORN_G = 0.0
#: Share of the polarisation left after one such scattering, that is after five of the epidermis; the keratin of a cyst,
#: laid in shells, keeps up to all of it (`birefringence` of its column), so that it shows without polarisers.
HORN_KEEPS = 0.65**5
#: Bundles of collagen under the junction scatter this much more than the skin's, alike by similarity, and turn the
#: plane of what they send back; chosen so that they show between crossed polarisers alone (benchmarks/structures.py).
BUNDLE_SCATTERING = 0.83
GROUPS = 3
HEROES = 3
ZONES = 3  # 0 pigmented (fine columns), 1 dermis (coarse columns), 2 bottom (no structure)


@dataclass(frozen=True, slots=True)
class Optics:
    """Coefficients in mm^-1 for GROUPS x HEROES wavelengths, [group, hero]; the hero sampled with is number 1.

    name            shape       meaning
    melanin         (3, 3)      mu_a of pure melanosome
    blood           (3, 3)      mu_a of whole blood (with oxygenation and packing)
    base            (3, 3, 3)   [zone, group, hero] baseline mu_a
    mu_s            (3, 3, 3)   [zone, group, hero] scattering coefficient (not reduced)
    anisotropy      (3,)        g a zone
    depolarisation  (3,)        factor on the degree of polarisation at each scattering, a zone
    papillary_ratio float       mu_s under the junction over mu_s of the epidermis, inside the fine zone
    eta             float       refractive index of tissue over that outside; 1 is matched
    """

    melanin: F32
    blood: F32
    base: F32
    mu_s: F32
    anisotropy: F32
    depolarisation: F32
    papillary_ratio: float
    eta: float


@dataclass(frozen=True, slots=True)
class Ending:
    """Mean radiance in the dermis, tabulated; a path ends at its `collisions`-th collision below the fine zone.

    table       Float (GROUPS, levels, m, m, 4): mean radiance of the three heroes, at the middles of cells
    shade       Float (m_shade^2,): what blurred hair shadows leave of it over the picture, negative where under 1
    first_mm, growth, top_mm   level edges: z = top + first (growth^k - 1) / (growth - 1)
    """

    table: Any
    shade: Any
    shade_size: int
    levels: int
    m: int
    cell_mm: float
    origin_mm: float
    top_mm: float
    first_mm: float
    growth: float
    collisions: int


#: R5 sequence of Roberts (2018), 2^32 times the inverse powers of the root of x^6 = x + 1.
KRONECKER = tuple(round(2**32 * 1.1347241384015194**-i) for i in range(1, 6))
#: Powers of the multiplier 0xADB4A92D of Steele & Vigna (2021), good in the spectral test up to 8 dimensions: one hash
#: times these is the random shift of the five numbers of a step.
SHIFTS = tuple(pow(0xADB4A92D, i, 2**32) for i in range(5))
#: sin(pi t) / t in powers of t^2, |t| <= 1/2, error 6e-7
SINE_OF_PI = (3.14158205, -5.16714387, 2.54190851, -0.55465969)

PACK = 8  # pixels a lane
NUDGE = 1e-4  # columns
FIRST_DRAW = 4  # of the walk; those before are for its start


def _hash32(u: Any, x: Any) -> Any:
    """lowbias32 of C. Wellons (2018): an integer hash with 0.17 bits of bias."""
    x = x ^ (x >> 16)
    x = x * u(0x7FEB352D)
    x = x ^ (x >> 15)
    x = x * u(0x846CA68B)
    return x ^ (x >> 16)


def trace(
    mi: Any,
    dr: Any,
    columns: Columns,
    optics: Optics,
    hair: Any,
    hair_size: int,
    irradiance: Any,
    irradiance_size: int,
    field_of_view_mm: float,
    size_px: int,
    paths_per_lane: int,
    key: int,
    polarised: bool,
    plate_tan_scale_mm: float,
    with_transmittance: bool = False,
    ending: Ending | None = None,
    source: tuple[Any, Any, Any] | None = None,
) -> tuple[list[Any], list[Any], Any, Any]:
    """Walk `paths_per_lane` paths in each lane; lane = pixel * GROUPS + group, size_px^2 pixels.

    hair            Float (GROUPS, hair_size^2, 2): what a camera ray keeps and what it gains on its way to the skin
    irradiance      Float (irradiance_size^2,), E over the picture relative to the white tile,
                    negative where a hair shades it
    plate_tan_scale_mm  2 t of the glass plate; 0 without one
    ending              where given, paths end there in the tabulated fluence; else they walk until they leave or die
    source              where given, device arrays (x, y, z) in mm, one a lane, below the fine zone: every path starts
                        there in a random direction instead of at the camera (the estimator of the mean radiance)
    Returns (radiance sums, transmitted sums, steps, met hair): two lists of HEROES arrays and two arrays, one value a
    lane, sums undivided.
    """
    F, U = mi.Float, mi.UInt32
    Array2u = mi.Vector2u

    # conversions through Int32: AVX2 has no instruction for unsigned ones
    def whole(v: Any) -> Any:
        return U(mi.Int32(v))

    def real(v: Any) -> Any:
        return F(mi.Int32(v))

    def opaque(v: float) -> Any:
        return dr.opaque(F, float(v))

    # a lane walks the paths of PACK neighbouring pixels one after another: the more paths, the less a vector waits for
    # its slowest lane
    pack = PACK if source is None and size_px * size_px % PACK == 0 else 1
    lanes = size_px * size_px * GROUPS // pack
    lane = dr.arange(U, lanes)
    group = lane % GROUPS
    px = lane // GROUPS * pack
    px_end = px + pack
    # loop-invariant coefficients of this lane's group
    packed = np.stack([optics.melanin, optics.blood, *optics.base, *optics.mu_s], axis=-1).astype(
        np.float32
    )  # [group, hero, width]
    width = 2 + 2 * ZONES
    table = on_device(mi, packed)
    coef = [[dr.gather(F, table, (group * HEROES + j) * width + c) for c in range(width)] for j in range(HEROES)]
    mel = [coef[j][0] for j in range(HEROES)]
    blo = [coef[j][1] for j in range(HEROES)]
    base = [[coef[j][2 + z] for j in range(HEROES)] for z in range(ZONES)]
    mus = [[coef[j][2 + ZONES + z] for j in range(HEROES)] for z in range(ZONES)]
    g_zone = [opaque(v) for v in optics.anisotropy]
    q_zone = [opaque(v) for v in optics.depolarisation]
    ratio, eta = opaque(optics.papillary_ratio), opaque(optics.eta)
    z_face = [opaque(v) for v in (columns.fine_to_mm, columns.coarse_to_mm, columns.bottom_mm)]
    dx_f, dx_c = opaque(columns.column_mm), opaque(columns.coarse_column_mm)
    inv_f, inv_c = opaque(1 / columns.column_mm), opaque(1 / columns.coarse_column_mm)
    origin = opaque(columns.origin_mm)
    nf, nc = columns.n_fine, columns.n_coarse
    kf, kc = dr.opaque(U, columns.cells_fine), columns.cells_coarse
    last_fine = opaque(columns.cells_fine - 1)
    cells, first_coarse, layers = columns.cells, dr.opaque(U, columns.first_coarse), columns.layers
    units = [dr.gather(F, columns.unit_mm, U(i)) for i in range(4)]
    inv_coarse = opaque(1 / (columns.coarse_to_mm - columns.fine_to_mm))
    q0 = opaque(1.0 if polarised else 0.0)
    plate = opaque(plate_tan_scale_mm)
    n_glass = 1.5
    e_scale = opaque(irradiance_size / field_of_view_mm)
    count = dr.opaque(U, paths_per_lane)
    # the three hero groups of a pixel share their random numbers: their noise is then one of lightness, not of colour
    key_low, key_high = dr.opaque(U, key & 0xFFFFFFFF), dr.opaque(U, (key >> 32) & 0xFFFFFFFF)

    def seed_of(px: Any) -> Any:
        return _hash32(U, key_low ^ _hash32(U, px + key_high))

    def uniforms(seed: Any, k: Any, draw: Any, count: int) -> list[Any]:
        """Numbers of draw `draw` of path k: a Kronecker sequence over a pixel's paths, randomly shifted per draw.

        Each 64 paths have shifts of their own: with one shift for ever a pixel would not converge, for all of its
        draws would lie on one lattice.
        """
        shift = _hash32(U, seed + draw * U(0x85EBCA6B) + (k >> 6) * U(0x9E3779B1))
        return [
            real(dr.fma(k, U(KRONECKER[i]), shift * U(SHIFTS[i])) >> 8) * (1.0 / 16777216.0) for i in range(count)
        ]

    def low(a: Any, b: Any) -> Any:
        """The smaller one in one instruction; dr.minimum takes care of NaN and of -0 as well."""
        return dr.select(a < b, a, b)

    def high(a: Any, b: Any) -> Any:
        return dr.select(a > b, a, b)

    def sin_cos_turn(u: Any) -> tuple[Any, Any]:
        """Sine and cosine of 2 pi (u - 1/2), on the unit circle by construction."""
        t = u - 0.5
        t2 = t * t
        a, b, c, d = SINE_OF_PI
        half = t * dr.fma(dr.fma(dr.fma(F(d), t2, F(c)), t2, F(b)), t2, F(a))
        square = half * half
        return 2 * half * dr.sqrt(high(1 - square, F(0))), dr.fma(square, F(-2), F(1))

    pixel_mm = opaque(field_of_view_mm / size_px)
    h_scale = opaque(hair_size / field_of_view_mm)
    hair_page = group * U(hair_size * hair_size)

    if ending is not None:
        end_top, end_inv_first = opaque(ending.top_mm), opaque((ending.growth - 1) / ending.first_mm)
        end_inv_log = opaque(1 / np.log(ending.growth))
        end_inv_cell, end_origin = opaque(1 / ending.cell_mm), opaque(ending.origin_mm)
        end_after = dr.opaque(U, ending.collisions)
        shade_scale = opaque(ending.shade_size / field_of_view_mm)

    def begin(px: Any, seed: Any, k: Any, active: Any) -> tuple[Any, ...]:
        """Entry point, throughput and emission of path k, and its first optical depth."""
        u_x, u_y, u_tau = uniforms(seed, k, U(1), 3)
        tau = -dr.log(1 - u_tau)
        if source is not None:
            return source[0], source[1], F(1), F(0), tau
        x = (real(px % size_px) + u_x) * pixel_mm
        y = (real(px // size_px) + u_y) * pixel_mm
        hx, hy = dr.minimum(whole(x * h_scale), hair_size - 1), dr.minimum(whole(y * h_scale), hair_size - 1)
        through = dr.gather(mi.Array2f, hair, hair_page + hy * hair_size + hx, active)
        return x, y, through[0], through[1], tau

    def cumulative(fine: Any, col: Any, z: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Cumulative melanin and blood at depth z of column `col`, what that cell adds, and cells a mm.

        Inside a dermal cell the content grows evenly in u (see `Columns`), which is as good as evenly in depth.
        """
        second = z >= FINE_RUN_MM
        per_mm = dr.select(second, F(1 / SECOND_STEP_MM), F(1 / FINE_STEP_MM))
        cell_f = dr.fma(z, per_mm, dr.select(second, F(FINE_RUN_CELLS - FINE_RUN_MM / SECOND_STEP_MM), F(0)))
        depth = (z - z_face[0]) * inv_coarse  # share of the coarse zone
        root = dr.sqrt(high(dr.fma(depth, F(4 * (1 - COARSE_MIX)), F(COARSE_MIX**2)), F(COARSE_MIX**2)))
        cell_c = dr.fma(root, F(0.5 * kc / (1 - COARSE_MIX)), F(-0.5 * kc * COARSE_MIX / (1 - COARSE_MIX)))
        cell = dr.select(fine, cell_f, cell_c)
        k = low(dr.floor(high(cell, F(0))), dr.select(fine, last_fine, F(kc - 1)))
        f = cell - k
        nodes = dr.gather(Array2u, cells, col + whole(k))
        n0, n1 = ((real(node & 0xFFFF), real(node >> 16)) for node in nodes)
        d0, d1 = n1[0] - n0[0], n1[1] - n0[1]
        return dr.fma(d0, f, n0[0]), dr.fma(d1, f, n0[1]), d0, d1, (per_mm, root)

    k = dr.zeros(U, lanes)
    seed = seed_of(px)
    x, y, kept, gained, tau = begin(px, seed, k, True)

    def aim(seed: Any, k: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Depth, direction and zone of a path's start."""
        if source is None:
            return F(0), F(0), F(0), F(1), U(0)
        u_c, u_phi = uniforms(seed, k, U(2), 2)
        c = 1 - 2 * u_c
        s = dr.safe_sqrt(1 - c * c)
        sp, cp = sin_cos_turn(u_phi)
        return source[2], s * cp, s * sp, c, dr.select(source[2] < z_face[1], U(1), U(2))

    z, wx, wy, wz, zone = (v + dr.zeros(type(v), lanes) for v in aim(seed, k))
    deep = dr.zeros(U, lanes)
    pol = q0 + dr.zeros(F, lanes)
    draw = dr.full(U, FIRST_DRAW, lanes)
    W = [F(kept) for _ in range(HEROES)]
    L = [F(gained) for _ in range(HEROES)]
    T = [dr.zeros(F, lanes) for _ in range(HEROES)] if with_transmittance else []
    steps = dr.zeros(U, lanes)
    met = dr.select(kept < 1, U(1), U(0))
    far = 1e9

    out_l = [dr.zeros(F, lanes * pack) for _ in range(HEROES)]
    out_t = [dr.zeros(F, lanes * pack) for _ in T]
    out_met = dr.zeros(U, lanes * pack)
    dr.eval(out_l, out_t, out_met)

    def next_path(px, seed, k, x, y, z, wx, wy, wz, zone, tau, pol, met, deep, draw, *rest):  # type: ignore[no-untyped-def]
        """Add what the path finds at its end and start the lane's next one, in this pixel or the one after it."""
        W, L, T = list(rest[:HEROES]), list(rest[HEROES : 2 * HEROES]), list(rest[2 * HEROES : -4])
        u1, u2, u3, ends = rest[-4:]
        if ending is not None:
            level = dr.log(1 + dr.maximum(z - end_top, 0) * end_inv_first) * end_inv_log - 0.5
            e_z = dr.clip(whole(dr.maximum(level + u2, 0)), 0, ending.levels - 1)
            e_i = dr.clip(whole(dr.maximum((x - end_origin) * end_inv_cell - 0.5 + u3, 0)), 0, ending.m - 1)
            e_j = dr.clip(whole(dr.maximum((y - end_origin) * end_inv_cell - 0.5 + u1, 0)), 0, ending.m - 1)
            cell = ((group * ending.levels + e_z) * ending.m + e_j) * ending.m + e_i
            mean = dr.gather(mi.Array4f, ending.table, cell, ends)
            s_i = dr.clip(whole(dr.maximum(x * shade_scale, 0)), 0, ending.shade_size - 1)
            s_j = dr.clip(whole(dr.maximum(y * shade_scale, 0)), 0, ending.shade_size - 1)
            shade = dr.gather(F, ending.shade, s_j * ending.shade_size + s_i, ends)
            met = dr.select(ends & (shade < 0), U(1), met)
            gain_end = dr.select(ends, dr.abs(shade), 0)
            L = [dr.fma(W[j] * gain_end, mean[j], L[j]) for j in range(HEROES)]
        k = k + 1
        moves = k >= count  # this was the pixel's last path: keep its sums
        where = px * GROUPS + group
        for target, value in zip([*out_l, *out_t, out_met], [*L, *T, met], strict=True):
            dr.scatter(target, value, where, moves)
        L = [dr.select(moves, 0, v) for v in L]
        T = [dr.select(moves, 0, v) for v in T]
        met = dr.select(moves, U(0), met)
        px, k = dr.select(moves, px + 1, px), dr.select(moves, U(0), k)
        seed = dr.select(moves, seed_of(px), seed)
        fresh = px < px_end
        x, y, kept, gained, tau = begin(px, seed, k, fresh)
        met = dr.select(fresh & (kept < 1), U(1), met)
        z, wx, wy, wz, zone = aim(seed, k)
        L = [dr.select(fresh, v + gained, v) for v in L]
        return (px, seed, k, x, y, z, wx, wy, wz, zone, tau, q0, met, U(0), U(FIRST_DRAW), kept, kept, kept, *L, *T,
                u1, u2, u3, ends)  # fmt: skip

    def meet_surface(x, y, wx, wy, wz, pol, met, *rest):  # type: ignore[no-untyped-def]
        """From below: what leaves towards the light, and the rest back, displaced by the plate."""
        W, L = rest[:HEROES], rest[HEROES:]
        cos_i = dr.abs(wz)
        fr = dr.select(eta == 1.0, 0, mi.fresnel(cos_i, dr.rcp(eta))[0])
        e_x = dr.clip(whole(dr.maximum(x * e_scale, 0)), 0, irradiance_size - 1)
        e_y = dr.clip(whole(dr.maximum(y * e_scale, 0)), 0, irradiance_size - 1)
        light = dr.gather(F, irradiance, e_y * irradiance_size + e_x)
        gain = (1 - fr) * dr.abs(light) * (1 - pol)
        met = dr.select(light < 0, U(1), met)
        # displacement in the plate: sin in glass = eta / n_glass * sin in tissue
        s_t = dr.safe_sqrt(1 - cos_i * cos_i)
        s_g = dr.minimum(s_t * (1.4 / n_glass), 0.999)
        shift = dr.select(s_t > 1e-6, plate * s_g * dr.rsqrt(1 - s_g * s_g) / dr.maximum(s_t, 1e-6), 0)
        return (dr.fma(shift, wx, x), dr.fma(shift, wy, y), wx, wy, -wz, pol, met, *(w * fr for w in W),
                *(dr.fma(w, gain, v) for w, v in zip(W, L, strict=True)))  # fmt: skip

    def cond(px: Any, *_: Any) -> Any:
        return px < px_end

    def body(px, seed, k, draw, x, y, z, wx, wy, wz, zone, tau, pol, steps, met, deep, W, L, T):  # type: ignore[no-untyped-def]
        fine, gridded = zone == 0, zone < 2

        def pick(values: Any) -> Any:
            return dr.select(fine, values[0], dr.select(gridded, values[1], values[2]))

        m_hero = pick([m[1] for m in mus])
        # walls of the column and of the zone; the column ahead is told by the direction, never by the position alone
        inv_dx, dx = dr.select(fine, inv_f, inv_c), dr.select(fine, dx_f, dx_c)
        top_i = dr.select(fine, F(nf - 1), F(nc - 1))
        gx, gy = (x - origin) * inv_dx, (y - origin) * inv_dx

        def column_and_wall(g: Any, w: Any) -> tuple[Any, Any]:
            sign = dr.copysign(F(1), w)
            c = low(high(dr.floor(dr.fma(sign, F(NUDGE), g)), F(0)), top_i)
            t = (dr.fma(sign, F(0.5), c + 0.5) - g) * dx / w
            return c, dr.select(dr.select(w > 0, c >= top_i, c <= 0), far, t)

        cx, t_x = column_and_wall(gx, wx)
        cy, t_y = column_and_wall(gy, wy)
        t_lateral = dr.select(gridded, low(t_x, t_y), far)
        col = whole(dr.fma(cy, dr.select(fine, F(nf), F(nc)), cx))
        what = dr.gather(mi.Array4f, layers, dr.select(fine, col, dr.select(gridded, col + U(nf * nf), 0)))
        level = dr.floor(what[2] * (1 / LEVEL_STEP))
        alike = (1 - g_zone[0]) * (1 / (1 - HORN_G))
        keratin = dr.fma(level, F(-LEVEL_STEP), what[2]) * alike
        turning = dr.select(fine, level * (1 / BIREFRINGENCE_STEPS), 0)
        collagen = dr.select((turning > 0) & (what[1] == 0), alike * dr.fma(turning, F(BUNDLE_SCATTERING), 1), 1)
        dermal = dr.select(fine, ratio * what[3] * collagen, dr.select(gridded, what[3], 1))
        # scattering is sampled with the densest part of the column; see below
        majorant = dr.select(fine, high(high(keratin, dermal), F(1)), dermal)
        down = wz > 0
        inv_wz = 1 / wz
        z_end = dr.select(down, pick(z_face), pick([F(0), *z_face[:2]]))
        t_zone = dr.select(dr.abs(wz) < 1e-6, far, high((z_end - z) * inv_wz, F(0)))
        density = m_hero * majorant
        t_coll = tau / density
        t_wall = low(t_lateral, t_zone)
        t = low(t_wall, t_coll)
        collides = t_coll <= t_wall
        faces = ~collides & (t_zone <= t_lateral)
        # absorption over the flight
        z1 = dr.select(faces, z_end, dr.fma(t, wz, z))
        node = dr.select(fine, col * kf, dr.fma(col, U(kc), first_coarse))
        a0, b0, da, db, (per_mm, root) = cumulative(fine, node, z)
        a1, b1, _, _, _ = cumulative(fine, node, z1)
        steep = dr.abs(wz) > 1e-3  # else the flight is level: its own cell's content a mm
        along = dr.select(steep, inv_wz, t * dr.select(fine, per_mm, kc * inv_coarse / root))
        along = dr.select(gridded, along, 0)
        depth_m = dr.select(steep, a1 - a0, da) * along * dr.select(fine, units[0], units[2])
        depth_b = dr.select(steep, b1 - b0, db) * along * dr.select(fine, units[1], units[3])
        optical = t * majorant
        W2 = []
        for j in range(HEROES):
            extinction = dr.fma(depth_m, mel[j], dr.fma(depth_b, blo[j], t * pick([b[j] for b in base])))
            if j != 1:
                m_j = pick([m[j] for m in mus])
                extinction = dr.fma(m_j - m_hero, optical, extinction)
                W2.append(W[j] * dr.exp(-extinction) * dr.select(collides, m_j / m_hero, 1))
            else:
                W2.append(W[j] * dr.exp(-extinction))
        x, y, z = dr.fma(t, wx, x), dr.fma(t, wy, y), z1
        # what happens there
        u1, u2, u3, u4, u5 = uniforms(seed, k, draw, 5)
        draw = dr.select(collides | faces, draw + 1, draw)
        tau = dr.select(collides, -dr.log(1 - u1), tau - optical * m_hero)
        surface = faces & ~down & fine
        out_below = faces & down & (zone == ZONES - 1)
        zone = dr.select(faces & ~surface & ~out_below, dr.select(down, zone + 1, zone - 1), zone)
        W2, L = list(W2), list(L)
        face = (x, y, wx, wy, wz, pol, met, *W2, *L)
        face = dr.if_stmt(face, surface, meet_surface, lambda *face: face)
        x, y, wx, wy, wz, pol, met, *rest = face
        W2, L = rest[:HEROES], rest[HEROES:]
        if with_transmittance:
            T = [dr.select(out_below, T[j] + W2[j], T[j]) for j in range(HEROES)]
        # scatter, unless this spot is thinner than the column's densest
        horn = fine & (z < what[1])
        bundle = (turning > 0) & (z >= what[0]) & (what[1] == 0)
        here = dr.select(horn, keratin, dr.select(z < what[0], 1, dermal))
        scatters = collides & (~fine | (u4 * majorant < here))
        g = dr.select(horn | bundle, HORN_G, pick(g_zone))
        s2 = 2 * u2 - 1
        g2 = g * g
        # Henyey-Greenstein, in a form that holds down to g = 0
        c = dr.fma(g2, s2, dr.fma(g, dr.fma(0.5 * s2, s2, 1.5), s2)) + 0.5 * g * g2 * dr.fma(s2, s2, -1)
        c /= dr.square(dr.fma(g, s2, 1))
        s = dr.sqrt(high(1 - c * c, F(0)))
        sp, cp = sin_cos_turn(u3)
        sign = dr.copysign(F(1), wz)
        fa = -dr.rcp(sign + wz)
        fb = wx * wy * fa
        sx, sy = s * cp, s * sp
        nx = dr.fma(sx, 1 + sign * wx * wx * fa, dr.fma(sy, fb, c * wx))
        ny = dr.fma(sx, sign * fb, dr.fma(sy, dr.fma(wy * wy, fa, sign), c * wy))
        nz = dr.fma(sx, -sign * wx, dr.fma(sy, -wy, c * wz))
        turns = wz * nz < 0  # there and back through a bundle of collagen
        wx, wy, wz = dr.select(scatters, nx, wx), dr.select(scatters, ny, wy), dr.select(scatters, nz, wz)
        keeps = dr.select(bundle & turns, dr.fma(turning, F(-2), 1), dr.select(bundle, 1, pick(q_zone)))
        keeps = dr.select(horn, dr.fma(turning, F(1 - HORN_KEEPS), HORN_KEEPS), keeps)
        pol = dr.select(scatters, pol * keeps, pol)
        # Russian roulette on the largest of the three weights
        w_max = high(high(W2[0], W2[1]), W2[2])
        tested = (collides | surface) & (w_max < 0.4)
        q = w_max * (1 / 0.6)
        killed = tested & (u5 >= q)
        gain_q = dr.select(tested & ~killed, dr.rcp(high(q, F(1e-20))), 1)
        ends = mi.Bool(False)
        if ending is not None:
            deep = dr.select(scatters & ~fine, deep + 1, deep)
            ends = (deep >= end_after) & scatters & ~killed
        W2 = [v * gain_q for v in W2]
        path = (px, seed, k, x, y, z, wx, wy, wz, zone, tau, pol, met, deep, draw, *W2, *L, *T, u1, u2, u3, ends)
        path = dr.if_stmt(path, killed | out_below | ends, next_path, lambda *path: path)
        px, seed, k, x, y, z, wx, wy, wz, zone, tau, pol, met, deep, draw, *rest = path
        W2, L, T = rest[:HEROES], rest[HEROES : 2 * HEROES], rest[2 * HEROES : -4]
        return px, seed, k, draw, x, y, z, wx, wy, wz, zone, tau, pol, steps + 1, met, deep, W2, L, T

    state = (px, seed, k, draw, x, y, z, wx, wy, wz, zone, tau, pol, steps, met, deep, W, L, T)
    result = dr.while_loop(state, cond, body)
    steps = result[13]
    dr.eval(steps)
    return out_l, out_t, steps, out_met
