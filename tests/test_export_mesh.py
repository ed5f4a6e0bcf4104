"""Meshes: closed, in millimetres, of the volume that the model has, and the same whatever the format."""

import json

import numpy as np
import pytest
import trimesh

from synthskin import cli
from synthskin import export_mesh as em
from synthskin.draw import draw
from synthskin.physics.anatomy import build_scene
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
    meshes = opened(made, "ply")
    assert meshes["hair"].body_count == 4
    assert meshes["vessels"].body_count == round(0.5 * 12**2 / 1.8)


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
