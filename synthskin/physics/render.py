"""The one place that loads Mitsuba and Dr.Jit: from SceneSpec and record to a linear picture with auxiliary buffers.

`SkinWalk` is a Mitsuba integrator (registered as `skinwalk`, box filter): `render()` takes film and samples from the
Mitsuba scene and the tissue from `integrator.job`. Everything that differs between samples is opaque to the JIT, so
that the second sample compiles nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from synthskin.physics import absorption, camera, fluence, scattering, spectral, strands, tissue_columns, walk
from synthskin.physics.llvm import resolve_device
from synthskin.physics.scene import SceneSpec, TissueGrid
from synthskin.physics.tissue_columns import COARSE_MIX
from synthskin.record import Skin

F32 = NDArray[np.float32]
HAIR_RASTER = 1024
LIGHT_MAP = 256
FINE_ZONE_MARGIN_MM = 0.005
#: Share of the polarisation kept at one scattering in each zone. By design, not measured: 0.65 was chosen among five
#: trial values (0 to 0.85) so that polarised pictures lie near the ITA of the model; collagen is taken to keep none.
DEPOLARISATION = np.array([0.65, 0.0, 0.0], np.float32)
ETA_TISSUE = 1.40  # DESIGN: one index for all tissue
ETA_GLASS = 1.50


@cache
def backend(device: str = "auto", threads: int = 0) -> tuple[Any, Any, str]:
    """(mitsuba, drjit, 'cuda' or 'llvm'); chooses libLLVM before Dr.Jit loads. Raises DeviceError."""
    name = resolve_device(device)
    import drjit as dr
    import mitsuba as mi

    mi.set_variant("cuda_ad_rgb" if name == "cuda" else "llvm_ad_rgb")
    if threads:
        dr.set_thread_count(threads)
    _register(mi, dr)
    return mi, dr, name


@dataclass(frozen=True, slots=True)
class Job:
    """What SkinWalk renders: device arrays and numbers of one sample."""

    columns: tissue_columns.Columns
    optics: walk.Optics
    hair: Any
    irradiance: Any
    field_of_view_mm: float
    plate_mm: float
    polarised: bool
    key: int
    ending: walk.Ending | None


def optics_of(skin: Skin) -> walk.Optics:
    """Coefficients of a skin at the render's wavelengths (absorption and scattering of `flat_skin`)."""
    wavelength = np.array(spectral.BAND_WAVELENGTH_NM).reshape(walk.GROUPS, walk.HEROES)
    base = absorption.baseline_mu_a_per_mm(wavelength)
    blood = absorption.packed_blood_mu_a_per_mm(wavelength, skin.oxygenation, skin.vessel_radius_um)
    dermis = scattering.dermis_mu_s_prime_per_mm(wavelength, skin.scattering_scale, skin.scattering_power)
    fat = scattering.hypodermis_mu_s_prime_per_mm(wavelength)
    return walk.Optics(
        melanin=(absorption.melanosome_mu_a_per_mm(wavelength) - base).astype(np.float32),
        blood=(blood - base).astype(np.float32),
        base=np.stack([base, base, absorption.hypodermis_mu_a_per_mm(wavelength)]).astype(np.float32),
        mu_s=np.stack(
            [scattering.fine_zone_mu_s_per_mm(wavelength, skin.epidermis_scattering), dermis, fat]
        ).astype(np.float32),
        anisotropy=np.array([scattering.FINE_ZONE_G, 0, 0], np.float32),
        depolarisation=DEPOLARISATION,
        papillary_ratio=float(
            scattering.papillary_scale(skin.scattering_scale, skin.scattering_power, skin.epidermis_scattering)
        ),
        eta=ETA_TISSUE,
    )


COARSE_CELLS = 12
COARSE_FACTOR = 4  # a dermal column is this many fine columns wide


def coarse_edges(top_mm: float, bottom_mm: float) -> F32:
    """Depths of the dermal cells' edges, closer near the top; the law of `Columns`."""
    u = np.linspace(0, 1, COARSE_CELLS + 1)
    return (top_mm + (bottom_mm - top_mm) * (COARSE_MIX * u + (1 - COARSE_MIX) * u * u)).astype(np.float32)


