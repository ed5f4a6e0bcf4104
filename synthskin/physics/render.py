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
from scipy.ndimage import gaussian_filter

from synthskin.physics import absorption, camera, fluence, scattering, spectral, strands, tissue_columns, walk
from synthskin.physics.llvm import resolve_device
from synthskin.physics.scene import SceneSpec, TissueGrid
from synthskin.physics.tissue_columns import COARSE_MIX
from synthskin.record import Skin
from synthskin.uninterrupted import uninterrupted

F32 = NDArray[np.float32]
HAIR_RASTER = 1024
LIGHT_MAP = 256
FINE_ZONE_MARGIN_MM = 0.005
#: Share of the polarisation kept at one scattering in each zone. By design, not measured: 0.65 was chosen among five
#: trial values (0 to 0.85) so that polarised pictures lie near the ITA of the model; collagen is taken to keep none.
DEPOLARISATION = np.array([0.65, 0.0, 0.0], np.float32)
ETA_TISSUE = 1.40  # DESIGN: one index for all tissue
ETA_GLASS = 1.50


def mixed(seed: int) -> int:
    """64 bits of a seed, 0 of 0, unlike those of its neighbours (the finaliser of SplitMix64, Steele et al. 2014)."""
    z = (seed * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return z ^ (z >> 31)


@cache
def backend(device: str = "auto", threads: int = 0) -> tuple[Any, Any, str]:
    """(mitsuba, drjit, 'cuda' or 'llvm'); chooses libLLVM before Dr.Jit loads. Raises DeviceError."""
    name = resolve_device(device)
    with uninterrupted():  # Ctrl-C within these imports ends in errors of their own
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
        melanin=(absorption.melanosome_mu_a_per_mm(wavelength, skin.pheomelanin_share) - base).astype(np.float32),
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
                job.key ^ mixed(int(seed)),
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
