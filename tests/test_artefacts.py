"""Artefacts: each acts where its mask says and nowhere else, obeys its physics, and leaves all else alone."""

from dataclasses import replace

import numpy as np
import pytest

from synthskin.conventions import ARTEFACTS
from synthskin.draw import draw
from synthskin.physics import artefacts, camera, clinical, region
from synthskin.physics.artefacts import ink, optics, plate
from synthskin.physics.artefacts.frame import Frame
from synthskin.physics.engine import Engine, RenderSettings
from synthskin.physics.hair import grow_hair, hair_mask
from synthskin.physics.llvm import DeviceError, resolve_device
from synthskin.physics.spectral import BAND_WAVELENGTH_NM
from synthskin.preset import load_preset
from synthskin.rows import make_sample

RECORD = draw(load_preset("fst2"), 0, 0)
SIZE = 128
IN_LIGHT = tuple(name for name in ARTEFACTS if name not in artefacts.STRANDS)


def with_artefacts(record=RECORD, **values):
    return replace(record, artefacts=replace(record.artefacts, **values))


def picture(record=RECORD, value=(0.45, 0.30, 0.22)):
    flat = np.empty((SIZE, SIZE, 3), np.float32)
    flat[:] = value
    return flat * camera.lens_gain(record.camera, SIZE)[..., None]


def made(record, linear=None):
    relief = np.zeros((SIZE, SIZE), np.float32)
    return artefacts.apply(picture(record) if linear is None else linear, record, relief, grow_hair(record))


def test_nothing_switched_on_is_the_same_picture():
    linear = picture()
    out, masks = made(RECORD, linear)
    assert masks == {} and np.array_equal(out, linear)


@pytest.mark.parametrize("name", IN_LIGHT)
def test_mask_holds_the_change(name):
    """Where the mask says nothing, the picture changes by soft shadows at most; where it says something, it changes."""
    linear = picture()
    if name == "blur":
        linear[:, ::8] *= 0.5
    out, masks = made(with_artefacts(**{name: 1}), linear)
    mask = masks[name] > 0
    assert mask.dtype == bool and masks[name].dtype == np.uint8 and set(np.unique(masks[name])) <= {0, 255}
    change = np.abs(out - linear).max(-1) / linear.max(-1)
    assert change[mask].mean() > 0.05
    if name not in ("blur", "dark_corner"):
        far = ~mask
        near = np.argwhere(mask)
        assert change[far].mean() < 0.02 + 0.5 * change[mask].mean(), (name, len(near))
    assert out.dtype == np.float32 and np.isfinite(out).all()


@pytest.mark.parametrize("name", ARTEFACTS)
def test_same_key_same_artefact_and_other_key_another(name):
    extra = {"blur_tilt": 1.0} if name == "blur" else {}
    record = with_artefacts(**{name: 1, **extra})
    linear = np.random.default_rng(0).random((SIZE, SIZE, 3)).astype(np.float32)
    a, b = made(record, linear), made(record, linear)
    assert np.array_equal(a[0], b[0]) and all(np.array_equal(a[1][k], b[1][k]) for k in a[1])
    other = made(replace(record, index=7), linear)
    if name != "dark_corner":  # its centre wanders by less than a pixel here
        different = not np.array_equal(a[1].get(name), other[1].get(name)) or not np.array_equal(a[0], other[0])
        assert different


def test_one_artefact_does_not_move_another():
    alone = {name: made(with_artefacts(**{name: 1}))[1][name] for name in IN_LIGHT}
    together = made(with_artefacts(**dict.fromkeys(IN_LIGHT, 1)))[1]
    assert set(together) == set(IN_LIGHT)
    for name, mask in alone.items():
        assert np.array_equal(mask, together[name]), name


def test_ink_is_beer_lambert_and_double_pass():
    """Two passes of A absorb as one film of 2 A; violet ink takes yellow away and leaves blue and red."""
    record = with_artefacts(ink=1)
    ratio = ink.colour_ratio(record, np.array([0.0, 0.5, 1.0, 2.0], np.float32))
    assert np.allclose(ratio[0], 1, atol=1e-6)
    assert (np.diff(ratio[:, 1]) < 0).all()
    assert ratio[2, 1] < 0.6 * ratio[2, 0] and ratio[2, 1] < 0.6 * ratio[2, 2]
    spectrum = ink.dye_spectrum("gentian violet")
    assert BAND_WAVELENGTH_NM[int(spectrum.argmax())] in (580.0, 600.0)  # peak 590 nm
    assert np.ptp(ink.dye_spectrum("black")) < 1e-3
    one_way = ink.film(record, Frame(SIZE, 12.0), np.zeros((SIZE, SIZE), np.float32))
    assert one_way.min() >= 0 and one_way.max() < 3 * record.artefacts.ink_density


