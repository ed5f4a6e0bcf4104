"""What the label says of a structure on the actual skin: visible where it is, less on dark skin, 0 where it is not."""

from dataclasses import fields, replace

import numpy as np
import pytest

from synthskin.captions import caption
from synthskin.dataset.format import Sample, check_row, empty_row, parse_row
from synthskin.draw import draw
from synthskin.facts import Facts
from synthskin.physics import labels, visibility
from synthskin.physics.lesion.structures import grow, grow_together
from synthskin.preset import load_preset

COLUMNS = 192


def record_of(tone, *sets, diagnosis="MEL"):
    off = (f"{part}.{name}=0" for part, name in visibility.SWITCHES.values() if part == "structures")
    preset = load_preset("base").with_diagnosis(f"{diagnosis}=1").with_tones(f"{tone}=1")
    chosen = {s.split("=")[0]: s for s in (
        *off, "camera.field_of_view_mm=10", "lesion.diameter_mm=5", "lesion.centre_x_mm=0", "lesion.centre_y_mm=0",
        "lesion.network_strength=0.1", "lesion.junctional_melanin=0.15", "lesion.epidermal_melanin=0.03",
        "lesion.dermal_melanin=0", "lesion.globule_density_per_mm2=0", *sets)}
    return draw(preset.with_sets(list(chosen.values())), 0, 3)


def told(record, *names):
    column_mm = record.camera.field_of_view_mm / (COLUMNS * 5 / 6)
    return visibility.structure_delta_e(record, names, COLUMNS, column_mm)


def test_every_structure_has_its_switch():
    """A field of the record each, whose 0 takes the structure's footprint away."""
    record = record_of("fst2")
    for part, name in visibility.SWITCHES.values():
        assert name in {f.name for f in fields(getattr(record, part))}
        assert getattr(getattr(visibility.without(record, (part, name)), part), name) == 0
    axis = ((np.arange(96) - 47.5) * 0.1).astype(np.float32)
    full = record_of("fst2", "structures.dots_density_per_mm2=4", "structures.scale_strength=0.8",
                     "structures.red_lacunae_density_per_mm2=3")
    assert {"dots", "scale", "red_lacunae"} <= set(grow(full, axis, axis, 0.1).footprints)
    for name in ("dots", "scale", "red_lacunae"):
        left = grow(visibility.without(full, visibility.SWITCHES[name]), axis, axis, 0.1).footprints
        assert name not in left or not left[name].any()


@pytest.mark.parametrize(("name", "numbers"), [
    ("blotch", ("structures.blotch_strength=0.8",)),
    ("dotted_vessels", ("structures.dotted_vessels_density_per_mm2=6", "structures.dotted_vessels_diameter_um=80")),
    ("red_lacunae", ("structures.red_lacunae_density_per_mm2=3",)),
])
def test_hidden_by_the_melanin_of_dark_skin(name, numbers):
    """Blood and brown pigment show on light skin and less on dark; the lesion is the same."""
    light, dark = (told(record_of(tone, *numbers), name)[name] for tone in ("fst1", "fst6"))
    assert light > 2.0 and dark < 0.7 * light


def test_an_ulcer_takes_dark_skin_away_too():
    """Blood and raw dermis instead of epidermis, on dark skin as on light: not brighter for melanin that is gone."""
    light, dark = (told(record_of(tone, "structures.ulceration_strength=1"), "ulceration")["ulceration"]
                   for tone in ("fst1", "fst6"))
    assert light > 5.0 and 2.0 < dark < 1.5 * light


def test_white_shows_more_on_dark_skin():
    light, dark = (told(record_of(tone, "structures.scale_strength=0.8"), "scale")["scale"]
                   for tone in ("fst1", "fst6"))
    assert dark > light > 1.0


def test_grows_with_the_dose_and_is_0_without():
    some = [told(record_of("fst2", f"structures.blue_white_veil_strength={s}"), "blue_white_veil")["blue_white_veil"]
            for s in (0.0, 0.2, 0.8)]
    assert some[0] == 0.0 and some[0] < some[1] < some[2]
    assert told(record_of("fst2"), "no_such_structure") == {}


def test_hidden_under_another():
    """Vessels under an ulcer's crust or in a black blotch are told as weaker than alone."""
    vessels = ("structures.curved_vessels_density_per_mm2=3", "structures.curved_vessels_width_um=60")
    alone = told(record_of("fst2", *vessels), "curved_vessels")["curved_vessels"]
    buried = told(record_of("fst2", *vessels, "lesion.epidermal_melanin=0.45", "lesion.junctional_melanin=0.6"),
                  "curved_vessels")["curved_vessels"]
    assert buried < 0.5 * alone


