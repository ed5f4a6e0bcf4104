"""What lies in training, validation and test: the rows' own split, parents in both directions, whole sets; and what the
rows show before any training."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from test_study import CLASSES, MASKS, refused, run
from test_study_groups import rows

from synthskin.bias import groups, study_data, study_file
from synthskin.bias.study_report import _apart

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


def test_a_threshold_that_cannot_be_chosen_is_refused_before_training(tmp_path, capsys, home):
    own = given_set(tmp_path / "own", lambda i: ("train", "test", "train", "val")[i % 4])  # 0 and 1 of four are naevi
    says = refused(capsys, with_text(home, CLASSES), "--out", tmp_path / "out", "--data", f"one={own}")
    assert "the validation cases are all of one class (10 cases)" in says and not (tmp_path / "out").exists()


# --- the rows' own split --------------------------------------------------------------------------------------------

NAMES = ("train", "train", "val", "test")


def spec_of(text=MASKS, split=""):
    return study_file.parse_study(text.replace("[training]", f"[split]\n{split}\n[training]"), "x")


def given_set(folder, split, n=40):
    from study_planted import make_set

    return make_set(folder, n, 5, 32, split=split)


def test_a_split_of_the_rows_is_kept_in_every_repeat(home, tmp_path):
    own = given_set(tmp_path / "own", lambda i: NAMES[i % 4])
    spec = spec_of(split="repeats = 3")
    data = study_data.load_pictures(spec, "one", own)
    for repeat in range(3):
        parts = study_data.split(spec, data, repeat)
        assert parts.test.tolist() == list(range(3, 40, 4)) and not len(parts.other)
    assert data.facts["split"] == (
        "the rows' own train and test are kept, the same in all 3 repeats (test 10, train 20, val 10)")
    spec = spec_of(split='repeats = 3\ngiven = "ignore"')
    data = study_data.load_pictures(spec, "one", own)
    drawn = {tuple(study_data.split(spec, data, repeat).test) for repeat in range(3)}
    assert len(drawn) == 3
    assert data.facts["split"] == (
        'drawn; the rows\' own (test 10, train 20, val 10) is not used: [split] given = "ignore"')
    alone = study_data.load_rows(spec_of(), "one", given_set(tmp_path / "alone", lambda i: "train"))
    assert alone.facts["split"] == "drawn; the rows' own (train 40) is not used: it has no train and test"
    assert "split" not in study_data.load_rows(spec, "one", home / "one").facts


def test_rows_in_no_part_are_counted(tmp_path):
    own = given_set(tmp_path / "own", lambda i: None if i < 8 else NAMES[i % 4])
    spec = spec_of()
    data = study_data.load_pictures(spec, "one", own)
    assert data.facts["left_out"] == {"split is None": 8}
    parts = study_data.split(spec, data, 0)
    assert parts.other.tolist() == list(range(8)) and len(parts.train) == len(parts.test) * 2 == 16
    assert study_data.train_positions(spec, "one", "all", parts).tolist() == list(range(40))  # what is whole has them
    whole = spec_of(MASKS.replace('use = [{ data = "one" }]', 'use = [{ data = "one", part = "all" }]'))
    assert study_data.load_pictures(whole, "one", own).facts["left_out"] == {}


def test_the_command_says_which_split_it_takes(tmp_path, capsys):
    own = given_set(tmp_path / "own", lambda i: None if i < 4 else NAMES[i % 4], 44)
    text = MASKS.replace('[groups.size]\nby = "size"\n', "").replace('[data.two]\nfolder = "two"', "").replace(
        '{ data = "one", n = 20, share = 0.5 }, { data = "two", share = 0.5 }', '{ data = "one", n = 10 }')
    text = text.replace("steps = 6", "steps = 1").replace("[training]", "[split]\nrepeats = 2\n[training]")
    text = text.replace('[groups.tone]\nby = "tone"\npair = ["dark", "light"]', "")
    run(with_text(tmp_path, text), "--out", tmp_path / "out", "--data", f"one={own}")
    words = "the rows' own train and test are kept, the same in all 2 repeats (None 4, test 10, train 20, val 10)"
    assert f"split of one: {words}" in capsys.readouterr().out
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found["split"] == [{"one": {"train": 20, "validation": 10, "test": 10, "other": 4}}] * 2
    assert found["data"]["one"]["left_out"] == {"split is None": 4}
    page = (tmp_path / "out/report.html").read_text()
    assert "in none of them" in page and "split is None" in page and "the same in all 2 repeats" in page


# --- what a threshold is chosen on ----------------------------------------------------------------------------------

WHOLE = MASKS.replace('use = [{ data = "one" }]', 'use = [{ data = "one", part = "all" }]').replace(
    '[tests.one]\ndata = "one"', '[tests.one]\ndata = "two"').replace(
    '[tests.noisy]\ndata = "one"', '[tests.noisy]\ndata = "two"').replace(
    'use = [{ data = "one", n = 20, share = 0.5 }, { data = "two", share = 0.5 }]', 'use = [{ data = "one" }]')


def test_no_threshold_is_chosen_on_what_was_learnt(home):
    chosen, fixed = (spec_of(f'threshold = {x}\nvalidation = "one"\n{WHOLE}') for x in ('"dice"', "0.4"))
    assert chosen.threshold_is_chosen and not fixed.threshold_is_chosen
    data = study_data.load_pictures(chosen, "one", home / "one")
    parts = study_data.split(chosen, data, 0)
    learnt = study_data.train_positions(chosen, "one", "all", parts)
    assert len(parts.validation) == 13 and not set(learnt) & set(parts.validation)
    assert len(study_data.train_positions(fixed, "one", "all", parts)) == 64
    assert "One threshold a training was chosen (dice) on validation pictures of one, from which" in _apart(chosen)
    assert "was fixed beforehand (0.4)" in _apart(fixed) and "validation" not in _apart(fixed)


def test_a_threshold_on_what_another_set_teaches_is_refused(home, tmp_path, capsys):
    """The second arm learns a copy of the set whose validation pictures choose the threshold."""
    text = 'threshold = "dice"\nvalidation = "one"\n' + WHOLE.replace(
        'use = [{ data = "one" }]', 'use = [{ data = "copy" }]').replace(
        "[data.two]", '[data.copy]\nfolder = "one"\n[data.two]')
    says = refused(capsys, with_text(home, text), "--out", tmp_path / "out")
    assert "[arms.both]" in says and "the validation pictures of 'one', on which the threshold is chosen" in says
    assert "a threshold that is a number" in says
    text = text.replace('"dice"\nval', '"half"\nval').replace("steps = 6", "steps = 1")
    run(with_text(home, text), "--out", tmp_path / "out")


# --- parents --------------------------------------------------------------------------------------------------------

def made_from(folder, source, seed):
    """A copy of a set whose pictures differ by a pixel from their parents, and are tied to them by nothing else."""
    import hashlib

    from PIL import Image

    shutil.copytree(source, folder)
    lines = []
    for line in (folder / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        path = folder / row["file_name"]
        sha = hashlib.sha256((source / row["file_name"]).read_bytes()).hexdigest()
        image = np.array(Image.open(path))
        image[0, 0, 0] ^= seed
        Image.fromarray(image).save(path)
        parent = {"set_hash": row["set_hash"], "file_name": row["file_name"], "sha256": sha}
        lines.append(json.dumps(row | {"parents": [parent], "group_id": None, "lesion_id": None, "patient_id": None}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_parents_lie_on_one_side(home, tmp_path, capsys):
    """Trained on the parents and tested on the children, the other way round, and on two children of each."""
    child, other = made_from(tmp_path / "child", home / "one", 1), made_from(tmp_path / "other", home / "one", 2)
    text = WHOLE.replace(', part = "all"', "")
    for learnt, tested, says in ((home / "one", child, "is the source of a picture of the test set"),
                                 (child, home / "one", "was made from a picture of the test set"),
                                 (other, child, "was made from the same picture as one of the test set"),
                                 (home / "one", home / "one", "shares its patient, lesion or group with the test set")):
        found = refused(capsys, with_text(home, text), "--out", tmp_path / "out", "--data", f"one={learnt}", "--data",
                        f"two={tested}")
        assert says in found
    assert not (tmp_path / "out").exists()


def test_children_of_one_parent_are_one_cluster():
    """No split parts them, and the bootstrap draws them together."""
    table = rows(4, parents=[[{"sha256": "a"}], [{"sha256": "a"}], [], [{"sha256": "b"}]])
    assert groups.clusters_of(table, ["x"] * 4) == ["picture:a", "picture:a", "x/images/000002.png", "picture:b"]
    assert len(set(groups.clusters_of(table, ["x"] * 4, ["c", "d", "a", "e"]))) == 2  # the third is the parent
    assert len(set(groups.clusters_of(table, ["x"] * 4, ["c", "d", "e", "e"]))) == 2  # a copy
