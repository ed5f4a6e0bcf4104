"""A sample as watertight triangle meshes in millimetres: layers, lesion, vessels, hair; and its fields as NPZ.

Axes are those of the tissue: x to the right and y down in the picture, z down into the skin, the origin in the middle
of the picture at the mean height of the surface. Faces look outwards. Layers are closed solids between height fields;
the lesion is the surface on which the melanosome fraction of its own pigment is LESION_ISO; vessels of the skin's
plexus and hairs are tubes. Parts overlap (a vessel lies in the dermis): they are no boolean pieces of one solid. What
has no shape of its own (mottle, vessels and lacunae of a lesion) is in the fields alone. The hypodermis has no end in
the model; here it is HYPODERMIS_MM thick.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.dataset.exports.common import new_folder
from synthskin.dataset.format import DatasetError
from synthskin.physics.anatomy import MARGIN, build_scene, content_below, healthy_columns, melanin_slabs
from synthskin.physics.hair import smooth_points
from synthskin.physics.layers import Slab, cells_from_slabs
from synthskin.physics.lesion.field import LesionField
from synthskin.physics.region import instances, sites
from synthskin.physics.scene import SceneSpec, TissueGrid
from synthskin.physics.vessels import POINTS, vessel_points
from synthskin.record import SampleRecord
from synthskin.run.request import RunError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
FORMATS: Final = ("ply", "obj", "glb")
HYPODERMIS_MM: Final = 1.0
LESION_ISO: Final = 0.02  # melanosome fraction; healthy light skin has 0.01-0.06 (Jacques 1998)
LESION_DZ_MM: Final = 0.01
SIDES: Final = 8  # of a tube
COLUMNS: Final = (24, 576)
FINER: Final = (48, 96, 144, 192, 288, 384, 576)  # tried in turn where --columns is too coarse
#: Base colours of the parts in viewers, sRGB; for looks only.
COLOURS: Final = {
    "stratum_corneum": (232, 208, 186, 90), "epidermis": (205, 160, 130, 130), "dermis": (224, 160, 150, 110),
    "hypodermis": (240, 214, 150, 255), "lesion": (84, 52, 34, 255), "vessels": (150, 20, 30, 255),
    "hair": (40, 28, 20, 255),
}


class MeshError(RunError):
    """A mesh cannot be made or written. One line, meant for the user."""


@dataclass(frozen=True, slots=True)
class Part:
    """Vertices (v, 3) in mm, triangles (f, 3)."""

    vertices: F64
    faces: NDArray[np.int64]


def closed_layer(x_mm: F64, y_mm: F64, top_mm: F64, bottom_mm: F64) -> Part:
    """Solid between two height fields (rows y, columns x), z down, with walls along the border."""
    rows, columns = top_mm.shape
    grid_x, grid_y = np.meshgrid(x_mm, y_mm)
    top = np.stack([grid_x, grid_y, top_mm], axis=-1).reshape(-1, 3)
    bottom = np.stack([grid_x, grid_y, bottom_mm], axis=-1).reshape(-1, 3)
    place = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = place[:-1, :-1], place[:-1, 1:], place[1:, 1:], place[1:, :-1]
    lid = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])
    floor = lid[:, ::-1] + rows * columns
    ring = np.concatenate([place[0, :-1], place[:-1, -1], place[-1, :0:-1], place[:0:-1, 0]])
    after, deep = np.roll(ring, -1), rows * columns
    walls = np.concatenate([np.stack([ring, after, after + deep], -1), np.stack([ring, after + deep, ring + deep], -1)])
    return Part(np.concatenate([top, bottom]), np.concatenate([lid, floor, walls]))


def tube(points_mm: F64, radius_mm: F64) -> Part:
    """Closed tube along points (k, 3) with a radius at each; frames are carried along without twist."""
    tangent = np.gradient(points_mm, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-12
    normal = np.cross(tangent[0], (0.0, 0.0, 1.0) if abs(tangent[0, 2]) < 0.9 else (1.0, 0.0, 0.0))
    rings = []
    angle = np.arange(SIDES) * (2 * np.pi / SIDES)
    for point, along, radius in zip(points_mm, tangent, radius_mm, strict=True):
        normal = normal - along * (normal @ along)
        normal /= np.linalg.norm(normal) + 1e-12
        across = np.cross(along, normal)
        rings.append(point + radius * (np.cos(angle)[:, None] * normal + np.sin(angle)[:, None] * across))
    count = len(points_mm)
    vertices = np.concatenate([*rings, points_mm[:1], points_mm[-1:]])
    place = np.arange(count * SIDES).reshape(count, SIDES)
    a, b = place[:-1], np.roll(place[:-1], -1, axis=1)
    d, c = place[1:], np.roll(place[1:], -1, axis=1)
    side = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    first, last = count * SIDES, count * SIDES + 1
    start, end = place[0], place[-1]
    caps = [np.stack([np.roll(start, -1), start, np.full(SIDES, first)], -1),
            np.stack([end, np.roll(end, -1), np.full(SIDES, last)], -1)]
    return Part(vertices, np.concatenate([side, *caps]))


def joined(parts: Sequence[Part]) -> Part:
    """All parts in one, sharing nothing."""
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = [part.faces + offset for part, offset in zip(parts, offsets, strict=False)]
    return Part(np.concatenate([part.vertices for part in parts]), np.concatenate(faces))


def iso_surface(values: F32, level: float, spacing_mm: Sequence[float], origin_mm: Sequence[float]) -> Part | None:
    """Closed surface of `values` [y, x, z] = level, None if nothing is above; cells of `spacing_mm` (y, x, z)."""
    from skimage.measure import marching_cubes

    padded = np.pad(values, 1)
    if not (padded > level).any():
        return None
    vertices, faces, _, _ = marching_cubes(padded, level, spacing=tuple(spacing_mm), allow_degenerate=False)
    at = vertices.astype(np.float64) - np.asarray(spacing_mm) + np.asarray(origin_mm)
    return Part(at[:, [1, 0, 2]], np.asarray(faces, np.int64))


def make_parts(record: SampleRecord, columns: int = 192) -> tuple[dict[str, Part], dict[str, NDArray[Any]]]:
    """({part: mesh}, {field: array}) of a record; parts that the sample has not are left out.

    columns   columns of the tissue grid, a multiple of 12; the picture covers the middle 5/6 of them

    Raises MeshError where the grid is too coarse for a lesion that a finer one shows.
    """
    if not COLUMNS[0] <= columns <= COLUMNS[1] or columns % 12:
        raise MeshError(f"--columns {columns}: a multiple of 12 from {COLUMNS[0]} to {COLUMNS[1]} is needed")
    scene = build_scene(record, columns)
    _check_lesions(record, columns, scene)
    tissue = scene.tissue
    margin = round(columns * MARGIN)
    inside = (slice(margin, columns - margin),) * 2
    half = 0.5 * record.camera.field_of_view_mm
    count = columns - 2 * margin
    axis: F64 = np.asarray((np.arange(count) + 0.5) * tissue.column_mm - half, np.float64)
    relief = -scene.surface_height_um[inside].astype(np.float64) * 1e-3
    surface = relief - relief.mean()
    junction = surface + tissue.dej_mm[inside]
    own = _own_melanin(record, tissue, scene.lesion)
    corneum = surface + own[0].top_mm[inside]  # the living epidermis begins where the horn ends
    bottom = np.full_like(surface, float(tissue.z_edges_coarse_mm[-1]))
    parts = {
        "stratum_corneum": closed_layer(axis, axis, surface, corneum),
        "epidermis": closed_layer(axis, axis, corneum, junction),
        "dermis": closed_layer(axis, axis, junction, bottom),
        "hypodermis": closed_layer(axis, axis, bottom, bottom + HYPODERMIS_MM),
    }
    found = _lesion(_added_melanin(tissue, own)[inside], tissue, half)
    if found is not None:
        index = np.clip(((found.vertices[:, :2] + half) / tissue.column_mm).astype(int), 0, count - 1)
        found.vertices[:, 2] += surface[index[:, 1], index[:, 0]]
        parts["lesion"] = found
    courses = _vessel_courses(record, tissue, half)
    if len(courses):
        parts["vessels"] = joined([tube(line[:, :3], line[:, 3]) for line in courses])
    if scene.hair:
        lines = [smooth_points(strand.points_mm, 1).astype(np.float64) for strand in scene.hair]
        shift = np.array([half, half, 0.0])
        parts["hair"] = joined([tube(line[:, :3] - shift, line[:, 3]) for line in lines])
    fields: dict[str, NDArray[Any]] = {
        "x_mm": axis.astype(np.float32), "y_mm": axis.astype(np.float32),
        "z_edges_fine_mm": tissue.z_edges_fine_mm, "z_edges_coarse_mm": tissue.z_edges_coarse_mm,
        "melanin_fraction_fine": tissue.melanin_fine[inside], "blood_fraction_fine": tissue.blood_fine[inside],
        "melanin_fraction_coarse": _coarse(tissue.melanin_coarse, tissue.coarse_factor, margin, columns),
        "blood_fraction_coarse": _coarse(tissue.blood_coarse, tissue.coarse_factor, margin, columns),
        "junction_mm": tissue.dej_mm[inside], "surface_height_um": scene.surface_height_um[inside],
    }
    for name in ("keratin_to_mm", "keratin_scale", "dermal_scale", "birefringence"):
        value = getattr(tissue, name)
        if value is not None:
            fields[name] = value[inside]
    fields |= {f"structure_{name}": where[inside] for name, where in sorted(scene.attributes.items())}
    return parts, fields


def _check_lesions(record: SampleRecord, columns: int, scene: SceneSpec) -> None:
    """Raises MeshError where the grid is too coarse; a lesion that no grid shows (outside the picture) is no fault."""
    if scene.lesion is None:
        return
    wanted = len(sites(record)) if record.camera.view == "region" else 1
    seen = _lesions_seen(record, columns, scene)
    if seen == wanted:
        return
    for finer in FINER:
        if finer > columns and _lesions_seen(record, finer, build_scene(record, finer)) == wanted:
            raise MeshError(f"--columns {columns}: too coarse, {wanted - seen} of {wanted} lesions would be left out; "
                            f"give --columns {finer}")


def _lesions_seen(record: SampleRecord, columns: int, scene: SceneSpec) -> int:
    """Lesions of the record that reach the grid inside the picture."""
    margin = round(columns * MARGIN)
    assert scene.lesion is not None
    there = scene.lesion.presence[margin:columns - margin, margin:columns - margin] > 0
    return len(instances(record, there)[1]) if record.camera.view == "region" else int(there.any())


def _coarse(values: F32, factor: int, margin: int, columns: int) -> F32:
    """Coarse columns on the fine ones, inside the picture."""
    index = np.arange(margin, columns - margin) // factor
    return values[index[:, None], index]


def _axis_mm(tissue: TissueGrid) -> F32:
    """Centres of the columns of the tissue grid, margin included, as build_scene has them."""
    columns = len(tissue.dej_mm)
    return ((np.arange(columns) - 0.5 * (columns - 1)) * tissue.column_mm).astype(np.float32)


def _own_melanin(record: SampleRecord, tissue: TissueGrid, lesion: LesionField | None) -> list[Slab]:
    """The skin's own melanin as it lies with the lesion there, at the junction that it moves; none of its pigment."""
    skin = healthy_columns(record, _axis_mm(tissue), tissue.column_mm, lesion)
    if lesion is None:
        return melanin_slabs(record, skin, None)
    none = np.zeros_like(lesion.epidermal_um)
    bare = replace(lesion, epidermal_um=none, junctional_um=none, dermal_um=none, corneal_um=None, deep_um=None)
    return melanin_slabs(record, skin, bare)