def test_pigment_and_pallor_hide_white_streaks():
    """Under a melanoma's pigment they are told as half of what they show on the same lesion without, on red as more."""
    streaks = ("structures.shiny_white_streaks_density_per_mm2=3", "camera.dermoscopic_type=contact polarized")
    bare = ("lesion.epidermal_melanin=0.004", "lesion.junctional_melanin=0.01")
    pale, red, dark = (told(record_of("fst2", *streaks, *sets), "shiny_white_streaks")["shiny_white_streaks"]
                       for sets in ((*bare, "lesion.blood_factor=1"), (*bare, "lesion.blood_factor=4"),
                                    ("lesion.epidermal_melanin=0.45", "lesion.junctional_melanin=0.6",
                                     "lesion.blood_factor=1")))
    assert dark < 0.7 * pale and 1.2 * pale < red
    plain = told(record_of("fst2", streaks[0], *bare, "camera.dermoscopic_type=contact non-polarized"),
                 "shiny_white_streaks")["shiny_white_streaks"]
    assert plain < 0.6 * pale


def test_lesions_that_grow_together_are_those_that_grow_alone():
    record = record_of("fst2", "structures.dots_density_per_mm2=4")
    other = replace(record, structures=replace(record.structures, dots_density_per_mm2=0.0))
    axis = ((np.arange(96) - 47.5) * 0.1).astype(np.float32)
    for together, alone in zip(grow_together([record, other], axis, axis, 0.1),
                               (grow(record, axis, axis, 0.1), grow(other, axis, axis, 0.1)), strict=True):
        for name in ("epidermal_um", "junctional_um", "arrival", "blood_factor"):
            assert np.array_equal(getattr(together, name), getattr(alone, name)), name


def test_colours_of_a_map_are_those_of_the_mask():
    """xyz_map against the colours `delta_e_map` goes by: equal skin around, equal twin."""
    record = record_of("fst3", "structures.blotch_strength=0.8")
    axis = ((np.arange(96) - 47.5) * 0.1).astype(np.float32)
    lesion = grow(record, axis, axis, 0.1)
    colours = labels.colours_on([lesion], record.skin)
    found = labels.xyz_map(lesion, colours, np.ones((96, 96), bool))
    outside = lesion.column_um < 1e-6
    assert outside.any() and np.ptp(found[outside], axis=0).max() < 1e-6
    assert (found[lesion.column_um > 1].mean(axis=0) < found[outside].mean(axis=0)).all()
    few = np.zeros((96, 96), bool)
    few[40:50, 40:50] = True
    part = labels.xyz_map(lesion, colours, few)
    assert np.allclose(part[few], found[few]) and np.allclose(part[~few], found[outside][0])


def test_row_takes_a_number_a_structure_or_none():
    row = empty_row() | {"file_name": "images/000000.png", "index": 0, "seed": 0, "preset": "p", "set_hash": "h",
                         "generator": "physics", "mask_status": "none", "diagnosis_status": "unknown",
                         "caption": "Skin.", "params": "{}", "attributes": ["dots", "scale"]}
    assert check_row(row) == [] == check_row(row | {"attributes_delta_e": [1.0, 2.5]})
    assert "one number a structure" in check_row(row | {"attributes_delta_e": [1.0]})[0]
    import json

    older = {key: value for key, value in row.items() if key != "attributes_delta_e"}
    assert parse_row(json.dumps(older)) == row  # rows of before this key are read as not knowing


def test_caption_is_silent_about_what_nobody_sees():
    row = empty_row() | {"index": 0, "seed": 0, "preset": "p", "diagnosis": "NV", "ita_class": 6, "params": "{}",
                         "modality": "dermoscopic", "mask_status": "exact", "bbox": [1, 1, 5, 5],
                         "attributes": ["dots", "globules"], "benign_malignant": "benign"}
    picture = np.zeros((8, 8, 3), np.uint8)
    both = caption(Facts.of(Sample(row, picture)), varied=False)
    one = caption(Facts.of(Sample(row | {"attributes_delta_e": [0.4, 3.0]}, picture)), varied=False)
    assert "dots" in both and "globules" in both and "dots" not in one and "globules" in one
