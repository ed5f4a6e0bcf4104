"""Device profiles: the colourimetric one does nothing, the others what their numbers say, and bad files are refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synthskin.conventions import DEVICE_PROFILES
from synthskin.draw import draw
from synthskin.physics import camera, devices
from synthskin.preset import load_preset

RECORD = draw(load_preset("fst3"), 0, 0)
LINEAR = np.random.default_rng(1).random((64, 64, 3)).astype(np.float32)


def with_device(**values):
    return replace(RECORD, device=replace(RECORD.device, **values))


def test_files_and_names_agree():
    folder = devices._FOLDER
    assert {path.stem for path in folder.glob("*.toml")} == set(DEVICE_PROFILES)
    for name in DEVICE_PROFILES:
        assert devices.profile(name).source


def test_colourimetric_is_plain_srgb():
    assert RECORD.device.profile == "colourimetric" and devices.is_colourimetric(RECORD.device)
    assert np.array_equal(camera.develop(LINEAR, RECORD), camera.encode(LINEAR))
    same = with_device(noise_scale=3.0)  # there is no sensor
    assert np.array_equal(camera.develop(LINEAR, same), camera.encode(LINEAR))


@pytest.mark.parametrize("name", DEVICE_PROFILES[1:])
def test_every_profile_keeps_grey_order_and_is_repeatable(name):
    record = with_device(profile=name)
    assert not devices.is_colourimetric(record.device)
    ramp = np.repeat(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None], 64, 0).repeat(3, 2)
    image = camera.develop(ramp, record)
    assert image.dtype == np.uint8 and image.shape == ramp.shape
    assert np.array_equal(image, camera.develop(ramp, record))
    rising = image.astype(float).mean((0, 2))
    assert (np.diff(rising) > -4).all() and rising[-5] > rising[5] + 120
    assert not np.array_equal(image, camera.develop(ramp, replace(record, index=9)))


def test_light_gains_follow_the_daylight():
    """Planckian locus: 6504 K is near x 0.3135, y 0.3236; warmer light is red, colder blue; luminance stays."""
    assert devices.planckian_xy(6504) == pytest.approx((0.3135, 0.3236), abs=2e-3)
    assert devices.planckian_xy(2856) == pytest.approx((0.4476, 0.4074), abs=2e-3)  # illuminant A
    assert devices.planckian_xy(3999.999) == pytest.approx(devices.planckian_xy(4000.001), abs=2e-4)
    assert np.allclose(devices.light_gains(0.0, 0.0), 1)
    warm, cold = devices.light_gains(80, 0), devices.light_gains(-60, 0)
    assert warm[0] > warm[1] > warm[2] and cold[0] < cold[1] < cold[2]
    assert warm @ devices.LUMINANCE == pytest.approx(1, abs=1e-6)
    magenta = devices.light_gains(0, 0.2)
    assert magenta[1] < 1 < magenta[0] == magenta[2]


def test_automatic_balance_turns_light_skin_grey_and_keeps_what_it_is_of_white():
    skin = np.broadcast_to(devices.LIGHT_SKIN, (8, 8, 3)).astype(np.float32)
    seen = [(x, devices.develop(skin, with_device(auto_white_balance=x))[4, 4]) for x in (-1.0, 0.5, 1.0, 1.25)]
    red = {share: float(colour[0] - colour[2]) for share, colour in seen}
    assert red[1.0] == pytest.approx(0, abs=1e-3)
    assert red[-1.0] > red[0.5] > 0.03 and red[1.25] < -0.03
    assert devices.balance(with_device(auto_white_balance=0.7).device) @ devices.LUMINANCE == pytest.approx(1, abs=1e-6)
    assert not devices.is_colourimetric(with_device(auto_white_balance=0.1).device)


@pytest.mark.parametrize("mired", [-110.0, 150.0])
def test_the_ends_of_the_scale_on_every_profile(mired):
    """A cold lamp behind a cold profile is still a colour."""
    for name in DEVICE_PROFILES:
        grey = np.full((16, 16, 3), 0.4, np.float32)
        image = camera.develop(grey, with_device(profile=name, white_balance_mired=mired))
        red, blue = image[..., 0].mean(), image[..., 2].mean()
        assert (red < blue) == (mired < 0), name


def test_exposure_is_in_stops():
    record = with_device(exposure_ev=1.0)
    grey = np.full((8, 8, 3), 0.2, np.float32)
    assert np.array_equal(camera.develop(grey, record), camera.encode(2 * grey))


def test_noise_has_the_stated_variance():
    made = replace(devices.profile("colourimetric"), shot_noise=4e-4, read_noise=1e-4)
    flat = np.full((256, 256, 3), 0.5, np.float32)
    noisy = devices._noisy(flat, RECORD, made)
    assert noisy.var() == pytest.approx(0.5 * 4e-4 + 1e-4, rel=0.02)
    grainy = devices._noisy(flat, RECORD, replace(made, grain_px=1.0))
    assert grainy.var() == pytest.approx(0.5 * 4e-4 + 1e-4, rel=0.02)
    assert np.array_equal(devices._noisy(flat, with_device(noise_scale=0.0), made), flat)


def test_lens_follows_cos4():
    gain = devices._cos4(512, 20.0)
    assert gain[0, 0] == pytest.approx(np.cos(np.radians(20)) ** 4, rel=0.01)
    assert gain[256, 256] == pytest.approx(1, abs=1e-4)


def test_stray_light_is_a_share_of_the_mean(monkeypatch):
    """A black hole in a bright field gets the veiling glare index of ISO 9358, all that is lost elsewhere; undone."""
    made = devices.read_profile('description="a"\nsource="b"\nstray_light=0.04')
    monkeypatch.setattr(devices, "profile", lambda name: made)
    record = with_device(profile="phone_dermoscope")
    field = np.full((64, 64, 3), 0.5, np.float32)
    field[28:36, 28:36] = 0
    seen = camera.decode((devices.develop(field, record) * 255 + 0.5).astype(np.uint8))
    assert seen[32, 32] == pytest.approx(0.04 * field.mean(), rel=0.05)
    assert seen.mean() == pytest.approx(field.mean(), rel=0.01)
    back = devices.undevelop((devices.develop(field, record) * 255 + 0.5).astype(np.uint8), record.device)
    assert np.abs(back - field).max() < 0.004


@given(arrays(np.float32, (7, 3), elements=st.floats(-0.25, 1.0, width=32)))
def test_colours_outside_are_brought_back_in_order(colours):
    """Nothing far inside moves, the largest channel stays, no channel passes another, and all of it can be undone."""
    colours = np.maximum(colours, -0.29 * np.maximum(colours.max(-1, keepdims=True), 0))
    colours[0] = 0.5, 0.3, 0.11
    drawn = devices.into_gamut(colours)
    assert drawn[0] == pytest.approx(colours[0], abs=1e-6)
    assert drawn.min() > -1e-5
    bright = colours.max(-1) > 1e-3
    assert drawn.max(-1)[bright] == pytest.approx(colours.max(-1)[bright], abs=1e-6)
    order = np.argsort(colours, axis=-1, kind="stable")
    assert (np.diff(np.take_along_axis(drawn, order, -1), axis=-1) >= -1e-6).all()
    back = devices.out_of_gamut(drawn[bright].astype(float))
    assert back == pytest.approx(colours[bright], abs=2e-3)


def test_brown_keeps_some_blue():
    """Linear light of a dark brown lesion, which a livelier matrix would take below 0."""
    brown = np.full((8, 8, 3), (0.16, 0.05, 0.012), np.float32)
    for name in ("dslr_dermoscope", "phone_dermoscope"):
        image = camera.develop(brown, with_device(profile=name, noise_scale=0.0))
        assert image[4, 4, 2] > 12, (name, image[4, 4])


def test_no_camera_is_no_camera_at_any_exposure():
    """The colourimetric profile cuts what is outside sRGB at every exposure: a sweep through 0 has no step there."""
    brown = np.full((8, 8, 3), (0.12, 0.03, -0.006), np.float32)
    at_0, beside = (camera.develop(brown, with_device(exposure_ev=ev)) for ev in (0.0, 0.001))
    assert np.abs(at_0.astype(int) - beside).max() <= 1
    assert devices.undevelop(at_0, RECORD.device)[0, 0] == pytest.approx([0.12, 0.03, 0], abs=1e-3)


@pytest.mark.parametrize(("text", "part"), [
    ("", "description"),
    ('description="a"\nsource="b"\ncolour=3', "unknown key 'colour'"),
    ('description="a"\nsource="b"\nexposure_ev="1"', "exposure_ev"),
    ('description="a"\nsource="b"\nexposure_ev=nan', "exposure_ev"),
    ('description="a"\nsource=""', "source"),
    ('description="a"\nsource="b"\nmatrix=[[1,0,0],[0,1,0],[0,0,2]]', "matrix"),
    ('description="a"\nsource="b"\nmatrix=[[1,0],[0]]', "matrix"),
    ('description="a"\nsource="b"\ntone=[[0,0],[0.5,0.6],[0.4,0.7],[1,1]]', "tone"),
    ('description="a"\nsource="b"\nshot_noise=-1', "shot_noise"),
    ('description="a"\nsource="b"\nstray_light=0.7', "stray_light"),
    ('description="a"\nsource="b"\njpeg_quality=5', "jpeg_quality"),
    ('description="a"\nsource="b"\nwhite_balance_mired=-150', "white_balance_mired"),
    ("description = [", "Invalid"),
])
def test_bad_profiles_are_refused(text, part):
    with pytest.raises(ValueError, match=part):
        devices.read_profile(text)


@pytest.mark.parametrize("name", DEVICE_PROFILES)
def test_a_device_is_undone(name):
    record = with_device(profile=name, exposure_ev=0.2, white_balance_mired=20.0, tint=0.05, auto_white_balance=0.4,
                         noise_scale=0.0)
    skin = np.array([[0.42, 0.29, 0.21], [0.2, 0.12, 0.08]], np.float32)
    for colour in skin:
        image = np.broadcast_to(colour, (64, 64, 3)).astype(np.float32)
        seen = camera.develop(image, record)
        found = devices.undevelop(seen, record.device)
        for part in (found[28:36, 28:36], found[:8, :8]):
            assert part.mean((0, 1)) == pytest.approx(colour, rel=0.06)
    made = devices.profile(name)
    assert np.array_equal(devices.undevelop(seen, replace(record.device, profile="colourimetric"), made),
                          devices.undevelop(seen, record.device))
