"""Meshes: closed, in millimetres, of the volume that the model has, and the same whatever the format."""

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from synthskin import cli
from synthskin import export_mesh as em
from synthskin.draw import draw
from synthskin.physics.anatomy import build_scene
from synthskin.physics.vessels import POINTS, vessel_points
from synthskin.preset import load_preset

PRESET = load_preset("fst3").with_diagnosis("NV=1").with_sets(
    ["hair.count=4", "hair.vellus_count=0", "skin.plexus_vessel_density=0.5", "camera.field_of_view_mm=12"])
RECORD = draw(PRESET, 0, 0)
PARTS = {"stratum_corneum", "epidermis", "dermis", "hypodermis", "lesion", "vessels", "hair"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("mesh") / "a"
    em.write_mesh(RECORD, out, em.FORMATS, 96)
    return out


def opened(folder, kind):
    if kind == "glb":
        return dict(trimesh.load(folder / "scene.glb").geometry)
    return {name: trimesh.load(folder / f"{name}.{kind}") for name in PARTS}


@pytest.mark.parametrize("kind", em.FORMATS)
def test_every_part_opens_closed_and_the_right_way_out(made, kind):
    meshes = opened(made, kind)
    told = json.loads((made / "mesh.json").read_text())
    assert set(meshes) == PARTS == set(told["parts"]) and told["unit"] == "mm"
    for name, mesh in meshes.items():
        assert mesh.is_watertight and mesh.is_winding_consistent, name
        assert mesh.volume > 0
        assert mesh.volume == pytest.approx(told["parts"][name]["volume_mm3"], rel=2e-3), name
        assert len(mesh.faces) == told["parts"][name]["faces"]


def test_sizes_are_millimetres(made):
    meshes = opened(made, "ply")
    column = 12 / 80
    for name in ("stratum_corneum", "epidermis", "dermis"):
        size = meshes[name].extents
        assert size[:2] == pytest.approx([12 - column] * 2, abs=1e-3), name
    area = (12 - column) ** 2
    assert meshes["epidermis"].volume + meshes["stratum_corneum"].volume == pytest.approx(
        area * RECORD.skin.epidermis_thickness_um * 1e-3, rel=0.08)
    assert meshes["hypodermis"].volume == pytest.approx(area * em.HYPODERMIS_MM, rel=1e-4)
    width = meshes["lesion"].extents[:2]
    assert 0.5 * RECORD.lesion.diameter_mm < width.mean() < 1.8 * RECORD.lesion.diameter_mm
    low, high = meshes["lesion"].bounds
    assert low[2] > -0.1 and high[2] < 1.0  # inside the skin
    assert (meshes["hair"].bounds[0][2] < 0).all()  # above it
    assert meshes["dermis"].bounds[1][2] == pytest.approx(meshes["hypodermis"].bounds[0][2], abs=1e-5)


def test_vessels_and_hair_are_all_there(made):
    """Of the vessels of the grid (14.4 mm wide) those that reach into the picture (12 mm)."""
    meshes = opened(made, "ply")
    assert meshes["hair"].body_count == 4
    points, _ = vessel_points(RECORD, 7.2)
    courses = points.reshape(-1, POINTS, 4)[:, ::4]
    reach = (np.abs(courses[:, :, :2]).max(axis=2) < 6 + courses[:, :, 3]).any(axis=1)
    assert len(courses) == round(0.5 * 14.4**2 / 1.8)
    assert meshes["vessels"].body_count == reach.sum() < len(courses)
    for body in meshes["vessels"].split():
        assert (body.bounds[0][:2] < 6.001).all() and (body.bounds[1][:2] > -6.001).all()


@pytest.mark.parametrize("columns", [96, 192])
def test_vessels_lie_where_the_tissue_has_them(columns):
    parts, fields = em.make_parts(RECORD, columns)
    plain = build_scene(replace(RECORD, skin=replace(RECORD.skin, plexus_vessel_density=0.0)), columns).tissue
    margin, rings = columns // 12, len(range(0, POINTS, 4))
    tubes = parts["vessels"].vertices.reshape(-1, rings * em.SIDES + 2, 3)[:, :-2]
    x, y, z = tubes.reshape(-1, em.SIDES, 3).mean(axis=1).T
    edges = fields["z_edges_fine_mm"]
    seen = (np.maximum(abs(x), abs(y)) < 6) & (z < edges[-1])
    place = tuple(((axis[seen] + 6) / plain.column_mm).astype(int) for axis in (y, x))
    place += (np.searchsorted(edges, z[seen], side="right") - 1,)
    background = plain.blood_fine[margin:-margin, margin:-margin]  # with vessels it is less
    assert seen.sum() > 300
    assert (fields["blood_fraction_fine"][place] > background[place]).mean() > 0.98


def test_fields_are_those_of_the_render(made):
    with np.load(made / "fields.npz", allow_pickle=False) as data:
        fields = dict(data)
    tissue = build_scene(RECORD, 96).tissue
    assert np.array_equal(fields["melanin_fraction_fine"], tissue.melanin_fine[8:-8, 8:-8])
    assert fields["melanin_fraction_coarse"].shape[:2] == fields["junction_mm"].shape == (80, 80)
    assert fields["melanin_fraction_fine"].shape[2] == len(fields["z_edges_fine_mm"]) - 1
    assert fields["x_mm"][0] == pytest.approx(-6 + 0.5 * 12 / 80)
    assert all(np.isfinite(value).all() for value in fields.values())


def test_a_tube_has_the_volume_of_a_prism():
    z = np.linspace(0, 5, 20)
    part = em.tube(np.stack([0 * z, 0 * z, z], 1), np.full(20, 0.3))
    mesh = trimesh.Trimesh(part.vertices, part.faces, process=False)
    area = 0.5 * em.SIDES * np.sin(2 * np.pi / em.SIDES) * 0.3**2
    assert mesh.is_watertight and mesh.volume == pytest.approx(5 * area, rel=1e-9)


def test_a_layer_has_the_volume_between_its_fields():
    x, y = np.linspace(0, 2, 5), np.linspace(0, 3, 7)
    top = 0.1 * np.add.outer(y, x)
    part = em.closed_layer(x, y, top, top + 0.5)
    mesh = trimesh.Trimesh(part.vertices, part.faces, process=False)
    assert mesh.is_watertight and mesh.volume == pytest.approx(3.0, rel=1e-9)


def test_an_iso_surface_of_a_ball():
    axis = (np.arange(40) - 19.5) * 0.1
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2)
    part = em.iso_surface((2 - distance).astype(np.float32), 0.5, (0.1, 0.1, 0.1), (axis[0],) * 3)
    mesh = trimesh.Trimesh(part.vertices, part.faces)
    assert mesh.is_watertight and mesh.volume == pytest.approx(4 / 3 * np.pi * 1.5**3, rel=0.01)
    assert np.allclose(mesh.center_mass, 0, atol=1e-2)
    assert em.iso_surface(np.zeros((4, 4, 4), np.float32), 0.5, (1, 1, 1), (0, 0, 0)) is None


