"""Light that falls on skin without contact: a room as radiance over directions, and its two integrals over normals.

Directions are (x to the right of the picture, y down, o outwards from the skin). A panorama (latitude-longitude,
upper row = up) is hung so that the skin is upright and looks at its middle column: up in the room is up in the picture.
Rooms of our own (window, ceiling panels, flash) are panoramas too, by design.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from synthskin.uninterrupted import uninterrupted

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
ROWS, COLUMNS = 32, 64  # directions of a room: 5.6 degrees, a third of the specular lobe of skin
LIMIT: Final = 0.9  # of the components x and y of a normal in the tables
NODES: Final = 31
MAX_SIDE: Final = 16_384
SUFFIXES: Final = (".exr", ".hdr", ".pfm")
ETA_SKIN: Final = 1.50  # surface of the stratum corneum with sebum: Weyrich et al. 2006 (F0 about 0.03-0.04)


class EnvironmentMapError(ValueError):
    """An environment map cannot be used. One line, meant for the user."""


@dataclass(frozen=True, slots=True)
class Room:
    """radiance (ROWS, COLUMNS, 3) linear sRGB, any unit: exposure is set by a white tile on the skin."""

    radiance: F32


def directions() -> tuple[F64, F64]:
    """(ROWS, COLUMNS, 3) unit vectors x, y, o and the solid angle of each, sr."""
    polar = (np.arange(ROWS) + 0.5) * np.pi / ROWS
    around = (np.arange(COLUMNS) + 0.5) * 2 * np.pi / COLUMNS - np.pi
    sine = np.sin(polar)[:, None]
    x = -sine * np.sin(around)  # to the right when one looks at the panorama's middle is left on the skin
    y = -np.broadcast_to(np.cos(polar)[:, None], x.shape)
    o = sine * np.cos(around)
    edges = np.cos(np.arange(ROWS + 1) * np.pi / ROWS)
    weight = (edges[:-1] - edges[1:]) * 2 * np.pi / COLUMNS
    return np.stack([x, y, o], axis=-1), np.broadcast_to(weight[:, None], x.shape).copy()


def panel(azimuth_deg: float, elevation_deg: float, width_deg: float, height_deg: float, soft_deg: float = 3.0) -> F32:
    """A rectangular lamp (ROWS, COLUMNS) 0..1 in a direction: azimuth from +x towards +y, elevation over the skin."""
    towards, _ = directions()
    a, e = np.radians(azimuth_deg), np.radians(elevation_deg)
    middle = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    side = np.array([-np.sin(a), np.cos(a), 0.0])
    upward = np.cross(middle, side)
    depth = towards @ middle
    u = np.degrees(np.arctan2(towards @ side, depth))
    v = np.degrees(np.arctan2(towards @ upward, depth))
    edge = np.maximum(np.abs(u) - width_deg / 2, np.abs(v) - height_deg / 2)
    return np.where(depth > 0, np.clip(0.5 - edge / (2 * soft_deg), 0, 1), 0).astype(np.float32)


def room(light: str, azimuth_deg: float, elevation_deg: float, fill: float) -> Room:
    """A room of our own. `fill` is the share of the light on the skin that comes from all sides (walls)."""
    towards, weight = directions()
    if light == "window":
        lamp = panel(azimuth_deg, elevation_deg, 40.0, 50.0)[..., None] * np.array([0.92, 1.0, 1.12], np.float32)
    elif light == "ceiling":  # two rows of panels over the head of the patient; the skin is upright or leans back
        lamps = [panel(azimuth_deg + d, e, 16.0, 9.0) for d in (-32.0, 0.0, 32.0) for e in
                 (elevation_deg, min(elevation_deg + 22.0, 88.0))]
        lamp = np.sum(lamps, axis=0)[..., None] * np.array([1.04, 1.0, 0.92], np.float32)
    else:  # the flash is near: clinical.py adds it as a point; walls throw a little of it back
        lamp = np.zeros((ROWS, COLUMNS, 3), np.float32)
    on_skin = np.maximum(towards[..., 2], 0) * weight
    total = float((lamp.mean(-1) * on_skin).sum())
    if total > 0:
        lamp = lamp * np.float32((1 - fill) / total)
    walls = np.float32(fill / on_skin.sum()) * (towards[..., 2] > -0.3)[..., None] * np.array([1.03, 1.0, 0.96])
    return Room(np.asarray(lamp + walls, np.float32))


def read_room(mi: Any, path: Path, azimuth_deg: float = 0.0) -> Room:
    """A panorama from an EXR, HDR or PFM file, turned by `azimuth_deg`; raises EnvironmentMapError in one line.

    Whether its light falls on the skin is left to `integrate`, and for all azimuths of a run to `check_azimuths`.
    """
    shown = f"--environment {path}"
    return Room(_turned(_averaged(_read_pixels(mi, path, shown), shown), azimuth_deg).astype(np.float32))


def check_azimuths(path: Path, azimuths_deg: Sequence[tuple[float, float]]) -> None:
    """Raises EnvironmentMapError where the light of a panorama misses the skin at an azimuth in [(low, high), ...]."""
    with uninterrupted():
        import mitsuba as mi  # reading a bitmap needs neither device nor variant

    shown = f"--environment {path}"
    cells = _averaged(_read_pixels(mi, path, shown), shown)
    light = [_on_skin(np.roll(cells, turn, axis=1)) for turn in range(COLUMNS)]
    best = int(np.argmax([own.min() for own in light]))
    if not light[best].min() > 0:
        raise EnvironmentMapError(f"{shown}: no light of all three colours falls on the skin, however it is turned")
    for low, high in azimuths_deg:
        for turn in range(_columns(low), _columns(high) + 1):
            if not light[turn % COLUMNS].min() > 0:
                at = min(max(turn * 360 / COLUMNS, low), high)
                raise EnvironmentMapError(f"{shown}: no light falls on the skin where clinical.light_azimuth_deg is "
                                          f"{at:g}; turn it, --set clinical.light_azimuth_deg={best * 360 / COLUMNS:g}")


def _read_pixels(mi: Any, path: Path, shown: str) -> F32:
    if path.suffix.lower() not in SUFFIXES:
        raise EnvironmentMapError(f"{shown}: a panorama as {', '.join(SUFFIXES)} is needed")
    if not path.is_file():
        raise EnvironmentMapError(f"{shown}: the file is not there")
    try:
        bitmap = mi.Bitmap(str(path))
        width, height = bitmap.width(), bitmap.height()  # size() would need a variant
        if max(width, height) > MAX_SIDE:
            raise EnvironmentMapError(f"{shown}: {width} x {height} pixels; at most {MAX_SIDE} a side are allowed")
        return np.array(bitmap.convert(mi.Bitmap.PixelFormat.RGB, mi.Struct.Type.Float32, srgb_gamma=False))
    except EnvironmentMapError:
        raise
    except Exception as error:  # the library raises RuntimeError and others on what it cannot read
        reason = " ".join(str(error).split())[-120:]
        raise EnvironmentMapError(f"{shown}: cannot be read: {reason}") from None


def check_panorama(pixels: F32, shown: str, azimuth_deg: float = 0.0) -> F32:
    """Radiance (ROWS, COLUMNS, 3) of a panorama (h, w, 3), means over its cells; raises EnvironmentMapError."""
    turned = _turned(_averaged(pixels, shown), azimuth_deg)
    if not _on_skin(turned).min() > 0:
        raise EnvironmentMapError(f"{shown}: no light falls on the skin from the half of the room before it; turn it "
                                "with --set clinical.light_azimuth_deg")
    return turned.astype(np.float32)


def _columns(azimuth_deg: float) -> int:
    return round(azimuth_deg / 360 * COLUMNS)


def _turned(cells: F64, azimuth_deg: float) -> F64:
    return np.roll(cells, _columns(azimuth_deg), axis=1)


def _on_skin(cells: F64) -> F64:
    """Irradiance (3,) of skin that lies flat."""
    towards, weight = directions()
    return np.asarray((cells * (np.maximum(towards[..., 2], 0) * weight)[..., None]).sum((0, 1)))


def _averaged(pixels: F32, shown: str) -> F64:
    """Means (ROWS, COLUMNS, 3) over the cells of a panorama that is whole and not black."""
    height, width = pixels.shape[:2]
    if height < 4 or width < 8:
        raise EnvironmentMapError(f"{shown}: {width} x {height} pixels; a panorama of at least 8 x 4 is needed")
    if not np.isfinite(pixels).all():
        raise EnvironmentMapError(f"{shown}: holds NaN or infinite values; mend the file")
    if (pixels < 0).any():
        raise EnvironmentMapError(f"{shown}: holds negative light; mend the file")
    if not (pixels > 0).any():
        raise EnvironmentMapError(f"{shown}: is black all over; the skin would not be lit")
    rows = _means(np.asarray(pixels, np.float64), ROWS, np.sin((np.arange(height) + 0.5) * np.pi / height))
    return _means(rows.transpose(1, 0, 2), COLUMNS, np.ones(width)).transpose(1, 0, 2)


def _means(values: F64, count: int, weight: F64) -> F64:
    """Weighted means over `count` equal stretches of the first axis, whatever its length."""
    n = len(values)
    edges = np.linspace(0, n, count + 1)
    total = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values * weight[:, None, None], axis=0)])
    mass = np.concatenate([[0.0], np.cumsum(weight)])

    def at(table: F64) -> F64:
        low = np.minimum(edges.astype(int), n - 1)
        share = (edges - low).reshape(-1, *([1] * (table.ndim - 1)))
        return np.asarray(table[low] * (1 - share) + table[low + 1] * share)

    return np.asarray(np.diff(at(total), axis=0) / np.diff(at(mass))[:, None, None])


@dataclass(frozen=True, slots=True)
class Tables:
    """Integrals over the room on a grid of normals (NODES, NODES, 3), by components y and x of the normal."""

    diffuse: F32
    specular: F32

    def at(self, table: F32, nx: F64, ny: F64) -> F32:
        """Table (NODES, NODES, c) at normals (size, size); beyond LIMIT the nearest."""
        scale = (NODES - 1) / (2 * LIMIT)
        where = ((ny + LIMIT) * scale, (nx + LIMIT) * scale)
        channels = range(table.shape[-1])
        return np.stack([map_coordinates(table[..., c], where, order=1, mode="nearest") for c in channels], axis=-1)


def integrate(the_room: Room, roughness: float, view: F64) -> Tables:
    """Irradiance over pi, and the GGX reflection towards `view` (x, y, o), of a room for all normals.

    Raises EnvironmentMapError where the room has light and none of it falls on skin that lies flat, so that no tile
    could balance it. GGX with the Smith shadowing of Walter et al. 2007, alpha = `roughness`, Fresnel of ETA_SKIN after
    Schlick.
    """
    if the_room.radiance.any() and not _on_skin(the_room.radiance.astype(np.float64)).min() > 0:
        raise EnvironmentMapError("no light falls on the skin from the half of the room before it; change "
                                  "clinical.light_azimuth_deg, clinical.light_elevation_deg or clinical.fill")
    towards, weight = directions()
    flat = towards.reshape(-1, 3)
    light = (the_room.radiance.reshape(-1, 3) * weight.reshape(-1, 1)).astype(np.float64)
    axis = np.linspace(-LIMIT, LIMIT, NODES)
    nx, ny = np.meshgrid(axis, axis)
    normal = np.stack([nx, ny, np.sqrt(np.maximum(1 - nx**2 - ny**2, 0.02))], axis=-1).reshape(-1, 3)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    cosine = np.maximum(normal @ flat.T, 0)
    diffuse = cosine @ light / np.pi
    lobe = reflection(normal, flat, view, roughness) * cosine
    shape = (NODES, NODES, 3)
    return Tables(diffuse.reshape(shape).astype(np.float32), (lobe @ light).reshape(shape).astype(np.float32))


def reflection(normal: F64, towards: F64, view: F64, roughness: float) -> F64:
    """GGX reflection (n, d) of light from `towards` (d, 3) by surfaces of `normal` (n, 3) to `view` (3,), 1/sr."""
    half = towards + view
    half = half / np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-9)
    nh = np.maximum(normal @ half.T, 0)
    nl = np.maximum(normal @ towards.T, 1e-4)
    nv = np.maximum(normal @ view, 1e-2)[:, None]
    a2 = roughness**2
    spread = a2 / (np.pi * (nh**2 * (a2 - 1) + 1) ** 2)

    def shadow(c: F64) -> F64:
        return 2 * c / (c + np.sqrt(a2 + (1 - a2) * c**2))

    f0 = ((ETA_SKIN - 1) / (ETA_SKIN + 1)) ** 2
    fresnel = f0 + (1 - f0) * (1 - np.clip(half @ view, 0, 1)) ** 5
    return np.asarray(spread * shadow(nl) * shadow(nv) * fresnel / (4 * nl * nv))
