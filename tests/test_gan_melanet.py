"""The MelaNet study: folds that cut no group, measures by their definitions, a tiny run from end to end, bad input."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from gan_sets import write_set
from test_gan_train import run
from test_gan_translate import DarkSegmenter

from synthskin.classify import TrainOptions as ClassifierOptions
from synthskin.dataset.reader import read_rows, validate
from synthskin.gan import GanError
from synthskin.gan.melanet import Study, StudyOptions, assign_folds, splits_of, table
from synthskin.gan.method import TrainOptions

SPECS = [("NV", 2)] * 28 + [("MEL", 2)] * 14
GROUPS = [f"g{k // 2}" for k in range(42)]  # two pictures of each lesion
TINY = StudyOptions(
    folds=2, seeds=2, arms=("none", "gan", "gan+physics"), gates=("source-leak",), replicates=200,
    translator=TrainOptions("cyclegan", "class", 32, 2, width=4, blocks=1, patience=1),
    classifier=ClassifierOptions(size_px=32, steps=2, batch=4, loss="focal"))


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    root = tmp_path_factory.mktemp("melanet")
    write_set(root / "real", SPECS, groups=GROUPS, generator="real", masks=False)
    write_set(root / "renders", [("MEL", 2)] * 12, seed=7, set_hash="fedcba9876543210")
    return root


def test_folds_and_splits_cut_no_group(toys):
    rows = read_rows(toys / "real")
    folds = assign_folds(rows, TINY, toys / "real")
    for group in set(GROUPS):
        assert len({int(f) for f, g in zip(folds, GROUPS, strict=True) if g == group}) == 1
    for fold in range(2):
        splits = splits_of(rows, folds, fold, TINY, toys / "real")
        seen = {(g, s) for g, s in zip(GROUPS, splits, strict=True)}
        assert len(seen) == len(set(GROUPS))
        counts = Counter((row["diagnosis"], s) for row, s in zip(rows, splits, strict=True))
        assert all(counts[d, s] > 0 for d in ("NV", "MEL") for s in ("train", "val", "test"))
        assert 5 <= counts["MEL", "test"] <= 9


def test_measures_follow_their_definitions(toys, tmp_path):
    """Positive cases 14, of which 10 are found; of 28 negative ones 21 are left alone."""
    study = Study(toys / "real", tmp_path / "s", TINY, toys / "renders", DarkSegmenter())
    labels = np.array([d == "MEL" for d, _ in SPECS], int)
    decisions = np.zeros((42, 1))
    decisions[28:38], decisions[:7] = 1, 1  # TP 10, FN 4, FP 7, TN 21
    one = np.ones((1, 42))
    found = {m: float(study._statistic(m, labels, decisions * 0.5, decisions)(one, 0)[0])
             for m in ("sensitivity", "specificity", "balanced_accuracy")}
    assert found["sensitivity"] == pytest.approx(10 / 14)  # TP / (TP + FN), not TN / (TN + FN) = 0.84
    assert found["specificity"] == pytest.approx(21 / 28)
    assert found["balanced_accuracy"] == pytest.approx((10 / 14 + 21 / 28) / 2)
    scores = np.where(labels == 1, 0.6, 0.4)[:, None] + 10.0 * study.folds[:, None]  # each fold on a scale of its own
    assert float(study._statistic("auc", labels, scores, decisions)(one, 0)[0]) == 1.0


def test_from_end_to_end_and_again(toys, tmp_path):
    def study():
        return Study(toys / "real", tmp_path / "s", TINY, toys / "renders", DarkSegmenter())

    result = study().run()
    assert set(result["estimates"]["auc"]) == {"none", "gan", "gan+physics"}
    assert set(result["gain_over_none"]["sensitivity"]) == {"gan", "gan+physics"}
    assert result["data"] == {"set": "real", "set_hash": "0123456789abcdef", "cases": 42, "positive": 14, "groups": 21}
    for entry in result["estimates"]["sensitivity"].values():
        assert 0 <= entry["low"] <= entry["estimate"] <= entry["high"] <= 1
    text = (tmp_path / "s/melanet.md").read_text()
    assert text == table(result) and text.count("| gan |") == 2
    tested = []
    for fold in range(2):
        folder = tmp_path / f"s/fold-{fold}"
        rows = read_rows(folder / "real")
        assert validate(folder / "real") == [] and {row["mask_status"] for row in rows} == {"predicted"}
        tested += [row["index"] for row in rows if row["split"] == "test"]
        kept_out = {row["group_id"] for row in rows if row["split"] != "train"}
        if (folder / "gan").is_dir():
            assert not {row["group_id"] for row in read_rows(folder / "gan")} & kept_out
        physics = read_rows(folder / "physics")
        assert {row["diagnosis"] for row in physics} == {"MEL"} and {row["split"] for row in physics} == {"train"}
    assert sorted(tested) == list(range(42))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "s").rglob("*.safetensors")}
    again = study().run()
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in result.items() if k != "seconds"}
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "s").rglob("*.safetensors")} == before
    with pytest.raises(GanError, match="another seeds"):
        Study(toys / "real", tmp_path / "s", replace(TINY, seeds=3), toys / "renders")


@pytest.mark.parametrize(("args", "said"), [
    ([], "need --physics"), (["--arms", "none,magic"], "'magic' is not known"), (["--arms", "gan"], "add it"),
    (["--arms", "none,gan", "--folds", "20"], "at least 40 are needed"),
    (["--arms", "none,gan", "--positive", "DF", "--negative", "VASC"], "none of its 42 samples"),
    (["--method", "stargan"], "allowed are cyclegan and cut"),
])
def test_bad_input_is_one_line(toys, tmp_path, capsys, args, said):
    assert run("melanet", toys / "real", "--out", tmp_path / "s", "--size", 32, "--folds", 2, *args) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error and not (tmp_path / "s").exists()


def test_study_melanet_is_the_same_command(capsys):
    from synthskin.cli import main

    with pytest.raises(SystemExit) as caught:
        main(["study", "melanet", "--help"])
    assert caught.value.code == 0 and "Grouped cross-validation" in " ".join(capsys.readouterr().out.split())
