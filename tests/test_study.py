"""Studies: groups, splits, trainings that are killed and continued, reports, and refusals in one line."""

import csv
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from synthskin import cli
from synthskin.bias import study_data, study_file
from synthskin.bias.errors import BiasError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

MASKS = """
name = "masks"
task = "segmentation"
size_px = 32
seeds = [0, 1]
bootstrap = 300
[data.one]
folder = "one"
[data.two]
folder = "two"
[arms.one]
use = [{ data = "one" }]
[arms.both]
use = [{ data = "one", n = 20, share = 0.5 }, { data = "two", share = 0.5 }]
[tests.one]
data = "one"
[tests.noisy]
data = "one"
noise = 0.1
[groups.tone]
by = "tone"
pair = ["dark", "light"]
[groups.size]
by = "size"
[training]
steps = 6
batch = 4
[primary]
metric = "dice"
test = "one"
arms = ["both", "one"]
"""
CLASSES = """
name = "classes"
task = "classification"
size_px = 32
seeds = [0, 1]
bootstrap = 300
classes = ["NV", "MEL"]
positive = ["MEL"]
threshold = "youden"
validation = "one"
[data.one]
folder = "one"
[data.two]
folder = "two"
[arms.plain]
use = [{ data = "one" }]
[arms.hooked]
use = [{ data = "one" }]
hooks = [{ name = "tone_shift", prob = 0.5 }, { name = "colour_space_shift", prob = 0.2 }]
class_weights = "balanced"
[arms.circle]
use = [{ data = "one" }]
invariance = 0.1
[tests.two]
data = "two"
part = "all"
[groups.tone]
by = "tone"
pair = ["dark", "light"]
[groups.sex]
by = "sex"
[training]
steps = 5
batch = 4
[primary]
metric = "auc"
test = "two"
arm = "plain"
of = "tone"
groups = ["dark", "light"]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    pytest.importorskip("torch")
    from study_planted import make_set

    folder = tmp_path_factory.mktemp("study")
    make_set(folder / "one", 64, 1, 32)
    make_set(folder / "two", 48, 2, 32)
    (folder / "masks.toml").write_text(MASKS)
    (folder / "classes.toml").write_text(CLASSES)
    return folder


@pytest.fixture(scope="module")
def done(home):
    run(home / "masks.toml", "--out", home / "masks")
    run(home / "classes.toml", "--out", home / "classes")
    return home


def run(*args, code=0):
    with pytest.raises(SystemExit) as left:
        cli.main(["study", *map(str, args)])
    assert left.value.code == code


def refused(capsys, *args):
    run(*args, code=2)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    return lines[-1]


def test_splits_cut_no_group_and_repeat(home):
    spec = study_file.parse_study(MASKS.replace("[training]", "[split]\nrepeats = 2\n[training]"), "x")
    data = study_data.load_pictures(spec, "one", home / "one")
    parts = [study_data.split(spec, data, r) for r in range(2)]
    for p in parts:
        sides = [{data.clusters[i] for i in side} for side in (p.train, p.validation, p.test)]
        assert not (sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2])
        assert (len(p.train), len(p.validation), len(p.test)) == (32, 13, 19)
    assert set(parts[0].test) != set(parts[1].test)
    fewer = study_data.chosen(parts[0].train, 8, data, 0, "")
    assert set(fewer) < set(study_data.chosen(parts[0].train, 16, data, 0, ""))
    with pytest.raises(BiasError, match="n = 99, but one has 32"):
        study_data.chosen(parts[0].train, 99, data, 0, "[arms.one]")


def test_given_splits_are_kept(tmp_path):
    from study_planted import make_set

    names = ("train", "train", "val", "test")
    make_set(tmp_path / "own", 32, 5, 32, split=lambda i: names[i % 4])
    spec = study_file.parse_study(MASKS, "x")
    p = study_data.split(spec, study_data.load_pictures(spec, "one", tmp_path / "own"), 0)
    assert p.test.tolist() == list(range(3, 32, 4)) and p.validation.tolist() == list(range(2, 32, 4))


# --- runs -----------------------------------------------------------------------------------------------------------

def test_what_a_study_writes(done):
    out = done / "masks"
    found = json.loads((out / "results.json").read_text())
    assert {path.name for path in out.iterdir()} == {"study.json", "runs", "results.json", "results.csv", "report.html"}
    assert found["primary"]["arm"] == "both" and found["primary"]["against"] == "one"
    assert found["primary"]["low"] <= found["primary"]["estimate"] <= found["primary"]["high"]
    assert found["tests"]["one"]["heading"] == "Made on synthetic pictures: not clinical evidence."
    assert all(c["p_holm"] is None or c["p_holm"] >= c["p"] for c in found["comparisons"])
    assert not any(c["what"] == found["primary"]["what"] for c in found["comparisons"])
    small = [e for e in found["tests"]["one"]["estimates"] if e["group"] in ("small", "middle", "large")]
    assert small and all(e["low"] is None and "too small to say anything" in e["note"] for e in small)
    with open(out / "results.csv", newline="") as handle:
        table = list(csv.DictReader(handle))
    estimates = [e for test in found["tests"].values() for e in test["estimates"]]
    assert sum(row["kind"] == "estimate" for row in table) == len(estimates)
    assert float(table[0]["estimate"]) == found["primary"]["estimate"]


def test_scores_are_those_of_the_masks(done):
    """The mean Dice of a training, computed again from its stored counts; the pooled table says the same."""
    found = json.loads((done / "masks/results.json").read_text())
    dice = []
    for seed in (0, 1):
        with np.load(done / f"masks/runs/one/seed{seed}/scores.npz") as scores:
            tp, fp, fn, tn = scores["one|counts"].T
            assert (tp + fp + fn + tn == 32 * 32).all()
            dice.append(np.mean(2 * tp / (2 * tp + fp + fn)))
    own = next(e for e in found["tests"]["one"]["estimates"] if (e["arm"], e["of"], e["metric"]) == (
        "one", None, "dice"))
    assert own["estimate"] == pytest.approx(np.mean(dice), abs=1e-9)


def test_classification(done):
    found = json.loads((done / "classes/results.json").read_text())
    fair = found["tests"]["two"]["fairness"]
    kinds = {f["kind"] for f in fair}
    assert kinds == {"range", "ratio", "equal opportunity difference", "normalised accuracy range"}
    one = next(f for f in fair if f["kind"] == "normalised accuracy range" and f["of"] == "tone")
    values = list(one["accuracy"].values())
    assert one["value"] == pytest.approx((max(values) - min(values)) / np.mean(values))
    assert one["prevalence"] == {"light": 0.5, "dark": 0.5}
    gap = next(f for f in fair if f["kind"] == "equal opportunity difference" and f["of"] == "tone")
    own = {e["group"]: e["estimate"] for e in found["tests"]["two"]["estimates"] if (
        e["arm"], e["of"], e["metric"]) == (gap["arm"], "tone", "sensitivity")}
    assert gap["estimate"] == pytest.approx(own["dark"] - own["light"])
    assert found["primary"]["what"] == "two: auc, dark less light, plain"
    assert set(found["thresholds"]) == {"plain", "hooked", "circle"}


@pytest.mark.parametrize("name", ["masks", "classes"])
def test_report_in_a_browser(done, name):
    from test_report import look_at

    path = done / name / "report.html"
    text = path.read_text()
    assert "not clinical evidence" in text and "Primary endpoint" in text and "worst cases" in text
    for fact in (json.loads((done / name / "study.json").read_text())["data"]["one"]["digest"], "torch", "seed"):
        assert fact in text
    assert str(done) not in text  # no path of this machine
    assert look_at(path) == []


def test_again_makes_nothing_and_damage_is_mended(done, capsys):
    before = (done / "masks/results.json").read_bytes()
    run(done / "masks.toml", "--out", done / "masks", "--json")
    assert json.loads(capsys.readouterr().out)["made"] == 0
    (done / "masks/runs/one/seed1/scores.npz").write_bytes(b"half a fi")
    run(done / "masks.toml", "--out", done / "masks", "--json")
    assert json.loads(capsys.readouterr().out)["made"] == 1
    assert (done / "masks/results.json").read_bytes() == before


def test_killed_and_continued(done, tmp_path):
    """kill -9 after the first training: the next call keeps it and ends with the same bytes."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "synthskin.cli", "study", str(done / "masks.toml"), "--out", str(out), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    first = out / "runs/one/seed0/done.json"
    until = time.monotonic() + 300
    while not first.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.exists() and not (out / "results.json").exists()
    marked = first.stat().st_mtime_ns
    again = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(again.stdout)["kept"] >= 1
    assert first.stat().st_mtime_ns == marked
    assert (out / "results.json").read_bytes() == (done / "masks/results.json").read_bytes()


