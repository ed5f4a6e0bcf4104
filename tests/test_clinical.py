"""Photographs without contact: light integrals against closed forms, geometry, and masks that go with the picture."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synthskin import cli
from synthskin.draw import draw
from synthskin.physics import clinical, environment
from synthskin.physics.anatomy import build_scene
from synthskin.physics.llvm import DeviceError, resolve_device
from synthskin.preset import PresetError, load_preset

RECORD = draw(load_preset("clinical").with_diagnosis("NV=1"), 0, 0)
SIZE = 64
FLAT = np.zeros((2, SIZE, SIZE), np.float32)


def shot(**values):
    return replace(RECORD, clinical=replace(RECORD.clinical, **values))


def even():
    return environment.Room(np.ones((environment.ROWS, environment.COLUMNS, 3), np.float32))


def test_directions_cover_the_sphere():
    towards, weight = environment.directions()
    assert weight.sum() == pytest.approx(4 * np.pi, rel=1e-9)
    assert np.allclose(np.linalg.norm(towards, axis=-1), 1)
    assert np.allclose((towards * weight[..., None]).sum((0, 1)), 0, atol=1e-9)


def test_an_even_sky_lights_every_normal_the_same():
    """Lambert under a constant sphere: irradiance pi, so irradiance / pi is 1 whatever the normal."""
    tables = environment.integrate(even(), 0.35, np.array([0.0, 0.0, 1.0]))
    assert np.allclose(tables.diffuse, 1, rtol=5e-3)


def test_ggx_keeps_its_energy():
    """White furnace: the lobe over all light directions returns F0 where it is smooth, less (never more) where facets
    send light into each other: single scattering loses at least the facets steeper than 45 degrees, 1/(1 + 1/a^2)."""
    towards, weight = environment.directions()
    flat, w = towards.reshape(-1, 3), weight.ravel()
    up = np.array([[0.0, 0.0, 1.0]])
    f0 = ((environment.ETA_SKIN - 1) / (environment.ETA_SKIN + 1)) ** 2
    kept = []
    for roughness in (0.15, 0.25, 0.35, 0.6):
        lobe = environment.reflection(up, flat, up[0], roughness) * np.maximum(flat[:, 2], 0)
        kept.append(float((lobe * w).sum()) / f0)
        assert kept[-1] < 1.01 - 1 / (1 + 1 / roughness**2)
    assert kept[0] > 0.95 and kept == sorted(kept, reverse=True)


def test_ggx_is_reciprocal():
    rng = np.random.default_rng(0)
    up = np.array([[0.0, 0.0, 1.0]])
    for _ in range(20):
        a, b = rng.normal(size=(2, 3))
        a[2], b[2] = abs(a[2]) + 0.2, abs(b[2]) + 0.2
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        forth = environment.reflection(up, a[None], b, 0.35)
        back = environment.reflection(up, b[None], a, 0.35)
        assert forth == pytest.approx(back, rel=1e-9)


@pytest.mark.parametrize("light", ["window", "ceiling", "flash"])
def test_own_rooms_light_from_where_they_say(light):
    the_room = environment.room(light, 0.0, 40.0, 0.3)
    towards, weight = environment.directions()
    on_skin = (the_room.radiance.mean(-1) * np.maximum(towards[..., 2], 0) * weight)
    assert on_skin.sum() == pytest.approx(0.3 if light == "flash" else 1.0, rel=0.05)
    if light != "flash":
        tables = environment.integrate(the_room, 0.35, np.array([0.0, 0.0, 1.0]))
        middle = environment.NODES // 2
        assert tables.diffuse[middle, -5, 1] > 1.2 * tables.diffuse[middle, 4, 1]  # a normal to the right, light there


def test_flat_skin_under_even_light_is_the_walks_picture_with_shine():
    record = shot(light="window", fill=0.98, relief=0.0, curvature_mm=5000.0, shine=0.0, tilt_deg=0.0, aperture_mm=0.1,
                  distance_mm=2000.0)
    linear = np.empty((SIZE, SIZE, 3), np.float32)
    linear[:] = (0.5, 0.3, 0.2)
    out, _ = clinical.photograph(linear, record, FLAT, even())
    assert np.allclose(out, linear, rtol=0.02)
    shiny, _ = clinical.photograph(linear, replace(record, clinical=replace(record.clinical, shine=1.0)),
                                   FLAT, even())
    f0 = ((environment.ETA_SKIN - 1) / (environment.ETA_SKIN + 1)) ** 2
    added = (shiny - out)[SIZE // 2, SIZE // 2]
    assert np.allclose(added, f0, rtol=0.25)  # white, about the Fresnel reflectance


def test_the_view_keeps_to_the_rendered_skin_and_shows_perspective():
    for tilt in (0.0, 20.0, 50.0, 60.0):
        for distance in (40.0, 250.0):
            view = clinical.view_of(shot(tilt_deg=tilt, tilt_azimuth_deg=90.0, distance_mm=distance), SIZE)
            assert view.rows.min() >= -0.5 and view.rows.max() <= SIZE - 0.5
            assert view.columns.min() >= -0.5 and view.columns.max() <= SIZE - 0.5
            top, bottom = np.ptp(view.columns[0]), np.ptp(view.columns[-1])
            if tilt == 0:
                assert top == pytest.approx(bottom, rel=1e-3)
                assert np.allclose(np.diff(view.columns[10]), np.diff(view.columns[10])[0], atol=1e-3)
            else:
                assert top > 1.01 * bottom  # the camera stands below: what lies above is farther away


def test_masks_go_with_the_picture():
    record = shot(tilt_deg=25.0, aperture_mm=0.1, relief=0.0, shine=0.0)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[20:40, 24:44] = True
    linear = np.where(mask[..., None], 0.1, 0.6).astype(np.float32).repeat(3, -1)
    out, view = clinical.photograph(linear, record, FLAT, even())
    dark = out[..., 1] < 0.5 * (out[..., 1].min() + out[..., 1].max())
    seen = view.mask(mask)
    assert (dark & seen).sum() / (dark | seen).sum() > 0.95 and seen.sum() > 50


def test_relief_shows_and_dof_blurs_away_from_the_focus():
    rng = np.random.default_rng(0)
    slope = 0.05 * rng.standard_normal((2, SIZE, SIZE)).astype(np.float32)
    linear = np.full((SIZE, SIZE, 3), 0.4, np.float32)
    the_room = environment.room("window", 0.0, 30.0, 0.2)

    def detail(**values):
        record = shot(**{"light": "window", "aperture_mm": 0.1, "curvature_mm": 5000.0, "distance_mm": 100.0} | values)
        out, _ = clinical.photograph(linear, record, slope, the_room)
        return (out - gaussian_filter(out, (3, 3, 0))).std()

    assert detail(relief=1.0) > 5 * detail(relief=0.0)
    assert detail(relief=1.0, aperture_mm=20.0, focus_mm=30.0) < 0.4 * detail(relief=1.0)


def test_panoramas_are_averaged_and_turned():
    rng = np.random.default_rng(0)
    pixels = rng.random((50, 110, 3)).astype(np.float32)
    made = environment.check_panorama(pixels, "x")
    assert made.shape == (environment.ROWS, environment.COLUMNS, 3)
    _, weight = environment.directions()
    area = np.sin((np.arange(50) + 0.5) * np.pi / 50)
    mean = (pixels.mean((1, 2)) * area).sum() / area.sum()
    assert (made.mean(-1) * weight).sum() / (4 * np.pi) == pytest.approx(mean, rel=2e-3)
    spot = np.zeros((64, 128, 3), np.float32)
    spot[32, 64] = 1  # the middle: straight before the skin
    tables = environment.integrate(environment.Room(environment.check_panorama(spot, "x")), 0.3, np.array([0, 0, 1.0]))
    middle = environment.NODES // 2
    assert tables.diffuse[middle, middle, 0] >= 0.98 * tables.diffuse.max()
    with pytest.raises(ValueError, match="half of the room"):
        environment.check_panorama(spot, "x", 180.0)


@pytest.mark.parametrize(("value", "part"), [
    (np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (-1.0, "negative light"), (0.0, "black all over"),
])
def test_bad_panoramas(value, part):
    pixels = np.full((8, 16, 3), value, np.float32)
    with pytest.raises(environment.EnvironmentMapError, match=part) as caught:
        environment.check_panorama(pixels, "--environment room.exr")
    assert "\n" not in str(caught.value) and "room.exr" in str(caught.value)
    with pytest.raises(environment.EnvironmentMapError, match="at least 8 x 4"):
        environment.check_panorama(np.ones((2, 4, 3), np.float32), "x")


def test_a_preset_without_photographs_refuses_a_panorama():
    with pytest.raises(PresetError, match="makes no photographs"):
        load_preset("fst2").in_environment()
    assert load_preset("clinical").in_environment().fields["clinical.light"].args == ("environment",)


@pytest.mark.parametrize(("name", "data", "part"), [
    ("room.exr", b"not an exr", "cannot be read"), ("room.png", b"", "as .exr, .hdr, .pfm"),
    ("none.exr", None, "--environment"),
])
def test_bad_environment_files_are_one_line_and_exit_2(name, data, part, tmp_path, capsys):
    try:
        resolve_device("auto")
    except DeviceError as error:
        pytest.skip(str(error))
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    out = tmp_path / "set"
    with pytest.raises(SystemExit) as caught:
        cli.main(["render", "--preset", "clinical", "--n", "1", "--size", "32", "--environment", str(path), "--out",
                  str(out)])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.strip().count("\n") == 0 and part in error
    assert not out.exists()


def test_panorama_files_are_read_and_nan_is_refused(tmp_path):
    try:
        from synthskin.physics import render

        mi = render.backend("auto")[0]
    except DeviceError as error:
        pytest.skip(str(error))
    pixels = np.random.default_rng(1).random((16, 32, 3)).astype(np.float32)
    for suffix in (".exr", ".hdr", ".pfm"):
        path = tmp_path / f"room{suffix}"
        mi.Bitmap(pixels).write(str(path))
        made = environment.read_room(mi, path).radiance
        expected = environment.check_panorama(pixels, "x")
        assert np.allclose(made, expected, rtol=0.02, atol=5e-3), suffix  # RGBE shares an exponent
    pixels[3, 3] = np.nan
    mi.Bitmap(pixels).write(str(tmp_path / "nan.exr"))
    with pytest.raises(environment.EnvironmentMapError, match="NaN or infinite"):
        environment.read_room(mi, tmp_path / "nan.exr")


def test_keratin_and_acanthosis_lift_a_lesion_and_an_ulcer_sinks():
    scene = build_scene(draw(load_preset("bkl"), 0, 0), 96)
    assert scene.lesion.thickening_um is not None and scene.lesion.thickening_um.max() > 10
    lifted = clinical.surface_um(scene) - scene.surface_height_um
    inside = scene.lesion.presence > 0.9
    assert lifted[inside].mean() > 10 and np.abs(lifted[scene.lesion.presence == 0]).max() < 1
    pit = replace(scene.lesion, thickening_um=-20 * scene.lesion.presence, keratin_um=None)
    assert (clinical.surface_um(replace(scene, lesion=pit)) - scene.surface_height_um)[inside].mean() < -10
    assert clinical.surface_um(replace(scene, lesion=None)) is scene.surface_height_um
