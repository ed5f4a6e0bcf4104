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

F32 = NDArray[np.float32]
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
    papillary_ratio float       mu_s under the junction over mu_s of the epidermis, inside the fine zone (0 to 1)
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
class Columns:
    """The tissue on the device: cumulative (melanin, blood) at the cell edges of each column, both zones.

    The fine cells are 5 um to 0.15 mm and 12.5 um below; edge k of the nc coarse cells lies at
    fine_to + (coarse_to - fine_to) (COARSE_MIX u + (1 - COARSE_MIX) u^2), u = k / nc.
    `bottom_mm` is where the last zone ends in a void (transmission); 1e9 for a half space.
    """

    nodes: Any  # Float: (n, n, nf + 1, 2) then (m, m, nc + 1, 2), flattened
    first_coarse: int  # index of the first coarse node
    dej_mm: Any  # Float, (n, n)
    n_fine: int
    n_coarse: int
    cells_fine: int
    cells_coarse: int
    column_mm: float
    coarse_column_mm: float
    origin_mm: float
    fine_to_mm: float
    coarse_to_mm: float
    bottom_mm: float


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


#: R4 sequence of Roberts (2018), 2^32 times the inverse powers of the root of x^5 = x + 1.
KRONECKER = tuple(round(2**32 * 1.1673039782614187**-i) for i in range(1, 5))

PACK = 4  # pixels a lane
FINE_STEP_MM = 0.005
FINE_RUN_MM = 0.15
FINE_RUN_CELLS = 30
COARSE_MIX = 0.25
SECOND_STEP_MM = 0.0125