def test_ink_that_is_drawn_is_in_the_frame():
    """A known shortcut must be seen: also around lesions that fill the frame, in each pattern."""
    preset = load_preset("isic_like")
    for index in range(40):
        record = with_artefacts(draw(preset, 3, index), ink=1)
        mask = made(record)[1].get("ink")
        assert mask is not None and (mask > 0).sum() >= 8, (index, record.artefacts.ink_pattern)


def test_ink_is_as_dark_as_its_density():
    grey = [made(with_artefacts(ink=1, ink_colour="black", ink_pattern="ring", ink_density=d))[0].min() for d in
            (0.1, 0.4, 1.5)]
    assert grey[0] > grey[1] > grey[2]


def test_fresnel_of_a_bubble():
    """((n-1)/(n+1))^2 at normal incidence, total beyond the critical angle."""
    cosines = np.cos(np.radians([0.0, 30.0, 45.0, 46.0, 80.0])).astype(np.float32)
    r = plate.fresnel(cosines, 1 / 1.40)
    assert r[0] == pytest.approx((0.4 / 2.4) ** 2, abs=1e-5)
    assert (np.diff(r) >= 0).all() and (r[3:] == 1).all()  # arcsin(1/1.40) = 45.6 degrees


def test_lamps_show_in_bubbles_only_without_crossed_polarisers():
    record = with_artefacts(gel_bubble=1, gel_bubble_diameter_mm=3.0, gel_bubble_count=4)
    bright = []
    for kind in ("contact polarized", "contact non-polarized"):
        r = replace(record, camera=replace(record.camera, dermoscopic_type=kind))
        size = 384
        dark = np.full((size, size, 3), 0.02, np.float32)
        bright.append(artefacts.apply(dark, r, np.zeros((size, size), np.float32))[0].max())
    assert bright[1] > bright[0] + 0.1


def test_ruler_ticks_are_one_millimetre_apart():
    record = with_artefacts(ruler=1, ruler_style="scale", ruler_angle_deg=90.0, ruler_offset=0.5)
    record = replace(record, camera=replace(record.camera, field_of_view_mm=12.8))
    size = 512
    linear = np.full((size, size, 3), 0.4, np.float32)
    out, masks = artefacts.apply(linear, record, np.zeros((size, size), np.float32))
    row = int((0.5 + 0.5 * 0.5) * size) - int(0.2 / 12.8 * size)  # just inside the baseline, across the ticks
    dark = (out[row, :, 1] < 0.3).astype(int)
    starts = np.flatnonzero(np.diff(dark) == 1)
    gaps = np.diff(starts) * 12.8 / size
    assert len(gaps) >= 5 and np.allclose(gaps, 1.0, atol=0.06)
    assert masks["ruler"][row].any()


def test_paper_ruler_and_patch_return_their_own_reflectance():
    record = with_artefacts(ruler=1, ruler_style="paper", ruler_offset=0.2)
    dark, masks = made(record, picture(value=(0.02, 0.02, 0.02)))
    light = camera.lens_gain(record.camera, SIZE) * camera.light_gain(record.camera, SIZE)
    inside = masks["ruler"] > 0
    assert np.median((dark[..., 0] / light)[inside]) == pytest.approx(plate.PAPER_REFLECTANCE[0], abs=0.02)
    out, masks = made(with_artefacts(colour_patch=1, colour_patch_hue="yellow"), picture())
    inside = masks["colour_patch"] > 0
    rgb = np.median(out[inside] / light[inside][:, None], axis=0)
    assert np.allclose(rgb, plate.PATCH_REFLECTANCE["yellow"], rtol=0.15)


@pytest.mark.parametrize("view_mm", [6.0, 12.0, 25.0])
def test_the_sticker_leaves_the_middle_free(view_mm):
    record = with_artefacts(colour_patch=1, colour_patch_diameter_mm=14.0, colour_patch_angle_deg=30.0)
    record = replace(record, camera=replace(record.camera, field_of_view_mm=view_mm))
    _, masks = made(record)
    axis = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    inside = np.hypot(axis, axis[:, None]) < 0.48
    assert masks["colour_patch"].any() and not masks["colour_patch"][inside].any()


def test_dark_corner_radius():
    for radius in (0.6, 1.2):
        _, masks = made(with_artefacts(dark_corner=1, dark_corner_radius=radius))
        share = (masks["dark_corner"] == 0).mean()
        axis = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
        assert share == pytest.approx((np.hypot(axis, axis[:, None]) < radius).mean(), abs=0.03)