def upload(mi: Any, dr: Any, tissue: TissueGrid, pigment_to_mm: float | None = None) -> tissue_columns.Columns:
    """The grid on the device: fine columns down to `pigment_to_mm` (Henyey-Greenstein), coarse ones below.

    By default the fine zone ends just under the deepest junction or where the grid's fine structures do.
    """
    edges = tissue.z_edges_fine_mm
    deepest = pigment_to_mm
    if deepest is None:
        deepest = max(float(tissue.dej_mm.max()) + FINE_ZONE_MARGIN_MM, tissue.fine_to_mm)
    top = min(deepest, float(edges[-1]))
    cells = int(np.searchsorted(edges, top - 1e-6))
    below = coarse_edges(top, float(tissue.z_edges_coarse_mm[-1]))
    melanin, blood = fluence.resample(tissue, below, tissue.dej_mm.shape[0] // COARSE_FACTOR)
    used = slice(0, cells)
    packed, unit_mm = tissue_columns.pack_cells(
        mi,
        dr,
        [
            (tissue.melanin_fine[..., used], tissue.blood_fine[..., used], edges[: cells + 1]),
            (melanin, blood, below),
        ],
    )
    n, m = tissue.dej_mm.shape[0], melanin.shape[0]
    return tissue_columns.Columns(
        cells=packed,
        unit_mm=unit_mm,
        first_coarse=n * n * cells,
        layers=tissue_columns.on_device(
            mi,
            tissue_columns.pack_layers(
                tissue.dej_mm,
                m,
                tissue.keratin_to_mm,
                tissue.keratin_scale,
                tissue.dermal_scale,
                tissue.birefringence,
            ),
        ),
        n_fine=n,
        n_coarse=m,
        cells_fine=cells,
        cells_coarse=COARSE_CELLS,
        column_mm=tissue.column_mm,
        coarse_column_mm=tissue.column_mm * COARSE_FACTOR,
        origin_mm=tissue.origin_mm,
        fine_to_mm=top,
        coarse_to_mm=float(below[-1]),
        bottom_mm=1e9,
    )


def hair_maps(scene: SceneSpec, record: Any) -> tuple[F32, F32]:
    """(transmission (3, r, r, 2), irradiance (m, m), negative where a fibre shades the skin)."""
    fov = record.camera.field_of_view_mm
    offset, height, owner = strands.rasterise(scene.hair, HAIR_RASTER, fov)
    through = strands.transmission(offset, owner, scene.hair, record.hair.eumelanin, record.hair.pheomelanin,
                                  fov / HAIR_RASTER)
    lit = strands.shadows(through[1, ..., 0], height, fov, record.camera.ring_elevation_deg, LIGHT_MAP)
    light = camera.light_gain(record.camera, LIGHT_MAP) * lit
    return through, np.where(lit < 1, -light, light).astype(np.float32)


def make_job(
    mi: Any, dr: Any, scene: SceneSpec, record: Any, key: int, through: F32, light: F32, ending: bool = True
) -> Job:
    """Everything of one sample on the device; `through` and `light` come from `hair_maps`.

    With `ending` paths end in the tabulated mean radiance (`fluence.py`); without it they walk to the end.
    """
    cam = record.camera
    fov, plate = cam.field_of_view_mm, cam.plate_thickness_mm
    columns, optics = upload(mi, dr, scene.tissue), optics_of(record.skin)
    table = None
    if ending:
        lamp = camera.light_gain(cam, LIGHT_MAP)
        lit = np.where(light < 0, -light / lamp, np.float32(1))
        shade = gaussian_filter(1 - lit, fluence.SHADE_BLUR_MM * LIGHT_MAP / fov, truncate=3.0)
        shade = np.where(shade > 1e-6, shade - 1, 1).astype(np.float32)
        n = fluence.CELLS
        middle = (
            scene.tissue.origin_mm + (np.arange(n) + 0.5) * scene.tissue.column_mm * (scene.tissue.dej_mm.shape[0] // n)
        ) / fov
        index = np.clip((middle * LIGHT_MAP).astype(np.int32), 0, LIGHT_MAP - 1)
        bare = np.zeros((walk.GROUPS, 1, 1, 2), np.float32)
        bare[..., 0] = 1
        table = fluence.tabulate(
            mi,
            dr,
            scene.tissue,
            columns,
            optics,
            lamp[index[:, None], index],
            shade,
            tissue_columns.on_device(mi, bare),
            1,
            tissue_columns.on_device(mi, lamp),
            LIGHT_MAP,
            fov,
            key,
            2.0 * plate,
        )
    return Job(
        columns=columns,
        optics=optics,
        hair=tissue_columns.on_device(mi, through),
        irradiance=tissue_columns.on_device(mi, light),
        field_of_view_mm=fov,
        plate_mm=plate,
        polarised=cam.dermoscopic_type == "contact polarized",
        key=key,
        ending=table,
    )


def _register(mi: Any, dr: Any) -> None:
    class SkinWalk(mi.CppADIntegrator):  # type: ignore[misc,name-defined]
        """Random walk in layered skin under a contact plate; see `walk.py`.

        It takes neither emitters nor other shapes, has no derivatives, and needs `job` set before `render`.
        """

        def __init__(self, props: Any) -> None:
            super().__init__(props)
            self.job: Job | None = None
            self.steps: Any = None
            self.met_hair: Any = None

        def render(
            self, scene: Any, sensor: Any = 0, seed: Any = 0, spp: int = 0, develop: bool = True, evaluate: bool = True
        ) -> Any:
            """XYZ picture (h, w, 3) as a tensor; `spp` is a multiple of the three hero groups."""
            job = self.job
            if job is None:
                raise RuntimeError("skinwalk: set integrator.job before rendering")
            sensor = scene.sensors()[sensor] if isinstance(sensor, int) else sensor
            width, height = sensor.film().size()
            if width != height or spp % walk.GROUPS:
                raise RuntimeError(
                    f"skinwalk: {width}x{height} at {spp} spp: a square film and a multiple of 3 are needed"
                )
            paths = spp // walk.GROUPS
            radiance, _, self.steps, self.met_hair = walk.trace(
                mi,
                dr,
                job.columns,
                job.optics,
                job.hair,
                HAIR_RASTER,
                job.irradiance,
                LIGHT_MAP,
                job.field_of_view_mm,
                width,
                paths,
                job.key ^ (int(seed) << 40),
                job.polarised,
                2.0 * job.plate_mm,
                ending=job.ending,
            )
            group = dr.arange(mi.UInt32, dr.width(radiance[0])) % walk.GROUPS
            weights = tissue_columns.on_device(mi, spectral.BAND_WEIGHTS)
            xyz = []
            for channel in range(3):
                value = mi.Float(0)
                for hero in range(walk.HEROES):
                    w = dr.gather(mi.Float, weights, (group * walk.HEROES + hero) * 3 + channel)
                    value = dr.fma(radiance[hero], w, value)
                xyz.append(value / dr.opaque(mi.Float, float(paths)))
            dr.eval(xyz, self.steps, self.met_hair)
            xyz = [dr.block_sum(c, walk.GROUPS) for c in xyz]
            return mi.TensorXf(dr.ravel(mi.Point3f(*xyz)), shape=(int(height), int(width), 3))

        def to_string(self) -> str:
            return "SkinWalk[]"

    mi.register_integrator("skinwalk", SkinWalk)


def stage(mi: Any, size_px: int) -> tuple[Any, Any]:
    """(Mitsuba scene with orthographic sensor and box-filtered film, skinwalk integrator)."""
    scene = mi.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "skinwalk"},
            "sensor": {
                "type": "orthographic",
                "film": {"type": "hdrfilm", "width": size_px, "height": size_px, "rfilter": {"type": "box"}},
                "sampler": {"type": "independent", "sample_count": walk.GROUPS},
            },
        }
    )
    return scene, scene.integrator()


