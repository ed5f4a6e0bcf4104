"""The audit of a model: a planted cause is exposed, others are not blamed, what cannot be said is not said."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from audit_models import SIDE, PaintEngine, colour_model, dark_model, violet_model
from standin import device

from synthskin import audit as jobs
from synthskin import cli
from synthskin.bias import audit as analysis
from synthskin.bias.audit_causes import BY_NAME, CAUSES, LINKS, of_settings, pick
from synthskin.bias.audit_pictures import KEPT, Judged
from synthskin.bias.audit_preprocess import parse_preprocess
from synthskin.bias.errors import BiasError
from synthskin.dataset.reader import read_rows, validate
from synthskin.preset import load_preset
from synthskin.record import check_value
from synthskin.run import EngineOptions, RunRequest, render_run
from synthskin.variation import VariationError

CAUSES_ASKED = "ink,melanin,hair,contrast,exposure"


@pytest.fixture
def painted(monkeypatch):
    """Renders are painted, in no time."""
    monkeypatch.setattr(jobs, "render_run", lambda request, factory, resolve, progress: render_run(
        replace(request, workers=1), PaintEngine, device, progress))
    check_requests = jobs.check_requests
    monkeypatch.setattr(jobs, "check_requests", lambda requests, resolve: check_requests(requests, device))


@pytest.fixture
def preprocess(tmp_path):
    path = tmp_path / "in.toml"
    path.write_text(f'size = {SIDE}\nactivation = "softmax"\nclasses = ["NV", "MEL"]\nthreshold = 0.5\n')
    return path


def command(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(["audit", *map(str, arguments)])
    return caught.value.code


def results(out):
    return json.loads((out / "results.json").read_text())


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def dp(data):
    return {own["cause"]: own["dp"]["estimate"] for own in data["causes"]}


def test_the_planted_cause_is_exposed(painted, preprocess, tmp_path, capsys):
    out = tmp_path / "out"
    model = violet_model(tmp_path / "m.onnx")
    assert command(model, "--preprocess", preprocess, "--out", out, "--causes", CAUSES_ASKED, "--lesions", 12,
                   "--n", 30) == 0
    data = results(out)
    found = dp(data)
    assert data["verdict"] == "says" and data["unswept"]["auc"]["estimate"] > 0.9
    assert data["ranking"][0] == "ink" and found["ink"] >= 0.2
    others = set(found) - {"ink", *data["causes"][0]["linked"]}
    assert len(others) == 4 and all(found["ink"] >= 3 * found[name] for name in others)
    ink = data["causes"][0]
    assert ink["verdict"] == "strong" and ink["flips"]["estimate"] > 0.3 and ink["dp"]["p_holm"] < 0.01
    assert ink["dp"]["low"] <= ink["dp"]["estimate"] <= ink["dp"]["high"]
    assert ink["dp_by_truth"]["negative"] > ink["dp_by_truth"]["positive"]  # melanoma is called melanoma already
    melanin = next(own for own in data["causes"] if own["cause"] == "melanin")
    assert set(melanin["linked"]) == {"contrast", "exposure"} and melanin["moved"]["ita_deg"][0] > 50
    assert melanin["verdict"] in ("small", "unclear")
    printed = capsys.readouterr().out
    assert printed.startswith("follows ") and "ink" in printed.splitlines()[3] and "strong" in printed
    for cause in ("ink", "melanin", "contrast"):
        assert validate(out / "renders" / cause) == []
    page = (out / "report.html").read_text()
    assert "The model leans on ink" in page and "data:image/png;base64" in page and "not clinical" in page.lower()
    assert not re.search(r"""(src|href)="(?!data:|#)""", page) and "<script" not in page
    table = read_csv(out / "results.csv")
    assert table[0]["cause"] == "ink" and float(table[0]["dp"]) == pytest.approx(found["ink"], abs=1e-6)
    told = read_csv(out / "predictions.csv")
    assert len(told) == 30 + 12 * (2 + 5 + 3 + 4 + 5)
    rows = [row for row in told if row["set"] == "ink"]
    with_ink = np.mean([float(row["p"]) for row in rows if row["value"] == "1"])
    without = np.mean([float(row["p"]) for row in rows if row["value"] == "0"])
    assert found["ink"] == pytest.approx(abs(with_ink - without), abs=1e-5)


