"""What a study says of its score tables: bounds of differences, the family of Holm, groups that lack a class."""

import math

import numpy as np
import pytest
from test_study import CLASSES, MASKS
from test_study_groups import rows

from synthskin.bias import groups, study_data, study_file
from synthskin.bias.errors import BiasError
from synthskin.bias.study_report import write_report
from synthskin.bias.study_results import Judge, check_primary, results_of, sentence
from synthskin.bias.study_scores import make_table

NO_SIZE = MASKS.replace('[groups.size]\nby = "size"\n', "")


def data_of(n, labels=None, **columns):
    """A set of n pictures of 8 pixels, each of its own lesion."""
    table = rows(n, group_id=[f"g{i}" for i in range(n)], **columns)
    masks = np.zeros((n, 8, 8), bool)
    masks[:, 2:6, 2:6] = True
    nan = np.full(n, np.nan)
    return study_data.Pictures("one", "x", tuple(table), np.zeros((n, 3, 8, 8), np.uint8), masks,
                               np.full(n, -1) if labels is None else np.asarray(labels), {"hair": nan, "size": nan},
                               tuple(groups.clusters_of(table)), tuple(map(str, range(n))), "d", {})


def masks_scored(rng, n, seeds):
    """Scores of masks about a Dice of 0.7."""
    runs = []
    for _ in range(seeds):
        dice = np.clip(0.7 + rng.normal(0, 0.1, n), 0.01, 0.99)
        tp = np.full(n, 1_000_000)
        counts = np.stack([tp, np.round(2 * tp * (1 - dice) / dice).astype(int), 0 * tp, tp], 1)
        runs.append({"positions": np.arange(n), "counts": counts, "brier": 1 - dice, "bins": np.ones((n, 15, 3))})
    return runs


def classes_scored(spec, data, at=(0.3, 0.3), test="two"):
    """A table in which the trainings of arm k separate the classes by 0, then by 2 `at[k]`."""
    rng = np.random.default_rng(0)
    found = {}
    for k, arm in enumerate(spec.arms):
        found[arm] = []
        for seed in range(len(spec.seeds)):
            p = np.clip(0.5 + (seed * 2 * at[k % len(at)]) * (data.labels - 0.5) + rng.normal(0, 0.1, len(data)), 0, 1)
            found[arm].append({"positions": np.arange(len(data)),
                               "probabilities": np.stack([1 - p, p], 1).astype(np.float32)})
    return make_table(spec, test, data, found, {arm: [0.5] * len(spec.seeds) for arm in spec.arms})


def test_no_difference_leaves_what_is_possible():
    """Two trainings that differ much: Student's t of one degree of freedom would go to 3 and beyond."""
    spec = study_file.parse_study(CLASSES, "x")
    data = data_of(60, [0, 1] * 30, ita_class=[2, 2, 5, 5] * 15, sex=["male", "female"] * 30)
    judge = Judge(spec, classes_scored(spec, data, (0.4, 0.1)))
    found = judge.compare("auc", ("hooked", "plain"))
    interval = found["interval"]
    assert (interval.low, interval.high) == (-1.0, 1.0) and interval.p > 0.05 and math.isnan(interval.detectable)
    assert "no possible difference would have been found with 80 % power" in interval.note
    said = sentence({"what": found["what"], **{k: getattr(interval, k) for k in (
        "estimate", "low", "high", "p", "detectable", "note")}})
    assert said.endswith("no possible difference would have been found with 80 % power). No difference is shown.")
    gap = judge.compare("auc", ("plain",), "tone", ("dark", "light"))["interval"]
    change = judge.compare("auc", ("hooked", "plain"), "tone", ("dark", "light"))["interval"]
    assert -1 <= gap.low <= gap.high <= 1 and -2 <= change.low <= change.high <= 2
    assert judge.top("brier") == 1.0
    many = spec.model_copy(update={"classes": ["NV", "MEL", "BCC"]})
    assert Judge(many, judge.table).top("brier") == 2.0  # the sum over the classes of squares


@pytest.mark.parametrize(("declared", "members"), [
    ('arms = ["one", "both"]', 4), ('arms = ["both", "one"]', 4),
    ('arm = "one"\nof = "tone"\ngroups = ["light", "dark"]', 4),
    ('arms = ["one", "both"]\nof = "tone"\ngroups = ["light", "dark"]', 4),
    ('arms = ["one", "both"]\nof = "tone"\ngroups = ["dark"]', 5)])  # asked by no other comparison
def test_the_primary_endpoint_is_none_of_the_others_whichever_way_it_is_told(declared, members):
    """One test set: arms, the gap in either arm and its change are four questions, less the primary one; the second
    test set is taken off."""
    text = NO_SIZE.replace('[tests.noisy]\ndata = "one"\nnoise = 0.1\n', "")
    spec = study_file.parse_study(text.replace('arms = ["both", "one"]', declared), "x")
    data = data_of(60, ita_class=[2, 5] * 30)
    rng = np.random.default_rng(1)
    table = make_table(spec, "one", data, {arm: masks_scored(rng, 60, 2) for arm in spec.arms},
                       {"one": [0.5] * 2, "both": [0.5] * 2})
    found = results_of(spec, {"one": data}, {"one": table}, [])
    assert found["family"] == len(found["comparisons"]) == members - 1
    assert "question" not in found["primary"]