def guide(scene: SceneSpec, through: F32, size_px: int) -> F32:
    """(size, size, 4) for the denoiser, free of noise: albedo and blood.

    Albedo is the double transmission of melanin, vessels and hair at three wavelengths; blood what light meets of it,
    in um, as sharp as light lets it be seen.
    """
    tissue = scene.tissue
    dz = np.diff(tissue.z_edges_fine_mm).astype(np.float32)
    n = tissue.dej_mm.shape[0]
    margin = round(-tissue.origin_mm / tissue.column_mm)
    at = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px * (n - 2 * margin) + margin - 0.5
    low = np.clip(at.astype(np.int32), 0, n - 2)
    f = (at - low)[:, None]

    def seen(column: F32) -> F32:
        column = column[low] * (1 - f) + column[low + 1] * f
        return np.asarray(column[:, low] * (1 - f.T) + column[:, low + 1] * f.T, np.float32)

    nm = np.array([600.0, 545.0, 460.0])
    depth = seen(tissue.melanin_fine @ dz)[..., None] * absorption.melanosome_mu_a_per_mm(nm).astype(np.float32)
    if scene.lesion is not None:
        for blood in (scene.lesion.vessel_um, scene.lesion.crust_um):
            if blood is not None:
                mu = absorption.packed_blood_mu_a_per_mm(nm, 0.7, 20.0).astype(np.float32)
                # light goes round thin vessels: blurred and weakened until the denoiser neither adds nor takes contrast
                thin = np.minimum(blood, np.float32(60)) * np.float32(0.7e-3)
                depth = depth + seen(gaussian_filter(thin, 0.07 / tissue.column_mm))[..., None] * mu
    albedo = 0.9 * np.exp(-1.5 * depth)
    bright = np.zeros((n, n), np.float32)  # what scatters or depolarises more is brighter: an edge for the denoiser
    if tissue.keratin_to_mm is not None and tissue.keratin_scale is not None:
        bright += np.minimum(np.float32(0.9) * tissue.keratin_to_mm * (tissue.keratin_scale - 1), np.float32(0.6))
    if tissue.dermal_scale is not None:
        bright += np.float32(0.12) * (tissue.dermal_scale - 1)
    if tissue.birefringence is not None:
        bright += np.float32(0.12 if scene.polarised else 0.04) * tissue.birefringence
    if bright.any():
        albedo = albedo * (1 + seen(bright))[..., None] / np.float32(1.35)
    factor = HAIR_RASTER / size_px
    if factor >= 1 and HAIR_RASTER % size_px == 0:
        k = int(factor)
        keep = through[..., 0].reshape(3, size_px, k, size_px, k).mean((2, 4))
    else:
        pick = np.minimum(((np.arange(size_px) + 0.5) * factor).astype(np.int32), HAIR_RASTER - 1)
        keep = through[:, pick[:, None], pick, 0]
    albedo = albedo * keep[::-1].transpose(1, 2, 0)
    return np.ascontiguousarray(np.concatenate([albedo, seen(_blood_um(tissue))[..., None]], axis=2), np.float32)


