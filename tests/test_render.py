"""The renderer as a whole, at small size: control, masks, hair, kernels and determinism."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from synthskin.conventions import HEALTHY
from synthskin.draw import draw
from synthskin.physics import spectral, strands
from synthskin.physics.engine import Engine, LinearRender, RenderSettings
from synthskin.physics.hair import grow_hair
from synthskin.preset import load_preset
from synthskin.record import SampleRecord

FLAT: dict[str, Any] = {"light_falloff": 0.0, "vignette": 0.0, "glare": 0.0}


@cache
def engine(size: int = 48, spp: int = 3, denoise: bool = False, maps: bool = False) -> Engine:
    return Engine(RenderSettings(size_px=size, spp=spp, denoise=denoise, maps=maps))


def sample(preset: str = "fst2", index: int = 0, **groups: Any) -> SampleRecord:
    """A drawn record with some values changed: sample("fst2", hair={"count": 0}, diagnosis=HEALTHY)."""
    record = draw(load_preset(preset), 0, index)
    changes: dict[str, Any] = {
        name: value if isinstance(value, str) else dataclasses.replace(getattr(record, name), **value)
        for name, value in groups.items()
    }
    return dataclasses.replace(record, **changes)


def bald(**groups: Any) -> SampleRecord:
    return sample(diagnosis=HEALTHY, hair={"count": 0, "vellus_count": 0}, camera=FLAT, **groups)


def lab_of(picture: np.ndarray) -> np.ndarray:
    return spectral.xyz_to_lab(picture.astype(np.float64) @ np.linalg.inv(spectral.XYZ_TO_LINEAR_SRGB).T)


def mean_lab(record: SampleRecord) -> np.ndarray:
    made = engine()
    return lab_of(made.linear(record, made.scene(record)).noisy.mean((0, 1)))


def test_more_melanin_lowers_ita() -> None:
    steps = (0.012, 0.025, 0.05, 0.1, 0.2, 0.43)
    ita = [float(spectral.ita_deg(mean_lab(bald(skin={"melanosome_fraction": m})))) for m in steps]
    assert np.all(np.diff(ita) < -2.0), ita


def test_more_blood_raises_redness() -> None:
    steps = (0.002, 0.004, 0.008, 0.015, 0.028, 0.05)
    red = [float(mean_lab(bald(skin={"blood_fraction": b}))[1]) for b in steps]
    assert np.all(np.diff(red) > 0.3), red


def test_no_skin_blinds_the_walk() -> None:
    """Ends of the ranges give finite pictures."""
    made = engine()
    for skin in ({"melanosome_fraction": 0.6}, {"blood_fraction": 0.15}, {"scattering_scale": 0.3}):
        record = bald(skin=skin)
        picture = made.linear(record, made.scene(record)).noisy
        assert np.isfinite(picture).all() and picture.mean() > 0


@pytest.mark.parametrize("count", [0, 1, 7, 40])
def test_hair_count_is_the_number_of_strands(count: int) -> None:
    scene = engine().scene(sample(hair={"count": count, "vellus_count": 3}))
    assert sum(not strand.vellus for strand in scene.hair) == count
    assert sum(strand.vellus for strand in scene.hair) == 3


def both(size: int, spp: int, denoise: bool) -> tuple[LinearRender, LinearRender]:
    """(with two hairs, without), all else alike."""
    made = engine(size, spp, denoise)
    hairy = sample(hair={"count": 2, "vellus_count": 0, "thickness_um": 90.0, "length_mm": 5.0})
    bare = dataclasses.replace(hairy, hair=dataclasses.replace(hairy.hair, count=0))
    return made.linear(hairy, made.scene(hairy)), made.linear(bare, made.scene(bare))


def test_hair_off_changes_only_what_met_hair() -> None:
    hairy, bare = both(96, 6, False)
    free = ~hairy.met_hair
    assert not bare.met_hair.any()
    assert 0.2 < free.mean() < 1.0
    assert hairy.noisy[free].tobytes() == bare.noisy[free].tobytes()
    assert hairy.noisy[~free].mean() < bare.noisy[~free].mean()


def test_hair_off_and_denoised_is_the_same_far_from_hair() -> None:
    from scipy.ndimage import distance_transform_edt

    from synthskin.physics.hair import hair_mask

    hairy, bare = both(256, 6, True)
    record = sample(hair={"count": 2, "vellus_count": 0, "thickness_um": 90.0, "length_mm": 5.0})
    distance = distance_transform_edt(~hair_mask(grow_hair(record), 256, record.camera.field_of_view_mm))
    far = distance > 40
    assert far.mean() > 0.1
    difference = spectral.ciede2000(lab_of(hairy.clean[far]), lab_of(bare.clean[far]))
    assert difference.max() <= 1.0, difference.max()


def test_masks_depend_on_the_lesion_alone() -> None:
    made = engine()
    record = sample("fst2", 1, diagnosis="NV", hair={"count": 15})
    reference = made.render(record)
    assert reference.mask.any()
    darker = dataclasses.replace(record, skin=draw(load_preset("fst6"), 0, 5).skin)
    lit: dict[str, Any] = {"light_falloff": 0.4, "vignette": 0.4, "dermoscopic_type": "contact non-polarized"}
    dimmer = dataclasses.replace(record, camera=dataclasses.replace(record.camera, **lit))
    shaved = dataclasses.replace(record, hair=dataclasses.replace(record.hair, count=0, vellus_count=0))
    dry = dataclasses.replace(record, skin=dataclasses.replace(record.skin, dryness=1.0, pheomelanin_share=0.7))
    for changed in (darker, dimmer, shaved, dry):
        found = made.render(changed)
        assert found.mask.tobytes() == reference.mask.tobytes()
        assert found.image.tobytes() != reference.image.tobytes()
    finer = engine(48, 12).render(record)
    assert finer.mask.tobytes() == reference.mask.tobytes() and finer.image.tobytes() != reference.image.tobytes()


def test_healthy_skin_has_no_lesion_labels() -> None:
    found = engine().render(sample("healthy"))
    assert not found.mask.any() and found.attributes == {}
    assert found.visible_delta_e is None and found.contrast is None


def test_labels_and_attributes() -> None:
    names: set[str] = set()
    for index in range(3):
        found = engine(96).render(sample("fst3", index, diagnosis="NV"))
        assert set(np.unique(found.mask)) == {0, 255} and set(np.unique(found.hair)) <= {0, 255}
        for name, where in found.attributes.items():
            assert where.dtype == np.uint8 and set(np.unique(where)) == {0, 255}, name
            assert not (where[found.mask == 0]).any(), name
        names.update(found.attributes)
        assert found.visible_delta_e is not None and 0.0 <= found.visible_delta_e <= 1.0
        assert found.contrast is not None and found.contrast > 0.0
    assert names


def test_same_record_same_bytes() -> None:
    made = engine(48, 3, True)
    record = sample("fst4", 2)
    first, other, again = made.render(record), made.render(sample("fst1", 3)), made.render(record)
    fresh = Engine(RenderSettings(size_px=48, spp=3)).render(record)
    for name in ("image", "mask", "hair"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes() == getattr(fresh, name).tobytes()
    assert first.ita_image_deg == again.ita_image_deg
    assert first.image.tobytes() != other.image.tobytes()


def test_denoising_is_optional() -> None:
    record = sample("fst3")
    noisy, clean = engine(96, 3).render(record).image, engine(96, 3, True).render(record).image
    assert noisy.tobytes() != clean.tobytes()
    rough = [np.abs(np.diff(p.astype(float), axis=1)).mean() for p in (noisy, clean)]
    assert rough[1] < 0.7 * rough[0]


def test_maps_have_the_size_of_the_picture() -> None:
    found = engine(48, 3, False, True).render(sample("fst2", 1, diagnosis="NV"))
    assert set(found.maps) == {"melanin_column_mm", "blood_column_mm", "lesion_depth_mm", "height_mm"}
    for name, values in found.maps.items():
        assert values.shape == (48, 48) and values.dtype == np.float32 and np.isfinite(values).all(), name
    inside = found.mask > 0
    assert found.maps["melanin_column_mm"][inside].mean() > 1.5 * found.maps["melanin_column_mm"][~inside].mean()
    assert engine().render(sample("fst2", 1, diagnosis="NV")).maps == {}


def test_crossed_polarisers_take_light() -> None:
    """Light that keeps its polarisation goes: the picture darkens, relatively most where skin is darkest."""
    made = engine()
    loss = []
    for melanin in (0.015, 0.3):
        pictures = []
        for kind in ("contact non-polarized", "contact polarized"):
            record = bald(skin={"melanosome_fraction": melanin})
            record = dataclasses.replace(record, camera=dataclasses.replace(record.camera, dermoscopic_type=kind))
            pictures.append(made.linear(record, made.scene(record)).noisy.mean((0, 1)))
        assert np.all(pictures[1] < pictures[0])
        loss.append(float(1 - pictures[1][1] / pictures[0][1]))
    assert 0.005 < loss[0] < 0.15 and loss[1] > loss[0], loss


def test_dry_skin_shows_white_where_its_horn_is() -> None:
    """Lighter on horn than beside it, hardly redder, and less so between crossed polarisers."""
    made = engine(96, 24)
    gain = {}
    for kind in ("contact non-polarized", "contact polarized"):
        pictures = []
        for dryness in (0.0, 1.0):
            record = bald(skin={"dryness": dryness})
            record = dataclasses.replace(
                record, camera=dataclasses.replace(record.camera, dermoscopic_type=kind, field_of_view_mm=5.0)
            )
            scene = made.scene(record)
            pictures.append(lab_of(made.linear(record, scene).noisy))
        assert scene.tissue.keratin_scale is not None
        margin = len(scene.tissue.keratin_scale) // 12
        inside = scene.tissue.keratin_scale[margin:-margin, margin:-margin]
        at = (np.arange(96) + 0.5) / 96 * len(inside)
        horn = inside[np.ix_(at.astype(int), at.astype(int))]
        change = pictures[1] - pictures[0]
        on, beside = (change[where].mean(0) for where in (horn > 4, horn < 1.2))
        gain[kind] = float(on[0] - beside[0])
        assert abs(on[1] - beside[1]) < gain[kind], (on, beside)
    assert gain["contact non-polarized"] > 1.5 * gain["contact polarized"] > 0.5, gain


def test_glare_adds_light_only_without_polarisers() -> None:
    made = engine()
    for kind, added in (("contact non-polarized", 0.05), ("contact polarized", 0.0)):
        means = []
        for glare in (0.0, 0.05):
            camera = {**FLAT, "glare": glare, "dermoscopic_type": kind}
            record = sample(diagnosis=HEALTHY, hair={"count": 0, "vellus_count": 0}, camera=camera)
            means.append(made.linear(record, made.scene(record)).noisy.mean())
        assert means[1] - means[0] == pytest.approx(added, abs=1e-4)


def test_no_kernel_is_compiled_after_the_first_sample() -> None:
    """Kernels are named by a hash of their code: later samples use no other ones, whatever the caches hold."""
    made = engine(48, 3, True)
    dr = made.dr
    records = [
        sample("fst2", 1, diagnosis="NV"),
        sample("healthy", 0),
        sample("fst6", 2, diagnosis="NV", hair={"count": 0, "vellus_count": 0}),
        sample("fst4", 3, hair={"count": 60}, camera={"dermoscopic_type": "contact non-polarized"}),
        sample(
            "fst1",
            4,
            diagnosis="NV",
            lesion={"dermal_melanin": 0.4, "dermal_depth_um": 500.0},
            camera={"plate_thickness_mm": 0.0},
        ),
        sample("fst2", 5, skin={"epidermis_thickness_um": 190.0, "rete_ridge_depth_um": 100.0}),
    ]
    kernels: list[set[str]] = []
    with dr.scoped_set_flag(dr.JitFlag.KernelHistory, True):
        for record in records:
            dr.kernel_history_clear()
            made.render(record)
            history = dr.kernel_history([dr.KernelType.JIT])
            assert history
            kernels.append({str(entry["hash"]) for entry in history})
            if len(kernels) > 1:
                assert all(entry["cache_hit"] for entry in history)
        dr.kernel_history_clear()
    for number, found in enumerate(kernels):
        assert found == kernels[0], number


@pytest.mark.parametrize("shape", ["linearcurve", "bsplinecurve"])
def test_coverage_of_hair_against_mitsuba_curves(tmp_path: Path, shape: str) -> None:
    made = engine()
    mi = made.mi
    record = sample(hair={"count": 6, "vellus_count": 2, "curl": 0.5, "thickness_um": 80.0})
    hair, fov, raster = grow_hair(record), record.camera.field_of_view_mm, 768
    covered = strands.rasterise(hair, raster, fov)[2] >= 0
    lines = []
    for strand in hair:
        p = np.asarray(strands.along(strand) if shape == "linearcurve" else strand.points_mm, np.float64)
        if shape == "bsplinecurve":  # end points that make the curve reach the first and the last point
            p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
            p[:, 3] = np.maximum(p[:, 3], 1e-5)
        lines.append("\n".join(" ".join(f"{v:.6f}" for v in row) for row in p))
    file = tmp_path / "strands.txt"
    file.write_text("\n\n".join(lines) + "\n")
    scene = mi.load_dict({"type": "scene", "hair": {"type": shape, "filename": str(file)}})
    axis = (np.arange(raster) + 0.5) / raster * fov
    x, y = (v.ravel().astype(np.float32) for v in np.meshgrid(axis, axis))
    rays = mi.Ray3f(mi.Point3f(mi.Float(x), mi.Float(y), mi.Float(-5.0)), mi.Vector3f(0, 0, 1))
    theirs = np.array(scene.ray_test(rays)).reshape(raster, raster).astype(bool)
    assert theirs.mean() > 0.005
    iou = (covered & theirs).sum() / (covered | theirs).sum()
    assert iou >= 0.96, (shape, iou)


def test_bytes_do_not_follow_the_cores_that_blas_takes() -> None:
    record = sample("fst3", 5, diagnosis="NV")
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads, user_api="blas"):
            fresh = Engine(RenderSettings(size_px=48, spp=3))
            tissue = fresh.scene(record).tissue
            found.append((tissue.melanin_fine, tissue.blood_fine, fresh.render(record).image))
    for one, two in zip(*found, strict=True):
        assert np.array_equal(one, two)
