"""Engine: one SampleRecord in, one labelled picture out. Mitsuba is loaded when an Engine is made, not before."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from threadpoolctl import ThreadpoolController

from synthskin.conventions import default_spp
from synthskin.physics import (
    anatomy,
    artefacts,
    camera,
    clinical,
    denoise,
    environment,
    flat_skin,
    labels,
    region,
    render,
    visibility,
)
from synthskin.physics.hair import hair_mask
from synthskin.physics.llvm import DeviceError
from synthskin.record import SampleRecord

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
P = ParamSpec("P")
R = TypeVar("R")


class EngineError(RuntimeError):
    """Rendering is not possible here. One line, meant for the user."""


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """How to render; all that changes pictures besides the record.

    spp is the number of paths a pixel, rounded up to a multiple of 3 (three wavelengths travel on each path); None:
    as many as the skin needs.
    environment is the panorama file that lights photographs whose `clinical.light` is environment.
    """

    size_px: int = 256
    spp: int | None = None
    denoise: bool = True
    device: str = "auto"
    maps: bool = False
    threads: int = 0
    environment: str | None = None


@dataclass(frozen=True, slots=True)
class RenderedSample:
    """A finished sample. Pictures are (h, w, 3), masks (h, w) with 0 or 255; see docs/dataset.md.

    attributes_delta_e is how much each structure shows on this skin (visibility.structure_delta_e).
    instances and diagnoses are those of a region with several lesions: a label map, 0 = skin, and a class a label.
    """

    image: U8
    mask: U8
    hair: U8
    attributes: dict[str, U8]
    artefacts: dict[str, U8]
    maps: dict[str, F32]
    ita_deg: float
    ita_image_deg: float | None
    contrast: float | None
    visible_delta_e: float | None
    timings_s: dict[str, float] = field(default_factory=dict)
    instances: U8 | None = None
    diagnoses: tuple[str, ...] = ()
    attributes_delta_e: dict[str, float] = field(default_factory=dict)
    description: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LinearRender:
    """Before the 8 bits: linear sRGB noisy and denoised, the denoiser's guide, pixels whose paths met hair, steps."""

    noisy: F32
    clean: F32
    guide: F32
    met_hair: NDArray[np.bool_]
    steps: int


def columns_for(size_px: int) -> int:
    """Columns of the tissue grid: 384, or 576 for pictures over 384 pixels."""
    return 384 if size_px <= 384 else 576


def walk_key(record: SampleRecord) -> int:
    """64-bit key of the walk's random numbers: preset name, seed and index alone (counterfactuals share it)."""
    text = f"{record.preset}|{record.seed}|{record.index}|walk".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=5).digest(), "big")


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _same_sums(method: Callable[P, R]) -> Callable[P, R]:
    """Matrix products on one thread: BLAS adds in another order on more, and bytes would follow a machine's cores."""

    @wraps(method)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with _blas().limit(limits=1, user_api="blas"):
            return method(*args, **kwargs)

    return limited