def test_a_model_of_darkness_is_exposed_on_melanin_and_its_link_is_named(painted, preprocess, tmp_path):
    out = tmp_path / "out"
    asked = [dark_model(tmp_path / "m.onnx"), "--preprocess", preprocess, "--out", out, "--causes",
             "melanin,ink,hair,tone", "--lesions", 12, "--n", 30]
    command(*asked, "--set", "skin.melanosome_fraction=0.02")
    # tone cannot follow a fixed skin: refused before anything is rendered
    assert not out.exists()
    command(*asked)
    data = results(out)
    assert set(data["ranking"][:2]) == {"melanin", "tone"} and min(dp(data)[c] for c in ("melanin", "tone")) > 0.2
    assert "tone" in next(own for own in data["causes"] if own["cause"] == "melanin")["linked"]
    assert dp(data)["hair"] < 0.05
    assert "are linked: skin tone is mostly melanin" in (out / "report.html").read_text()


def test_a_model_that_cannot_tell_its_classes_gets_cannot_say(painted, preprocess, tmp_path, capsys):
    out = tmp_path / "out"
    blind = colour_model(tmp_path / "m.onnx", (0.0, 0.0, 0.0))
    assert command(blind, "--preprocess", preprocess, "--out", out, "--causes", "ink", "--lesions", 10, "--n", 20) == 3
    data = results(out)
    assert data["verdict"] == "cannot say" and "AUC on 20 unswept renders is 0.50, under 0.7" in data["reason"]
    assert "cannot say: the model's AUC" in capsys.readouterr().err
    page = (out / "report.html").read_text()
    assert "Cannot say:" in page and "leans on" not in page
    assert command(dark_model(tmp_path / "d.onnx"), "--preprocess", preprocess, "--out", tmp_path / "one", "--causes",
                   "ink", "--lesions", 10, "--n", 5, "--diagnosis", "NV=1") == 3
    assert "hold no two classes" in results(tmp_path / "one")["reason"]


def test_few_lesions_give_no_interval_and_no_verdict(painted, preprocess, tmp_path):
    out = tmp_path / "out"
    command(violet_model(tmp_path / "m.onnx"), "--preprocess", preprocess, "--out", out, "--causes", "ink", "--lesions",
            3, "--n", 20)
    ink = results(out)["causes"][0]
    assert ink["verdict"] == "too few lesions" and ink["dp"]["low"] is None and "at least 10" in ink["dp"]["note"]