def _added_melanin(tissue: TissueGrid, own: list[Slab]) -> F32:
    """Melanosome fraction (n, n, nf + nc) beyond the skin's own melanin: fine cells and, below them, coarse ones."""
    fine = tissue.melanin_fine - cells_from_slabs(own, tissue.z_edges_fine_mm)
    coarse = tissue.melanin_coarse - content_below(own, tissue.z_edges_coarse_mm, len(tissue.dej_mm))
    factor = tissue.coarse_factor
    return np.concatenate([fine, coarse.repeat(factor, axis=0).repeat(factor, axis=1)], axis=2)


def _lesion(added: F32, tissue: TissueGrid, half_mm: float) -> Part | None:
    """Surface of the added melanin in the fine and the coarse cells (n, n, nf + nc), z from the skin's surface.

    The fine zone is read at steps of LESION_DZ_MM; coarse cells twice each, half a step inside their two edges, down to
    the last that is above LESION_ISO: the surface passes an edge as near as at even steps, with far fewer of them. A
    thin dermis has coarse cells of less than a step; they are read at their quarters.
    """
    edges = np.concatenate([tissue.z_edges_fine_mm, tissue.z_edges_coarse_mm[1:]]).astype(np.float64)
    first, step = len(tissue.z_edges_fine_mm) - 1, LESION_DZ_MM
    above = np.flatnonzero((added[:, :, first:] > LESION_ISO).any(axis=(0, 1)))
    deep = np.arange(first, first + above[-1] + 1 if len(above) else first)
    inset = np.minimum(0.5 * step, 0.25 * (edges[deep + 1] - edges[deep]))
    pairs = np.stack([edges[deep] + inset, edges[deep + 1] - inset], axis=-1)
    at = np.concatenate([np.arange(0.5 * step, edges[first], step), pairs.ravel()])
    volume = np.ascontiguousarray(added[:, :, np.searchsorted(edges, at) - 1])
    column = tissue.column_mm
    part = iso_surface(volume, LESION_ISO, (column, column, 1.0), (0.5 * column - half_mm, 0.5 * column - half_mm, 0.0))
    if part is not None:
        depth = np.concatenate([at[:1] - step, at, at[-1:] + step])  # iso_surface goes a step beyond both ends
        part.vertices[:, 2] = np.interp(part.vertices[:, 2], np.arange(-1, len(at) + 1), depth)
    return part


