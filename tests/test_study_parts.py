"""What lies in training, validation and test: the rows' own split, parents in both directions, whole sets; and what the
rows show before any training."""

import sys
from pathlib import Path

import pytest
from test_study import CLASSES, MASKS, refused

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    pytest.importorskip("torch")
    from study_planted import make_set

    folder = tmp_path_factory.mktemp("parts")
    make_set(folder / "one", 64, 1, 32)
    make_set(folder / "two", 48, 2, 32)
    return folder


def with_text(home, text):
    path = home / "own.toml"
    path.write_text(text)
    return path


def test_a_primary_endpoint_without_a_value_is_refused_before_training(home, tmp_path, capsys):
    bins = CLASSES.replace('by = "sex"', 'by = "class"\nbins = { a = ["NV"], b = ["MEL"] }')
    text = bins.replace('of = "tone"\ngroups = ["dark", "light"]', 'of = "sex"\ngroups = ["b", "a"]')
    says = refused(capsys, with_text(home, text), "--out", tmp_path / "out")
    assert "each of the 24 pictures of 'two' in 'b' is MEL, so it has no value there" in says
    gone = MASKS.replace('arms = ["both", "one"]', 'arm = "one"\nof = "sex"\ngroups = ["female", "other"]')
    gone = gone.replace("[training]", '[groups.sex]\nby = "sex"\n[training]')
    assert "is in 'other'; there are female, male" in refused(capsys, with_text(home, gone), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
