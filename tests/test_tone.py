"""Skin tone of pictures whose tone is known: colours made from L*a*b*, renders' masks, and what cannot be said."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.color import lab2rgb

from synthskin.bias.errors import BiasError
from synthskin.bias.tone import OPTICS, measure_tone, wcag_ratio
from synthskin.bias.tone_files import find_sources, measure_sources
from synthskin.cameras import camera_of_profile, camera_of_row
from synthskin.conventions import ita_class

SKINS = {1: (72.0, 7.0, 14.0), 2: (66.0, 9.0, 16.0), 3: (60.0, 11.0, 17.0), 4: (55.0, 12.0, 18.0),
         5: (46.0, 12.0, 17.0), 6: (30.0, 10.0, 13.0)}


def picture(skin, lesion=None, side=96, noise=1.0, fall=0.0, seed=0):
    """(image, mask) with a round lesion in the middle; L*a*b* colours, `fall` is ln luminance lost at the corner."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    radius = np.hypot(x - (side - 1) / 2, y - (side - 1) / 2) / side
    mask = radius < (0.2 if lesion is not None else 0.0)
    lab = np.where(mask[..., None], skin if lesion is None else lesion, skin) + rng.normal(0, noise, (side, side, 3))
    srgb = np.clip(lab2rgb(lab), 0, 1)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear *= np.exp(-fall * 2 * radius**2)[..., None]
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (srgb * 255 + 0.5).astype(np.uint8), mask


def ita(lab):
    return math.degrees(math.atan2(lab[0] - 50, lab[2]))


NO_HAIR = np.zeros((96, 96), bool)


@pytest.mark.parametrize("number", SKINS)
def test_known_colour_gives_its_ita_and_class(number):
    image, mask = picture(SKINS[number], lesion=(25.0, 8.0, 8.0))
    tone = measure_tone(image, mask, NO_HAIR)
    assert tone.reason is None
    assert tone.ita_deg == pytest.approx(ita(SKINS[number]), abs=1.0)
    assert tone.ita_class == number == ita_class(tone.ita_deg)
    assert 0.3 < tone.confidence <= 1


def test_lesion_hair_ruler_and_surround_do_not_count():
    image, mask = picture(SKINS[3], lesion=(20.0, 5.0, -5.0))
    hair = np.zeros((96, 96), bool)
    hair[:, 10:14] = hair[70:73] = True
    image[hair] = (30, 20, 15)
    image[90:94, 5:90] = (250, 250, 250)
    image[85:88, 20:30] = (40, 40, 200)
    y, x = np.mgrid[:96, :96]
    image[np.hypot(x - 47.5, y - 47.5) > 58] = (3, 3, 3)
    tone = measure_tone(image, mask, hair)
    assert tone.ita_deg == pytest.approx(ita(SKINS[3]), abs=1.5)


def test_uneven_light_is_referred_to_the_middle():
    even = measure_tone(*picture(SKINS[3], (25.0, 8.0, 8.0)), NO_HAIR)
    fading = measure_tone(*picture(SKINS[3], (25.0, 8.0, 8.0), fall=0.3), NO_HAIR)
    assert fading.ita_deg == pytest.approx(even.ita_deg, abs=2.0)


def test_dark_skin_up_to_the_border_is_no_surround():
    dark = (14.0, 6.0, 8.0)
    tone = measure_tone(*picture(dark), NO_HAIR)
    assert tone.ita_class == 6 and tone.skin_fraction > 0.5
    assert tone.ita_deg == pytest.approx(ita(dark), abs=2.0)