def test_healthy_skin_has_no_lesion(tmp_path):
    record = draw(load_preset("healthy").with_sets(["hair.count=0", "hair.vellus_count=0"]), 0, 0)
    parts, _ = em.make_parts(record, 48)
    assert "lesion" not in parts and "hair" not in parts


def test_a_lesion_without_pigment_has_no_part():
    """A cherry angioma moves the junction, and with it the skin's own melanin; it adds none."""
    record = draw(load_preset("vasc"), 0, 2)
    scene = build_scene(record, 96)
    bare = build_scene(record, 96, with_lesion=False)
    assert scene.lesion.column_um.max() == 0
    assert (scene.tissue.melanin_fine - bare.tissue.melanin_fine).max() > em.LESION_ISO
    parts, _ = em.make_parts(record, 96)
    assert "lesion" not in parts and "vessels" in parts


@pytest.mark.parametrize(("preset", "index", "sets"), [
    ("bkl", 5, []), ("mel", 3, []), ("vasc", 0, []),
    ("nv", 1, ["lesion.dermal_depth_um=500", "lesion.dermal_melanin=0.2"]),
])
def test_the_melanin_added_is_that_of_the_lesion(preset, index, sets):
    record = draw(load_preset(preset).with_sets(sets), 0, index)
    scene = build_scene(record, 96)
    added = em._added_melanin(scene.tissue, em._own_melanin(record, scene.tissue, scene.lesion))
    steps = np.concatenate([np.diff(scene.tissue.z_edges_fine_mm), np.diff(scene.tissue.z_edges_coarse_mm)])
    column = scene.lesion.column_um
    assert (added @ steps).mean() * 1e3 == pytest.approx(column.mean(), rel=2e-3)
    assert added.min() > -1e-6 and abs(added[column == 0][:, :len(scene.tissue.z_edges_fine_mm) - 1]).max() < 1e-6


def test_the_horn_of_a_keratosis_is_that_of_the_tissue():
    record = draw(load_preset("bkl"), 0, 5)
    parts, fields = em.make_parts(record, 96)
    depth = parts["stratum_corneum"].vertices[:, 2].reshape(2, 80, 80)
    corneum = depth[1] - depth[0]
    keratin_mm = build_scene(record, 96).lesion.keratin_um[8:-8, 8:-8] * 1e-3
    junction = fields["junction_mm"]
    assert np.median(corneum[keratin_mm > 0]) == pytest.approx(0.047, abs=0.002)
    expected = np.minimum(np.minimum(0.012, 0.3 * junction) + keratin_mm, 0.75 * junction)
    assert np.allclose(corneum, expected, atol=1e-6)


