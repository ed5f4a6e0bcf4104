"""Mean radiance in the dermis, tabulated for one sample, so that paths need not walk on down there.

Below the pigment light is scattered isotropically many times, and what a path would still bring to the camera after
a collision at x is the mean radiance there under the lamp, by reciprocity. It is smooth, so it is solved for:

1. diffusion on a grid of about 0.3 mm (lateral) and 0.06-1 mm (depth) for each of the nine wavelengths, with the
   melanin and blood columns above as a boundary that lets in `T` and sends back `R` (Marshak; Haskell et al. 1994),
   under a plate blurred by the displacement there, relaxed line by line in depth;
2. diffusion errs next to the boundary, so it is corrected by a factor a(wavelength) (1 + b depth term + c darkness).
   What it usually is follows from a law fitted to many skins; walks started at random points of this tissue then move
   it as far as their noise warrants.

A path walks exactly until its first collision in the dermis (`COLLISIONS`) and ends in the table. The bias that is
left is measured in benchmarks/ending_bias.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthskin.physics import tissue_columns, walk
from synthskin.physics.scene import TissueGrid

F32 = NDArray[np.float32]
LEVELS = 16
FIRST_MM = 0.06
GROWTH = 1.25
COLLISIONS = 1
SWEEPS = 6  # relaxations where cells are of SWEEP_CELL_MM or larger
SWEEP_CELL_MM = 0.275
COARSER, COARSE_SWEEPS = 2, 16  # smaller cells start from a solution on cells so many times as large
CELLS = 48  # of the table, across picture and margins
#: Cosines and shares of diffuse light (Gauss points for the weight 2 mu): its transmission is twice the exponential
#: integral E3, which falls more slowly than exp(-2 tau) where it is dark
DIFFUSE = ((0.21234, 0.59053, 0.91141), (0.13965, 0.45838, 0.40197))
INTERNAL_REFLECTION = 0.49  # diffuse light inside, n 1.40 to air (Egan & Hilgeman 1973: 0.493)
PLATE_SPREAD = 1.0  # of light reflected in a plate over 2 x its thickness, standard deviation along one axis
PROBE_SIZE = 26  # squared, times the three hero groups, is the number of probe points
PROBE_PATHS = 6
SHADE_BLUR_MM = 0.2
#: True over diffuse mean radiance: its logarithm from `regressors`, the other two terms over it, and how far skins
#: stray from these (benchmarks/ending_law.py, results/ending_law.txt)
FACTOR_LAW = (-0.1854, 0.0350, -0.0126, -0.0232, 0.1538, -0.2114)
USUAL_FIT = (1.0, -0.027, 0.053)
USUAL_SD = (0.019, 0.025, 0.057)


def level_edges(top_mm: float) -> F32:
    """Depths (LEVELS + 1,) of the level edges."""
    k = np.arange(LEVELS + 1)
    return (top_mm + FIRST_MM * (GROWTH**k - 1) / (GROWTH - 1)).astype(np.float32)


def overlap(edges_from: NDArray[Any], edges_to: NDArray[Any]) -> F32:
    """(from, to): length of each cell of `edges_from` inside each cell of `edges_to`, over the length of the latter."""
    low = np.maximum(edges_from[:-1, None], edges_to[None, :-1])
    high = np.minimum(edges_from[1:, None], edges_to[None, 1:])
    return (np.maximum(high - low, 0) / np.diff(edges_to)).astype(np.float32)


def block_mean(values: F32, factor: int) -> F32:
    """Mean over factor x factor columns of (n, n, ...)."""
    n = values.shape[0] // factor
    return values.reshape(n, factor, n, factor, *values.shape[2:]).mean((1, 3))


def resample(tissue: TissueGrid, edges: F32, cells: int) -> tuple[F32, F32]:
    """Mean (melanin, blood) on cells x cells columns between the depth `edges`; zero beyond the coarse zone."""
    f_fine, f_coarse = tissue.dej_mm.shape[0] // cells, tissue.melanin_coarse.shape[0] // cells
    from_fine, from_coarse = overlap(tissue.z_edges_fine_mm, edges), overlap(tissue.z_edges_coarse_mm, edges)
    used = np.nonzero(from_fine.any(1))[0]
    first = int(used[0]) if used.size else 0
    out = []
    for fine, coarse in ((tissue.melanin_fine, tissue.melanin_coarse), (tissue.blood_fine, tissue.blood_coarse)):
        part = fine[..., first:] @ from_fine[first:]
        out.append(block_mean(part, f_fine) + block_mean(coarse @ from_coarse, f_coarse))
    return out[0], out[1]


def transmission(tissue: TissueGrid, optics: walk.Optics, top_mm: float, cells: int) -> F32:
    """(9, cells, cells): what diffuse light keeps through pigment and blood above `top_mm`, a mean over a cell."""
    above = overlap(tissue.z_edges_fine_mm, np.array([0.0, top_mm])) * top_mm
    column, vessels = (tissue.melanin_fine @ above)[..., 0], (tissue.blood_fine @ above)[..., 0]
    mel, blo, base = optics.melanin.ravel(), optics.blood.ravel(), optics.base.reshape(walk.ZONES, -1)[0]
    kept = []
    for b in range(9):
        depth = (mel[b] * column + blo[b] * vessels + base[b] * top_mm)
        diffuse = sum(w * np.exp(depth * np.float32(-1 / mu)) for mu, w in zip(*DIFFUSE, strict=True))
        kept.append(block_mean(diffuse, column.shape[0] // cells))
    return np.stack(kept)


def solve(
    mi: Any,
    dr: Any,
    tissue: TissueGrid,
    optics: walk.Optics,
    top_mm: float,
    through: F32,
    cells: int,
    light: F32,
    plate_tan_scale_mm: float,
    sweeps: int = SWEEPS,
) -> list[Any]:
    """Diffusion mean radiance, LEVELS Floats (9, cells, cells); `light` (cells, cells) is the lamp over the columns.

    A relaxation carries light one cell further, so that in a small field what is dark would stay too dark in its
    middle: there the relaxations start from a solution on larger cells.

    What the surface reflects from below comes back where it left, or, under a plate, blurred by its displacement there:
    for that light is solved for twice.
    """
    from scipy.ndimage import gaussian_filter, zoom

    F, U = mi.Float, mi.UInt32
    edges = level_edges(top_mm)
    dz = np.diff(edges)
    middle = edges[:-1] + dz / 2
    melanin, blood = resample(tissue, edges, cells)
    dermis = (middle < tissue.z_edges_coarse_mm[-1]).astype(np.float32)
    factor = tissue.dej_mm.shape[0] // cells
    mel, blo = optics.melanin.ravel(), optics.blood.ravel()
    base, mu_s = optics.base.reshape(walk.ZONES, -1), optics.mu_s.reshape(walk.ZONES, -1)
    h = tissue.column_mm * factor
    start: list[Any] = []
    if h < SWEEP_CELL_MM and cells % (2 * COARSER) == 0:
        wide = solve(mi, dr, tissue, optics, top_mm, block_mean(through.transpose(1, 2, 0), COARSER).transpose(2, 0, 1),
                     cells // COARSER, block_mean(light, COARSER), plate_tan_scale_mm, COARSE_SWEEPS)
        size = (9, cells // COARSER, cells // COARSER)
        start = [tissue_columns.on_device(mi, zoom(np.array(level).reshape(size), (1, COARSER, COARSER), order=1,
                                                   mode="nearest", grid_mode=True)) for level in wide]
    lanes = 9 * cells * cells
    index = dr.arange(U, lanes)
    band, cell = index // (cells * cells), index % (cells * cells)
    cx, cy = cell % cells, cell // cells
    left = dr.select(cx > 0, index - 1, index)
    right = dr.select(cx < cells - 1, index + 1, index)
    up = dr.select(cy > 0, index - cells, index)
    down = dr.select(cy < cells - 1, index + cells, index)
    def put(values: NDArray[Any]) -> Any:
        return tissue_columns.on_device(mi, values)

    t_b, lamp = put(through), put(light)
    mel_d, blo_d = (
        put(melanin.transpose(2, 0, 1)),
        put(blood.transpose(2, 0, 1)),
    )
    k_mel, k_blo = put(mel), put(blo)
    tables = [put(v) for v in (base[1], base[2], mu_s[1], mu_s[2])]
    in_dermis, step = put(dermis), put(dz)
    inv_h2 = dr.opaque(F, 1 / h**2)
    t = dr.gather(F, t_b, index)
    source = (1 - INTERNAL_REFLECTION) * t * dr.gather(F, lamp, cell)
    back = INTERNAL_REFLECTION * t * t
    base_d, base_h, mus_d, mus_h = (dr.gather(F, v, band) for v in tables)
    fibrosis = np.ones((cells, cells)) if tissue.dermal_scale is None else block_mean(tissue.dermal_scale, factor)
    mus_d *= dr.gather(F, put(fibrosis), cell)
    mu_a, diffusion, thickness = [], [], []
    for k in range(LEVELS):
        inside = dr.gather(F, in_dermis, U(k))
        m = dr.gather(F, mel_d, cell + k * cells * cells)
        b = dr.gather(F, blo_d, cell + k * cells * cells)
        absorb = m * dr.gather(F, k_mel, band) + b * dr.gather(F, k_blo, band) + base_d
        mu_a.append(dr.select(inside > 0, absorb, base_h))
        diffusion.append(1 / (3 * (mu_a[k] + dr.select(inside > 0, mus_d, mus_h))))
        thickness.append(dr.gather(F, step, U(k)))
    # Marshak: J+ = source + back J-, J+- = phi -+ 2 D phi'; flux through the top face, D phi' = (A phi0 - B)
    half = thickness[0] / 2 / diffusion[0]
    between = [2 / (thickness[k] / diffusion[k] + thickness[k + 1] / diffusion[k + 1]) for k in range(LEVELS - 1)]
    lateral = [diffusion[k] * inv_h2 * thickness[k] for k in range(LEVELS)]
    below = [mu_a[k] * thickness[k] + 4 * lateral[k] for k in range(LEVELS)]
    for k in range(LEVELS):
        below[k] += between[k - 1] if k else 0
        below[k] += between[k] if k < LEVELS - 1 else diffusion[k] / thickness[k]

    # elimination does not depend on the sweep: keep its factors
    def eliminate(diagonal: list[Any]) -> list[Any]:
        pivot = [1 / diagonal[0]]
        for k in range(1, LEVELS):
            pivot.append(1 / (diagonal[k] - between[k - 1] * between[k - 1] * pivot[k - 1]))
        return pivot

    def relax(source: Any, back: Any, sweeps: int) -> tuple[list[Any], Any]:
        """(phi, J-) with this light from above."""
        slope = (1 - back) / (2 * (1 + back) + (1 - back) * half)
        inflow = source / (2 * (1 + back) + (1 - back) * half)
        diagonal = [below[0] + slope, *below[1:]]
        alone = eliminate([diagonal[k] - 4 * lateral[k] for k in range(LEVELS)])  # columns that do not exchange light
        coupled = eliminate(diagonal)
        phi = start
        dr.eval(alone, coupled, between, lateral, inflow, slope, left, right, up, down)
        for sweep in range(1 if start else 0, sweeps + 1):
            pivot = coupled if sweep else alone
            rhs: list[Any] = []
            for k in range(LEVELS):
                r = F(0)
                if sweep:
                    r = lateral[k] * sum((dr.gather(F, phi[k], n) for n in (left, right, up, down)), F(0))
                if k == 0:
                    r = r + inflow
                else:
                    r = r + between[k - 1] * pivot[k - 1] * rhs[k - 1]
                rhs.append(r)
            new: list[Any] = [None] * LEVELS
            new[-1] = rhs[-1] * pivot[-1]
            for k in range(LEVELS - 2, -1, -1):
                new[k] = (rhs[k] + between[k] * new[k + 1]) * pivot[k]
            phi = new
            dr.eval(phi)
        flux = slope * phi[0] - inflow
        return phi, phi[0] + (2 - half) * flux

    _, up_again = relax(source, back, sweeps)
    spread = PLATE_SPREAD * plate_tan_scale_mm / h
    sent = (np.array(t * up_again).reshape(9, cells, cells) * INTERNAL_REFLECTION).astype(np.float32)
    returned = put(gaussian_filter(sent, (0, spread, spread), mode="nearest"))
    return relax(source + t * returned, dr.opaque(F, 0.0, lanes), sweeps)[0]


def _features(phi: NDArray[Any], usual: NDArray[Any], depth_mm: NDArray[Any]) -> NDArray[Any]:
    """Regressors of true over diffuse mean radiance: 1, a term that dies off below the top, darkness.

    `usual` is what this depth has under this much lamp: a dim corner is not dark tissue.
    """
    return np.stack([np.ones_like(phi), np.exp(-depth_mm / 0.15) + 0 * phi, phi / usual - 1], axis=-1)


def regressors(tissue: TissueGrid, optics: walk.Optics, top_mm: float, through: NDArray[Any]) -> NDArray[Any]:
    """(9, 6): what the factor of diffusion depends on from skin to skin, for benchmarks/ending_law.py too.

    1, optical depth of the pigment and its square, log of the dermis' absorption over its scattering, transport depth
    of the zone above and its square.
    """
    mu_s = optics.mu_s.reshape(walk.ZONES, -1)
    absorb = float(tissue.blood_coarse.mean()) * optics.blood.ravel() + optics.base.reshape(walk.ZONES, -1)[1]
    pigment = -np.log(through)
    transport = mu_s[0] * (1 - optics.anisotropy[0]) * optics.papillary_ratio * top_mm
    columns = (np.ones(9), pigment, pigment**2, np.log(absorb / mu_s[1]), transport, transport**2)
    return np.stack(columns, axis=-1)


def expected_factor(tissue: TissueGrid, optics: walk.Optics, top_mm: float, through: NDArray[Any]) -> NDArray[Any]:
    """(9,): the factor of diffusion by the law fitted to skins of all tones, good to USUAL_SD[0]."""
    return np.asarray(np.exp(regressors(tissue, optics, top_mm, through) @ FACTOR_LAW))


def fit_factor(design: NDArray[Any], ratio: NDArray[Any], weight: NDArray[Any], expected: float) -> NDArray[Any]:
    """(3,): least squares for `ratio` = `design` @ fit, held to what is usual: probes alone are noisy in dark skin."""
    x, y = design * weight[:, None], ratio * weight
    usual, spread = expected * np.array(USUAL_FIT), expected * np.array(USUAL_SD)
    left = y - x @ usual
    noise = float(np.mean(left**2))
    return np.asarray(usual + np.linalg.solve(x.T @ x / noise + np.diag(spread**-2.0), x.T @ left / noise))


def tabulate(
    mi: Any,
    dr: Any,
    tissue: TissueGrid,
    columns: tissue_columns.Columns,
    optics: walk.Optics,
    light: F32,
    shade: F32,
    hairless: Any,
    hair_size: int,
    irradiance: Any,
    irradiance_size: int,
    field_of_view_mm: float,
    key: int,
    plate_tan_scale_mm: float,
) -> walk.Ending:
    """The table of one sample. `light` (CELLS, CELLS) and `irradiance` are the lamp without hair."""
    from scipy.ndimage import map_coordinates

    top = columns.fine_to_mm
    through = transmission(tissue, optics, top, CELLS)
    levels = solve(mi, dr, tissue, optics, top, through, CELLS, light, plate_tan_scale_mm)
    phi = np.stack([np.array(v) for v in levels]).reshape(LEVELS, 9, CELLS, CELLS).transpose(1, 0, 2, 3)
    cell_mm = tissue.column_mm * (tissue.dej_mm.shape[0] // CELLS)
    # probes: x, y over the picture, depth mostly where paths end
    n = PROBE_SIZE * PROBE_SIZE
    i = np.arange(n * walk.GROUPS) // walk.GROUPS
    u = np.stack([(i * a) % 1.0 for a in (0.8191725134, 0.6710436067, 0.5497004779)])  # R3 sequence (Roberts 2018)
    x, y = u[0] * field_of_view_mm, u[1] * field_of_view_mm
    z = top + np.minimum(-0.35 * np.log(1 - u[2] * 0.97), columns.coarse_to_mm - top - 0.01)
    radiance, _, _, _ = walk.trace(
        mi,
        dr,
        columns,
        optics,
        hairless,
        hair_size,
        irradiance,
        irradiance_size,
        field_of_view_mm,
        PROBE_SIZE,
        PROBE_PATHS,
        key ^ 0x5DEECE66D,
        False,
        plate_tan_scale_mm,
        source=tuple(tissue_columns.on_device(mi, v) for v in (x, y, z)),
    )
    dr.eval(radiance)
    truth = np.stack([np.array(r) for r in radiance], -1) / PROBE_PATHS  # (lanes, hero)
    at = np.stack(
        [
            np.log(1 + (z - top) * (GROWTH - 1) / FIRST_MM) / np.log(GROWTH) - 0.5,
            (y - tissue.origin_mm) / cell_mm - 0.5,
            (x - tissue.origin_mm) / cell_mm - 0.5,
        ]
    )
    edges = level_edges(top)
    depth = (edges[:-1] + np.diff(edges) / 2 - top)[:, None, None]
    table = np.zeros((walk.GROUPS, LEVELS, CELLS, CELLS, 4), np.float32)
    group = np.arange(n * walk.GROUPS) % walk.GROUPS
    lamp_at = map_coordinates(light, at[1:], order=1, mode="nearest")
    expected = expected_factor(tissue, optics, top, through.mean((1, 2)))
    for g in range(walk.GROUPS):
        lanes = group == g
        for j in range(walk.HEROES):
            band = phi[g * walk.HEROES + j]
            guess = map_coordinates(band, at[:, lanes], order=1, mode="nearest")
            mean = (band / light).mean((1, 2))
            usual = np.interp(at[0, lanes], np.arange(LEVELS), mean) * lamp_at[lanes]
            ratio = truth[lanes, j] / guess
            design = _features(guess, usual, z[lanes] - top)
            weight = np.sqrt(guess / guess.mean())
            fit = fit_factor(design, ratio, weight, expected[g * walk.HEROES + j])
            factor = _features(band, mean[:, None, None] * light, depth) @ fit
            table[g, ..., j] = band * np.maximum(factor, 0.05)
    return walk.Ending(
        table=tissue_columns.on_device(mi, table),
        shade=tissue_columns.on_device(mi, shade),
        shade_size=shade.shape[0],
        levels=LEVELS,
        m=CELLS,
        cell_mm=cell_mm,
        origin_mm=tissue.origin_mm,
        top_mm=top,
        first_mm=FIRST_MM,
        growth=GROWTH,
        collisions=COLLISIONS,
    )
