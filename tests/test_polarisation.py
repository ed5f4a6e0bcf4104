"""What polarisers show: collagen that turns light between crossed ones, keratin of cysts without them; labels."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from synthskin.draw import draw
from synthskin.physics import spectral
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.preset import load_preset
from synthskin.variation import with_value

SETS = ("hair.count=0", "hair.vellus_count=0", "camera.field_of_view_mm=7", "lesion.centre_x_mm=0",
        "lesion.centre_y_mm=0", "skin.melanin_mottle=0.03", "skin.blood_mottle=0.2", "lesion.diameter_mm=6")


@pytest.fixture(scope="module")
def engine():
    return Engine(RenderSettings(size_px=128, spp=16))


def shows(engine, diagnosis, name, density, kind, *sets, index=3):
    """(median CIEDE2000 over the mask of the picture with the structure and without it, the label)."""
    preset = load_preset("fst2").with_diagnosis(f"{diagnosis}=1").with_sets(
        (*SETS, f"camera.dermoscopic_type={kind}", *sets))
    record, key = draw(preset, 0, index), f"structures.{name}_density_per_mm2"
    there, gone = (engine.render(with_value(record, key, value)) for value in (density, 0.0))
    where = there.attributes[name] > 0
    lab = [rgb2lab(picture.image)[where] for picture in (there, gone)]
    return float(np.median(spectral.ciede2000(*lab))), there.attributes_delta_e[name]


def test_shiny_white_streaks_need_crossed_polarisers(engine):
    crossed, told = shows(engine, "DF/dermatofibroma", "shiny_white_streaks", 3.0, "contact polarized")
    plain, told_plain = shows(engine, "DF/dermatofibroma", "shiny_white_streaks", 3.0, "contact non-polarized")
    assert crossed > 1.6 and plain < 1.1 and crossed > 1.8 * plain, (crossed, plain)
    assert told == pytest.approx(crossed, rel=0.4) and told_plain == pytest.approx(plain, rel=0.5)


def test_milia_need_none(engine):
    """The horn of a cyst sends polarised light back as it came; between crossed polarisers it hardly shows."""
    crossed, told_crossed = shows(engine, "BKL/seborrhoeic_keratosis", "milia_like_cyst", 0.6, "contact polarized")
    plain, told = shows(engine, "BKL/seborrhoeic_keratosis", "milia_like_cyst", 0.6, "contact non-polarized")
    assert plain > 2 and crossed < 1, (crossed, plain)
    assert told > 2 and told_crossed < 1, (told, told_crossed)


@pytest.mark.parametrize("oxidised", [0, 1])
def test_plugs_need_none_until_they_oxidise(engine, oxidised):
    """Pale keratin of a comedo-like opening shows without polarisers alone, a dark top with both."""
    own = ("BKL/seborrhoeic_keratosis", "comedo_like_opening", 0.6)
    numbers = (f"structures.comedo_like_opening_oxidised={oxidised}",)
    crossed, told_crossed = shows(engine, *own, "contact polarized", *numbers, index=2)
    plain, told = shows(engine, *own, "contact non-polarized", *numbers, index=2)
    assert plain > 2 and told > 1.5, (plain, told)
    if oxidised:
        assert crossed > 2 and told_crossed > 2, (crossed, told_crossed)
    else:
        assert crossed < 1 and told_crossed < 1, (crossed, told_crossed)


def test_photographs_have_no_polarisers(engine):
    """Whatever the record says of a plate: a photograph is taken without, and so are its label and its denoiser."""
    told = []
    for kind in ("contact polarized", "contact non-polarized"):
        preset = load_preset("clinical").with_tones("fst2=1").with_diagnosis("BKL/seborrhoeic_keratosis=1").with_sets(
            ("hair.count=0", f"camera.dermoscopic_type={kind}", "structures.milia_like_cyst_density_per_mm2=0.6"))
        told.append(engine.render(draw(preset, 0, 2)))
    assert told[0].attributes_delta_e["milia_like_cyst"] > 1.5
    assert told[0].attributes_delta_e == told[1].attributes_delta_e
    assert np.array_equal(told[0].image, told[1].image)
