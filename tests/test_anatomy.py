"""The tissue grid: exact columns, bounded fractions, and structures that stay put when one field is changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synthskin.physics.anatomy import STRATUM_CORNEUM_UM, build_scene
from synthskin.physics.layers import COARSE_CELLS, Slab, cells_from_slabs, z_edges
from synthskin.physics.scene import SceneSpec
from synthskin.record import Camera, Hair, Lesion, SampleRecord, Skin, Structures

N = 96
TONES = [0.01, 0.06, 0.2, 0.43]


def record(index: int = 0, diagnosis: str = "NV", **fields: Any) -> SampleRecord:
    groups: dict[str, dict[str, Any]] = {"skin": {}, "hair": {}, "lesion": {}, "camera": {}, "structures": {}}
    for key, value in fields.items():
        group, name = key.split("__")
        groups[group][name] = value
    return SampleRecord(
        "test",
        "",
        0,
        index,
        diagnosis,
        Skin(**groups["skin"]),
        Hair(**groups["hair"]),
        Lesion(**groups["lesion"]),
        Camera(**groups["camera"]),
        structures=Structures(**groups["structures"]),
    )


def melanin_um(scene: SceneSpec) -> np.ndarray:
    tissue = scene.tissue
    fine = (tissue.melanin_fine * np.diff(tissue.z_edges_fine_mm) * 1000).sum(axis=-1, dtype=np.float64)
    coarse = (tissue.melanin_coarse * np.diff(tissue.z_edges_coarse_mm) * 1000).sum(axis=-1, dtype=np.float64)
    return fine + np.kron(coarse, np.ones((2, 2)))


@pytest.mark.parametrize("fraction", TONES)
@pytest.mark.parametrize("thickness", [40.0, 70.0, 120.0])
def test_epidermal_melanin_is_conserved(fraction: float, thickness: float) -> None:
    scene = build_scene(
        record(0, "healthy", skin__melanosome_fraction=fraction, skin__epidermis_thickness_um=thickness), N
    )
    assert melanin_um(scene).mean() == pytest.approx(fraction * thickness, rel=1e-3)
    assert scene.tissue.dej_mm.mean() * 1000 == pytest.approx(thickness, rel=0.03)
    assert scene.lesion is None and scene.attributes == {}


def test_melanin_of_light_skin_has_a_fine_grain_without_specks() -> None:
    """What varies over less than 0.3 mm is about half of `melanin_mottle`; nowhere does it stand out as a spot."""
    mottle = 0.4
    scene = build_scene(
        record(0, "healthy", skin__melanin_mottle=mottle, skin__rete_ridge_depth_um=0.0, skin__basal_melanin_share=0.0,
               skin__follicle_density_per_cm2=0.0, camera__field_of_view_mm=8.0), 240)
    column = melanin_um(scene)
    column_mm = scene.tissue.column_mm
    fine = np.log(column / gaussian_filter(column, 0.12 / column_mm))[20:-20, 20:-20]
    assert 0.38 * mottle < fine.std() < 0.6 * mottle
    assert np.percentile(fine, 99.9) < 3.0 * fine.std()


@pytest.mark.parametrize("fraction", TONES)
def test_lesion_columns_are_conserved(fraction: float) -> None:
    options = {
        "lesion__dermal_melanin": 0.3,
        "skin__melanosome_fraction": fraction,
        "skin__follicle_density_per_cm2": 0.0,
    }
    sample = record(1, **options, lesion__junctional_melanin=0.8, lesion__dermal_depth_um=300.0)
    scene = build_scene(sample, N)
    assert scene.lesion is not None
    added = melanin_um(scene) - melanin_um(build_scene(sample, N, with_lesion=False))
    assert added.sum() == pytest.approx(float(scene.lesion.column_um.sum()), rel=2e-3)


@pytest.mark.parametrize("fraction", [0.002, 0.005, 0.05])
def test_blood_is_conserved(fraction: float) -> None:
    sample = record(0, "healthy", skin__blood_fraction=fraction, skin__plexus_vessel_density=2.0)
    tissue = build_scene(sample, N).tissue
    column = (tissue.blood_fine * np.diff(tissue.z_edges_fine_mm)).sum(axis=-1).mean()
    column += (tissue.blood_coarse * np.diff(tissue.z_edges_coarse_mm)).sum(axis=-1).mean()
    assert column == pytest.approx(fraction * sample.skin.dermis_thickness_mm, rel=0.05)


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("fraction", TONES)
def test_fractions_are_fractions(index: int, fraction: float) -> None:
    extreme = record(
        index,
        skin__melanosome_fraction=fraction,
        skin__rete_ridge_depth_um=150.0,
        skin__epidermis_thickness_um=35.0,
        lesion__junctional_melanin=0.9,
        lesion__epidermal_melanin=0.5,
        lesion__dermal_melanin=0.5,
    )
    tissue = build_scene(extreme, N).tissue
    for name in ("melanin_fine", "melanin_coarse", "blood_fine", "blood_coarse"):
        values = getattr(tissue, name)
        assert values.dtype == np.float32 and np.isfinite(values).all(), name
        assert values.min() >= -1e-6 and values.max() <= 0.9501, name
    assert tissue.dej_mm.min() > 0.009 and tissue.dej_mm.max() < 0.34


def test_shapes_never_change() -> None:
    a = build_scene(record(0), N).tissue
    b = build_scene(record(0, skin__dermis_thickness_mm=0.5, camera__field_of_view_mm=20.0), N).tissue
    for name in ("melanin_fine", "melanin_coarse", "z_edges_fine_mm", "z_edges_coarse_mm", "dej_mm"):
        assert getattr(a, name).shape == getattr(b, name).shape
    assert len(a.z_edges_fine_mm) == 47 and len(a.z_edges_coarse_mm) == COARSE_CELLS + 1
    assert a.z_edges_coarse_mm[0] == a.z_edges_fine_mm[-1]
    assert a.z_edges_coarse_mm[-1] == pytest.approx(0.07 + 1.5)
    assert a.column_mm == pytest.approx(12 / (N * 5 / 6)) and a.origin_mm == pytest.approx(-1.2)
    with pytest.raises(ValueError, match="multiple of 12"):
        build_scene(record(0), 100)


def test_cells_are_exact_averages() -> None:
    fine, _ = z_edges(1.5)
    rng = np.random.Generator(np.random.Philox(key=7))
    top = rng.uniform(0, 0.2, (6, 6)).astype(np.float32)
    thick = rng.uniform(0.003, 0.1, (6, 6)).astype(np.float32)
    column = (0.4 * thick).astype(np.float32)
    cells = cells_from_slabs([Slab(top, thick, column)], fine)
    depth = (np.arange(350_000) + 0.5) * 1e-6
    for y, x in ((0, 0), (3, 4), (5, 5)):
        profile = np.where((depth > top[y, x]) & (depth < top[y, x] + thick[y, x]), 0.4, 0.0)
        which = np.searchsorted(fine, depth) - 1
        mean = np.bincount(which, profile, minlength=46) / np.bincount(which, minlength=46)
        assert np.allclose(cells[y, x], mean, atol=2e-3)


def test_overfull_columns_spill_down() -> None:
    fine, _ = z_edges(1.5)
    one = np.ones((2, 2), np.float32)
    cells = cells_from_slabs([Slab(0.05 * one, 0.01 * one, 0.03 * one)], fine)
    assert cells.max() == pytest.approx(0.95)
    assert np.allclose((cells * np.diff(fine)).sum(axis=-1), 0.03, rtol=1e-4)
    assert (cells[..., :10] == 0).all()


def test_changing_tone_leaves_structures_alone() -> None:
    pale = build_scene(record(2, skin__melanosome_fraction=0.02), N)
    dark = build_scene(record(2, skin__melanosome_fraction=0.30), N)
    assert np.array_equal(pale.tissue.dej_mm, dark.tissue.dej_mm)
    assert np.array_equal(pale.tissue.blood_fine, dark.tissue.blood_fine)
    assert np.array_equal(pale.surface_height_um, dark.surface_height_um)
    assert pale.lesion is not None and dark.lesion is not None
    assert np.array_equal(pale.lesion.column_um, dark.lesion.column_um)
    ratio = melanin_um(build_scene(record(2, "healthy", skin__melanosome_fraction=0.30), N))
    ratio /= melanin_um(build_scene(record(2, "healthy", skin__melanosome_fraction=0.02), N))
    assert np.allclose(ratio, 15, rtol=1e-3)


def test_hair_and_lesion_leave_the_skin_alone() -> None:
    with_hair = build_scene(record(3, hair__count=20), N).tissue
    without = build_scene(record(3, hair__count=0), N).tissue
    assert np.array_equal(with_hair.melanin_fine, without.melanin_fine)
    lesion = build_scene(record(3), N)
    bare = build_scene(record(3), N, with_lesion=False)
    assert lesion.lesion is not None and bare.lesion is None
    outside = (lesion.lesion.presence == 0) & (lesion.lesion.column_um == 0)
    assert outside.mean() > 0.3
    assert np.allclose(lesion.tissue.melanin_fine[outside], bare.tissue.melanin_fine[outside], atol=1e-5)
    assert np.allclose(lesion.tissue.blood_fine[outside], bare.tissue.blood_fine[outside], atol=1e-6)


def test_same_record_same_bytes_and_other_index_other_skin() -> None:
    a, b, c = (build_scene(record(i), N).tissue.melanin_fine for i in (5, 5, 6))
    assert a.tobytes() == b.tobytes()
    assert not np.array_equal(a, c)


def test_set_hash_does_not_move_structures() -> None:
    a = record(4)
    b = SampleRecord.from_dict({**a.to_dict(), "set_hash": "other"})
    assert np.array_equal(build_scene(a, N).tissue.melanin_fine, build_scene(b, N).tissue.melanin_fine)


def test_redness_around_a_lesion_is_the_skins() -> None:
    """It adds blood at the lesion and little far from it, is there without the lesion too, and moves no melanin."""
    fields = {"lesion__diameter_mm": 3.0, "camera__field_of_view_mm": 12.0, "skin__blood_mottle": 0.0}
    pale, red = (
        build_scene(record(0, lesion__erythema=excess, **fields), N, with_lesion=False) for excess in (0.0, 1.0)
    )
    ratio = red.tissue.blood_coarse[..., 0] / pale.tissue.blood_coarse[..., 0]
    middle = len(ratio) // 2
    assert ratio[middle, middle] == pytest.approx(2, abs=0.02)
    assert ratio[:3, :3].mean() < 1.05 and ratio.min() >= 1
    beside = round(1.7 * 1.5 / (12 / (N * 5 / 6) * 2))  # half of it on average 1.7 radii from the centre
    assert ratio[middle, [middle - beside, middle + beside]].mean() == pytest.approx(1.5, abs=0.2)
    assert np.array_equal(red.tissue.melanin_fine, pale.tissue.melanin_fine)
    healthy = build_scene(record(0, "healthy", lesion__erythema=1.0, **fields), N)
    assert np.array_equal(healthy.tissue.blood_fine, pale.tissue.blood_fine)


def test_dry_skin_has_loose_horn_of_its_own() -> None:
    """In the stratum corneum alone, with and without the lesion alike; a lesion's own keratin stays as it is."""
    usual, dry = (build_scene(record(0, skin__dryness=value), N).tissue for value in (0.0, 1.0))
    assert usual.keratin_to_mm is None
    assert dry.keratin_to_mm is not None and dry.keratin_scale is not None
    horn = dry.keratin_to_mm > 0
    assert 0.05 < horn.mean() < 0.9 and np.median(dry.keratin_scale) < 3 < dry.keratin_scale.max()
    assert dry.keratin_to_mm.max() == pytest.approx(STRATUM_CORNEUM_UM * 1e-3)
    assert np.all(dry.keratin_scale[horn] > 1) and np.all(dry.keratin_scale[~horn] == 1)
    for name in ("melanin_fine", "blood_fine", "dej_mm"):
        assert np.array_equal(getattr(usual, name), getattr(dry, name))
    healthy = build_scene(record(0, "healthy", skin__dryness=1.0), N).tissue
    assert healthy.keratin_scale is not None and np.array_equal(healthy.keratin_scale, dry.keratin_scale)

    scaly, both = (
        build_scene(record(0, structures__scale_strength=1.0, skin__dryness=value), N).tissue for value in (0.0, 1.0)
    )
    assert scaly.keratin_to_mm is not None and scaly.keratin_scale is not None
    assert both.keratin_to_mm is not None and both.keratin_scale is not None
    own = scaly.keratin_to_mm > 0
    assert own.any() and (both.keratin_to_mm > 0).sum() > own.sum()
    assert np.array_equal(both.keratin_scale[own], scaly.keratin_scale[own])


def test_glabrous_skin_flakes_without_furrow_lines() -> None:
    acral = build_scene(record(0, skin__dryness=1.0, skin__dermatoglyph_spacing_mm=0.5), N).tissue
    usual = build_scene(record(0, skin__dryness=1.0), N).tissue
    assert acral.keratin_to_mm is not None and usual.keratin_to_mm is not None
    assert 0 < (acral.keratin_to_mm > 0).mean() < (usual.keratin_to_mm > 0).mean()