def by_class(text=CLASSES):
    return text.replace('[groups.sex]\nby = "sex"', '[groups.kind]\nby = "class"')


def test_by_class_what_needs_both_classes_is_left_out():
    """A group of one class has no AUC: neither compared nor drawn; its accuracy is compared if asked."""
    spec = study_file.parse_study(by_class(), "x")
    data = data_of(60, [0, 1] * 30, diagnosis=["NV", "MEL"] * 30, ita_class=[2, 2, 5, 5] * 15)
    judge = Judge(spec, classes_scored(spec, data))
    assert judge.metrics == {"tone": ("auc", "balanced_accuracy"), "kind": ()}
    assert {c["of"] for c in judge.comparisons()} == {None, "tone"}
    assert not any(f["of"] == "kind" and f["metric"] in ("auc", "balanced_accuracy") for f in judge.fairness())
    spec = study_file.parse_study(by_class('metrics = ["auc", "accuracy"]\n' + CLASSES), "x")
    judge = Judge(spec, classes_scored(spec, data))
    found = [c for c in judge.comparisons() if c["of"] == "kind"]
    assert {c["metric"] for c in found} == {"accuracy"} and all(c["interval"].p >= 0 for c in found if not c["against"])


@pytest.mark.parametrize(("old", "new", "says"), [
    ('of = "tone"\ngroups = ["dark", "light"]', 'of = "kind"\ngroups = ["MEL", "NV"]', "such a group holds one class"),
    ('arm = "plain"\nof = "tone"\ngroups = ["dark", "light"]',
     'arms = ["plain", "hooked"]\nof = "kind"\ngroups = ["MEL"]', "give accuracy"),
])
def test_a_primary_endpoint_without_a_value_is_refused(old, new, says):
    with pytest.raises(BiasError, match=says):
        study_file.parse_study(by_class().replace(old, new), "x")
    study_file.parse_study(by_class().replace(old, new).replace('metric = "auc"', 'metric = "accuracy"'), "x")


def asking(spec, **keys):
    return spec.model_copy(update={"primary": spec.primary.model_copy(update=keys)})


def test_a_side_that_is_not_there_is_refused():
    """The rows show before any training that a group of the primary endpoint has no positive, or is not there."""
    spec = study_file.parse_study(CLASSES, "x")
    grouping = groups.make_grouping("tone", "tone", rows(6, ita_class=[2, 2, 5, 5, 5, None]), {})
    check_primary(spec, grouping, np.array([1, 0, 1, 0, 0, 0], bool))
    for positive, metric, says in (((1, 0, 0, 0, 0, 1), "auc", "none of the 3 pictures of 'two' in 'dark' is MEL"),
                                   ((1, 1, 1, 0, 0, 0), "auc", "each of the 2 pictures of 'two' in 'light' is MEL"),
                                   ((0, 0, 1, 0, 0, 0), "sensitivity", "none of the 2"),
                                   ((0, 0, 1, 1, 1, 0), "specificity", "each of the 3")):
        own = asking(spec, metric=metric)
        with pytest.raises(BiasError, match=says):
            check_primary(own, grouping, np.array(positive, bool))
        check_primary(asking(spec, metric="accuracy"), grouping, np.array(positive, bool))
    with pytest.raises(BiasError, match="is in 'grey'; there are light, dark"):
        check_primary(asking(spec, groups=["dark", "grey"]), grouping)


@pytest.mark.parametrize("few", [False, True])
def test_a_report_where_nothing_has_a_value(tmp_path, few):
    """By class, and with too few of a class: every bar and the trend over the arms say that they have no value."""
    text = by_class().replace('invariance = 0.1', 'invariance = 0.1\nx = 2.0').replace(
        'class_weights = "balanced"', 'class_weights = "balanced"\nx = 1.0').replace(
        '[arms.plain]', '[arms.plain]\nx = 0.0')
    spec = study_file.parse_study(text, "x")
    labels = [1] * 4 + [0] * 56 if few else [0, 1] * 30
    data = data_of(60, labels, diagnosis=["MEL" if x else "NV" for x in labels], ita_class=[2, 2, 5, 5] * 15)
    tables = {"two": classes_scored(spec, data)}
    results = results_of(spec, {"two": data}, tables, [])
    page = write_report(spec, {"two": data}, tables, {}, results, tmp_path / "report.html").read_text()
    assert "No group holds both positive and negative cases: AUC and balanced accuracy cannot be given" in page
    assert ("no value of AUC is known" in page) == few and (">no value<" in page) == few
