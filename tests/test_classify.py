"""The classifier: what it learns, that a killed training ends in the same weights, that broken input is one line."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from interrupt import InterruptAt
from PIL import Image

from synthskin import cli
from synthskin.classify import ClassifyError, TrainOptions, evaluate, load_classifier, train_classifier
from synthskin.classify.augment import augment
from synthskin.classify.card import CARD, WEIGHTS, parse_card
from synthskin.classify.metrics import calibration_error, figures, fit_temperature
from synthskin.classify.pictures import labelled, open_sets, training_split
from synthskin.dataset.card import Card
from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import Sample, empty_row
from synthskin.dataset.writer import DatasetWriter

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parent.parent
COLOURS = {"MEL": (70, 45, 40), "NV": (150, 100, 80), "VASC": (180, 40, 60)}
QUICK = TrainOptions(steps=60, batch=12, size_px=32, save_every=20, learning_rate=3e-3, device="cpu")


def make_set(folder, n, seed=0, split=None, side=40, group_of=lambda index: index, skin_of=None, colours=COLOURS):
    """Skin with a disc whose colour is its class; `split`, `group_of` and `skin_of` are functions of the index."""
    card = Card("physics", "discs", f"{seed:016x}", seed, n, side, 10.0, {"spp": 1}, ["CC0-1.0", "CC-BY-4.0"])
    rng = np.random.Generator(np.random.Philox(key=seed))
    y, x = np.mgrid[:side, :side]
    with DatasetWriter(folder, card, 'name = "discs"\n') as writer:
        for index in range(n):
            name = list(colours)[index % len(colours)]
            skin = rng.integers(170, 230, 3) if skin_of is None else skin_of(index) + rng.integers(-15, 15, 3)
            disc = (x - rng.uniform(15, 25)) ** 2 + (y - rng.uniform(15, 25)) ** 2 < rng.uniform(8, 13) ** 2
            image = np.where(disc[..., None], colours[name], skin) + rng.normal(0, 12, (side, side, 3))
            mask = np.where(disc, 255, 0).astype(np.uint8)
            row = empty_row() | {
                "file_name": f"images/{index:06d}.png", "mask_file_name": f"masks/{index:06d}.png", "index": index,
                "seed": seed, "preset": "discs", "set_hash": f"{seed:016x}", "generator": "physics",
                "mask_status": "exact", "diagnosis": name, "diagnosis_status": "by_construction",
                "ita_class": 1 + index % 2, "tone_source": "model", "group_id": f"g{seed}-{group_of(index)}",
                "split": None if split is None else split(index), "caption": "A disc.", "params": "{}",
            }
            writer.write(encode_sample(Sample(row, np.clip(image, 0, 255).astype(np.uint8), mask)))
    return folder


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("sets") / "discs", 72)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("sets") / "others", 36, seed=1)


@pytest.fixture(scope="module")
def model(discs, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "discs"
    train_classifier(discs, out, QUICK)
    return out


def command(*args):
    """As typed, in this process; leaves with 0."""
    with pytest.raises(SystemExit) as left:
        cli.main(["classifier", *map(str, args)])
    assert left.value.code == 0


def refused(capsys, *args):
    """The one line of an error that leaves with 2."""
    with pytest.raises(SystemExit) as left:
        cli.main(["classifier", *map(str, args)])
    lines = capsys.readouterr().err.strip().splitlines()
    assert left.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def test_learns_and_judges_unseen_pictures(model, others, discs):
    classifier = load_classifier(model)
    assert classifier.classes == ("MEL", "NV", "VASC")
    found = evaluate(classifier, others)
    assert found.overall["balanced_accuracy"] >= 0.9 and found.trained_on == 0
    assert sorted(found.by_ita_class) == ["1", "2"]
    assert sum(own["n"] for own in found.by_ita_class.values()) == 36 == np.sum(found.overall["confusion"])
    assert evaluate(classifier, discs).trained_on == 72  # every group of it was trained or validated on


def test_predict_is_calibrated_and_takes_any_size(model, others):
    classifier = load_classifier(model)
    images = [np.asarray(Image.open(others / f"images/{k:06d}.png")) for k in range(9)]
    found = classifier.predict(images, batch=4)
    assert found.shape == (9, 3) and found.dtype == np.float32 and np.allclose(found.sum(axis=1), 1, atol=1e-6)
    assert np.allclose(found, classifier.predict(images, batch=16), atol=1e-5)
    logits = classifier.logits(images).double().numpy() / classifier.card.temperature
    assert np.allclose(found, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), atol=1e-6)
    larger = [np.kron(image, np.ones((3, 3, 1), np.uint8)) for image in images]
    wide = [np.concatenate([image[:, :20], image, image[:, 20:]], axis=1) for image in larger]
    assert (classifier.predict(larger).argmax(1) == found.argmax(1)).all()
    assert classifier.predict(wide).shape == (9, 3)
    assert classifier.predict([]).shape == (0, 3)
    for bad in (np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ClassifyError, match="image 0"):
            classifier.predict([bad])


def test_card_says_what_it_was_made_of(model, discs):
    card = load_classifier(model).card
    assert card.licences == ("CC0-1.0", "CC-BY-4.0") and card.steps == 60
    assert sum(card.data["training"].values()) + sum(card.data["validation"].values()) == 72
    assert card.data["sets"][0]["preset"] == "discs" and len(card.data["hash"]) == 64
    assert card.metrics["validation"]["n"] == sum(card.data["validation"].values())
    assert [entry["step"] for entry in card.history] == [20, 40, 60]
    assert not (model / "training").exists() and {p.name for p in model.iterdir()} == {CARD, WEIGHTS}


WAITS = """
import sys, time
from synthskin import cli, progress
class Waits(progress.PlainProgress):
    def step(self, done):
        time.sleep(600 if done > 40 else 0)