@pytest.mark.parametrize("dermis_mm", [0.5, 1.5, 4.0])
def test_deep_nests_go_on_below_the_fine_zone(dermis_mm):
    sets = ["lesion.dermal_depth_um=500", "lesion.dermal_melanin=0.2", f"skin.dermis_thickness_mm={dermis_mm}"]
    record = draw(load_preset("nv").with_sets(sets), 0, 1)
    parts, fields = em.make_parts(record, 96)
    above = (fields["melanin_fraction_coarse"] > em.LESION_ISO).any(axis=(0, 1))
    bottom = fields["z_edges_coarse_mm"][np.flatnonzero(above)[-1] + 1]
    relief = float(np.ptp(fields["surface_height_um"])) * 1e-3
    lesion = trimesh.Trimesh(parts["lesion"].vertices, parts["lesion"].faces, process=False)
    assert bottom > 0.5
    assert lesion.bounds[1][2] == pytest.approx(bottom, abs=relief + 0.5 * em.LESION_DZ_MM)
    assert lesion.is_watertight and lesion.is_winding_consistent and lesion.volume > 0


def test_a_sheet_below_the_fine_zone_has_its_volume():
    """From 0.3 mm to the end of the third coarse cell, also where a thin dermis has cells thinner than a step."""
    for bottom_mm in (0.57, 1.57):
        tissue = build_scene(replace(RECORD, skin=replace(
            RECORD.skin, epidermis_thickness_um=70.0, dermis_thickness_mm=round(bottom_mm - 0.07, 3))), 96).tissue
        edges = np.concatenate([tissue.z_edges_fine_mm, tissue.z_edges_coarse_mm[1:]])
        cells = np.flatnonzero((edges[:-1] > 0.299) & (edges[:-1] < tissue.z_edges_coarse_mm[3] - 1e-4))
        added = np.zeros((40, 40, len(edges) - 1), np.float32)
        added[10:30, 10:30, cells] = 2 * em.LESION_ISO
        part = em._lesion(added, tissue, 20 * tissue.column_mm)
        mesh = trimesh.Trimesh(part.vertices, part.faces, process=False)
        high = edges[cells[-1] + 1] - edges[cells[0]]
        assert mesh.is_watertight and mesh.volume == pytest.approx((20 * tissue.column_mm) ** 2 * high, rel=0.03)
        assert mesh.bounds[:, 2] == pytest.approx([edges[cells[0]], edges[cells[-1] + 1]], abs=em.LESION_DZ_MM)


def test_a_grid_too_coarse_for_a_lesion_is_refused():
    record = draw(load_preset("region").with_sets(["region.lesion_count=4"]), 0, 0)
    with pytest.raises(em.MeshError, match=r"^--columns 24: too coarse, 4 of 4 .* give --columns \d+$") as caught:
        em.make_parts(record, 24)
    enough = int(str(caught.value).split()[-1])
    parts, _ = em.make_parts(record, enough)
    lesion = trimesh.Trimesh(parts["lesion"].vertices, parts["lesion"].faces)
    assert lesion.body_count >= 4
    with pytest.raises(em.MeshError, match=r"[123] of 4 lesions"):
        em.make_parts(record, 96)


@pytest.mark.parametrize(("arguments", "part"), [
    (["--format", "stl"], "allowed are ply, obj, glb"),
    (["--columns", "100"], "multiple of 12"),
    (["--columns", "1200"], "multiple of 12"),
    (["--preset", "region"], "give --columns"),
    (["--index", "-1"], "--index -1"),
    (["--preset", "nix"], "unknown preset"),
    (["--out", "full"], "not empty"),
    (["--out", "file/x"], "cannot be written"),
    (["--out", "file"], "is there already"),
])
def test_bad_input_is_one_line_and_leaves_nothing(arguments, part, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(SystemExit) as caught:
        cli.main(["mesh", "--columns", "24", *arguments])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and part in error
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "full", "thesis.tex"]


def test_what_lies_beside_the_folder_stays(tmp_path):
    """Neither a folder of the user's that is called like a temporary one, nor the folder they are in."""
    (tmp_path / "a.part").mkdir()
    (tmp_path / "a.part/thesis.tex").write_text("x")
    (tmp_path / "a").mkdir()
    em.write_mesh(RECORD, tmp_path / "a", ("obj",), 48)
    assert (tmp_path / "a.part/thesis.tex").read_text() == "x" and (tmp_path / "a/mesh.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.part"]


@pytest.mark.parametrize("place", [".", "../here"])
def test_the_folder_one_is_in_is_refused(place, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(SystemExit) as caught:
        cli.main(["mesh", "--columns", "24", "--out", place])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and "the folder that you are in" in error
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]
