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
from synthskin.rows import make_sample
from synthskin.run import EngineOptions

PRESET = load_preset("fst6").with_sets(["hair.count=0", "camera.field_of_view_mm=10"]).with_diagnosis("NV=1")
RECORD = draw(PRESET, 0, 0)
RENDERED = FakeEngine(EngineOptions(64)).render(RECORD)


def test_siblings_keep_the_group_of_their_record():
    """A sample at another place of its set keeps the ids of the record that it is a sibling of."""
    own, moved = make_sample(RECORD, RENDERED).row, make_sample(RECORD, RENDERED, 41).row
    assert moved["index"] == 41 and moved["file_name"] == "images/000041.png" and check_row(moved) == []
    for key in ("group_id", "lesion_id", "patient_id", "params", "caption"):
        assert moved[key] == own[key]


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
