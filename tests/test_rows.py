import io
import math
from dataclasses import replace

import numpy as np
import pytest
from standin import FakeEngine

from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import DatasetError, check_row
from synthskin.draw import draw
from synthskin.preset import load_preset
from synthskin.progress import PlainProgress, clock
from synthskin.rows import caption, make_sample
from synthskin.run import EngineOptions

PRESET = load_preset("fst6").with_sets(["hair.count=0", "camera.field_of_view_mm=10"]).with_diagnosis("NV=1")
RECORD = draw(PRESET, 0, 0)
RENDERED = FakeEngine(EngineOptions(64)).render(RECORD)


def words(rendered=RENDERED, attributes=("globules", "pigment_network"), record=RECORD):
    box = make_sample(record, rendered).row["bbox"]
    return caption(record, rendered, list(attributes), box)


def test_caption_says_size_structures_tone_and_hair():
    text = words()
    across = 2 * math.sqrt((16 * 32) / 64**2 * 100 / math.pi)
    assert f"a common nevus about {across:.1f} mm across with globules and a pigment network on" in text
    assert text.endswith("skin, without hair.")
    assert "healthy" not in text


def test_caption_of_edge_faint_and_invisible_lesions():
    edge = RENDERED.mask.copy()
    edge[0, 0] = 255
    assert "that reaches the edge of the picture" in words(replace(RENDERED, mask=edge))
    assert "a barely visible common nevus" in words(replace(RENDERED, visible_delta_e=0.1))
    assert "without a visible lesion" in words(replace(RENDERED, mask=np.zeros_like(edge), attributes={}))
    hairy = replace(RENDERED, hair=np.full_like(edge, 255))
    assert "with much hair" in words(hairy)


def test_tone_words():
    assert "on very light skin" in words(replace(RENDERED, ita_deg=60.0))
    assert "on dark skin" in words(replace(RENDERED, ita_deg=-40.0))


def test_numbers_that_are_not_finite_are_refused():
    sample = make_sample(RECORD, replace(RENDERED, ita_image_deg=math.nan))
    assert any("finite" in fault for fault in check_row(sample.row))
    with pytest.raises(DatasetError, match="ita_image_deg"):
        encode_sample(sample)


def test_arrays_must_fit_the_row():
    sample = make_sample(RECORD, RENDERED)
    with pytest.raises(DatasetError, match="mask"):
        encode_sample(replace(sample, mask=None))
    with pytest.raises(DatasetError, match="0 and 255"):
        encode_sample(replace(sample, hair=np.full((64, 64), 3, np.uint8)))
    with pytest.raises(DatasetError, match="pixels"):
        encode_sample(replace(sample, hair=np.zeros((8, 8), np.uint8)))


def test_plain_progress():
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.start(4, 1)
    for done in (2, 3, 4):
        progress.step(done)
    progress.stop()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "rendering 4 samples, 1 kept from before" and lines[-1].startswith("4/4 samples")
    assert (clock(3723), clock(61)) == ("1:02:03", "1:01")
