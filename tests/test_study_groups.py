"""Groups of pictures in a study, and that its statistics see what was planted."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_study import MASKS

from synthskin.bias import groups, study_data, study_file
from synthskin.bias.errors import BiasError
from synthskin.dataset.format import empty_row


def rows(n, **columns):
    return [empty_row() | {"file_name": f"images/{i:06d}.png"} | {k: v[i] for k, v in columns.items()}
            for i in range(n)]


def test_groups():
    nothing = {"hair": [0.0, 0.01, 0.2, 0.3], "size": [0.1, 0.2, 0.3, float("nan")]}
    made = functools.partial(groups.make_grouping, "g", measured=nothing)
    tone = made(by="tone", rows=rows(4, ita_class=[1, 3, 6, None]))
    assert tone.labels == ("light", "light", "dark", None) and tone.pair == ("dark", "light") and tone.unknown == 1
    assert made(by="hair", rows=rows(4)).labels == ("no hair", "some hair", "dense hair", "dense hair")
    assert made(by="size", rows=rows(4)).labels == ("small", "middle", "large", None)
    assert made(by="contrast", rows=rows(4, contrast=[1.0, 2.0, 8.0, 9.0]), edges=[5.0]).labels == (
        "under 5", "under 5", "5 and over", "5 and over")
    assert made(by="hair", rows=rows(4), quantiles=3).names == ("least hair", "middle hair", "most hair")
    ink = made(by="artefact:ink", rows=rows(4, artefacts=[["ink"], [], ["ruler"], []]))
    assert ink.labels[:2] == ("with ink", "without ink")
    device = made(by="device", rows=rows(4, params=['{"device": {"profile": "a"}}', "{}", "{}", "{}"],
                                         dermoscopic_type=[None, "b", "b", None]))
    assert device.labels == ("a", "b", "b", None)
    assert made(by="class", rows=rows(4, diagnosis=["NV", "MEL", "NV", None])).names == ("MEL", "NV")
    assert made(by="params:a.b", rows=rows(4, params=['{"a": {"b": "x"}}', '{"a": {"b": "y"}}', "{", "{}"])).names == (
        "x", "y")
    unlabelled = {"ita": [-40.0, -40.0, float("nan"), 50.0]}  # measured; the row's own class goes before it
    seen = groups.make_grouping("g", "tone", rows(4, ita_class=[1, None, None, None]), unlabelled)
    assert seen.labels == ("light", "dark", None, "light")
    for keys, says in (({"by": "tone", "rows": rows(4)}, "none of the 4 test pictures has a value"),
                       ({"by": "sex", "rows": rows(4, sex=["male"] * 4)}, "all test pictures are in one group"),
                       ({"by": "tones", "rows": rows(4)}, "did you mean 'tone'"),
                       ({"by": "tone", "rows": rows(4, ita_class=[1, 2, 5, 6]), "pair": ["dark", "lite"]}, "'light'")):
        with pytest.raises(BiasError, match=says):
            made(**keys)


@given(st.lists(st.tuples(*[st.sampled_from([None, "a", "b", "c"])] * 3), min_size=1, max_size=12))
def test_clusters(ids):
    """Cases that share any id share a cluster; the partition is the finest that does so."""
    table = rows(len(ids), patient_id=[x[0] for x in ids], lesion_id=[x[1] for x in ids], group_id=[x[2] for x in ids])
    found = groups.clusters_of(table)
    together = np.eye(len(ids), dtype=bool)
    for i, x in enumerate(ids):
        for j, y in enumerate(ids):
            together[i, j] |= any(a is not None and a == b for a, b in zip(x, y, strict=True))
    for _ in ids:
        together = together @ together
    assert [[a == b for b in found] for a in found] == together.tolist()


def test_statistics_see_a_planted_gap():
    """The whole chain on a made-up table: scores that are 0.2 lower on dark skin are found to be."""
    from synthskin.bias.study_results import Judge
    from synthskin.bias.study_scores import make_table

    spec = study_file.parse_study(MASKS.replace('[groups.size]\nby = "size"\n', "").replace(
        'arms = ["both", "one"]', 'arm = "one"\nof = "tone"\ngroups = ["dark", "light"]'), "x")
    rng = np.random.default_rng(0)
    n = 80
    table = rows(n, ita_class=[2, 5] * (n // 2), group_id=[f"g{i}" for i in range(n)])
    masks = np.zeros((n, 8, 8), bool)
    masks[:, 2:6, 2:6] = True
    nan = np.full(n, np.nan)
    data = study_data.Pictures("one", "x", tuple(table), np.zeros((n, 3, 8, 8), np.uint8), masks, np.full(n, -1),
                               {"hair": nan, "size": nan}, tuple(groups.clusters_of(table)),
                               tuple(map(str, range(n))), "d", {})

    def scores(drop):
        dice = np.clip(0.8 - drop * (np.arange(n) % 2) + rng.normal(0, 0.1, n), 0.01, 0.99)
        tp = np.full(n, 1_000_000)
        fp = np.round(2 * tp * (1 - dice) / dice).astype(int)
        counts = np.stack([tp, fp, 0 * tp, tp], 1)
        return {"positions": np.arange(n), "counts": counts, "brier": 1 - dice, "bins": np.ones((n, 15, 3))}

    found = {"one": [scores(0.2) for _ in range(2)], "both": [scores(0.0) for _ in range(2)]}
    made = make_table(spec, "one", data, found, {"one": [0.5, 0.5], "both": [0.5, 0.5]})
    judge = Judge(spec, made)
    primary = judge.primary()["interval"]
    assert primary.low < -0.2 < primary.high and primary.p < 1e-6
    other = next(c for c in judge.comparisons() if c["arm"] == "both" and c["group"])["interval"]
    assert other.low < 0 < other.high