def test_contrast_against_hand_computed_values():
    image = np.full((64, 64, 3), (204, 170, 140), np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[26:38, 26:38] = True
    image[mask] = (102, 68, 51)
    tone = measure_tone(image, mask, np.zeros_like(mask))

    def linear(v):
        return ((v / 255 + 0.055) / 1.055) ** 2.4

    luminance = [sum(w * linear(v) for w, v in zip((0.2126729, 0.7151522, 0.072175), rgb, strict=True))
                 for rgb in ((204, 170, 140), (102, 68, 51))]
    assert tone.contrast_wcag == pytest.approx((luminance[0] + 0.05) / (luminance[1] + 0.05), rel=1e-6)
    encoded = [sum(w * v / 255 for w, v in zip((0.2126729, 0.7151522, 0.072175), rgb, strict=True))
               for rgb in ((204, 170, 140), (102, 68, 51))]
    published = measure_tone(image, mask, np.zeros_like(mask), wcag="encoded")
    assert published.contrast_wcag == pytest.approx((encoded[0] + 0.05) / (encoded[1] + 0.05), rel=1e-6)
    import colour

    # colour puts stand-ins for matplotlib where there is none; others (torchmetrics) look for the real one and fail
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        if not isinstance(sys.modules[name], type(sys)):
            del sys.modules[name]

    lab = [colour.XYZ_to_Lab(colour.sRGB_to_XYZ(np.array(c) / 255), (0.3127, 0.3290))
           for c in ((204, 170, 140), (102, 68, 51))]
    assert tone.contrast_delta_e == pytest.approx(float(colour.delta_E(*lab, method="CIE 2000")), abs=0.05)
    assert tone.ita_deg == pytest.approx(math.degrees(math.atan2(lab[0][0] - 50, lab[0][2])), abs=0.1)


def test_wcag_of_black_and_white_is_21():
    assert wcag_ratio(0.0, 1.0) == pytest.approx(21.0)
    assert wcag_ratio(0.3, 0.3) == 1.0


@pytest.mark.parametrize(("image", "says"), [
    (np.full((96, 96, 3), 255, np.uint8), "over-exposed"),
    (np.full((96, 96, 3), (128, 128, 150), np.uint8), "near 0 or below"),
    (np.full((96, 96, 3), (12, 10, 9), np.uint8), "under-exposed"),
    (np.full((96, 96, 3), (121, 118, 114), np.uint8), "not defined"),
])
def test_cannot_say(image, says):
    tone = measure_tone(image, NO_HAIR, NO_HAIR)
    assert tone.ita_deg is None and tone.ita_class is None and tone.contrast_wcag is None
    assert tone.confidence == 0 and says in tone.reason


def test_cannot_say_where_the_lesion_fills_the_frame():
    image, _ = picture(SKINS[2])
    tone = measure_tone(image, np.ones((96, 96), bool), NO_HAIR)
    assert tone.ita_deg is None and "too little healthy skin" in tone.reason


@settings(max_examples=25, deadline=None)
@given(st.floats(20, 80), st.floats(2, 20), st.floats(6, 30))
def test_any_even_skin_gives_its_own_ita_or_says_nothing(lightness, a, b):
    image = np.round(np.clip(lab2rgb(np.full((40, 40, 3), (lightness, a, b))), 0, 1) * 255).astype(np.uint8)
    tone = measure_tone(image, np.zeros((40, 40), bool), np.zeros((40, 40), bool))
    srgb = image[:1, :1] / 255
    from skimage.color import rgb2lab

    true = rgb2lab(srgb)[0, 0]
    if tone.reason is None:
        assert tone.ita_deg == pytest.approx(math.degrees(math.atan2(true[0] - 50, true[2])), abs=0.2)
    else:
        assert "over-exposed" in tone.reason or "not defined" in tone.reason


@pytest.mark.parametrize(("args", "says"), [
    ((np.zeros((96, 96), np.uint8), None, None), "uint8"),
    ((np.zeros((96, 96, 3), np.float32), None, None), "uint8"),
    ((np.zeros((8, 8, 3), np.uint8), None, None), "at least"),
    ((np.zeros((96, 96, 3), np.uint8), np.zeros((95, 96), bool), None), "does not fit"),
])
def test_bad_arrays_are_refused(args, says):
    with pytest.raises(BiasError, match=says):
        measure_tone(*args)


def test_optics_take_off_what_a_dermatoscope_adds(monkeypatch):
    c0, c1, c2, c3, c4 = coefficients = (-1.3, 4.1, 2.6, 0.6, 2.8)
    monkeypatch.setitem(OPTICS, "contact polarized", coefficients)
    image, mask = picture(SKINS[3], lesion=(25.0, 8.0, 8.0))
    plain = measure_tone(image, mask, NO_HAIR)
    t, redness = (SKINS[3][0] - 50) / 20, (SKINS[3][1] - 10) / 5
    lightness = SKINS[3][0] - (c0 + c1 * t + c2 * t * t + c3 * redness)
    wanted = ita((lightness, 0, SKINS[3][2] - c4)) - ita(SKINS[3])
    seen = measure_tone(image, mask, NO_HAIR, optics="contact polarized")
    assert seen.ita_deg - plain.ita_deg == pytest.approx(wanted, abs=0.4)
    assert seen.contrast_delta_e == plain.contrast_delta_e
    assert measure_tone(image, mask, NO_HAIR, optics="non-contact polarized").ita_deg == plain.ita_deg


def test_a_known_camera_is_undone():
    image, mask = picture(SKINS[3], lesion=(25.0, 8.0, 8.0))
    steep = (np.linspace(0, 255, 256) / 255) ** 1.3  # on the encoded scale, as a camera's curve
    photograph = (255 * steep[image] + 0.5).astype(np.uint8)

    def undo(pictured):
        encoded = (pictured / 255) ** (1 / 1.3)
        return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)

    true, plain = measure_tone(image, mask, NO_HAIR), measure_tone(photograph, mask, NO_HAIR)
    seen = measure_tone(photograph, mask, NO_HAIR, camera=undo)
    assert abs(plain.ita_deg - true.ita_deg) > 10
    assert seen.ita_deg == pytest.approx(true.ita_deg, abs=0.7)
    assert seen.contrast_delta_e == plain.contrast_delta_e