BLOOD_DEPTH_MM = 0.5  # blood counts exp(-depth / this)
BLOOD_BLUR_MM = 0.13  # light goes sideways


def _blood_um(tissue: TissueGrid) -> F32:
    """(n, n) blood of each column in um, that of the depth less, blurred by the way of light."""
    n = len(tissue.dej_mm)
    total = np.zeros((n, n), np.float32)
    for blood, edges in ((tissue.blood_fine, tissue.z_edges_fine_mm), (tissue.blood_coarse, tissue.z_edges_coarse_mm)):
        weights = 1e3 * BLOOD_DEPTH_MM * -np.diff(np.exp(-edges / BLOOD_DEPTH_MM))
        own = blood @ weights.astype(np.float32)
        repeat = n // len(own)
        total += own if repeat == 1 else own.repeat(repeat, 0).repeat(repeat, 1)
    return np.asarray(gaussian_filter(total, BLOOD_BLUR_MM / tissue.column_mm), np.float32)


LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
FILTER_RADIUS_MM = 0.8
#: Ridges of the fit: of the albedo over its local mean, squared; of blood over its variance in the picture.
FILTER_EPSILON = 3e-4
BLOOD_EPSILON = 0.05
#: Fits are made on cells of so many pixels that a window is about this many cells wide; they vary slowly.
FIT_CELLS = 20
MOST_DETAIL = np.float32(3)


