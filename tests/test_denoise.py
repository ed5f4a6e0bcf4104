"""The denoiser: colour of healthy skin stays, which varies by a few hundredths only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab

from synthskin.draw import draw
from synthskin.physics import denoise, spectral
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.preset import load_preset

SIDE = 128


def pattern(seed: int, sigma: float) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), sigma, mode="wrap")
    return (field / field.std()).astype(np.float32)


@pytest.mark.parametrize(("window", "alike", "error"), [(31, 0.45, 0.02), (41, 0.6, 0.015), (63, 0.6, 0.012)])
def test_colour_that_follows_the_blood_is_kept_and_noise_is_not(window: int, alike: float, error: float) -> None:
    """Skin that varies by 3 % with the blood, green and blue more than red, under noise of 40 %."""
    melanin, blood = pattern(1, 6), pattern(2, 5)
    albedo = 0.5 * (1 + 0.02 * melanin[..., None] * np.array([0.5, 0.8, 1.2], np.float32))
    clean = 0.3 * (1 + 0.02 * melanin[..., None] * np.array([0.4, 0.8, 1.2], np.float32)
                   - 0.03 * blood[..., None] * np.array([0.2, 1.0, 0.7], np.float32))
    noise = np.random.default_rng(3).standard_normal(clean.shape)
    noisy = (clean * (1 + 0.4 * noise)).astype(np.float32)
    guide = np.concatenate([albedo, (10 + blood)[..., None]], axis=2).astype(np.float32)
    found = denoise.guided(noisy, guide, window)
    redness, wanted = (np.log(x[..., 0] / x[..., 1]) for x in (found, clean))
    assert np.corrcoef(redness.ravel(), wanted.ravel())[0, 1] > alike
    assert 0.6 < redness.std() / wanted.std() < 1.8
    # broader windows average more noise
    assert np.abs(found / clean - 1).mean() < error


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 97), st.integers(2, 97), st.integers(1, 40))
def test_any_size_and_window(height: int, width: int, radius: int) -> None:
    """A linear function of the guide comes back, whatever the size; what cannot be cut into cells is not."""
    rng = np.random.default_rng(height * 100 + width)
    guide = rng.uniform(0.2, 0.8, (height, width, 4)).astype(np.float32)
    values = guide[..., :3].mean(-1, keepdims=True) * np.float32(0.5) + np.float32(0.1)
    found = denoise.guided(values, guide, 2 * radius + 1)
    assert found.shape == values.shape and np.isfinite(found).all() and (found > 0).all()
    assert np.abs(found - values).mean() < 0.05


@pytest.mark.parametrize("preset", ["fst2", "fst5"])
def test_loose_horn_keeps_its_contrast(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it adds to the light within six pixels, as in many paths; without its place in the guide most of it goes."""
    engine = Engine(RenderSettings(size_px=128))
    sets = ("skin.dryness=1", "hair.count=0", "hair.vellus_count=0", "camera.field_of_view_mm=8")
    record = draw(load_preset(preset).with_sets(sets), 0, 3)
    scene = engine.scene(record)
    assert scene.loose_horn is not None
    margin = len(scene.loose_horn) // 12
    horn = scene.loose_horn[margin:-margin, margin:-margin]
    horn = denoise.box_means(denoise.box_means(horn, 128).T, 128).T
    horn = horn - gaussian_filter(horn, 6)

    def contrast(picture: np.ndarray) -> float:
        light = picture @ denoise.LUMINANCE
        return float((horn * (light / gaussian_filter(light, 6) - 1)).sum())

    paths = contrast(engine.linear(record, scene, spp=150).noisy)
    assert paths > 0 and 0.65 < contrast(engine.linear(record, scene).clean) / paths < 1.35
    monkeypatch.setattr(denoise, "LOOSE_HORN_GUIDE", np.float32(0))
    assert contrast(engine.linear(record, scene).clean) < 0.4 * paths


def test_skin_keeps_its_colour_contrast() -> None:
    """a* of healthy skin against many paths that no denoiser saw: as strong, and in the same places."""
    engine = Engine(RenderSettings(size_px=128, spp=6))
    record = draw(load_preset("fst2").with_sets((
        "hair.count=0", "hair.vellus_count=0", "camera.field_of_view_mm=10", "lesion.diameter_mm=2",
        "skin.blood_mottle=0.5",
    )), 0, 1)
    scene = engine.scene(record, with_lesion=False)
    clean = engine.linear(record, scene).clean
    many = engine.linear(record, scene, spp=180, seed=9).noisy
    matrix = np.linalg.inv(spectral.XYZ_TO_LINEAR_SRGB).T
    red = []
    for picture in (clean, many):
        a = spectral.xyz_to_lab(np.clip(picture, 0, 1) @ matrix)[8:-8, 8:-8, 1]
        red.append(gaussian_filter(a, 2) - gaussian_filter(a, 6))
    assert np.corrcoef(red[0].ravel(), red[1].ravel())[0, 1] > 0.7
    assert 0.6 < red[0].std() / red[1].std() < 1.4


@pytest.mark.parametrize("count", [1, 7, 96, 128, 224, 320, 1500])
def test_box_means_keep_what_is_there(count):
    """The mean over all parts is that of the whole; what is even stays; a line thinner than a part is seen in full."""
    values = np.random.default_rng(0).random((2, 1024), dtype=np.float32)
    found = denoise.box_means(values, count)
    assert found.shape == (2, count) and found.mean(-1) == pytest.approx(values.mean(-1), rel=1e-5)
    assert denoise.box_means(np.full((1, 1024), 0.3, np.float32), count) == pytest.approx(0.3)
    line = np.zeros((1, 1024), np.float32)
    line[0, 333] = 1
    assert denoise.box_means(line, count).sum() == pytest.approx(count / 1024)


def test_hair_is_whole_where_its_raster_is_no_multiple_of_the_picture():
    """At 96 pixels a fibre read at the pixels' middles would be dashed: 6.7 from the paths, CIEDE2000; averaged 3.5."""
    record = draw(load_preset("fst2").with_sets(("hair.count=12",)), 0, 6)
    paths = Engine(RenderSettings(size_px=96, spp=300, denoise=False)).render(record)
    found = Engine(RenderSettings(size_px=96)).render(record)
    hair = paths.hair > 0
    away = spectral.ciede2000(rgb2lab(found.image)[hair], rgb2lab(paths.image)[hair])
    assert hair.mean() > 0.05 and away.mean() < 4.5, away.mean()