def test_other_settings_are_refused(done, capsys):
    text = refused(capsys, done / "masks.toml", "--out", done / "masks", "--set", "training.steps=7")
    assert "was made with another 'training'" in text and "--overwrite" in text
    assert json.loads((done / "masks/study.json").read_text())["study"]["training"]["steps"] == 6
    (done / "other").mkdir()
    (done / "other/thesis.doc").write_text("x")
    assert "holds 'thesis.doc'" in refused(capsys, done / "masks.toml", "--out", done / "other")


def test_a_wrong_value_leaves_nothing_behind(home, tmp_path, capsys):
    out = tmp_path / "new/out"
    text = refused(capsys, home / "masks.toml", "--out", out, "--set", "size_px=48")
    assert "multiple of 32" in text
    text = refused(capsys, home / "masks.toml", "--out", out, "--set", "groups.size.by=foo")
    assert '"foo"' in text
    path = home / "many.toml"
    path.write_text(MASKS.replace("n = 20", "n = 999"))
    assert "n = 999, but one has 32" in refused(capsys, path, "--out", out)
    assert not out.parent.exists()


def test_given_sets_are_looked_at_before_any_render(home, tmp_path, monkeypatch, capsys):
    from synthskin import run as runs

    monkeypatch.setattr(runs, "render_run", lambda *args, **keys: pytest.fail("rendered"))
    bare = tmp_path / "bare"
    shutil.copytree(home / "two", bare)
    lines = [json.loads(line) | {"mask_status": "none", "mask_file_name": None, "bbox": [], "boxes": []}
             for line in (bare / "metadata.jsonl").read_text().splitlines()]
    (bare / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = tmp_path / "half.toml"
    recipe = '[data.one.render]\npreset = "nv"\nn = 2000\n'
    path.write_text(MASKS.replace('[data.one]\nfolder = "one"\n', recipe))
    text = refused(capsys, path, "--out", tmp_path / "out", "--data", f"two={bare}")
    assert "0 of 48 pictures can be used" in text
    path.write_text(MASKS.replace('[data.two]\nfolder = "two"\n', recipe.replace("one", "two")).replace(
        "[groups.size]", '[groups.age]\nby = "age_approx"\n[groups.size]'))
    text = refused(capsys, path, "--out", tmp_path / "out", "--data", f"one={home / 'one'}")
    assert '[groups.age] by = "age_approx": none of the 19' in text
    path.write_text(path.read_text().replace('"nv"', '"nowhere"'))
    assert "nowhere" in refused(capsys, path, "--out", tmp_path / "out", "--data", f"one={home / 'one'}")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_others_is_let_be(home, tmp_path, capsys):
    (tmp_path / "report.html").write_text("mine")
    assert "holds 'report.html'" in refused(capsys, home / "masks.toml", "--out", tmp_path, "--overwrite")
    assert (tmp_path / "report.html").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    assert "is a file" in refused(capsys, home / "masks.toml", "--out", tmp_path / "report.html/below")


def test_what_the_data_lack_is_one_line(home, tmp_path, capsys):
    from study_planted import make_set

    def with_text(text):
        path = home / "own.toml"
        path.write_text(text)
        return path

    out = tmp_path / "out"
    text = refused(capsys, with_text(MASKS.replace('folder = "two"', 'folder = "none"')), "--out", out)
    assert "none: no dataset.json there" in text
    text = refused(capsys, with_text(MASKS.replace('folder = "two"', 'needs = "photographs"')), "--out", out)
    assert "--data two=DIR (photographs)" in text
    text = refused(capsys, with_text(MASKS.replace('by = "size"', 'by = "age_approx"')), "--out", out)
    assert "none of the 19 test pictures has a value" in text
    make_set(tmp_path / "naevi", 32, 9, 32, classes=("NV",))
    text = refused(capsys, home / "classes.toml", "--out", out, "--data", f"two={tmp_path / 'naevi'}")
    assert "none of the 32 pictures is MEL" in text and "naevi" in text
    text = refused(capsys, home / "classes.toml", "--out", out, "--data", f"one={tmp_path / 'naevi'}")
    assert "MEL" in text
    text = refused(capsys, with_text(CLASSES.replace('validation = "one"', 'validation = "two"')), "--out", out)
    assert 'validation = "two"' in text and "test set 'two'" in text
    text = refused(capsys, home / "classes.toml", "--out", out, "--data", f"two={home / 'one'}")
    assert "shares its patient, lesion or group with the test set 'two'" in text
    bare = tmp_path / "bare"
    shutil.copytree(home / "two", bare)
    lines = [json.loads(line) | {"mask_status": "none", "mask_file_name": None, "bbox": [], "boxes": []}
             for line in (bare / "metadata.jsonl").read_text().splitlines()]
    (bare / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = refused(capsys, home / "masks.toml", "--out", out, "--data", f"two={bare}")
    assert "0 of 48 pictures can be used (48 with mask_status is none)" in text
    assert not (out / "results.json").exists()


def test_recipes_are_rendered_first(home, tmp_path, monkeypatch, capsys):
    """The command renders what a study asks for, shares equal recipes, and continues what was left."""
    import standin

    from synthskin import run as runs

    made = functools.partial(runs.render_run, engine_factory=standin.FakeEngine, resolve_device=standin.device)
    monkeypatch.setattr(runs, "render_run", made)
    recipe = '[data.{0}.render]\npreset = "nv"\nn = {1}\nseed = {2}\n'
    text = MASKS
    for name, n, seed in (("one", 24, 3), ("two", 6, 4)):
        text = text.replace(f'[data.{name}]\nfolder = "{name}"\n', recipe.format(name, n, seed))
    text = text.replace('[groups.size]\nby = "size"\n', "")
    text = text.replace('[groups.tone]\nby = "tone"\npair = ["dark", "light"]', "")
    text = text.replace("n = 20", "n = 8").replace("steps = 6", "steps = 1").replace("seeds = [0, 1]", "seeds = [0]")
    path = tmp_path / "renders.toml"
    path.write_text(text)
    for _ in range(2):
        run(path, "--out", tmp_path / "out", "--renders", tmp_path / "shared", "--workers", "1", "--json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["kept"] == 2
    folders = sorted(p.name for p in (tmp_path / "shared").iterdir())
    assert len(folders) == 2 and folders[0].startswith("nv-n24-s3-")


def test_many_classes_and_one_seed(home, tmp_path, capsys):
    from study_planted import make_set

    make_set(tmp_path / "many", 90, 7, 32, classes=("NV", "MEL", "BCC"))
    make_set(tmp_path / "more", 48, 8, 32, classes=("NV", "MEL", "BCC"))
    text = CLASSES.replace('["NV", "MEL"]', '["NV", "MEL", "BCC"]').replace('["MEL"]', '["MEL", "BCC"]')
    text = text[:text.index("[arms.hooked]")] + text[text.index("[tests.two]"):]
    path = tmp_path / "many.toml"
    path.write_text(text.replace("[0, 1]", "[3]").replace("steps = 5", "steps = 2"))
    run(path, "--out", tmp_path / "out", "--data", f"one={tmp_path / 'many'}", "--data", f"two={tmp_path / 'more'}")
    found = json.loads((tmp_path / "out/results.json").read_text())
    own = {e["metric"]: e for e in found["tests"]["two"]["estimates"] if e["of"] is None}
    assert 0.0 < own["brier"]["estimate"] < 2.0 and own["auc"]["low"] < own["auc"]["high"]
    assert "one training" in own["auc"]["note"] and "one training" in capsys.readouterr().out


def test_melanet_is_passed_on(capsys):
    pytest.importorskip("torch")
    run("melanet", "--help")
    assert "six arms" in " ".join(capsys.readouterr().out.split())


def test_list(capsys):
    run("--list")
    assert "ssynth" in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no second process")
def test_two_runs_into_one_folder(done, capsys):
    import fcntl

    with open(done / "masks/.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert "another run of a study" in refused(capsys, done / "masks.toml", "--out", done / "masks")
