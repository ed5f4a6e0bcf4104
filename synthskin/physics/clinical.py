"""A photograph without contact: the walk's diffuse picture of flat skin, lit over its relief, seen in perspective.

The random walk gives what the skin returns under even light, straight from above, without a plate. Here that picture is
lit by a room and a flash (irradiance over the normals of relief and body, softened by scattering in the skin), gets
the reflection of its rough surface (GGX), and is taken by a camera at a distance: tilt, perspective, depth of field.
Exposure and white balance are those of a white tile lying flat in the middle. Masks go through the same map.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates, maximum_filter

from synthskin.physics import environment
from synthskin.physics.artefacts.frame import Frame
from synthskin.physics.artefacts.optics import local_blur
from synthskin.physics.environment import F32, F64, Room
from synthskin.physics.scene import SceneSpec
from synthskin.record import SampleRecord

#: Light softens over these lengths in the skin, red, green, blue (standard deviation, mm): about the diffusion length.
SOFTENING_MM: Final = (0.60, 0.35, 0.25)
INSIDE: Final = 0.985  # the picture's footprint keeps within this share of the rendered skin
FLASH_ABOVE_MM: Final = 45.0  # between lens and flash of a phone or a camera; by design
RAISED: Final = 0.7
STEEPEST: Final = 0.8  # largest component of a normal along the skin


@dataclass(frozen=True, slots=True)
class View:
    """Where each pixel of the photograph lies on the skin.

    rows, columns   (size, size)   pixel of the rendered skin, fractional
    pixel_mm        float          width of a pixel on the skin in the middle
    camera_mm       (3,)           place of the lens: x, y, o from the middle of the skin
    axis            (3,)           unit vector from the skin to the lens
    """

    rows: F32
    columns: F32
    pixel_mm: float
    camera_mm: F64
    axis: F64

    def mask(self, where: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask of the skin as the camera sees it: pixels of which at least half is covered."""
        seen = map_coordinates(where.astype(np.float32), (self.rows, self.columns), order=1, mode="nearest")
        return np.asarray(seen >= 0.5)

    def labels(self, values: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """A label map of the skin as the camera sees it: of each pixel of `mask`, as seen, the nearest label."""
        out = np.asarray(map_coordinates(values, (self.rows, self.columns), order=0, mode="nearest"), np.uint8)
        if (mask & (out == 0)).any() and out.any():
            nearest = distance_transform_edt(out == 0, return_distances=False, return_indices=True)
            out = out[tuple(nearest)]
        return np.where(mask, out, np.uint8(0))

    def picture(self, values: F32) -> F32:
        """(size, size) or (size, size, c) of the skin as the camera sees it, cubic."""
        if values.ndim == 2:
            return np.asarray(map_coordinates(values, (self.rows, self.columns), order=1, mode="nearest"), np.float32)
        return np.stack([map_coordinates(values[..., c], (self.rows, self.columns), order=3, mode="mirror")
                         for c in range(values.shape[-1])], axis=-1).astype(np.float32)


def without_contact(record: SampleRecord) -> SampleRecord:
    """The record that the walk renders: no plate, no polarisers, even light, a lens without loss."""
    camera = replace(record.camera, dermoscopic_type="contact non-polarized", plate_thickness_mm=0.0,
                     light_falloff=0.0, vignette=0.0, glare=0.0)
    return replace(record, camera=camera)


def surface_um(scene: SceneSpec) -> F32:
    """Height of the free surface on the grid's columns: relief, and what a lesion lifts out of the skin.

    Loose keratin lies on top, that of cysts and plugs does not; of a thicker epidermis RAISED is above (acanthosis
    grows both ways; by design), ulcers are pits.
    """
    height = scene.surface_height_um
    if scene.lesion is None:
        return height
    if scene.lesion.thickening_um is not None:
        height = height + np.float32(RAISED) * scene.lesion.thickening_um
    if scene.lesion.keratin_um is not None:
        loose = scene.lesion.keratin_um
        for name in ("milia_like_cyst", "comedo_like_opening"):
            if name in scene.lesion.footprints:
                near = maximum_filter(scene.lesion.footprints[name], size=5)
                loose = np.where(near, np.float32(0), loose)
        height = height + loose
    return height


def view_of(record: SampleRecord, size: int) -> View:
    """The camera of a record; it stands as close as its distance says, its field is cut to the rendered skin."""
    c = record.clinical
    half = 0.5 * record.camera.field_of_view_mm
    tilt, towards = np.radians(c.tilt_deg), np.radians(c.tilt_azimuth_deg)
    axis = np.array([np.sin(tilt) * np.cos(towards), np.sin(tilt) * np.sin(towards), np.cos(tilt)])
    right = np.array([1.0, 0.0, 0.0]) - axis[0] * axis
    right /= np.linalg.norm(right)
    down = np.cross(axis, right)
    lens = c.distance_mm * axis

    def on_skin(a: F64, b: F64, spread: float) -> tuple[F64, F64]:
        ray = -axis + spread * (a[..., None] * right + b[..., None] * down)
        t = -lens[2] / ray[..., 2]
        return lens[0] + t * ray[..., 0], lens[1] + t * ray[..., 1]

    corner = np.array([-1.0, 1.0])
    corner_x, corner_y = np.meshgrid(corner, corner)
    low, high = 0.0, 0.95 / np.tan(tilt) if tilt > 0.7 else 1.2
    for _ in range(50):  # the largest spread whose footprint stays on the rendered skin
        spread = 0.5 * (low + high)
        x, y = on_skin(corner_x, corner_y, spread)
        fits = max(np.abs(x).max(), np.abs(y).max()) <= INSIDE * half
        low, high = (spread, high) if fits else (low, spread)
    place = (np.arange(size) + 0.5) / size * 2 - 1
    place_x, place_y = np.meshgrid(place, place)
    x, y = on_skin(place_x, place_y, low)
    scale = size / (2 * half)
    return View(((y + half) * scale - 0.5).astype(np.float32), ((x + half) * scale - 0.5).astype(np.float32),
                2 * low * c.distance_mm / size, lens, axis)


def light(linear: F32, record: SampleRecord, slope: F32, room: Room, view: View) -> F32:
    """The skin (size, size, 3) lit by the room and the flash, seen from the camera but still flat on the grid.

    linear  what the skin returns of even light, over a white tile
    slope   (2, size, size)   of the relief along y and x, mean over each pixel, outwards positive
    """
    c = record.clinical
    frame = Frame(linear.shape[0], record.camera.field_of_view_mm)
    axis = frame.axis_mm.astype(np.float64)
    x, y = np.meshgrid(axis, axis)
    dy, dx = slope * np.float32(c.relief)
    body_x, body_y = x / c.curvature_mm, y / c.curvature_mm
    tables = environment.integrate(room, c.roughness, view.axis)
    points = np.stack([x, y, -(x**2 + y**2) / (2 * c.curvature_mm)], axis=-1)
    to_lens = view.camera_mm - points
    to_lens /= np.linalg.norm(to_lens, axis=-1, keepdims=True)
    flash = 1 - c.fill if c.light == "flash" else 0.0
    lamp = view.camera_mm + np.array([0.0, -FLASH_ABOVE_MM, 0.0])
    flat = tables.diffuse[environment.NODES // 2, environment.NODES // 2]
    tile = flat + flash / np.pi
    out = np.empty_like(linear)
    for channel, length in enumerate(SOFTENING_MM):
        soft = length / frame.pixel_mm
        nx = np.clip(body_x - gaussian_filter(dx, soft), -STEEPEST, STEEPEST)
        ny = np.clip(body_y - gaussian_filter(dy, soft), -STEEPEST, STEEPEST)
        lit: F64 = np.asarray(tables.at(tables.diffuse[..., channel:channel + 1], nx, ny)[..., 0], np.float64)
        if flash:
            lit = lit + _flash(points, _normal(nx, ny), lamp, flash)[0] / np.pi
        out[..., channel] = linear[..., channel] * lit / tile[channel]
    nx, ny = np.clip(body_x - dx, -STEEPEST, STEEPEST), np.clip(body_y - dy, -STEEPEST, STEEPEST)
    turned = 0.5 * (to_lens - view.axis)  # the half vector turns half as far as the view
    shine: F64 = np.asarray(tables.at(tables.specular, nx - turned[..., 0], ny - turned[..., 1]), np.float64)
    if flash:
        normal = _normal(nx, ny)
        falling, direction = _flash(points, normal, lamp, flash)
        shine = shine + (_shine(normal, direction, to_lens, c.roughness) * falling)[..., None]
    return np.asarray(out + np.float32(c.shine) * shine / tile, np.float32)


def photograph(
    linear: F32, record: SampleRecord, slope: F32, room: Room
) -> tuple[F32, View]:
    """(photograph (size, size, 3), the view that masks take too) of the walk's picture of flat skin.

    slope is that of `light`.
    """
    size = linear.shape[0]
    view = view_of(record, size)
    lit = light(linear, record, slope, room, view)
    seen = view.picture(lit)
    c = record.clinical
    frame = Frame(size, record.camera.field_of_view_mm)
    axis = frame.axis_mm.astype(np.float64)
    x, y = np.meshgrid(axis, axis)
    o = -(x**2 + y**2) / (2 * c.curvature_mm)
    depth = c.distance_mm - (x * view.axis[0] + y * view.axis[1] + o * view.axis[2])
    away = np.abs(depth - c.distance_mm - c.focus_mm)
    sigma_mm = view.picture((0.25 * c.aperture_mm * away / c.distance_mm).astype(np.float32))
    return local_blur(np.maximum(seen, 0), sigma_mm, Frame(size, view.pixel_mm * size)), view


def _normal(nx: F64, ny: F64) -> F64:
    normal = np.stack([nx, ny, np.sqrt(np.maximum(1 - nx**2 - ny**2, 0.02))], axis=-1)
    return np.asarray(normal / np.linalg.norm(normal, axis=-1, keepdims=True))


def _flash(points: F64, normal: F64, lamp: F64, strength: float) -> tuple[F64, F64]:
    """Irradiance (size, size) of a point light, `strength` on flat skin in the middle, and the direction to it."""
    away = lamp - points
    distance2 = (away**2).sum(-1)
    direction = away / np.sqrt(distance2)[..., None]
    middle2 = float(lamp @ lamp)
    power = strength * middle2 / (lamp[2] / np.sqrt(middle2))
    cosine = np.maximum((normal * direction).sum(-1), 0)
    return np.asarray(power * cosine / distance2), np.asarray(direction)


def _shine(normal: F64, towards: F64, view: F64, roughness: float) -> F64:
    """GGX reflection (size, size) a pixel, 1/sr; as `environment.reflection`."""
    half = towards + view
    half /= np.linalg.norm(half, axis=-1, keepdims=True)
    a2 = roughness**2
    nh, nl, nv = (np.maximum((normal * v).sum(-1), 1e-3) for v in (half, towards, view))
    spread = a2 / (np.pi * (nh**2 * (a2 - 1) + 1) ** 2)
    shadow = 2 * nl / (nl + np.sqrt(a2 + (1 - a2) * nl**2)) * 2 * nv / (nv + np.sqrt(a2 + (1 - a2) * nv**2))
    f0 = ((environment.ETA_SKIN - 1) / (environment.ETA_SKIN + 1)) ** 2
    fresnel = f0 + (1 - f0) * (1 - np.clip((half * view).sum(-1), 0, 1)) ** 5
    return np.asarray(spread * shadow * fresnel / (4 * nl * nv))
