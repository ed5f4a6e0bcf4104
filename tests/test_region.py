"""A region: a person's nevi and one ugly duckling, each with its own label, box and class."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from standin import FakeEngine

from synthskin.captions import caption, questions
from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import check_row
from synthskin.draw import draw
from synthskin.facts import Facts
from synthskin.physics import clinical, labels, region, strands
from synthskin.physics.anatomy import build_scene
from synthskin.physics.lesion.field import NEUTRAL
from synthskin.physics.lesion.structures import grow
from synthskin.physics.noise import NoiseField
from synthskin.physics.relief import dermatoglyphs, follicle_sites
from synthskin.physics.scene import HairStrand
from synthskin.preset import load_preset
from synthskin.rows import make_sample
from synthskin.run import EngineOptions

PRESET = load_preset("region").with_diagnosis("MEL=1").with_sets(["region.lesion_count=12", "hair.count=0"])
RECORD = draw(PRESET, 0, 0)
SIZE = 256


@pytest.fixture(scope="module")
def grown():
    scene = build_scene(RECORD, 384)
    tissue, fov = scene.tissue, RECORD.camera.field_of_view_mm
    delta_e = labels.delta_e_map(scene.lesion, tissue.column_mm, tissue.origin_mm, fov, SIZE)
    return scene, region.mask_of_delta_e(delta_e, labels.THRESHOLD_DELTA_E, fov)


def test_lesions_do_not_touch_and_the_duckling_is_first():
    places = region.sites(RECORD)
    assert places[0].record is RECORD and len(places) == 12
    assert {site.record.diagnosis for site in places[1:]} == {"NV"}
    for i, a in enumerate(places):
        for b in places[:i]:
            assert np.hypot(a.x_mm - b.x_mm, a.y_mm - b.y_mm) > a.radius_mm + b.radius_mm + region.GAP_MM - 1e-9
    assert [(s.x_mm, s.y_mm) for s in region.sites(RECORD)] == [(s.x_mm, s.y_mm) for s in places]
    other = region.sites(replace(RECORD, index=5))
    assert (other[0].x_mm, other[0].y_mm) != (places[0].x_mm, places[0].y_mm)


def test_more_lesions_keep_the_earlier_ones():
    more = region.sites(replace(RECORD, region=replace(RECORD.region, lesion_count=20)))
    assert [(s.x_mm, s.record.lesion) for s in more[:12]] == [(s.x_mm, s.record.lesion) for s in region.sites(RECORD)]


def test_a_crowded_region_keeps_what_has_room():
    crowded = replace(RECORD, region=replace(RECORD.region, lesion_count=40, nevus_diameter_mm=6.0),
                      camera=replace(RECORD.camera, field_of_view_mm=30.0))
    assert 3 < len(region.sites(crowded)) < 40


def test_similar_nevi_resemble_each_other():
    def spread(similarity):
        r = replace(RECORD, region=replace(RECORD.region, similarity=similarity))
        return np.std([region.nevus(r, k).lesion.network_strength for k in range(1, 30)])

    assert spread(1.0) < 1e-9 < 0.05 < spread(0.0)


def test_every_lesion_has_a_label_where_it_grows(grown):
    scene, mask = grown
    label, kinds = region.instances(RECORD, mask)
    assert kinds[0] == "MEL" and set(kinds[1:]) == {"NV"} and 9 <= len(kinds) <= 12
    assert np.array_equal(label > 0, mask) and set(np.unique(label)) == set(range(len(kinds) + 1))
    half = 0.5 * RECORD.camera.field_of_view_mm
    first = region.sites(RECORD)[0]
    rows, columns = np.nonzero(label == 1)
    centre = (np.array([columns.mean(), rows.mean()]) + 0.5) / SIZE * 2 * half - half
    assert np.hypot(*(centre - (first.x_mm, first.y_mm))) < 0.5 * first.radius_mm
    area = (label == 1).mean() * (2 * half) ** 2
    assert 0.4 < area / (np.pi * (0.5 * RECORD.lesion.diameter_mm) ** 2 * RECORD.lesion.growth_time**2) < 2.5
    assert scene.lesion.presence.max() > 0.9


def test_a_row_has_a_box_and_a_class_a_lesion(grown):
    _, mask = grown
    label, kinds = region.instances(RECORD, mask)
    fake = FakeEngine(EngineOptions(SIZE)).render(RECORD)
    rendered = replace(fake, mask=np.where(mask, 255, 0).astype(np.uint8), attributes={})
    object.__setattr__(rendered, "instances", label)
    object.__setattr__(rendered, "diagnoses", kinds)
    sample = make_sample(RECORD, rendered)
    assert check_row(sample.row) == [] and sample.row["modality"] == "clinical"
    assert sample.row["dermoscopic_type"] is None and sample.row["lesions"] == list(kinds)
    for number, (x, y, w, h) in enumerate(sample.row["boxes"], start=1):
        rows, columns = np.nonzero(label == number)
        assert (x, y, x + w, y + h) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert f"instances/{RECORD.index:06d}.png" in encode_sample(sample).files
    facts = Facts.of(sample)
    assert f"{len(kinds)} lesions" in caption(facts) and "a melanoma" in caption(facts)
    asked = {q["question"]: q["answer"] for q in questions(facts, varied=False)}
    assert asked["How many lesions does the picture show?"] == str(len(kinds))


def test_labels_that_the_camera_does_not_see_are_closed_up(grown):
    _, mask = grown
    label, kinds = region.instances(RECORD, mask)
    label = label.copy()
    label[label == 3] = 0
    rendered = FakeEngine(EngineOptions(SIZE)).render(RECORD)
    rendered = replace(rendered, mask=np.where(label > 0, 255, 0).astype(np.uint8), attributes={})
    object.__setattr__(rendered, "instances", label)
    object.__setattr__(rendered, "diagnoses", kinds)
    sample = make_sample(RECORD, rendered)
    assert len(sample.row["boxes"]) == len(kinds) - 1 and int(sample.instances.max()) == len(kinds) - 1
    assert json.loads(sample.row["params"])["region"]["lesion_count"] == 12


def test_hairs_thinner_than_a_texel_have_no_gaps_and_take_as_much_light():
    """One straight hair of 60 um on rasters from fine to coarse: lit share of the picture is the same within 15 %."""
    z = np.full(32, -0.05, np.float32)
    x = np.linspace(2, 30, 32, dtype=np.float32)
    points = np.stack([x, 0.3 * x + 9.13, z, np.full(32, 0.03, np.float32)], axis=1).astype(np.float32)
    hair = (HairStrand(points),)
    taken = []
    for raster in (4096, 1024, 256):
        offset, _, owner = strands.rasterise(hair, raster, 32.0)
        through = strands.transmission(offset, owner, hair, 3.0, 0.2, 32.0 / raster)
        taken.append(float((1 - through[1, ..., 0]).mean()))
        crossed = (owner >= 0).any(axis=0)
        assert crossed[int(3 / 32 * raster):int(29 / 32 * raster)].all(), raster
    assert np.allclose(taken, taken[0], rtol=0.15)


def axis_of(record, columns=480):
    column_mm = record.camera.field_of_view_mm / (columns * 5 / 6)
    return ((np.arange(columns) - 0.5 * (columns - 1)) * column_mm).astype(np.float32), column_mm


def duckling(diagnosis, **structures):
    record = draw(load_preset("region").with_diagnosis(f"{diagnosis}=1"), 0, 2)
    return replace(record, structures=replace(record.structures, **structures))


@pytest.fixture
def alone(monkeypatch):
    """Regions without the nevi around the duckling."""
    all_sites = region.sites
    monkeypatch.setattr(region, "sites", lambda record: all_sites(record)[:1])


@pytest.mark.parametrize("record", [
    duckling("MEL/superficial_spreading", streaks_density_per_mm=2.0, streaks_length_mm=1.5, streaks_share=0.6,
             pseudopods_density_per_mm=2.0, pseudopods_length_mm=1.0, pseudopods_share=0.6),
    duckling("BCC", leaf_like_area_count=8, leaf_like_area_length_mm=2.0),
    duckling("MEL/lentigo_maligna", follicular_pigment_strength=0.8),
    duckling("AKIEC/actinic_keratosis", red_pseudonetwork_strength=0.8),
], ids=["streaks", "leaves", "rings", "strawberry"])
def test_a_duckling_is_what_grows_at_its_place_whole(record, alone):
    """Law: cutting a window out of the region and pasting into it changes nothing of the lesion."""
    axis, column_mm = axis_of(record)
    site = region.sites(record)[0]
    assert np.hypot(site.x_mm, site.y_mm) > 5
    found = region.grow_region(record, axis, column_mm)
    expected = grow(region.placed(record, site.x_mm, site.y_mm), axis, axis, column_mm)
    assert region.changed(expected).sum() > 300
    for name in ("presence", "epidermal_um", "junctional_um", "dermal_um", "blood_factor", *NEUTRAL):
        a, b = getattr(found, name), getattr(expected, name)
        assert (a is None) == (b is None), name
        assert a is None or np.array_equal(a, b), name
    assert found.footprints.keys() == expected.footprints.keys() and found.footprints
    for name, where in expected.footprints.items():
        assert np.array_equal(found.footprints[name], where), name


def test_streaks_and_pseudopods_of_a_duckling_hold_melanin_to_their_ends(alone):
    record = duckling("MEL/superficial_spreading", streaks_density_per_mm=2.0, streaks_length_mm=1.0, streaks_share=0.6,
                      pseudopods_density_per_mm=2.0, pseudopods_length_mm=1.0, pseudopods_share=0.6)
    found = region.grow_region(record, *axis_of(record))
    where = found.footprints["streaks"] | found.footprints["pseudopods"]
    assert (where & (found.presence == 0)).sum() > 5 and found.column_um[where].min() > 0.5


def test_an_acral_duckling_lies_on_the_crests_of_its_skin(alone):
    record = duckling("MEL/acral_lentiginous", parallel_ridge_strength=0.9)
    record = replace(record, camera=replace(record.camera, field_of_view_mm=40.0))
    axis, column_mm = axis_of(record)
    found = region.grow_region(record, axis, column_mm)
    crest = dermatoglyphs(record, NoiseField(record, axis, axis))[0]
    inside = found.presence > 0.9
    marked = found.footprints["parallel_ridge_pattern"] & inside
    assert crest[marked].mean() > 0.8 > 0.4 > crest[inside & ~marked].mean()


def test_rings_of_a_duckling_lie_around_follicles_of_its_skin(alone):
    record = duckling("AKIEC/actinic_keratosis", red_pseudonetwork_strength=0.9)
    record = replace(record, camera=replace(record.camera, field_of_view_mm=40.0),
                     skin=replace(record.skin, follicle_density_per_cm2=300.0))
    axis, column_mm = axis_of(record)
    found = region.grow_region(record, axis, column_mm)
    x, y, _ = follicle_sites(record, 0.6 * record.camera.field_of_view_mm)
    at = tuple(np.clip(np.searchsorted(axis, v - 0.5 * column_mm), 0, len(axis) - 1) for v in (y, x))
    inside = found.presence[at] > 0.8
    assert inside.sum() > 3
    assert found.footprints["red_pseudonetwork"][found.presence > 0.9].mean() > 0.75
    assert not found.footprints["red_pseudonetwork"][at][inside].any()


def test_the_radius_of_a_young_duckling_is_as_small_as_it_has_grown():
    young = replace(RECORD, lesion=replace(RECORD.lesion, growth_time=0.4))
    old = replace(RECORD, lesion=replace(RECORD.lesion, growth_time=1.0))
    assert region.sites(young)[0].radius_mm == pytest.approx(0.4 * region.sites(old)[0].radius_mm)


@pytest.mark.parametrize("tilt_deg", [0.0, 12.0, 30.0])
def test_every_pixel_of_the_mask_has_a_label_however_the_camera_stands(grown, tilt_deg):
    _, mask = grown
    label, kinds = region.instances(RECORD, mask)
    view = clinical.view_of(replace(RECORD, clinical=replace(RECORD.clinical, tilt_deg=tilt_deg)), SIZE)
    seen = view.mask(mask)
    told = view.labels(label, seen)
    assert seen.any() and np.array_equal(told > 0, seen)
    assert set(np.unique(told)) <= set(range(len(kinds) + 1))


def places(record):
    """Number of each lesion, the duckling's 0, and its place."""
    return {0 if own.record is record else int(own.record.preset.split("/nevus ")[1]): (own.x_mm, own.y_mm)
            for own in region.sites(record)}


def test_nothing_moves_over_a_follow_up():
    for index in range(20):
        record = draw(load_preset("region"), 1, index)
        young, older, old = (places(replace(record, lesion=replace(record.lesion, growth_time=t)))
                             for t in (0.4, 0.7, 1.0))
        assert young == older == old and len(old) == record.region.lesion_count, index


def test_over_a_sweep_of_the_size_only_nevi_that_come_too_near_move():
    moved = total = 0
    for index in range(20):
        record = draw(load_preset("region"), 1, index)
        found = [places(replace(record, region=replace(record.region, nevus_diameter_mm=d))) for d in (2.0, 2.4, 2.8)]
        assert found[0][0] == found[1][0] == found[2][0]
        for before, after in pairwise(found):
            total += len(before)
            moved += sum(after.get(number) != place for number, place in before.items())
    assert 0 < moved < 0.08 * total