progress.PlainProgress = Waits
cli.main(sys.argv[1:])
"""


def test_killed_training_ends_in_the_same_weights(model, discs, tmp_path):
    """kill -9 at some moment after the first saved state (never past step 41: there it waits); the same command again.
    """
    out = tmp_path / "killed"
    typed = ["classifier", "train", str(discs), "--out", str(out),
             "--steps", "60", "--batch", "12", "--size", "32", "--save-every", "20", "--learning-rate", "3e-3",
             "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([sys.executable, "-c", WAITS, *typed], cwd=ROOT, env=environment,
                             stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 120
        while not (out / "training/state.json").exists():
            assert child.poll() is None and time.monotonic() < limit
            time.sleep(0.005)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    step = json.loads((out / "training/state.json").read_text())["step"]
    assert step in (20, 40) and not (out / CARD).exists()
    again = subprocess.run([sys.executable, "-m", "synthskin.cli", *typed], cwd=ROOT, env=environment,
                           capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert f"{step} kept from before" in again.stderr
    assert (out / WEIGHTS).read_bytes() == (model / WEIGHTS).read_bytes()
    assert json.loads((out / CARD).read_text()) == json.loads((model / CARD).read_text())


def test_interrupt_keeps_the_step(discs, model, tmp_path):
    """Ctrl-C between saved states: the step under way is finished and kept, and the weights end up the same."""
    with pytest.raises(KeyboardInterrupt):
        train_classifier(discs, tmp_path / "m", QUICK, InterruptAt(27))
    assert json.loads((tmp_path / "m/training/state.json").read_text())["step"] == 27
    train_classifier(discs, tmp_path / "m", QUICK)
    assert (tmp_path / "m" / WEIGHTS).read_bytes() == (model / WEIGHTS).read_bytes()


def test_same_command_on_a_finished_model_does_nothing(model, discs, capsys):
    before = (model / WEIGHTS).stat().st_mtime_ns
    assert train_classifier(discs, model, QUICK).made == 0
    assert (model / WEIGHTS).stat().st_mtime_ns == before
    line = refused(capsys, "train", discs, "--out", model, "--steps", "61", "--batch", "12", "--size", "32")
    assert "steps 60 there, 61 here" in line


def test_split_keeps_groups_whole_and_never_sees_test(tmp_path):
    folder = make_set(tmp_path / "s", 60, split=lambda k: "test" if k % 10 == 0 else None, group_of=lambda k: k // 2)
    data = labelled(open_sets([folder]), "diagnosis")
    train, validation = training_split(data, 0.2, 0)
    groups = [{data.entries[k].group for k in part} for part in (train, validation)]
    tested = {entry.group for entry in data.entries if entry.row["split"] == "test"}
    assert not groups[0] & groups[1] and not (groups[0] | groups[1]) & tested and len(tested) == 6
    assert len(train) + len(validation) == 60 - 12 and len(validation) >= 6
    assert training_split(data, 0.2, 0) == (train, validation) != training_split(data, 0.2, 1)
    given = make_set(tmp_path / "g", 30, split=lambda k: "val" if k % 5 == 0 else "train")
    data = labelled(open_sets([given]), "diagnosis")
    assert training_split(data, 0.2, 0)[1] == list(range(0, 30, 5))


def test_losses_weights_and_labels(discs, tmp_path):
    """Focal loss with balanced weights learns too; a two-class label has a threshold."""
    options = TrainOptions(steps=40, batch=12, size_px=32, save_every=40, learning_rate=3e-3, loss="focal",
                           class_weights="balanced", classes=("NV", "MEL"), device="cpu")
    result = train_classifier([discs], tmp_path / "m", options)
    assert result.card.classes == ("NV", "MEL") and result.card.threshold == 0.5
    assert result.card.metrics["validation"]["balanced_accuracy"] >= 0.75
    assert result.card.data["left_out"] == {"diagnosis VASC": 24}


def test_densenet_trains_a_step(discs, tmp_path):
    options = TrainOptions(network="densenet121", steps=1, batch=4, size_px=32, save_every=1, device="cpu")
    train_classifier(discs, tmp_path / "m", options)
    assert load_classifier(tmp_path / "m").predict([np.zeros((32, 32, 3), np.uint8)]).shape == (1, 3)


def test_onnx_gives_the_same_probabilities(model, others, tmp_path, capsys):
    import onnxruntime

    command("export", model, "--onnx", tmp_path / "c.onnx")
    how = json.loads((tmp_path / "c.json").read_text())
    classifier = load_classifier(model)
    images = np.stack([np.asarray(Image.open(others / f"images/{k:06d}.png"))[4:36, 4:36] for k in range(5)])
    scaled = ((images * how["scale"] - how["mean"]) / how["std"]).transpose(0, 3, 1, 2).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "c.onnx"), providers=["CPUExecutionProvider"])
    logits = session.run([how["output"]], {how["input"]: scaled})[0]
    found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    capsys.readouterr()
    assert how["activation"] == "softmax" and how["classes"] == list(classifier.classes)
    assert np.abs(found - classifier.predict(list(images))).max() < 1e-4
    assert "ends in .onnx" in refused(capsys, "export", model, "--onnx", tmp_path / "c.pt")


def test_commands(model, others, tmp_path, capsys):
    out = tmp_path / "p.csv"
    command("predict", model, others, "--out", out, "--json")
    assert json.loads(capsys.readouterr().out)["pictures"] == 36
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["label"] for row in rows[:3]] == ["MEL", "NV", "VASC"]
    right = np.mean([row["label"] == row["predicted"] for row in rows])
    for row in rows:
        p = {name: float(row[f"p_{name}"]) for name in ("MEL", "NV", "VASC")}
        assert abs(sum(p.values()) - 1) < 1e-4 and max(p, key=p.get) == row["predicted"]
    command("evaluate", model, others, "--out", tmp_path / "e.json")
    text = capsys.readouterr().out
    found = json.loads((tmp_path / "e.json").read_text())
    assert "balanced accuracy" in text and found["overall"]["accuracy"] == pytest.approx(right, abs=1e-4)
    pictures = tmp_path / "photos/deeper"
    pictures.mkdir(parents=True)
    Image.open(others / "images/000002.png").save(pictures / "a.jpg", quality=95)
    command("predict", model, tmp_path / "photos", "--out", out)
    assert [(r["file_name"], r["label"], r["predicted"]) for r in csv.DictReader(out.read_text().splitlines())] == [
        ("deeper/a.jpg", "", "VASC")]


def test_bad_input_is_one_line(model, discs, tmp_path, capsys):
    new = tmp_path / "new"
    for args, part in (
        (("train", tmp_path / "none", "--out", new), "no dataset.json"),
        (("train", discs, "--out", new, "--network", "vit"), "allowed are densenet121, small"),
        (("train", discs, "--out", new, "--steps", "0"), "whole number from 1"),
        (("train", discs, "--out", new, "--learning-rate", "nan"), "learning_rate=nan"),
        (("train", discs, "--out", new, "--logit-pairing", "-1"), "logit_pairing=-1.0: a number from 0 to 100"),
        (("train", discs, "--out", new, "--logit-pairing", "1", "--batch", "7"), "an even number"),
        (("train", discs, "--out", tmp_path / "alone", "--logit-pairing", "1"), "no two pictures of a group"),
        (("train", discs, "--out", new, "--classes", "MEL,XXX"), "class 'XXX'"),
        (("train", discs, "--out", new, "--classes", "MEL,DF"), "class DF: no picture"),
        (("train", discs, "--out", new, "--label", "benign_malignant"), "needs two classes"),
        (("predict", model, tmp_path, "--out", tmp_path / "a.csv"), "no pictures there"),
        (("predict", tmp_path / "none", discs, "--out", tmp_path / "a.csv"), "is not a folder"),
        (("evaluate", model, discs, "--split", "test"), "no row has a split; leave --split test out"),
        (("evaluate", model, discs, "--out", tmp_path / "no/e.json"), "a folder that exists"),
    ):
        assert part in refused(capsys, *args)
    assert not new.exists() and not (tmp_path / "a.csv").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    assert "'letter.txt'" in refused(capsys, "train", discs, "--out", tmp_path / "mine", "--overwrite")
    assert (tmp_path / "mine/letter.txt").exists()


def test_damaged_models_are_refused(model, tmp_path):
    def copy(name):
        folder = tmp_path / name
        folder.mkdir()
        for part in (CARD, WEIGHTS):
            (folder / part).write_bytes((model / part).read_bytes())
        return folder

    other = copy("cut")
    (other / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes()[:-7])
    with pytest.raises(ClassifyError, match="SHA-256 differs"):
        load_classifier(other)
    other = copy("network")
    card = json.loads((other / CARD).read_text())
    (other / CARD).write_text(json.dumps(card | {"network": "densenet121"}))
    with pytest.raises(ClassifyError, match="does not fit the network"):
        load_classifier(other)
    (other / CARD).write_text('{"a": NaN}')
    with pytest.raises(ClassifyError, match="is damaged"):
        load_classifier(other)
    (other / CARD).unlink()
    (other / "training").mkdir()
    with pytest.raises(ClassifyError, match="training is not finished"):
        load_classifier(other)


GOOD = {"network": "small", "classes": ["MEL", "NV"], "label": "diagnosis", "size_px": 64, "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2], "temperature": 1.1, "threshold": 0.5, "weights_sha256": "0" * 64, "steps": 5,
        "licences": ["CC0-1.0"], "attribution": ["x"], "data": {}, "metrics": {}, "options": {}, "history": [],
        "synthskin_version": "1", "intended_use": "tests", "format": 1}
ANY = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                   lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
                   max_leaves=4)


@given(st.sampled_from(sorted(GOOD)), ANY)
@example("data", {"": math.nan})
@settings(max_examples=300)
def test_any_card_is_read_or_refused(key, value):
    assert parse_card(GOOD).classes == ("MEL", "NV")
    try:
        card = parse_card(GOOD | {key: value})
    except ClassifyError as error:
        assert key in str(error)
        return
    assert parse_card(json.loads(json.dumps(card.to_dict()))) == card


def test_figures_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 2])
    p = np.array([[.8, .1, .1], [.6, .3, .1], [.2, .7, .1], [.1, .8, .1], [.3, .4, .3], [.5, .3, .2]])
    found = figures(labels, p, ("A", "B", "C"))
    assert found["confusion"] == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert found["recall"] == {"A": 0.6667, "B": 1.0, "C": 0.0} and found["balanced_accuracy"] == 0.5556
    assert found["precision"] == {"A": 0.6667, "B": 0.6667, "C": None}
    assert found["accuracy"] == 0.6667 and found["auc"]["C"] == 0.8
    sure = np.array([[1.0, 0.0]] * 4)
    assert calibration_error(np.array([0, 0, 1, 1]), sure) == pytest.approx(0.5)
    nothing = figures(np.array([0, 0]), p[:2, :2], ("A", "B"))
    assert nothing["recall"]["B"] is None and nothing["auc"] == {"A": None, "B": None}


def test_temperature_undoes_what_made_logits_too_sure():
    """Labels drawn from softmax(z) and logits 3 z: the temperature is 3."""
    rng = np.random.Generator(np.random.Philox(key=4))
    z = rng.normal(0, 1.5, (20_000, 4))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    labels = (rng.random((len(z), 1)) > p.cumsum(axis=1)).sum(axis=1)
    assert fit_temperature(3 * z, labels) == pytest.approx(3.0, rel=0.03)


def test_augmentation_follows_its_generator_and_keeps_the_range():
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    one, two, three = (augment(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, three)
    assert one.shape == images.shape and one.min() >= 0 and one.max() <= 1
    flat = augment(torch.full((8, 3, 16, 16), 0.5), torch.Generator().manual_seed(3))
    assert flat.std(dim=(2, 3)).max() < 1e-5  # moving and colouring an even picture leaves it even
    assert (flat.mean(dim=(1, 2, 3)) - 0.5).abs().max() < 0.11
