"""Siblings of test pictures are not learnt from, also where the test picture has no label that is learnt."""

import json
from dataclasses import replace

import pytest
from test_classify import QUICK, make_set

from synthskin.classify import ClassifyError, train_classifier
from synthskin.classify.pictures import data_hash, labelled, open_sets, training_split
from synthskin.dataset.reader import read_rows


def relabelled(folder, diagnoses):
    """The set with other diagnoses: {index: name or None}."""
    rows = read_rows(folder)
    for index, name in diagnoses.items():
        rows[index] |= {"diagnosis": name, "benign_malignant": None}
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def learnt(folder, classes=()):
    data = labelled(open_sets([folder]), "diagnosis", classes)
    return {data.entries[k].group for part in training_split(data, 0.2, 0) for k in part}


def test_unlabelled_test_rows_guard_their_group(tmp_path):
    """Groups of three, one of each class; of g0 a test row lost its label, of g1 it is a VASC, which is not learnt."""
    folder = make_set(tmp_path / "s", 36, split=lambda k: "test" if k in (0, 5) else None, group_of=lambda k: k // 3)
    relabelled(folder, {0: None})
    rest = {f"g0-{k}" for k in range(2, 12)}
    assert learnt(folder) == rest == learnt(folder, ("MEL", "NV"))
    data = labelled(open_sets([folder]), "diagnosis", ("MEL", "NV"))
    assert {data.entries[k].group for k in range(len(data.entries))} == rest | {"g0-0", "g0-1"}  # evaluate sees all
    assert data.tested == {"g0-0", "g0-1"}


def test_a_new_test_row_without_a_label_is_another_training(tmp_path):
    """The pictures with a label are the same as before; those that may be learnt from are not."""
    folder = make_set(tmp_path / "s", 36, group_of=lambda k: k // 3)
    relabelled(folder, {0: None})
    before = data_hash(labelled(open_sets([folder]), "diagnosis"))
    options = replace(QUICK, steps=1, save_every=1)
    train_classifier(folder, tmp_path / "m", options)
    rows = read_rows(folder)
    rows[0]["split"] = "test"
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert data_hash(labelled(open_sets([folder]), "diagnosis")) != before
    with pytest.raises(ClassifyError, match="holds another training"):
        train_classifier(folder, tmp_path / "m", options)