def test_renders_are_measured_as_their_model_says(tmp_path):
    """`OPTICS` fits the optical model as it is, also when a device stands between."""
    from synthskin import cli

    for preset, device in (("fst2", "colourimetric"), ("fst5", "phone_dermoscope")):
        out = tmp_path / preset
        with pytest.raises(SystemExit) as done:
            cli.main(["render", "--preset", preset, "--n", "4", "--size", "64", "--seed", "5", "--out", str(out),
                      "--set", f"device.profile={device}", "--workers", "1"])
        assert done.value.code == 0
        found = measure_sources(find_sources([out], camera_of=camera_of_row)).tones
        error = [tone.ita_deg - source.known_deg for source, tone in found]
        assert np.abs(error).mean() < 4 and abs(np.mean(error)) < 3
        if device != "colourimetric":  # the row's device is what makes it so
            blind = measure_sources([replace(source, camera=None) for source, _ in found]).tones
            assert np.mean([tone.ita_deg for _, tone in blind]) != pytest.approx(
                np.mean([tone.ita_deg for _, tone in found]), abs=0.5)


GREY = "description = 'grey'\nsource = 'a test'\nmatrix = [[0.2, 0.7, 0.1], [0.2, 0.7, 0.1], [0.2, 0.7, 0.1]]"


@pytest.mark.parametrize(("content", "says"), [(None, "phone_dermoscope"), ("saturation = 'much'", "finite number"),
                                               ("x = [", "camera.toml"), (GREY, "cannot be told apart")])
def test_bad_cameras_are_refused(tmp_path, content, says):
    path = tmp_path / "camera.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BiasError, match=says):
        camera_of_profile(str(path))


def test_bad_options_are_refused():
    with pytest.raises(BiasError, match="contact polarized"):
        measure_tone(np.zeros((96, 96, 3), np.uint8), NO_HAIR, NO_HAIR, optics="polarised")
    with pytest.raises(BiasError, match="linear or encoded"):
        measure_tone(np.zeros((96, 96, 3), np.uint8), NO_HAIR, NO_HAIR, wcag="gamma")


def _folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "masks").mkdir()
    for number in (2, 5):
        image, mask = picture(SKINS[number], lesion=(25.0, 8.0, 8.0))
        Image.fromarray(image).save(tmp_path / "pictures" / f"p{number}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(tmp_path / "masks" / f"p{number}_segmentation.png")
    return tmp_path


def test_folder_with_masks(tmp_path):
    root = _folder(tmp_path)
    (root / "pictures" / "broken.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((96, 96), np.uint8)).save(root / "masks" / "broken.png")
    found = measure_sources(find_sources([root / "pictures"], root / "masks"))
    assert [t.ita_class for _, t in found.tones] == [2, 5]
    assert len(found.unread) == 1 and "damaged" in next(iter(found.unread.values()))
    assert found.by_class()["2"] == 1 and found.by_class()["cannot say"] == 0


def test_no_picture_and_no_mask_are_refused(tmp_path):
    with pytest.raises(BiasError, match="no picture there"):
        find_sources([tmp_path])
    with pytest.raises(BiasError, match="no such file"):
        find_sources([tmp_path / "x.png"])
    root = _folder(tmp_path)
    with pytest.raises(BiasError, match="no mask p2"):
        find_sources([root / "pictures"], tmp_path)


def test_command(tmp_path, capsys):
    from synthskin import cli

    root = _folder(tmp_path)
    args = ["tone", str(root / "pictures"), "--masks", str(root / "masks")]
    with pytest.raises(SystemExit) as done:
        cli.main([*args, "--json"])
    assert done.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert [tone["ita_class"] for tone in found["tones"]] == [2, 5] and found["by_class"]["5"] == 1
    (root / "pictures" / "p2.png").write_bytes(b"")
    with pytest.raises(SystemExit) as done:
        cli.main(args)
    assert done.value.code == 3
    out = capsys.readouterr()
    assert "p5.png" in out.out and "left out" in out.err
    with pytest.raises(SystemExit) as done:
        cli.main(["tone", str(tmp_path / "nothing")])
    assert done.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
