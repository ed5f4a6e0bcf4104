"""What an audit claims: false alarms of causes of many values, perfect AUCs, models that it does not judge."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from synthskin import cli
from synthskin.bias.audit import analyse
from synthskin.bias.audit_causes import BY_NAME, of_field, of_settings
from synthskin.bias.audit_model import Model
from synthskin.bias.audit_page import page_of
from synthskin.bias.audit_pictures import Judge, Judged
from synthskin.bias.audit_preprocess import parse_preprocess
from synthskin.bias.audit_results import Settings, to_dict
from synthskin.bias.errors import BiasError
from synthskin.dataset.format import DatasetError, empty_row, encode_row, parse_row

TRUTH = {"MEL": True, "NV": False}


def judged(probabilities):
    """A set of (lesions, values) probabilities; every second lesion is a melanoma."""
    lesions, k = np.shape(probabilities)
    rows = tuple({"index": g * k + v, "group_id": f"g{g}", "file_name": f"images/{g * k + v:06d}.png",
                  "diagnosis": "MEL" if g % 2 else "NV", "contrast": None, "ita_deg": None, "ita_image_deg": None,
                  "visible_delta_e": None} for g in range(lesions) for v in range(k))
    return Judged(Path("/nowhere"), rows, np.clip(np.ravel(probabilities), 0, 1), ("",) * len(rows))


def plain(n=80, right=0.8, seed=0):
    truth = np.arange(n) % 2
    noise = np.random.default_rng(seed).normal(0, 0.12, n)
    return judged((np.where(truth, right, 1 - right) + noise)[:, None])


def varied(name, rng, effect=None, lesions=24, sd=0.1):
    """Probabilities of a cause that does nothing but add noise, and `effect` at each value."""
    k = len(BY_NAME[name].values)
    own = np.where(np.arange(lesions) % 2, 0.6, 0.4)[:, None] + rng.normal(0, sd, (lesions, k))
    return BY_NAME[name], judged(own + np.zeros(k) if effect is None else own + effect)


def test_noise_alone_makes_no_cause_of_many_values():
    rng = np.random.default_rng(1)
    for name in ("tone", "device", "ink"):  # six values, six, two; 0.385, 0.40, 0.035 when the pair was taken as given
        p = [analyse(plain(), [varied(name, rng)], TRUTH, 0.5).effects[0].dp.p for _ in range(120)]
        assert stats.binomtest(sum(value < 0.05 for value in p), 120, 0.05).pvalue > 0.01, name


def test_the_interval_of_a_picked_pair_agrees_with_its_p_and_holds_the_truth():
    rng = np.random.default_rng(2)
    effect, held = np.array([0, 0.03, 0.06, 0.09, 0.12, 0.15]), 0
    for _ in range(60):
        dp = analyse(plain(), [varied("tone", rng, effect)], TRUTH, 0.5).effects[0].dp
        held += dp.low <= 0.15 <= dp.high
        assert (dp.low > 0) == (dp.p < 0.05) or abs(dp.p - 0.05) < 0.005
    assert held >= 54
    sure = analyse(plain(), [varied("tone", rng, 3 * effect)], TRUTH, 0.5).effects[0]
    assert sure.verdict == "strong" and sure.dp.p < 0.002


@example(4, 8)
@given(st.integers(2, 30), st.integers(2, 30))
def test_a_perfect_auc_is_no_certainty(positive, negative):
    own = np.r_[np.full(positive, 0.9), np.full(negative, 0.1)]
    base = judged(own[:, None])
    rows = tuple(row | {"diagnosis": "MEL" if k < positive else "NV"} for k, row in enumerate(base.rows))
    base = Judged(base.directory, rows, base.probabilities, base.hashes)
    found = analyse(base, [varied("ink", np.random.default_rng(0))], TRUTH, 0.5).auc
    if positive + negative < 10 or min(positive, negative) < 4:
        assert not math.isfinite(found.low) or found.low < 0.6
    else:
        assert found.high == found.estimate == 1
        assert found.low == pytest.approx(0.025 ** (1 / min(positive, negative)))


def audited(base, *causes):
    found = analyse(base, causes, TRUTH, 0.5)
    preprocess = parse_preprocess('size = 8\nactivation = "none"\nclasses = ["NV", "MEL"]', "in", False)
    model = Model("m", "onnx", "0" * 64, "CPU", preprocess, lambda x: x)
    return found, to_dict(found, Settings(model, base, causes, 0, {}))


def test_of_a_model_that_is_not_judged_nothing_is_called_strong(monkeypatch):
    rng = np.random.default_rng(3)
    cause = varied("ink", rng, np.array([0, 0.4]))
    found, data = audited(plain(right=0.3), cause)
    assert found.cannot_say and found.effects[0].verdict == "strong"
    assert data["causes"][0]["verdict"] == "cannot say"
    found, data = audited(plain(right=0.05), cause)
    assert "the other way round" in data["reason"]
    found, data = audited(plain(), cause)
    assert data["causes"][0]["verdict"] == "strong"


def test_the_page_does_not_say_that_nothing_moves_where_something_does(monkeypatch):
    monkeypatch.setattr("synthskin.bias.audit_page._read", lambda path: np.zeros((8, 8, 3), np.uint8))
    rng = np.random.default_rng(4)
    few = varied("exposure", rng, np.array([0, 0.1, 0.2, 0.3, 0.4]), lesions=8)
    found, data = audited(plain(), few)
    html = page_of(found, data).html()
    assert "No cause moves the mean prediction" not in html and "too few lesions; more --lesions tell" in html
    found, data = audited(plain(), varied("exposure", rng))
    assert "No cause moves the mean prediction by 0.2 or more" in page_of(found, data).html()


def test_a_field_is_a_cause_of_its_own_name_and_role():
    assert of_field("skin.dryness") is BY_NAME["dryness"] and of_field("lesion.erythema").role == "sign"
    assert of_field("camera.glare").name == "camera_glare" and of_field("artefacts.glare").name == "glare"
    assert of_field("clinical.light").name == "clinical_light" and of_field("skin.oxygenation").name == "oxygenation"
    for kind, field in (("followup", "lesion.growth_time"), ("sweep", "lesion.epidermal_melanin")):
        assert of_settings({"kind": kind, "field": field, "values": [0.1, 0.2]}).role == "sign"
    assert of_settings({"kind": "sweep", "field": "skin.oxygenation", "values": [0.4, 0.6]}).role == "nuisance"


def test_causes_asked_for_twice_are_refused(tmp_path, capsys):
    (tmp_path / "in.toml").write_text('size = 32\nactivation = "none"\nclasses = ["NV", "MEL"]\n')
    (tmp_path / "m.py").write_text("import numpy as np\ndef f(x):\n    return np.full((len(x), 1), 0.5)\n")
    with pytest.raises(SystemExit) as caught:
        cli.main(["audit", f"{tmp_path}/m.py:f", "--trust-code", "--preprocess", str(tmp_path / "in.toml"), "--out",
                  str(tmp_path / "out"), "--cause", "skin.oxygenation=0.4,0.6", "--cause", "skin.oxygenation=0.5,0.6"])
    assert caught.value.code == 2 and "cause oxygenation: is asked for twice" in capsys.readouterr().err


def test_another_positive_class_turns_the_positive_diagnoses_too():
    text = 'size = 8\nactivation = "none"\nclasses = ["fine", "bad"]\npositive_diagnoses = ["MEL", "BCC"]\n'
    given_ = parse_preprocess(text, "in", False)
    turned = given_.with_positive("fine")
    assert turned.truth() == {name: not own for name, own in given_.truth().items()}
    three = parse_preprocess(text.replace('"fine"', '"fine", "odd"') + 'positive = "bad"', "in", False)
    with pytest.raises(BiasError, match="change positive and positive_diagnoses there"):
        three.with_positive("odd")


@pytest.mark.parametrize("activation, outputs, done", [
    ("sigmoid", [[0.2], [0.9]], True), ("sigmoid", [[-2.0], [3.0]], False), ("none", [[0.2], [0.9]], False),
    ("softmax", [[0.2, 0.8], [0.5, 0.5]], True), ("softmax", [[0.2, 0.1], [0.5, 0.5]], False),
])
def test_probabilities_that_are_squashed_again_are_remarked(activation, outputs, done):
    preprocess = parse_preprocess(f'size = 8\nactivation = "{activation}"\nclasses = ["NV", "MEL"]', "in", False)
    model = Model("m", "onnx", "0" * 64, "CPU", preprocess, lambda x: np.array(outputs))
    model.predict([np.zeros((8, 8, 3), np.uint8)] * 2)
    assert bool(model.doubt) == done
    assert not done or 'say activation = "none"' in model.doubt


def test_a_function_with_other_weights_gets_no_old_answers(tmp_path):
    from gan_sets import write_set

    from synthskin.dataset.reader import open_dataset
    from synthskin.progress import make_progress

    data = open_dataset(write_set(tmp_path / "set", [("NV", 2), ("MEL", 3)] * 12))
    preprocess = parse_preprocess('size = 32\nactivation = "none"\nclasses = ["NV", "MEL"]', "in", False)

    def ask(weight):
        model = Model("m.py:f", "python", "0" * 64, "its own", preprocess,
                      lambda x: np.clip(weight * x.reshape(len(x), -1).mean(1), 0, 1))
        with Judge(model, tmp_path / "out") as judge:
            return judge.judge(data, make_progress(verb="asking"))

    first = ask(1.0)
    kept = (tmp_path / "out/predictions.jsonl").read_bytes()
    assert np.array_equal(ask(1.0).probabilities, first.probabilities)
    assert (tmp_path / "out/predictions.jsonl").read_bytes() == kept
    with pytest.raises(BiasError, match="answers otherwise than before about the same pictures"):
        ask(0.5)
    assert (tmp_path / "out/predictions.jsonl").read_bytes() == kept


def test_half_a_character_in_a_row_is_refused():
    row = empty_row() | {"file_name": "images/000000.png", "mask_status": "none", "index": 0, "seed": 0, "preset": "p",
                         "set_hash": "0" * 16, "generator": "real", "diagnosis_status": "unknown", "params": "{}",
                         "caption": "a caption"}
    line = encode_row(row)
    with pytest.raises(DatasetError, match="half a character"):
        parse_row(line.replace('"preset": "p"', '"preset": "\\ud800"'))
    assert parse_row(line.replace('"preset": "p"', '"preset": "\\ud83d\\ude00"'))["preset"] == "\U0001f600"