def on_device(mi: Any, values: Any) -> Any:
    """Flat Float of `values`, from a copy at a 64-byte boundary.

    Dr.Jit takes NumPy memory over as it lies and writes other code for memory off such a boundary: without the copy it
    is chance whether a later sample needs new kernels.
    """
    flat = np.ascontiguousarray(values, np.float32).ravel()
    room = np.empty(flat.size + 16, np.float32)
    first = -room.ctypes.data % 64 // 4
    aligned = room[first : first + flat.size]
    aligned[:] = flat
    return mi.Float(aligned)


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
    kf, kc = columns.cells_fine, columns.cells_coarse
    nodes, first_coarse = columns.nodes, dr.opaque(U, columns.first_coarse)
    inv_coarse = opaque(1 / (columns.coarse_to_mm - columns.fine_to_mm))
    q0 = opaque(1.0 if polarised else 0.0)
    plate = opaque(plate_tan_scale_mm)
    n_glass = 1.5
    e_scale = opaque(irradiance_size / field_of_view_mm)
    count = dr.opaque(U, paths_per_lane)
    # the three hero groups of a pixel share their random numbers: their noise is then one of lightness, not of colour
    key_low, key_high = dr.opaque(U, key & 0xFFFFFFFF), dr.opaque(U, (key >> 32) & 0xFFFFFFFF)

    def seed_of(px: Any) -> Any:
        return _hash32(U, key_low ^ _hash32(U, (lane if source is not None else px) + key_high))

    def bits(seed: Any, k: Any, draw: Any, sequence: int) -> Any:
        """Draw number `draw` of path k: a Kronecker sequence over the paths of a pixel, randomly shifted per draw."""
        return dr.fma(k, U(KRONECKER[sequence]), _hash32(U, seed + draw * U(0x85EBCA6B)))

    def uniform(seed: Any, k: Any, draw: Any, sequence: int) -> Any:
        return real(bits(seed, k, draw, sequence) >> 8) * (1.0 / 16777216.0)

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
        tau = -dr.log(1 - uniform(seed, k, U(3), 2))
        if source is not None:
            return source[0], source[1], F(1), F(0), tau
        x = (real(px % size_px) + uniform(seed, k, U(1), 0)) * pixel_mm
        y = (real(px // size_px) + uniform(seed, k, U(2), 1)) * pixel_mm
        hx, hy = dr.minimum(whole(x * h_scale), hair_size - 1), dr.minimum(whole(y * h_scale), hair_size - 1)
        through = dr.gather(mi.Array2f, hair, hair_page + hy * hair_size + hx, active)
        return x, y, through[0], through[1], tau

    def cumulative(fine: Any, col: Any, z: Any, active: Any) -> tuple[Any, Any, Any, Any]:
        """Cumulative melanin and blood at depth z of column `col`, and their densities in that cell."""
        second = z >= FINE_RUN_MM
        cell_f = dr.select(
            second, dr.fma(z, 1 / SECOND_STEP_MM, FINE_RUN_CELLS - FINE_RUN_MM / SECOND_STEP_MM), z * (1 / FINE_STEP_MM)
        )
        step_f = dr.select(second, F(SECOND_STEP_MM), FINE_STEP_MM)
        depth = dr.maximum(z - z_face[0], 0) * inv_coarse  # share of the coarse zone
        cell_c = (dr.sqrt(dr.fma(depth, 4 * (1 - COARSE_MIX), COARSE_MIX**2)) - COARSE_MIX) * (
            0.5 * kc / (1 - COARSE_MIX)
        )
        top_k = dr.select(fine, F(kf - 1), F(kc - 1))
        k = dr.minimum(dr.floor(dr.maximum(dr.select(fine, cell_f, cell_c), 0)), top_k)
        e0, e1 = k * (1 / kc), (k + 1) * (1 / kc)
        e0, e1 = e0 * dr.fma(e0, 1 - COARSE_MIX, COARSE_MIX), e1 * dr.fma(e1, 1 - COARSE_MIX, COARSE_MIX)
        inv_c = dr.rcp(e1 - e0)
        f = dr.select(fine, cell_f - k, (depth - e0) * inv_c)
        a = col + whole(k)
        n0 = dr.gather(mi.Array2f, nodes, a, active)
        n1 = dr.gather(mi.Array2f, nodes, a + 1, active)
        inv = dr.select(fine, dr.rcp(step_f), inv_c * inv_coarse)
        d0, d1 = n1[0] - n0[0], n1[1] - n0[1]
        return dr.fma(d0, f, n0[0]), dr.fma(d1, f, n0[1]), d0 * inv, d1 * inv

    k = dr.zeros(U, lanes)
    seed = seed_of(px)
    x, y, kept, gained, tau = begin(px, seed, k, True)

    def aim(seed: Any, k: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Depth, direction and zone of a path's start."""
        if source is None:
            return F(0), F(0), F(0), F(1), U(0)
        c = 1 - 2 * uniform(seed, k, U(4), 0)
        s = dr.safe_sqrt(1 - c * c)
        sp, cp = dr.sincos(2 * dr.pi * uniform(seed, k, U(5), 1))
        return source[2], s * cp, s * sp, c, dr.select(source[2] < z_face[1], U(1), U(2))

    z, wx, wy, wz, zone = (v + dr.zeros(type(v), lanes) for v in aim(seed, k))
    deep = dr.zeros(U, lanes)
    pol = q0 + dr.zeros(F, lanes)
    draw = dr.full(U, 16, lanes)
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

    def cond(px: Any, *_: Any) -> Any:
        return px < px_end

    def body(px, seed, k, draw, x, y, z, wx, wy, wz, zone, tau, pol, steps, met, deep, W, L, T):  # type: ignore[no-untyped-def]
        fine, gridded = zone == 0, zone < 2

        def pick(values: Any) -> Any:
            return dr.select(fine, values[0], dr.select(gridded, values[1], values[2]))

        m_hero = pick([m[1] for m in mus])
        # walls of the column and of the zone
        inv_dx, dx = dr.select(fine, inv_f, inv_c), dr.select(fine, dx_f, dx_c)
        top_i = dr.select(fine, F(nf - 1), F(nc - 1))
        gx, gy = (x - origin) * inv_dx, (y - origin) * inv_dx
        nudge = 1e-4
        cx = dr.clip(dr.floor(gx + dr.copysign(F(nudge), wx)), 0, top_i)
        cy = dr.clip(dr.floor(gy + dr.copysign(F(nudge), wy)), 0, top_i)

        def wall(c: Any, g: Any, w: Any) -> Any:
            ahead = dr.select(w > 0, c + 1, c)
            t = (ahead - g) * dx / w
            open_side = dr.select(w > 0, c >= top_i, c <= 0)
            return dr.select(open_side | (dr.abs(w) < 1e-6) | ~gridded, far, dr.maximum(t, 0))

        t_lateral = dr.minimum(wall(cx, gx, wx), wall(cy, gy, wy))
        z_low, z_high = pick([F(0), *z_face[:2]]), pick(z_face)
        t_zone = dr.select(dr.abs(wz) < 1e-6, far, dr.maximum((dr.select(wz > 0, z_high, z_low) - z) / wz, 0))
        t_coll = tau / m_hero
        t = dr.minimum(dr.minimum(t_lateral, t_zone), t_coll)
        collides = t_coll <= dr.minimum(t_lateral, t_zone)
        faces = ~collides & (t_zone <= t_lateral)
        # absorption over the flight
        col = whole(cy) * dr.select(fine, U(nf), U(nc)) + whole(cx)
        z1 = dr.select(faces, dr.select(wz > 0, z_high, z_low), dr.fma(t, wz, z))
        node = dr.select(fine, col * (kf + 1), dr.fma(col, U(kc + 1), first_coarse))
        a0, b0, am, bm = cumulative(fine, node, z, gridded)
        a1, b1, _, _ = cumulative(fine, node, z1, gridded)
        dz = z1 - z
        steep = dr.abs(dz) > 1e-4
        k_len = t / dr.select(steep, dz, 1)
        depth_m = dr.select(gridded, dr.select(steep, (a1 - a0) * k_len, am * t), 0)
        depth_b = dr.select(gridded, dr.select(steep, (b1 - b0) * k_len, bm * t), 0)
        W2 = []
        for j in range(HEROES):
            extinction = dr.fma(depth_m, mel[j], dr.fma(depth_b, blo[j], t * pick([b[j] for b in base])))
            m_j = pick([m[j] for m in mus])
            if j != 1:
                extinction = dr.fma(m_j - m_hero, t, extinction)
                factor = dr.select(collides, m_j / m_hero, 1)
                W2.append(W[j] * dr.exp(-extinction) * factor)
            else:
                W2.append(W[j] * dr.exp(-extinction))
        x, y, z = dr.fma(t, wx, x), dr.fma(t, wy, y), z1
        # what happens there
        u1, u2, u3 = (uniform(seed, k, draw + i, i) for i in range(3))
        last = bits(seed, k, draw + 3, 3)
        u4, u5 = real(last >> 16) * (1 / 65536), real(_hash32(U, last) >> 8) * (1 / 16777216)
        draw = dr.select(collides | faces, draw + 4, draw)
        tau = dr.select(collides, -dr.log(1 - u1), tau - t * m_hero)
        surface = faces & (wz < 0) & fine
        out_below = faces & (wz > 0) & (zone == ZONES - 1)
        crosses = faces & ~surface & ~out_below
        zone = dr.select(crosses, dr.select(wz > 0, zone + 1, zone - 1), zone)
        cos_i = dr.abs(wz)
        fr = mi.fresnel(cos_i, dr.rcp(eta))[0]
        fr = dr.select(eta == 1.0, 0, fr)
        e_x = dr.clip(whole(dr.maximum(x * e_scale, 0)), 0, irradiance_size - 1)
        e_y = dr.clip(whole(dr.maximum(y * e_scale, 0)), 0, irradiance_size - 1)
        light = dr.gather(F, irradiance, e_y * irradiance_size + e_x, surface)
        gain = dr.select(surface, (1 - fr) * dr.abs(light) * (1 - pol), 0)
        met = dr.select(surface & (light < 0), U(1), met)
        for j in range(HEROES):
            L[j] = dr.fma(W2[j], gain, L[j])
            W2[j] = dr.select(surface, W2[j] * fr, W2[j])
            if with_transmittance:
                T[j] = dr.select(out_below, T[j] + W2[j], T[j])
        # displacement in the plate: sin in glass = eta / n_glass * sin in tissue
        s_t = dr.safe_sqrt(1 - cos_i * cos_i)
        s_g = dr.minimum(s_t * (1.4 / n_glass), 0.999)
        shift = dr.select(surface & (s_t > 1e-6), plate * s_g * dr.rsqrt(1 - s_g * s_g) / dr.maximum(s_t, 1e-6), 0)
        x, y = dr.fma(shift, wx, x), dr.fma(shift, wy, y)
        wz = dr.select(surface, -wz, wz)
        # scatter
        dej = dr.gather(F, columns.dej_mm, col, collides & fine)
        scatters = collides & (~fine | (z < dej) | (u4 < ratio))
        g = pick(g_zone)
        iso = dr.abs(g) < 1e-3
        gs = dr.select(iso, 0.5, g)
        h = (1 - gs * gs) / (1 - gs + 2 * gs * u2)
        c = dr.select(iso, 1 - 2 * u2, (1 + gs * gs - h * h) / (2 * gs))
        c = dr.clip(c, -1, 1)
        s = dr.safe_sqrt(1 - c * c)
        sp, cp = dr.sincos(2 * dr.pi * u3)
        sign = dr.copysign(F(1), wz)
        fa = -dr.rcp(sign + wz)
        fb = wx * wy * fa
        sx, sy = s * cp, s * sp
        nx = dr.fma(sx, 1 + sign * wx * wx * fa, dr.fma(sy, fb, c * wx))
        ny = dr.fma(sx, sign * fb, dr.fma(sy, dr.fma(wy * wy, fa, sign), c * wy))
        nz = dr.fma(sx, -sign * wx, dr.fma(sy, -wy, c * wz))
        wx, wy, wz = dr.select(scatters, nx, wx), dr.select(scatters, ny, wy), dr.select(scatters, nz, wz)
        pol = dr.select(scatters, pol * pick(q_zone), pol)
        # Russian roulette on the largest of the three weights
        w_max = dr.maximum(dr.maximum(W2[0], W2[1]), W2[2])
        tested = (collides | surface) & (w_max < 0.4)
        q = w_max * (1 / 0.6)
        killed = tested & (u5 >= q)
        gain_q = dr.select(tested & ~killed, dr.rcp(dr.maximum(q, 1e-20)), 1)
        done = killed | out_below
        if ending is not None:
            deep = dr.select(scatters & ~fine, deep + 1, deep)
            ends = (deep >= end_after) & scatters & ~killed
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
            gain_end = dr.select(ends, dr.abs(shade) * gain_q, 0)
            L = [dr.fma(W2[j] * gain_end, mean[j], L[j]) for j in range(HEROES)]
            done = done | ends
        # the next path
        k = dr.select(done, k + 1, k)
        moves = k >= count  # this was the pixel's last path: keep its sums
        where = px * GROUPS + group
        for target, value in zip([*out_l, *out_t, out_met], [*L, *T, met], strict=True):
            dr.scatter(target, value, where, moves)
        L = [dr.select(moves, 0, v) for v in L]
        T = [dr.select(moves, 0, v) for v in T]
        met = dr.select(moves, 0, met)
        px, k = dr.select(moves, px + 1, px), dr.select(moves, 0, k)
        seed = dr.select(moves, seed_of(px), seed)
        bx, by, kept, gained, tau0 = begin(px, seed, k, done & (px < px_end))
        fresh = done & (px < px_end)
        met = dr.select(fresh & (kept < 1), U(1), met)
        bz, bwx, bwy, bwz, b_zone = aim(seed, k)
        x, y, z = dr.select(done, bx, x), dr.select(done, by, y), dr.select(done, bz, z)
        wx, wy, wz = dr.select(done, bwx, wx), dr.select(done, bwy, wy), dr.select(done, bwz, wz)
        tau, zone, pol = dr.select(done, tau0, tau), dr.select(done, b_zone, zone), dr.select(done, q0, pol)
        deep = dr.select(done, 0, deep)
        draw = dr.select(done, 16, draw)
        W2 = [dr.select(done, kept, W2[j] * gain_q) for j in range(HEROES)]
        L = [dr.select(fresh, L[j] + gained, L[j]) for j in range(HEROES)]
        return px, seed, k, draw, x, y, z, wx, wy, wz, zone, tau, pol, steps + 1, met, deep, W2, L, T

    state = (px, seed, k, draw, x, y, z, wx, wy, wz, zone, tau, pol, steps, met, deep, W, L, T)
    result = dr.while_loop(state, cond, body)
    steps = result[13]
    dr.eval(steps)
    return out_l, out_t, steps, out_met