def test_blur_keeps_energy_and_removes_detail():
    rng = np.random.default_rng(0)
    linear = rng.random((SIZE, SIZE, 3)).astype(np.float32)
    out, masks = made(with_artefacts(blur=1, blur_um=150.0, blur_tilt=0.0), linear)
    assert out.mean() == pytest.approx(linear.mean(), rel=0.01) and out.std() < 0.5 * linear.std()
    assert (masks["blur"] == 255).all()
    _, sharp = made(with_artefacts(blur=1, blur_um=10.0, blur_tilt=0.0), linear)
    assert sharp == {}  # too little to be seen: not claimed


def test_hair_artefacts_add_strands_and_keep_the_others():
    plain = grow_hair(RECORD)
    record = with_artefacts(thick_hair=1, thin_hair=1, thick_hair_count=5, thin_hair_count=9)
    more = grow_hair(record)
    assert [s.kind for s in more].count("thick_hair") == 5 and [s.kind for s in more].count("thin_hair") == 9
    for a, b in zip(plain, more, strict=False):
        assert np.array_equal(a.points_mm, b.points_mm) and b.kind == ""
    thick, thin = (np.concatenate([2000 * s.points_mm[:, 3].max(keepdims=True) for s in more if s.kind == k])
                   for k in artefacts.STRANDS)
    assert (thick >= 85).all() and (thick <= 160).all() and (thin <= 50).all() and (thin >= 18).all()
    _, masks = made(record)
    own = tuple(s for s in more if s.kind == "thick_hair")
    assert np.array_equal(masks["thick_hair"] > 0, hair_mask(own, SIZE, record.camera.field_of_view_mm))
    whole = hair_mask(more, SIZE, record.camera.field_of_view_mm)
    assert not ((masks["thick_hair"] > 0) & ~whole).any()


def test_measurements_leave_artefacts_out():
    linear = picture()
    record = with_artefacts(colour_patch=1, colour_patch_diameter_mm=14.0)
    zero = np.zeros((SIZE, SIZE), np.uint8)
    clean = camera.measure(camera.encode(linear), zero, zero, record.camera)[0]
    out, masks = made(record, linear)
    image = camera.encode(out)
    kept = camera.measure(image, zero, zero, record.camera, artefacts.hides_skin(masks, SIZE))[0]
    spoilt = camera.measure(image, zero, zero, record.camera)[0]
    assert abs(kept - clean) < 1.0 < abs(spoilt - clean)
    everything = np.ones((SIZE, SIZE), bool)
    assert camera.measure(image, zero, zero, record.camera, everything) == (None, None)


@pytest.mark.parametrize("pattern", ["dots", "line", "ring", "stamp"])
def test_ink_of_a_region_is_that_of_the_duckling_alone_at_its_place(pattern):
    far = 0
    for index in range(6):
        record = with_artefacts(draw(load_preset("region"), 1, index), ink=1, ink_pattern=pattern)
        record = replace(record, lesion=replace(record.lesion, growth_time=1.0))
        duckling = region.sites(record)[0]
        alone = replace(record, camera=replace(record.camera, view="clinical"))
        alone = region.placed(alone, duckling.x_mm, duckling.y_mm)
        frame, flat = Frame(SIZE, record.camera.field_of_view_mm), np.zeros((SIZE, SIZE), np.float32)
        marks = ink.film(record, frame, flat)
        assert np.array_equal(marks, ink.film(alone, frame, flat))
        away = np.hypot(frame.axis_mm - duckling.x_mm, (frame.axis_mm - duckling.y_mm)[:, None])
        assert away[marks >= ink.SEEN_ABSORBANCE].min() < duckling.radius_mm + 3.5
        far += np.hypot(duckling.x_mm, duckling.y_mm) > 10
    assert far >= 2


