"""MixedDataset: ratio, schedule, balance, and what is refused."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_hooks_data import stream
from torch.utils.data import Subset

from synthskin.hooks import Linear, MixedDataset
from synthskin.hooks.mixing import quotas


class Rows:
    """A data set that is its rows alone."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return {"image": torch.zeros(3, 8, 8), "mask": None, "label": 0, "meta_json": json.dumps(self.rows[i])}


def rows(counts, tone=2):
    return Rows([{"diagnosis": d, "ita_class": tone} for d, n in counts.items() for _ in range(n)])


def test_mixing_ratio_and_schedule():
    real, synthetic = rows({"NV": 30, "MEL": 10}), rows({"NV": 50, "healthy": 50})
    mixed = MixedDataset(real, synthetic, ratio=Linear(0.8, 0.2, epochs=4))
    sampler = mixed.sampler(100, seed=1)
    seen = []
    for epoch, share in enumerate((0.8, 0.6, 0.4, 0.2, 0.2)):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert len(order) == len(sampler) == 100
        assert sum(i >= 40 for i in order) == round(100 * share)
        assert order == list(sampler)
        seen.append(tuple(order))
        fake = [i for i in order if i >= 40]
        assert len(set(fake)) == len(fake)  # 80 of 100: none comes twice
        true = np.bincount([i for i in order if i < 40], minlength=40)
        assert true.max() - true.min() <= 1 or share == 0.8
    assert len(set(seen)) == 5
    assert mixed[0]["source"] == "real" and mixed[40]["source"] == "synthetic"
    assert MixedDataset(real, synthetic, ratio=[0.5, 0.1]).ratio_at(9) == 0.1
    assert MixedDataset(real, synthetic, ratio=lambda epoch: 1 / (epoch + 1)).ratio_at(3) == 0.25


def test_mixing_balance():
    real, synthetic = rows({"NV": 90, "MEL": 10}), rows({"MEL": 20, "BCC": 20, "NV": 20})
    mixed = MixedDataset(real, synthetic, ratio=0.5, balance="diagnosis")
    order = list(mixed.sampler(300))
    names = [(real.rows + synthetic.rows)[i]["diagnosis"] for i in order]
    assert sum(i >= 100 for i in order) == 150
    assert {name: names.count(name) for name in set(names)} == {"NV": 100, "MEL": 100, "BCC": 100}
    tones = MixedDataset(rows({"NV": 50}, 2), rows({"NV": 5}, 6), 0.5, "ita_class")
    assert len(list(tones.sampler(40))) == 40
    nulls = MixedDataset(rows({None: 5, "NV": 50}), rows({"NV": 3}), 0.0, "diagnosis")
    order = list(nulls.sampler(100))
    assert sum(i < 5 for i in order) == 50  # null is a value of its own


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_source_without_the_key_cannot_be_balanced_by_it(wrapped):
    """As imported photographs, whose tone nobody has measured: balancing would have no effect on them."""
    photographs, renders = rows({"NV": 20}, None), rows({"NV": 12}, 6)
    given = Subset(photographs, range(20)) if wrapped else photographs
    with pytest.raises(ValueError, match=r"^balance='ita_class': none of the 20 samples of real has a value of it; "
                                         r"imports measure none; balance by 'diagnosis' or None, or write "):
        MixedDataset(given, renders, 0.5, "ita_class")
    with pytest.raises(ValueError, match="none of the 20 samples of synthetic"):
        MixedDataset(renders, given, 0.5, "ita_class")
    with pytest.raises(ValueError, match="balance='diagnosis': none of the 3 samples of real has a value of it; bal"):
        MixedDataset(rows({None: 3}), renders, 0.5, "diagnosis")
    assert len(MixedDataset(given, renders, 0.5, "diagnosis")) == 32
    for row in photographs.rows[:8]:  # what docs/hooks.md shows: classes of one's own
        row["ita_class"] = 3
    mixed = MixedDataset(given, renders, 0.5, "ita_class")
    order = list(mixed.sampler(60))
    assert [sum(i in own for i in order) for own in (range(8), range(8, 20))] == [15, 15]


def test_mixing_ranks_share_an_epoch():
    mixed = MixedDataset(rows({"NV": 31}), rows({"NV": 20}), 0.4)
    whole = mixed.sampler(50, seed=5, rank=0, world=1)
    parts = [mixed.sampler(50, seed=5, rank=r, world=4) for r in range(4)]
    assert {len(part) for part in parts} == {13}
    assert all(len(list(part)) == 13 for part in parts)
    assert sorted(i for part in parts for i in part) == sorted(mixed.sampler(52, seed=5).positions().tolist())
    assert len(whole) == 50


def test_mixing_refusals():
    real, nothing = rows({"NV": 3}), rows({})
    for bad, word in ((1.5, "ratio=1.5"), (lambda epoch: -1, "ratio=-1"), (0.5, "synthetic data set is empty")):
        with pytest.raises(ValueError, match=word):
            MixedDataset(real, nothing if bad == 0.5 else real, bad)
    with pytest.raises(ValueError, match="balance="):
        MixedDataset(real, real, 0.5, "age")
    for bad in ([], "0.5", None, {0: 0.5}):
        with pytest.raises(ValueError, match=r"ratio=.*a list of one an epoch"):
            MixedDataset(real, real, bad)
    for bad, word in (([0.5, 2], "ratio=2 in epoch 1"), (["x"], "ratio='x'"), (lambda epoch: None, "ratio=None"),
                      (True, "ratio=")):
        with pytest.raises(ValueError, match=word):
            MixedDataset(real, real, bad)
    for settings, word in (((2, 0.2, 3), "first=2"), ((0.2, -1, 3), "last=-1"), ((0.2, float("nan"), 3), "last=nan"),
                           ((0.8, 0.2, 0), "epochs=0"), ((0.8, 0.2, 1.5), "epochs=1.5")):
        with pytest.raises(ValueError, match=f"Linear {word}"):
            Linear(*settings)
    for bad in ("x", None, {}, stream(samples=3)):
        with pytest.raises(ValueError, match=r"synthetic=.*SkinDataset"):
            MixedDataset(real, bad, 0.0)
    with pytest.raises(ValueError, match="real='x'"):
        MixedDataset("x", real)
    assert MixedDataset(real, real, np.array([0.5, 0.1])).ratio_at(9) == 0.1
    assert MixedDataset(real, real, np.float32(0.5)).ratio_at(0) == 0.5
    with pytest.raises(ValueError, match="rank 4 of 4"):
        MixedDataset(real, real).sampler(rank=4, world=4)
    assert len(list(MixedDataset(real, nothing, 0.0).sampler(7))) == 7


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=6), st.integers(1, 400),
       st.floats(0, 1), st.booleans())
def test_quotas_are_exact(groups, total, ratio, balanced):
    there = np.array(groups, np.float64).T
    synthetic = round(total * ratio)
    wanted = (total - synthetic if there[0].sum() else 0, synthetic if there[1].sum() else 0)
    counts = quotas(wanted, there, balanced)
    assert tuple(counts.sum(1)) == wanted
    assert (counts[there == 0] == 0).all() and (counts >= 0).all()
