"""Which pictures bear weight, what of too few is refused, and that chance is an argument."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from synthskin.bias import alike
from synthskin.bias.compare_weights import check_groups, check_pictures, weight_words, weighting_of
from synthskin.bias.errors import BiasError

SIDE = 32


def group(kinds, groups=None, seed=0):
    """A Group of noise whose statistics are three numbers."""
    rng = np.random.default_rng([seed, len(kinds)])
    images = rng.integers(0, 256, (len(kinds), SIDE, SIDE, 3)).astype(np.uint8)
    tables = tuple({name: float(rng.normal()) for name in ("a", "b", "c")} for _ in kinds)
    own = [f"{seed}-{k}" for k in range(len(kinds))] if groups is None else groups
    return alike.Group(images, tables, tuple(own), tuple(kinds))


def test_what_bears_weight_is_counted():
    first, second = group(["MEL"] * 60 + ["NV"] * 12), group(["NV"] * 68, seed=1)
    found = alike.weighting(first, second)
    assert found.kinds == ("NV",) and found.partial and found.wants_words
    assert (found.pictures, found.bearing, found.groups) == ((72, 68), (12, 68), (12, 68))
    assert found.like == pytest.approx((12.0, 68.0))
    with pytest.raises(BiasError, match=r"^k1: 12 of its 72 pictures are of a diagnosis .* \(NV\); at least 20"):
        check_pictures(found, ("k1", "k2"))
    said = weight_words(found, "k1", "k2")
    assert "12 of the 72 pictures of k1 and 68 of the 68 pictures of k2 bear weight, the others none." in said


def test_words_say_only_what_was_done():
    names = [str(k) for k in range(60)]
    whole = weighting_of(["NV", "MEL"] * 15, ["MEL", "NV"] * 15, names)
    assert weight_words(whole, "a", "b") == "Both sets are weighted to the mix of diagnoses of a (MEL, NV)."
    assert not whole.wants_words
    apart = weighting_of(["MEL"] * 30, ["NV"] * 30, names)
    assert "nothing is weighted: that their diagnoses differ" in weight_words(apart, "a", "b") and apart.wants_words
    unknown = weighting_of([""] * 30, [""] * 30, names)
    assert weight_words(unknown, "a", "b") == "No diagnosis is known in either set, so nothing is weighted."
    assert not unknown.wants_words
    uneven = weighting_of(["NV", "MEL"] * 15, ["MEL"] + ["NV"] * 29, names)  # half of the weight on one picture
    assert uneven.like == pytest.approx((30.0, 1 / (0.25 + 0.25 / 29)))
    assert "the pictures of b tell no more than 4 of equal weight would" in weight_words(uneven, "a", "b")
    check_pictures(uneven, ("a", "b"))
    with pytest.raises(BiasError, match=r"^b: its pictures are of 1 group \(.*at least 10 are needed for 5 folds"):
        check_groups(weighting_of([""] * 30, [""] * 30, names[:30] + ["one"] * 30), ("a", "b"), 5)


@pytest.mark.parametrize(("first", "second", "says"), [
    (group([""] * 30, ["one"] * 30), group([""] * 30, seed=1), "the first set: its pictures are of 1 group "),
    (group(["MEL"] * 25 + ["NV"]), group(["NV"] * 30, seed=1),
     "the first set: its pictures of a diagnosis that both sets have are of 1 group "),
    (group(["NV"] * 30), group(["NV"] * 30, [f"p{k % 5}" for k in range(30)], seed=1),
     "the second set: .* of 5 groups "),
])
def test_too_few_groups_are_one_line(first, second, says):
    for test in (alike.linear_auc, lambda a, b: alike.cnn_auc(a, b, epochs=1)):
        with pytest.raises(BiasError, match=says):
            test(first, second)


def test_intervals_and_folds_are_of_what_bears_weight():
    """Few that bear weight among many that do not: no draw is without them, no fold learns without them."""
    first = group(["NV"] * 20 + ["MEL"] * 400, [f"p{k % 10}" for k in range(20)] + [f"q{k}" for k in range(400)])
    second = group(["NV"] * 40, seed=1)
    which = alike._folds(first, second, 5)
    assert np.bincount([int(which[k]) for k in range(10)]).tolist() == [2] * 5
    found = alike.linear_auc(first, second)
    assert np.isfinite([found.auc, found.low, found.high]).all() and found.low < found.auc < found.high
    few = group(["NV"] * 2 + ["MEL"] * 40)  # draws from all 42 would miss both of these one time in seven
    found = alike._auc(few, second, np.arange(82.0), alike.balance(few, second))
    assert (found.auc, found.low, found.high) == (1.0, 1.0, 1.0)
    # a group that is in both sets, but bears weight in one, is drawn as one of that set
    shared = [f"s{k}" for k in range(40)]
    few = group(["NV"] * 2 + ["MEL"] * 40, ["p0", "p1", *shared])
    found = alike._auc(few, group(["NV"] * 40, shared, seed=1), np.arange(82.0), alike.balance(few, second))
    assert (found.auc, found.low, found.high) == (1.0, 1.0, 1.0)


def test_the_network_is_the_same_again():
    import torch

    first, second = group([""] * 20), group([""] * 20, seed=1)
    torch.manual_seed(1)
    once = alike.cnn_auc(first, second, epochs=2)
    torch.manual_seed(2)
    assert alike.cnn_auc(first, second, epochs=2) == once


def write(folder, rows):
    rng = np.random.default_rng(len(rows))
    folder.mkdir()
    with open(folder / "metadata.jsonl", "w", encoding="utf-8") as lines:
        for k, row in enumerate(rows):
            skin = rng.integers(120, 220, (1, 1, 3)) + rng.integers(-20, 20, (SIDE, SIDE, 3))
            Image.fromarray(skin.astype(np.uint8)).save(folder / f"{k}.png")
            lines.write(json.dumps({"file_name": f"{k}.png", **row}) + "\n")
    return folder


@pytest.mark.parametrize(("rows", "says"), [
    ([{"diagnosis": "NV", "patient_id": "P1"}] * 24, "REAL: its pictures are of 1 group "),
    ([{"diagnosis": "MEL"}] * 40 + [{"diagnosis": "NV"}] * 2, "REAL: 2 of its 42 pictures are of a diagnosis"),
    ([{"diagnosis": "MEL"}] * 25 + [{"diagnosis": "NV"}], "REAL: 1 of its 26 pictures is of a diagnosis"),
])
def test_ordinary_sets_that_share_too_little_are_one_line(tmp_path, capsys, monkeypatch, rows, says):
    from synthskin import cli
    from synthskin.bias import compare_load

    real, made = write(tmp_path / "REAL", rows), write(tmp_path / "MADE", [{"diagnosis": "NV"}] * 30)
    monkeypatch.setattr(compare_load, "load_photo", lambda *_, **__: pytest.fail("read a picture"))
    with pytest.raises(SystemExit) as done:
        cli.main(["compare", str(real), str(made), "--out", str(tmp_path / "out"), "--no-cnn", "--masks", "none"])
    said = capsys.readouterr().err.strip()
    assert done.value.code == 2 and says in said and said.startswith("error: ") and "\n" not in said
    assert not (tmp_path / "out").exists()


def test_sets_without_a_diagnosis_in_common_are_told_so(tmp_path, capsys):
    from synthskin import cli

    real = write(tmp_path / "real", [{"diagnosis": "MEL"}] * 24)
    made = write(tmp_path / "made", [{"diagnosis": "NV"}] * 22)
    args = ["compare", str(real), str(made), "--out", str(tmp_path / "out"), "--no-cnn", "--masks", "none"]
    with pytest.raises(SystemExit) as done:
        cli.main([*args, "--size", "32"])
    assert done.value.code == 0 and "no known diagnosis in common, so nothing is weighted" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("nothing is weighted") == 2 and "weighted to the mix" not in page
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["two_sample"]["weighting"] == {"kinds": [], "pictures": [24, 22], "bearing": [24, 22],
                                                "groups": [24, 22], "like": [24.0, 22.0]}
    low, high = found["embedding"]["kid_real_halves_95"]
    assert low < found["embedding"]["kid_real_halves"] < high


def test_copies_are_found_though_a_real_picture_lies_twice(tmp_path):
    import shutil

    from synthskin.bias.compare import Options, compare_sets

    real = write(tmp_path / "real", [{}] * 30)
    made = shutil.copytree(real, tmp_path / "made")
    for path in made.glob("*.png"):  # not to the last bit
        picture = np.array(Image.open(path)) ^ 1
        Image.fromarray(picture).save(path)
    shutil.copy(real / "0.png", real / "30.png")
    with open(real / "metadata.jsonl", "a", encoding="utf-8") as lines:
        lines.write('{"file_name": "30.png"}\n')
    found = compare_sets(real, made, tmp_path / "out", Options(size_px=SIDE, masks="none", cnn=False))
    assert found.embedded.copies > 0.9 and found.weighting.groups == (30, 30)