class Engine:
    """Renders records one after another; keeps Mitsuba scene and kernels between them."""

    def __init__(self, settings: RenderSettings) -> None:
        self.settings = settings
        try:
            self.mi, self.dr, self.device_name = render.backend(settings.device, settings.threads)
        except DeviceError as error:
            raise EngineError(str(error)) from None
        if settings.environment is not None:  # refused before anything is rendered
            self._room(settings.environment, 0.0)
        self.stage, self.integrator = render.stage(self.mi, settings.size_px)
        self.timings: dict[str, float] = {}

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    def _room(self, path: str, azimuth_deg: float) -> environment.Room:
        try:
            return environment.read_room(self.mi, Path(path), azimuth_deg)
        except environment.EnvironmentMapError as error:
            raise EngineError(str(error)) from None

    def room(self, record: SampleRecord) -> environment.Room:
        """The light of a photograph; raises EngineError where a panorama is asked for and none was given."""
        c = record.clinical
        if c.light != "environment":
            return environment.room(c.light, c.light_azimuth_deg, c.light_elevation_deg, c.fill)
        if self.settings.environment is None:
            raise EngineError("clinical.light=environment: give the panorama, --environment room.exr")
        return self._room(self.settings.environment, c.light_azimuth_deg)

    def spp(self, record: SampleRecord) -> int:
        """Paths a pixel for a record, a multiple of 3."""
        asked, skin = self.settings.spp, record.skin
        if asked is None:
            asked = default_spp(self.settings.size_px, skin.melanosome_fraction * skin.epidermis_thickness_um)
        return -(-asked // 3) * 3

    @_same_sums
    def scene(self, record: SampleRecord, with_lesion: bool = True) -> Any:
        """SceneSpec of a record at this engine's resolution."""
        return anatomy.build_scene(record, columns_for(self.settings.size_px), with_lesion)

    @_same_sums
    def linear(
        self, record: SampleRecord, scene: Any, spp: int | None = None, seed: int = 0, ending: bool = True
    ) -> LinearRender:
        """Linear picture of a scene, noisy and denoised; without `ending` every path walks to its end."""
        with self._timed("hair"):
            through, light = render.hair_maps(scene, record)
        with self._timed("table and upload"):
            job = render.make_job(self.mi, self.dr, scene, record, walk_key(record), through, light, ending)
            self.integrator.job = job
        with self._timed("walk"):
            xyz = np.array(self.integrator.render(self.stage, seed=seed, spp=spp or self.spp(record)))
            met = np.array(self.integrator.met_hair).reshape(-1, 3).any(1)
            steps = int(np.array(self.integrator.steps).sum(dtype=np.int64))
        self.integrator.job = None
        size = self.settings.size_px
        noisy = camera.finish(xyz, record.camera)
        clean, albedo = noisy, noisy
        if self.settings.denoise:
            with self._timed("denoise"):
                albedo = denoise.auxiliary(scene, through, size)
                clean = denoise.denoise(noisy, albedo, record.camera.field_of_view_mm)
        return LinearRender(noisy, clean, albedo, met.reshape(size, size), steps)

    @_same_sums
    def render(self, record: SampleRecord) -> RenderedSample:
        """The whole way; raises EngineError where the device fails."""
        self.timings = {}
        size = self.settings.size_px
        fov = record.camera.field_of_view_mm
        shot = record if record.camera.view == "dermoscopic" else clinical.without_contact(record)
        with self._timed("fields"):
            scene = self.scene(shot)
        view = None
        picture = self.linear(shot, scene)
        with self._timed("artefacts"):
            finished, artefact_masks = artefacts.on_skin(picture.clean, shot, furrow_map(scene, size), scene.hair)
        if shot is not record:
            with self._timed("photograph"):
                slope = relief_slope(clinical.surface_um(scene), scene.tissue, size)
                finished, view = clinical.photograph(finished, record, slope, self.room(record))
        with self._timed("artefacts"):
            finished, far = artefacts.in_lens(finished, shot)
        with self._timed("camera"):
            image = camera.develop(finished, record)
        with self._timed("labels"):
            mask = np.zeros((size, size), np.uint8)
            visible = None
            instances: U8 | None = None
            diagnoses: tuple[str, ...] = ()
            tissue = scene.tissue
            if scene.lesion is not None:
                if record.camera.view == "region":
                    delta_e = labels.delta_e_map(scene.lesion, tissue.column_mm, tissue.origin_mm, fov, size)
                    found = region.mask_of_delta_e(delta_e, labels.THRESHOLD_DELTA_E, fov)
                    instances, diagnoses = region.instances(record, found)
                else:
                    found = labels.lesion_mask(scene.lesion, tissue.column_mm, tissue.origin_mm, fov, size)
                mask[found] = 255
                visible = labels.visible_delta_e(
                    scene.lesion, found, record.skin, tissue.column_mm, tissue.origin_mm, fov
                )
            hair = np.where(hair_mask(scene.hair, size, fov), 255, 0).astype(np.uint8)
            attributes = {
                name: np.where(footprint_to_picture(where, tissue, size) & (mask > 0), 255, 0).astype(np.uint8)
                for name, where in sorted(scene.attributes.items())
            }
            maps = depth_maps(scene, size) if self.settings.maps else {}
            if view is not None:
                mask, hair = _seen(view, mask), _seen(view, hair)
                instances = None if instances is None else view.labels(instances, mask > 0)
                attributes = {name: _seen(view, value) for name, value in attributes.items()}
                artefact_masks = {name: _seen(view, value) for name, value in artefact_masks.items()}
                maps = {name: view.picture(value) for name, value in maps.items()}
            artefact_masks |= far
            attributes = {name: value for name, value in attributes.items() if value.any()}
            shown = {} if record.camera.view == "region" else visibility.structure_delta_e(
                shot, attributes, tissue.dej_mm.shape[0], tissue.column_mm)
            ita_image, contrast = camera.measure(
                image, mask, hair, shot.camera, artefacts.hides_skin(artefact_masks, size)
            )
            ita = flat_skin.ita_of_skin(record.skin)
        return RenderedSample(
            image=image,
            mask=mask,
            hair=hair,
            attributes=attributes,
            artefacts=artefacts.told(artefact_masks),
            maps=maps,
            ita_deg=ita,
            ita_image_deg=ita_image,
            contrast=contrast,
            visible_delta_e=visible,
            timings_s=dict(self.timings),
            instances=instances,
            diagnoses=diagnoses,
            attributes_delta_e=shown,
            description={"steps": picture.steps},
        )


def _seen(view: clinical.View, mask: U8) -> U8:
    return np.where(view.mask(mask > 0), 255, 0).astype(np.uint8)


def _margin(values: NDArray[Any], tissue: Any) -> int:
    """Elements of a map, on columns or coarse ones, that lie before the picture's edge."""
    return round(-tissue.origin_mm / tissue.column_mm * len(values) / tissue.dej_mm.shape[0])


def footprint_to_picture(where: NDArray[np.bool_], tissue: Any, size_px: int) -> NDArray[np.bool_]:
    """Mask (size, size) of a footprint on the grid's columns: pixels whose centre lies in one of its columns.

    That keeps the area of what is thinner than a pixel, where "at least half covered" loses it. A centre on the edge
    between two columns looks to one side or the other, by turns from row to row (from column to column), so that
    nothing moves.
    """
    margin = _margin(where, tissue)
    place = (2 * np.arange(size_px) + 1) * (len(where) - 2 * margin)
    low, rest = np.divmod(place, 2 * size_px)  # whole numbers: an edge is met exactly
    turn = ((rest == 0)[:, None] & (np.arange(size_px) % 2 == 1)).astype(np.int64)
    index = margin + low[:, None] - turn
    return np.asarray(where)[index, index.T]


def pixel_means(values: F32, tissue: Any, size_px: int) -> F32:
    """Mean (size, size) over each pixel of a map on the grid's columns, or on its coarse ones."""
    margin = _margin(values, tissue)
    seen = values[margin : len(values) - margin, margin : len(values) - margin]
    return denoise.box_means(np.ascontiguousarray(denoise.box_means(seen, size_px).T), size_px).T


def _relief(height_um: F32, tissue: Any, size_px: int, order: tuple[int, int]) -> F64:
    """Mean over each pixel of a height on the columns, or of its derivative along y or x, in um and mm.

    Between columns it is a quadratic B-spline with the columns as its weights: continuous in slope, nowhere steeper
    than between two columns. Picked from the nearest column, furrows would be steps where pixels are smaller, and alias
    where they are larger.
    """
    n = len(height_um)
    knots_mm = tissue.origin_mm + (np.arange(n + 3) - 1) * tissue.column_mm
    edges_mm = np.linspace(0, n * tissue.column_mm + 2 * tissue.origin_mm, size_px + 1)
    values = np.asarray(height_um, np.float64)
    for axis, derivative in enumerate(order):
        spline = BSpline(knots_mm, values, 2, axis=axis)
        at = spline(edges_mm) if derivative else spline.antiderivative()(edges_mm)
        values = np.diff(at, axis=axis) / (edges_mm[1] - edges_mm[0])
    return values


def relief_slope(height_um: F32, tissue: Any, size_px: int) -> F32:
    """Slope (2, size, size) along y and x of a height on the columns, mean over each pixel."""
    both = [_relief(height_um, tissue, size_px, order) for order in ((1, 0), (0, 1))]
    return (np.stack(both) / 1000).astype(np.float32)


def furrow_map(scene: Any, size_px: int) -> F32:
    """Relief at the picture's pixels, 0 on a plateau ... 1 in the deepest furrow."""
    height = _relief(scene.surface_height_um, scene.tissue, size_px, (0, 0))
    span = float(height.max() - height.min())
    return np.asarray((height.max() - height) / span if span > 0 else np.zeros_like(height), np.float32)


def depth_maps(scene: Any, size_px: int) -> dict[str, F32]:
    """Means over the pixels: melanin and blood columns (mm of pure chromophore), lesion depth and surface height (mm).

    The depth is the mean over the columns that hold the lesion, 0 where it covers less than half of a pixel.
    """
    tissue = scene.tissue
    fine_dz, coarse_dz = np.diff(tissue.z_edges_fine_mm), np.diff(tissue.z_edges_coarse_mm)
    depth = np.zeros((size_px, size_px), np.float32)
    if scene.lesion is not None:
        below = scene.lesion.dermal_um > 0.5
        reach = tissue.dej_mm + np.where(below, scene.lesion.dermal_depth_um / 1000, 0)
        holds = (scene.lesion.column_um > 0.1).astype(np.float32)
        share = pixel_means(holds, tissue, size_px)
        depth = np.where(share >= 0.5, pixel_means(holds * reach, tissue, size_px) / np.maximum(share, 0.5), 0)

    def column(fine: F32, coarse: F32) -> F32:
        return pixel_means(fine @ fine_dz, tissue, size_px) + pixel_means(coarse @ coarse_dz, tissue, size_px)

    maps = {
        "melanin_column_mm": column(tissue.melanin_fine, tissue.melanin_coarse),
        "blood_column_mm": column(tissue.blood_fine, tissue.blood_coarse),
        "lesion_depth_mm": depth,
        "height_mm": _relief(scene.surface_height_um, tissue, size_px, (0, 0)) / 1000,
    }
    return {name: np.ascontiguousarray(value, np.float32) for name, value in maps.items()}