@pytest.mark.parametrize("name", ["clinical", "region"])
def test_blur_of_a_photograph_is_as_wide_on_the_skin_as_asked(name):
    size, ratios = 512, []
    for index in range(4):
        record = with_artefacts(draw(load_preset(name), 0, index), blur=1, blur_um=400.0, blur_tilt=0.0)
        edge = np.zeros((size, size, 3), np.float32)
        edge[:, size // 2:] = 1
        out, _ = artefacts.in_lens(edge, clinical.without_contact(record))
        line, x = np.gradient(out[size // 2, :, 0].astype(float)), np.arange(size)
        variance = (x**2 * line).sum() - (x * line).sum() ** 2
        pixel_mm = clinical.view_of(record, size).pixel_mm
        ratios.append(pixel_mm * np.sqrt(variance) / 0.4)
        assert record.camera.field_of_view_mm / size > pixel_mm
    assert np.allclose(ratios, 1, atol=0.03)


def test_blur_of_a_dermatoscope_is_as_wide_as_its_field_says():
    record = with_artefacts(blur=1)
    linear = np.random.default_rng(0).random((SIZE, SIZE, 3)).astype(np.float32)
    expected, _ = optics.blur(linear, record, Frame(SIZE, record.camera.field_of_view_mm))
    assert np.array_equal(artefacts.in_lens(linear, record)[0], expected)


@pytest.mark.parametrize("name", ["fst2", "clinical", "region"])
def test_a_blur_under_half_a_pixel_is_not_told(name):
    """41 um on pixels of 131 um leave every detail."""
    record, size = draw(load_preset(name), 0, 0), 64
    flat = record.camera.view == "dermoscopic"
    pixel_mm = record.camera.field_of_view_mm / size if flat else clinical.view_of(record, size).pixel_mm
    linear = np.random.default_rng(0).random((size, size, 3)).astype(np.float32)
    for share, there in ((0.31, False), (0.48, False), (0.52, True)):
        blurred = with_artefacts(record, blur=1, blur_um=min(1000 * pixel_mm * share, 600.0), blur_tilt=0.0)
        shot = blurred if flat else clinical.without_contact(blurred)
        if blurred.artefacts.blur_um < 600:  # the most that a record takes
            assert ("blur" in artefacts.told(artefacts.in_lens(linear, shot)[1])) == there, share


@pytest.mark.parametrize(("view_mm", "size"), [(12.0, 64), (80.0, 128), (80.0, 256)])
@pytest.mark.parametrize("style", ["scale", "ticks"])
def test_the_mask_of_a_ruler_holds_the_lines_that_show(view_mm, size, style):
    """A line thinner than a pixel darkens it in part: it shows, and the mask has no gaps in it."""
    for index in range(4):
        record = with_artefacts(replace(RECORD, index=index), ruler=1, ruler_style=style)
        record = replace(record, camera=replace(record.camera, field_of_view_mm=view_mm))
        linear = np.full((size, size, 3), 0.4, np.float32)
        out, masks = artefacts.apply(linear, record, np.zeros((size, size), np.float32))
        left = (out / linear).max(-1)
        # the shadow beside a line takes a quarter of what the line does at most
        printed, mask = left < 1 - 0.4 * (1 - left.min()), masks["ruler"] > 0
        assert printed.sum() > 5 and (mask & printed).sum() > 0.7 * printed.sum()
        assert 1 - left[mask].mean() > 0.5 * (1 - left.min())


def test_a_mask_of_a_few_pixels_is_not_told():
    """The corners of an aperture that is nearly as wide as the picture's diagonal."""
    def corners(radius):
        record = with_artefacts(dark_corner=1, dark_corner_radius=radius, dark_corner_edge=0.002)
        return np.count_nonzero(artefacts.in_lens(picture(), record)[1].get("dark_corner", 0)), made(record)[1]

    few = next((radius for radius in np.arange(1.45, 1.2, -0.002) if 0 < corners(radius)[0] < artefacts.SEEN_PX), None)
    assert few is not None and corners(few)[1] == {}
    assert set(corners(few - 0.1)[1]) == {"dark_corner"}


def test_what_cannot_be_seen_stays_in_the_record_alone():
    try:
        resolve_device("auto")
    except DeviceError as error:
        pytest.skip(str(error))
    size = 64
    engine = Engine(RenderSettings(size_px=size, spp=3))
    record = draw(load_preset("region").with_sets(["region.lesion_count=3"]), 0, 0)
    record = with_artefacts(record, blur=1, blur_um=300.0, blur_tilt=0.0, ruler=1, ruler_style="scale")
    assert 0.25 < 0.3 / clinical.view_of(record, size).pixel_mm < 0.4
    sample = make_sample(record, engine.render(record))
    assert sample.row["artefacts"] == ["ruler"] and "ruler" in sample.artefacts
    assert "focus" not in sample.row["caption"] and '"blur": 1' in sample.row["params"]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 1.5])
@pytest.mark.parametrize("angle_deg", [0.0, 28.0])
def test_a_stroke_covers_as_much_as_it_is_wide(share, angle_deg):
    """Narrower than a pixel or wider, straight or slanted."""
    frame = Frame(128, 12.8)
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    line = np.array([[-4.0 * c, -4.0 * s], [4.0 * c, 4.0 * s]]) + np.array([0.013, 0.037])
    cover = frame.strokes([line], share * frame.pixel_mm)
    assert cover.sum() * frame.pixel_mm**2 == pytest.approx(8.0 * 2 * share * frame.pixel_mm, rel=0.06)
