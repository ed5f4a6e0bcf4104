"""Logit pairing: siblings of a lesion are told alike, so that the skin does not move the answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from interrupt import InterruptAt
from PIL import Image
from test_classify import QUICK, make_set

from synthskin.classify import load_classifier, train_classifier
from synthskin.classify.card import WEIGHTS
from synthskin.classify.pictures import labelled, open_sets, training_split
from synthskin.classify.train import pairing_loss, siblings


def test_siblings_are_told_alike(tmp_path):
    """Discs that tell nothing; melanomas of the training lie on dark skin twice as often as on light, nevi the other
    way, all of them on both. Without logit pairing the network goes by the skin, with it it does not. A training that
    was interrupted ends in the same weights. What siblings are, by hand."""
    alike = {"MEL": (120, 80, 70), "NV": (120, 80, 70)}

    def skin(k):  # three siblings: light, dark, dark for MEL (even), dark, light, light for NV
        return 225 if (k % 6 // 2 == 0) == (k % 2 == 0) else 150

    discs = make_set(tmp_path / "discs", 96, group_of=lambda k: f"{k // 6}-{k % 2}", skin_of=skin, colours=alike)
    others = make_set(tmp_path / "others", 48, seed=1, skin_of=lambda k: 225 if k % 4 < 2 else 150, colours=alike)
    data = labelled(open_sets([discs]), "diagnosis")
    train, _ = training_split(data, 0.2, 0)
    found = siblings(data, train)
    assert sorted(found) == sorted(train)
    for k, own in found.items():
        assert own == [j for j in train if j != k and j // 6 == k // 6 and j % 2 == k % 2] and len(own) == 2
    images = [np.asarray(Image.open(others / f"images/{k:06d}.png")) for k in range(48)]
    paired = replace(QUICK, logit_pairing=3.0)
    shift = {}
    for name, options in (("plain", QUICK), ("paired", paired)):
        train_classifier(discs, tmp_path / name, options)
        melanoma = load_classifier(tmp_path / name).predict(images)[:, 0].reshape(12, 2, 2)  # skins, classes
        shift[name] = melanoma[:, 1].mean() - melanoma[:, 0].mean()
    assert shift["plain"] > 0.15 and abs(shift["paired"]) < 0.08, shift

    with pytest.raises(KeyboardInterrupt):
        train_classifier(discs, tmp_path / "again", paired, InterruptAt(27))
    train_classifier(discs, tmp_path / "again", paired)
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (tmp_path / "paired" / WEIGHTS).read_bytes()


def test_pairing_loss_by_hand():
    """Centred (1, -1) and (2, -2) against (0, 0) and (2, -2): squares 1, 1, 0, 0."""
    logits = torch.tensor([[3.0, 1.0], [2.0, -2.0], [5.0, 5.0], [4.0, 0.0]])
    assert pairing_loss(logits).item() == pytest.approx(0.5)


def test_models_from_before_logit_pairing_are_finished():
    """Their cards do not name it; the same command must not call that another training."""
    assert "logit_pairing" not in QUICK.identity()
    assert replace(QUICK, logit_pairing=1.0).identity()["logit_pairing"] == 1.0