def denoise(linear: F32, guide: F32, field_of_view_mm: float) -> F32:
    """Colour and breadth by a guided filter, detail by Intel Open Image Denoise 2 (HDR, clean auxiliary buffers).

    Colour varies with the melanin and blood above, which the guide knows, and slowly otherwise: so each channel of the
    unbiased paths is fitted, in windows of FILTER_RADIUS_MM, as a linear function of the albedo's three channels and of
    the blood (guided filter: He, Sun & Tang 2013). What that leaves out, OIDN finds: its luminance over the same filter
    of its luminance. OIDN alone brightens dark skin and hair and pales contrasts where paths are few. For detail alone
    its smallest network does: within 0.03 of CIEDE2000 and 0.6 dB of the next, in half the time. The ridges are small
    because healthy skin varies by a few hundredths only: larger ones take its colour away (benchmarks/denoise.py).

    guide   (h, w, 4) of `guide`
    """
    import pyoidn

    normal = np.zeros_like(linear)
    normal[..., 2] = 1.0
    out = np.asarray(
        pyoidn.denoise(
            np.maximum(linear, 0), albedo=np.ascontiguousarray(guide[..., :3]), normal=normal, hdr=True, clean_aux=True,
            quality="fast"
        ),
        np.float32,
    )
    level = np.maximum(out @ LUMINANCE, 1e-5)[..., None]
    window_px = 2 * max(round(FILTER_RADIUS_MM / field_of_view_mm * linear.shape[0]), 1) + 1
    broad = guided(np.concatenate([linear, level], axis=2), guide, window_px)
    return broad[..., :3] * np.clip(level / broad[..., 3:], 1 / MOST_DETAIL, MOST_DETAIL)


def guided(values: F32, guide: F32, window_px: int) -> F32:
    """values (h, w, k) as locally linear functions of the guide (h, w, 4): a guided filter, nowhere negative."""
    h, w = guide.shape[:2]
    cell = max(window_px // FIT_CELLS, 1)
    while h % cell or w % cell:
        cell -= 1
    window = 2 * max(round((window_px / cell - 1) / 2), 1) + 1

    def cells(plane: F32) -> F32:
        if cell == 1:
            return plane
        return np.asarray(plane.reshape(h // cell, cell, w // cell, cell).mean((1, 3)), np.float32)

    def spread(plane: F32) -> F32:
        return plane if cell == 1 else plane.repeat(cell, 0).repeat(cell, 1)

    def box(plane: NDArray[Any]) -> F32:
        return np.asarray(uniform_filter(plane, window, mode="nearest"), np.float32)

    fine = [np.maximum(guide[..., :3] @ LUMINANCE, 1e-3), guide[..., 0] - guide[..., 1], guide[..., 1] - guide[..., 2],
            guide[..., 3]]
    g = [cells(plane) for plane in fine]
    mean = [box(plane) for plane in g]
    albedo_ridge = FILTER_EPSILON * mean[0] ** 2 + np.float32(1e-7)
    ridges = [albedo_ridge, albedo_ridge, albedo_ridge, np.float32(BLOOD_EPSILON * g[3].var() + 1e-12)]
    n = len(g)
    # symmetric elimination, all windows at once: rows[i] holds what is left of row i from its diagonal on
    rows = [[box(g[i] * g[j]) - mean[i] * mean[j] + (ridges[i] if i == j else 0) for j in range(i, n)]
            for i in range(n)]
    factors: list[tuple[int, int, F32]] = []
    for i in range(n):
        for j in range(i + 1, n):
            factor = rows[i][j - i] / rows[i][0]
            factors.append((i, j, factor))
            for k in range(j, n):
                rows[j][k - j] = rows[j][k - j] - factor * rows[i][k - i]
    out = np.empty_like(values)
    for channel in range(values.shape[2]):
        plane = cells(values[..., channel])
        average = box(plane)
        right = [box(g[i] * plane) - mean[i] * average for i in range(n)]
        for i, j, factor in factors:
            right[j] = right[j] - factor * right[i]
        slopes: list[Any] = [None] * n
        for i in range(n - 1, -1, -1):
            known = sum(rows[i][k - i] * slopes[k] for k in range(i + 1, n))
            slopes[i] = (right[i] - known) / rows[i][0]
        fitted = average - sum(slope * middle for slope, middle in zip(slopes, mean, strict=True))
        total = spread(box(fitted))
        for slope, plane in zip(slopes, fine, strict=True):
            total = total + spread(box(slope)) * plane
        out[..., channel] = np.maximum(total, 1e-5)
    return out
