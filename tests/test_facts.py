"""What a sticker, a paper scale or the black surround hides is neither said to be in the picture nor denied."""

from dataclasses import replace

import numpy as np
import pytest
from test_captions import PRESET, RECORD, RENDERED, answers, facts, plain

from synthskin.captions import ARTEFACT_WORDS, STRUCTURES, caption
from synthskin.dataset.format import Sample
from synthskin.draw import draw
from synthskin.facts import OPAQUE, Facts
from synthskin.physics.artefacts import plate
from synthskin.physics.artefacts.frame import Frame
from synthskin.rows import make_sample

ROWS, COLUMNS = np.nonzero(RENDERED.mask)
TOP, BOTTOM, LEFT, RIGHT = ROWS.min(), ROWS.max() + 1, COLUMNS.min(), COLUMNS.max() + 1


def covering(rows, columns):
    mask = np.zeros_like(RENDERED.mask)
    mask[rows, columns] = 255
    return mask


def under(name, mask, **attributes):
    return replace(RENDERED, artefacts={name: mask}, attributes=attributes)


@pytest.mark.parametrize("name", OPAQUE)
def test_a_lesion_partly_hidden_has_no_size(name):
    half = under(name, covering(slice(None), slice(0, (LEFT + RIGHT) // 2)))
    assert "that is partly hidden" in plain(half) and " mm across" not in plain(half)
    asked = answers(facts(half))
    assert asked["Is there a lesion in the picture?"] == "yes"
    assert not any("large" in question or "reach the edge" in question for question in asked)
    clear = under("gel_bubble", covering(slice(None), slice(0, (LEFT + RIGHT) // 2)))
    assert "partly hidden" not in plain(clear) and " mm across" in plain(clear)


def test_a_thin_scale_across_a_lesion_leaves_its_size():
    middle = (TOP + BOTTOM) // 2
    line = under("ruler", covering(slice(middle, middle + 1), slice(None)))
    assert " mm across" in plain(line)


@pytest.mark.parametrize("name", OPAQUE)
def test_a_lesion_all_hidden_is_neither_there_nor_absent(name):
    gone = under(name, covering(slice(TOP, BOTTOM), slice(LEFT, RIGHT)))
    text = plain(gone)
    assert "nevus" not in text and "lesion" not in text and "healthy" not in text
    asked = answers(facts(gone))
    assert not any("lesion" in question or "diagnosis" in question for question in asked)


def test_the_edge_behind_the_surround_is_not_the_edge_of_the_picture():
    """The mask goes on to the frame, what is seen of it ends at the round view: not cut, and of no known size."""
    mask = np.zeros_like(RENDERED.mask)
    mask[TOP:BOTTOM] = 255
    ring = covering(slice(None), slice(0, 4)) | covering(slice(None), slice(60, 64))
    of = facts(replace(RENDERED, mask=mask, artefacts={"dark_corner": ring}))
    assert of.lesion_seen and of.covered and not of.cut and of.across_mm is None
    open_edge = facts(replace(RENDERED, mask=mask, artefacts={"dark_corner": covering(slice(None), slice(0, 20))}))
    assert open_edge.cut and open_edge.covered
    assert "that reaches the edge of the picture and is partly hidden" in caption(open_edge, varied=False)


def test_structures_behind_a_sticker_are_not_asked_for():
    dots = covering(slice(TOP, TOP + 4), slice(LEFT, LEFT + 4))
    globules = covering(slice(BOTTOM - 8, BOTTOM), slice(LEFT, RIGHT))
    hidden = under("colour_patch", covering(slice(0, TOP + 6), slice(0, LEFT + 6)), dots=dots, globules=globules)
    assert "globules" in plain(hidden) and "dots" not in plain(hidden)
    for key in range(40):
        asked = answers(replace(facts(hidden), key=str(key)))
        assert f"Does the lesion show {STRUCTURES['dots'][0]}?" not in asked
    bare = under("ink", covering(slice(0, TOP + 6), slice(0, LEFT + 6)), dots=dots, globules=globules)
    assert "dots" in plain(bare)


def test_artefacts_behind_the_surround_are_not_spoken_of():
    corner = covering(slice(0, 12), slice(0, 12))
    names = ("ink", "dark_corner")
    both = replace(RENDERED, artefacts={"ink": covering(slice(2, 10), slice(2, 10)), "dark_corner": corner})
    assert plain(both).endswith("with dark corners.")
    for key in range(40):
        asked = answers(replace(facts(both), key=str(key)))
        assert f"Does the picture contain {ARTEFACT_WORDS[names[0]][0].format(ink='')}?" not in asked
    beside = replace(both, artefacts=both.artefacts | {"ink": covering(slice(2, 30), slice(2, 10))})
    assert "ink marks" in plain(beside)


def test_lesions_behind_a_sticker_are_not_counted():
    labels = np.zeros_like(RENDERED.mask)
    labels[4:12, 4:12], labels[30:40, 30:40], labels[50:60, 4:12] = 1, 2, 3
    row = make_sample(RECORD, RENDERED).row | {
        "lesions": ["NV", "MEL", "NV"], "bbox": [4, 4, 36, 56], "visible_delta_e": 1.0,
        "boxes": [[4, 4, 8, 8], [30, 30, 10, 10], [4, 50, 8, 10]], "diagnosis": "MEL", "attributes": []}
    full = Sample(row, RENDERED.image, np.where(labels, 255, 0).astype(np.uint8), instances=labels)
    assert (Facts.of(full).lesions, Facts.of(full).counted, Facts.of(full).diagnosis) == (3, True, "MEL")
    stuck = replace(full, artefacts={"colour_patch": covering(slice(28, 64), slice(28, 64))})
    of = Facts.of(stuck)
    assert (of.lesions, of.counted, of.diagnosis) == (2, False, None)
    assert "melanoma" not in caption(of, varied=False) and "lesions" in caption(of, varied=False)


def test_a_hidden_lesion_neither_cuts_nor_covers_the_one_in_view():
    """Half behind a sticker at the edge it is one of several; behind it altogether, the other one stands alone."""
    labels = np.zeros_like(RENDERED.mask)
    labels[8:20, 8:20], labels[52:64, 30:42] = 1, 2
    row = make_sample(RECORD, RENDERED).row | {
        "lesions": ["MEL", "NV"], "boxes": [[8, 8, 12, 12], [30, 52, 12, 12]], "bbox": [8, 8, 34, 56],
        "visible_delta_e": 1.0, "diagnosis": "MEL", "benign_malignant": "malignant", "attributes": []}
    full = Sample(row, RENDERED.image, np.where(labels, 255, 0).astype(np.uint8), instances=labels)
    some = Facts.of(replace(full, artefacts={"colour_patch": covering(slice(50, 60), slice(20, 60))}))
    assert (some.lesions, some.counted, some.diagnosis) == (2, False, "MEL")
    assert "lesions, among them a melanoma" in caption(some, varied=False)
    assert not any("edge" in question or "diagnosis" in question for question in answers(some))
    alone = Facts.of(replace(full, artefacts={"colour_patch": covering(slice(50, 64), slice(20, 60))}))
    assert (alone.lesions, alone.cut, alone.covered, alone.diagnosis) == (1, False, False, "MEL")
    assert "a melanoma " in caption(alone, varied=False) and "hidden" not in caption(alone, varied=False)


def test_renders_behind_a_narrow_view_say_so():
    """Masks as they are drawn: what goes on behind the round view or a sticker is not cut there."""
    preset = PRESET.with_sets(["artefacts.dark_corner=1", "artefacts.dark_corner_radius=0.72"])
    record = draw(preset, 0, 0)
    linear = np.full((64, 64, 3), 0.5, np.float32)
    frame = Frame(64, record.camera.field_of_view_mm)
    from synthskin.physics.artefacts import optics

    _, corner = optics.dark_corner(linear, record, frame)
    _, patch = plate.draw_patch(linear, replace(record, artefacts=replace(record.artefacts, colour_patch=1)), frame,
                                np.full((64, 64), 0.5, np.float32))
    wide = np.full_like(RENDERED.mask, 255)
    for name, mask in (("dark_corner", corner), ("colour_patch", patch)):
        own = replace(RENDERED, mask=wide, artefacts={name: np.where(mask, 255, 0).astype(np.uint8)})
        of = facts(own, record)
        assert of.covered is True and (of.cut or of.across_mm is None)
        assert of.cut == bool((~mask)[[0, -1]].any() or (~mask)[:, [0, -1]].any())