def test_the_same_command_continues_and_another_model_is_refused(painted, preprocess, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    model = violet_model(tmp_path / "m.onnx")
    asked = ["--preprocess", preprocess, "--out", out, "--causes", "ink", "--lesions", 4, "--n", 12]
    command(model, *asked)
    first = (out / "results.json").read_bytes()
    kept = (out / KEPT).read_bytes()
    assert kept.count(b"\n") == len(set(kept.splitlines()))
    (out / KEPT).write_bytes(kept[: len(kept) // 2])  # killed in the middle of a line
    (out / "results.json").unlink()
    command(model, *asked)
    assert (out / "results.json").read_bytes() == first and (out / KEPT).read_bytes() == kept
    with monkeypatch.context() as patch:  # asks about one picture, to see whether the model works, and nothing again
        patch.setattr("synthskin.bias.audit_model.Model.predict", lambda self, images: np.zeros(len(images)))
        command(model, *asked)
    assert (out / "results.json").read_bytes() == first
    capsys.readouterr()
    assert command(dark_model(tmp_path / "d.onnx"), *asked, "--renders", out / "renders") == 2
    assert "another model" in capsys.readouterr().err and (out / "results.json").read_bytes() == first
    assert command(dark_model(tmp_path / "d.onnx"), *asked[:-6], "--renders", out / "renders", "--overwrite") == 0
    assert results(out)["model"]["name"] == "d.onnx"


def test_sets_that_are_rendered_already(painted, preprocess, tmp_path, capsys):
    out = tmp_path / "out"
    model = violet_model(tmp_path / "m.onnx")
    command(model, "--preprocess", preprocess, "--out", out, "--causes", "ink,hair", "--lesions", 10, "--n", 12)
    whole = results(out)
    renders = out / "renders"
    capsys.readouterr()
    assert command(model, "--preprocess", preprocess, "--out", tmp_path / "b", "--renders", renders, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dp"] == dp(whole) and told["verdict"] == "says"
    assert hashes(results(tmp_path / "b")) == hashes(whole)
    # one sweep alone: its reference pictures stand for the unswept ones
    assert command(model, "--preprocess", preprocess, "--out", tmp_path / "c", "--renders", renders / "ink") == 0
    assert "no plain set came" in results(tmp_path / "c")["notes"][0]
    assert results(tmp_path / "c")["unswept"]["n"] == 10
    for folders, part in (((renders / "plain",), "no set varies a cause"), ((tmp_path,), "holds no data set"),
                          ((renders / "ink", renders), "two sets vary it"), ((tmp_path / "no",), "is not a folder")):
        flags = [text for folder in folders for text in ("--renders", folder)]
        assert command(model, "--preprocess", preprocess, "--out", tmp_path / "d", *flags) == 2
        error = capsys.readouterr().err
        assert part in error.splitlines()[-1]


@pytest.mark.parametrize("name", ["notes.txt", "report.html", "results.json", "predictions.jsonl", "renders"])
@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_a_folder_of_others_is_let_be(name, options, preprocess, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("synthskin.bias.audit_model.load_model", lambda *args: pytest.fail("loaded the model"))
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text('{"mine": 1}\n')
    assert command("m.onnx", "--preprocess", preprocess, "--out", out, *options) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"holds '{name}', which is no part of an audit" in said
    assert (out / name).read_text() == '{"mine": 1}\n' and len(list(out.iterdir())) == 1
    assert command("m.onnx", "--preprocess", preprocess, "--out", out / name / "below") == 2
    assert "is a file" in capsys.readouterr().err


def hashes(data):
    return {entry["set"]: entry["pictures_sha256"] for entry in data["sets"]}


@pytest.mark.parametrize(("arguments", "part"), [
    (["--causes", "ink,magic"], "unknown cause 'magic'"),
    (["--causes", "ink,ink"], "a cause comes twice"),
    (["--lesions", "1"], "--lesions 1"),
    (["--n", "1"], "--n 1"),
    (["--cause", "skin.oxygenation"], "write a field and its values"),
    (["--cause", "skin.oxygen=1,2"], "unknown field"),
    (["--cause", "skin.oxygenation=0.1,7"], "allowed is 0.0 to 1.0"),
    (["--positive", "DF"], "the model's classes are NV, MEL"),
    (["--preset", "nowhere"], "nowhere"),
    (["--set", "skin.melanosome_fraction=0.1"], "cause tone"),
    (["--diagnosis", "healthy=1"], "cause contrast"),
    (["--model-device", "tpu"], "allowed are auto, cpu, cuda"),
])
def test_bad_input_is_one_line_and_nothing_is_written(arguments, part, painted, preprocess, tmp_path, capsys):
    out = tmp_path / "out"
    assert command(dark_model(tmp_path / "m.onnx"), "--preprocess", preprocess, "--out", out, *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and part in error
    assert not out.exists()


def test_own_causes(painted, preprocess, tmp_path):
    out = tmp_path / "out"
    assert command(violet_model(tmp_path / "m.onnx"), "--preprocess", preprocess, "--out", out, "--lesions", 10, "--n",
                   20, "--cause", "skin.oxygenation=0.4,0.8", "--cause", "hair.count=0,20", "--causes", "ink,hair") == 0
    data = results(out)
    assert sorted(data["ranking"]) == ["hair", "ink", "oxygenation"]
    assert next(own for own in data["causes"] if own["cause"] == "hair")["values"] == [0, 20]


def test_each_cause_moves_its_own_fields_alone():
    preset = load_preset("base").with_diagnosis("NV=1,MEL=1")
    for job, cause in zip(jobs.make_jobs(preset, CAUSES, 2, 2)[1:], CAUSES, strict=True):
        for group in range(2):
            k = len(cause.values)
            records = [job.plan.record(job.preset, 0, k * group + v).to_dict() for v in range(k)]
            moved = {f"{part}.{name}" for record in records for part, values in record.items()
                     if isinstance(values, dict) for name, value in values.items() if value != records[0][part][name]}
            assert moved, cause.name
            if cause.kind == "tones":
                assert all(key.startswith("skin.") for key in moved)
            else:
                assert moved <= set(cause.fields), cause.name
        assert job.n == 2 * len(cause.values)


def test_causes_are_sound():
    assert len(BY_NAME) == len(CAUSES)
    for cause in CAUSES:
        assert 2 <= len(set(cause.values)) == len(cause.values) and 0 <= cause.reference < len(cause.values)
        if cause.kind == "field":
            assert [check_value(cause.fields[0], value) for value in cause.values] == list(cause.values)
    assert all(a in BY_NAME and b in BY_NAME and a != b for a, b in LINKS)
    assert pick(None) == CAUSES and [c.name for c in pick("ink, tone")] == ["ink", "tone"]
    for job, cause in zip(jobs.make_jobs(load_preset("nv"), CAUSES, 2, 2)[1:], CAUSES, strict=True):
        assert of_settings(json.loads(json.dumps(job.plan.settings()))) == cause
    follow = of_settings({"kind": "followup", "field": "lesion.growth_time", "values": [0.4, 1.0]})
    assert (follow.name, follow.values) == ("growth_time", (0.4, 1.0))
    for bad in ({}, {"kind": "sweep"}, {"kind": "scale", "name": "x", "values": [1, 2]}, {"kind": ["sweep"]}):
        with pytest.raises(BiasError, match="an audit reads"):
            of_settings(bad)
    with pytest.raises(VariationError, match="leave it out with --causes"):
        jobs.make_jobs(load_preset("healthy"), pick("contrast"), 2, 2)


def test_default_diagnoses_follow_the_model():
    def weights(**keys):
        given = parse_preprocess(json.dumps({"size": 32, "activation": "softmax", **keys}), "f", True)
        return dict(part.split("=") for part in jobs.diagnoses_of(given).split(","))

    assert weights(classes=["nv", "mel"]) == {"MEL": "1", "NV": "1"}
    seven = weights(classes=["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"], positive="MEL")
    assert seven["MEL"] == "1" and seven["NV"] == "0.166667" and len(seven) == 7
    kinds = weights(classes=["benign", "malignant"])
    assert set(kinds) == {"MEL", "BCC", "NV", "BKL", "DF", "VASC"} and kinds["MEL"] == "0.5"
    own = weights(classes=["no", "yes"], positive_diagnoses=["MEL"])
    assert own["MEL"] == "1" and set(own) == {"MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"}


# --- the arithmetic ---------------------------------------------------------------------------------------------------

def judged(tmp_path, table, diagnoses):
    """A set of lesions x values with these probabilities."""
    rows = [{"index": g * len(line) + v, "file_name": f"images/{g}-{v}.png", "group_id": f"g{g}",
             "diagnosis": diagnoses[g], "contrast": 10.0 + v, "ita_deg": 40.0, "ita_image_deg": None,
             "visible_delta_e": 0.5}
            for g, line in enumerate(table) for v in range(len(line))]
    return Judged(tmp_path, tuple(rows), np.array(table, float).ravel(), tuple("0" * 64 for _ in rows))


def test_numbers_by_hand(tmp_path):
    cause = replace(BY_NAME["hair"], values=(0, 10, 30))
    table = [[0.1, 0.2, 0.6]] * 6 + [[0.7, 0.6, 0.4]] * 5 + [[0.3, 0.3, 0.4]]
    told = judged(tmp_path, table, ["NV"] * 6 + ["MEL"] * 6)
    plain = judged(tmp_path, [[p] for p in [0.1] * 9 + [0.6] * 1 + [0.9] * 9 + [0.2]], ["NV"] * 10 + ["MEL"] * 10)
    found = analysis.analyse(plain, [(cause, told)], {"NV": False, "MEL": True}, 0.5)
    effect = found.effects[0]
    means = np.mean(table, 0)
    assert [p.estimate for p in effect.curve] == pytest.approx(means)
    assert effect.pair == (int(means.argmin()), int(means.argmax()))
    assert effect.size == pytest.approx(means.max() - means.min())
    assert effect.swing == pytest.approx((6 * 0.5 + 5 * 0.3 + 0.1) / 12)
    assert effect.flips.estimate == pytest.approx(11 / 12) and effect.flips_at == pytest.approx((0, 0, 11 / 12))
    assert effect.by_truth == pytest.approx({"negative": 0.5, "positive": (5 * -0.3 + 0.1) / 6})
    assert effect.moved == {"contrast": (10.0, 11.0, 12.0)}
    # 10 x 10 pairs: 9 x 9 + 9 (0.9 over 0.6) + 9 (0.2 over 0.1) are in order
    assert found.auc.estimate == pytest.approx(0.99) and found.cannot_say == ""
    assert (found.n, found.positive, found.sensitivity, found.specificity) == (20, 10, 0.9, 0.9)
    assert [flip.probabilities for flip in effect.flipped] == [(0.1, 0.6)] * 3
    with pytest.raises(BiasError, match="no cause"):
        analysis.analyse(plain, [], {"NV": False, "MEL": True}, 0.5)


def test_lesions_that_lack_a_picture_are_left_out(tmp_path):
    told = judged(tmp_path, [[0.1, 0.9]] * 12, ["NV", "MEL"] * 6)
    short = told.only([k for k in range(24) if k != 5])
    effect = analysis.analyse(None, [(BY_NAME["ink"], short)], {"NV": False, "MEL": True}, 0.5).effects[0]
    assert (effect.lesions, effect.left_out) == (11, 1)
    with pytest.raises(BiasError, match="no lesion has its pictures at all 2 values"):
        analysis.analyse(None, [(BY_NAME["ink"], told.only(range(0, 24, 2)))], {"NV": False, "MEL": True}, 0.5)


def test_diagnoses_outside_the_models_classes_are_left_out_of_the_auc(tmp_path):
    told = judged(tmp_path, [[0.1, 0.9]] * 10, ["NV"] * 10)
    plain = judged(tmp_path, [[0.1]] * 10 + [[0.9]] * 10 + [[0.5]] * 3, ["NV"] * 10 + ["MEL"] * 10 + ["DF"] * 3)
    found = analysis.analyse(plain, [(BY_NAME["ink"], told)], {"NV": False, "MEL": True}, 0.5)
    assert found.n == 20 and "3 of 23" in found.notes[0] and found.effects[0].by_truth.keys() == {"negative"}


def test_chance_is_not_called_strong(tmp_path):
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(40):
        told = judged(tmp_path, rng.beta(2, 2, (14, 2)), ["NV", "MEL"] * 7)
        verdicts.append(analysis.analyse(None, [(BY_NAME["ink"], told)], {"NV": False, "MEL": True}, 0.5)
                        .effects[0].verdict)
    assert sum(verdict in ("strong", "present") for verdict in verdicts) <= 6  # 5 % of 40 and its chance


def test_rows_of_a_real_render(tmp_path, preprocess):
    """A few renders by the engine itself: ink alone differs, and light that is kept gives the same bytes."""
    out = tmp_path / "out"
    assert command(violet_model(tmp_path / "m.onnx"), "--preprocess", preprocess, "--out", out, "--causes", "ink",
                   "--lesions", 2, "--n", 2, "--size", 48, "--spp", 3, "--workers", 1) in (0, 3)
    assert validate(out / "renders/ink") == []
    rows = read_rows(out / "renders/ink")
    assert [("ink" in row["artefacts"]) for row in rows] == [False, True, False, True]
    assert results(out)["causes"][0]["lesions"] == 2
    preset = load_preset("base").with_diagnosis("MEL=1,NV=1")
    job = jobs.make_jobs(preset, pick("ink"), 2, 2)[1]
    again = replace(preset, overrides=job.preset.overrides)
    render_run(RunRequest(again, 4, 0, tmp_path / "plain", EngineOptions(48, 3), plan=job.plan))
    for name in (row["file_name"] for row in rows):  # no memory of the last lesion here
        assert (tmp_path / "plain" / name).read_bytes() == (out / "renders/ink" / name).read_bytes()


class Counting:
    """Has the two methods whose answers are kept."""

    def __init__(self):
        self.calls = []

    def scene(self, record):
        self.calls.append("scene")
        return [np.zeros(1000)]

    def linear(self, record, scene):
        self.calls.append("linear")
        return {"clean": np.zeros(1000)}


def test_pictures_that_differ_after_the_light_alone_share_it():
    preset = load_preset("base").with_diagnosis("NV=1")
    for names, walks in (("ink,ruler,exposure,device,blur", 2), ("hair", 6), ("melanin", 10), ("light", 6)):
        engine = jobs.reusing(Counting())
        for job in jobs.make_jobs(preset, pick(names), 2, 2)[1:]:
            for index in range(job.n):
                record = job.plan.record(job.preset, 0, index)
                engine.linear(record, engine.scene(record))
        assert engine.calls.count("linear") == engine.calls.count("scene") == walks, names
    small = jobs.reusing(Counting(), most_bytes=20_000)  # room for one lesion: those before are forgotten
    records = [jobs.draw(preset, 0, k) for k in range(3)]
    for record in (*records, *records[::-1]):
        small.linear(record, small.scene(record))
    assert small.calls.count("linear") == 5
    assert jobs.reusing(3) == 3
