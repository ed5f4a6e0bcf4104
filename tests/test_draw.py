import dataclasses
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthskin.draw import draw, hash_uniform
from synthskin.preset import FieldLaw, load_preset
from synthskin.record import SampleRecord, field_specs


def flat(record):
    return {f"{g}.{k}": v for g, group in record.to_dict().items() if isinstance(group, dict) for k, v in group.items()}


def test_same_key_same_record_and_seed_zero_is_a_seed():
    preset = load_preset("fst6")
    assert draw(preset, 0, 3) == draw(preset, 0, 3)
    assert draw(preset, 0, 3) != draw(preset, 1, 3)
    assert draw(preset, 0, 3) != draw(preset, 0, 4)
    assert draw(preset, 0, 3).set_hash == preset.hash


def test_published_hash_value():
    """Pins the stream: a change would redraw every set there is."""
    assert hash_uniform("fst6", 0, 0, "skin.blood_fraction") == 0.7728039577927721
    assert hash_uniform("a", 1) != hash_uniform("a", "1")
    assert 0.0 < hash_uniform("x") < 1.0


@pytest.mark.parametrize("key", sorted(field_specs()))
def test_overriding_one_field_leaves_the_others(key):
    preset = load_preset("fst3")
    spec = field_specs()[key]
    value = spec["options"][1] if "options" in spec else spec["high"]
    before, after = draw(preset, 7, 5), draw(preset.with_sets([f"{key}={value}"]), 7, 5)
    a, b = flat(before), flat(after)
    assert b.pop(key) == value
    a.pop(key)
    assert a == b
    assert before.diagnosis == after.diagnosis


def test_diagnosis_override_leaves_the_fields():
    preset = load_preset("fst3")
    before, after = draw(preset, 0, 1), draw(preset.with_diagnosis("healthy=1"), 0, 1)
    assert (before.skin, before.hair, before.camera) == (after.skin, after.hair, after.camera)
    assert draw(preset.with_diagnosis("healthy=1"), 0, 1).diagnosis == "healthy"


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1), (0.0, 0), (True, 0), (None, 0)])
def test_bad_seed_or_index(seed, index):
    with pytest.raises(ValueError, match="whole number"):
        draw(load_preset("fst1"), seed, index)


def test_laws_have_their_moments(own_path):
    preset = load_preset(own_path)
    records = [draw(preset, 0, i) for i in range(1500)]
    assert sum(r.diagnosis == "NV" for r in records) / 1500 == pytest.approx(0.75, abs=0.04)
    melanin = [r.skin.melanosome_fraction for r in records]
    assert statistics.mean(melanin) == pytest.approx(0.365, abs=0.004)
    assert min(melanin) >= 0.30 and max(melanin) <= 0.43
    assert statistics.median(r.skin.blood_fraction for r in records) == pytest.approx(0.01, rel=0.12)
    counts = [r.hair.count for r in records]
    assert set(counts) == set(range(13)) and all(type(c) is int for c in counts)
    assert counts.count(0) / 1500 == pytest.approx(0.2 + 0.8 / 13, abs=0.04)
    assert sum(r.camera.dermoscopic_type == "contact polarized" for r in records) / 1500 == pytest.approx(0.7, abs=0.04)


@given(st.floats(min_value=0.0, max_value=1.0, exclude_min=True, exclude_max=True))
def test_inverse_cdf_stays_inside(u):
    for law in (FieldLaw("uniform", (0.1, 0.3)), FieldLaw("log_uniform", (0.1, 0.3)), FieldLaw("integer", (2, 9)),
                FieldLaw("normal", (0.2, 5.0, 0.1, 0.3)), FieldLaw("normal", (0.2, 0.01, 0.1, 0.3))):
        low, high = law.limits()
        assert low <= law.inverse_cdf(u) <= high


@given(st.sampled_from(["fst1", "fst6", "healthy"]), st.integers(0, 2**63 - 1), st.integers(0, 10**7))
def test_any_draw_is_a_valid_record(name, seed, index):
    record = draw(load_preset(name), seed, index)
    assert SampleRecord.from_dict(record.to_dict()) == record


def test_record_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        draw(load_preset("fst1"), 0, 0).skin.blood_fraction = 0.1


def test_what_is_absent_brings_no_horn():
    """The first number of a structure decides whether it is there; horn of an absent acanthosis changed the colour."""
    there = 0
    for name in ("mel", "nv", "bkl", "df", "isic_like"):
        preset = load_preset(name)
        for index in range(150):
            own = draw(preset, 0, index).structures
            there += own.acanthosis_thickness_um > 0
            assert own.acanthosis_thickness_um > 0 or own.acanthosis_keratin_um == 0, (name, index)
    assert there > 100
    held = load_preset("mel").with_sets(["structures.acanthosis_keratin_um=40"])
    assert all(draw(held, 0, index).structures.acanthosis_keratin_um == 40 for index in range(20))


def test_palms_are_no_darker_than_the_skin_they_belong_to():
    for name, form in (("mel", "MEL/acral_lentiginous"), ("nv", "NV/acral")):
        preset = load_preset(name)
        acral = preset.with_diagnosis(f"{form}=1")
        own, palms = (np.mean([draw(one, 0, k).skin.epidermis_thickness_um for k in range(60)])
                      for one in (preset, acral))
        assert own == pytest.approx(palms, rel=0.03)


def test_healthy_skin_is_of_every_tone_in_all_that_goes_with_it():
    preset, six = load_preset("healthy"), load_preset("fst6")
    skins = [draw(preset, 0, index).skin for index in range(600)]
    dark = [skin for skin in skins if skin.melanosome_fraction >= 0.18]
    assert 60 < len(dark) < 140
    low, high = six.fields["skin.epidermis_scattering"].args
    assert all(low <= skin.epidermis_scattering <= high for skin in dark)