def _vessel_courses(record: SampleRecord, tissue: TissueGrid, half_mm: float) -> F64:
    """Courses (k, points, 4) x, y, z, radius in mm of the vessels of the tissue that reach into the picture."""
    edge = float(_axis_mm(tissue)[-1]) + 0.5 * tissue.column_mm  # of the grid: where vessels start depends on it
    points, _ = vessel_points(record, edge)
    courses = points.reshape(-1, POINTS, 4)[:, ::4].astype(np.float64)
    reach = np.abs(courses[:, :, :2]).max(axis=2) - courses[:, :, 3] < half_mm
    return courses[reach.any(axis=1)]


def write_mesh(
    record: SampleRecord, out: Path, formats: Sequence[str] = ("ply",), columns: int = 192
) -> dict[str, Any]:
    """Write parts, fields.npz and mesh.json into the new folder `out`; returns what mesh.json says.

    ply and obj give a file a part, glb one file of all. Raises MeshError; then nothing is left behind.
    """
    for name in formats:
        if name not in FORMATS:
            raise MeshError(f"--format {name}: allowed are {', '.join(FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MeshError(f"--out {out}: is there already and not empty; choose another --out")
    if out.exists() and out.samefile(Path.cwd()):  # the new folder takes its place, and the user's shell would lose it
        raise MeshError(f"--out {out}: is the folder that you are in; give the name of a new one")
    parts, fields = make_parts(record, columns)
    try:
        with new_folder(out) as folder:
            return _write_parts(folder, record, parts, fields, formats)
    except DatasetError as error:
        raise MeshError(str(error)) from None


def _write_parts(
    folder: Path, record: SampleRecord, parts: Mapping[str, Part], fields: Mapping[str, NDArray[Any]],
    formats: Sequence[str],
) -> dict[str, Any]:
    """Fill an empty folder."""
    import trimesh

    made: dict[str, Any] = {"unit": "mm", "axes": "x right, y down, z into the skin", "record": record.to_dict(),
                            "parts": {}, "files": []}
    scene = trimesh.Scene()
    for name, part in parts.items():
        mesh = trimesh.Trimesh(part.vertices, part.faces, process=False)
        if not mesh.is_watertight:
            raise MeshError(f"{name}: the surface is not closed; try another --columns")
        made["parts"][name] = {"vertices": len(mesh.vertices), "faces": len(mesh.faces),
                               "volume_mm3": round(float(mesh.volume), 6)}
        mesh.visual = trimesh.visual.TextureVisuals(
            material=trimesh.visual.material.PBRMaterial(
                name=name, baseColorFactor=COLOURS[name], roughnessFactor=0.7, metallicFactor=0.0,
                alphaMode="BLEND" if COLOURS[name][3] < 255 else "OPAQUE"))
        scene.add_geometry(mesh, node_name=name, geom_name=name)
        for kind in ("ply", "obj"):
            if kind in formats:
                plain = trimesh.Trimesh(part.vertices, part.faces, process=False)
                plain.export(folder / f"{name}.{kind}")
                made["files"].append(f"{name}.{kind}")
    if "glb" in formats:
        scene.export(folder / "scene.glb")
        made["files"].append("scene.glb")
    _save_fields(folder / "fields.npz", fields)
    made["files"].append("fields.npz")
    (folder / "mesh.json").write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return made


def _save_fields(path: Path, fields: Mapping[str, NDArray[Any]]) -> None:
    arrays: dict[str, Any] = dict(fields)
    np.savez_compressed(path, **arrays)
