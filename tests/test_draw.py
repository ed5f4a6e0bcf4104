import dataclasses
import statistics

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
