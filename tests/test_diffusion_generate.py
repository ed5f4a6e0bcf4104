"""`generate`: three ways, the contract kept, counts that add up, continuation, shortfalls, refusal of bad input."""

import hashlib
import json

import numpy as np
import pytest
from diffusion_sets import SIDE, DarkSegmenter, Found, trained_base, write_set

from synthskin import cli
from synthskin.dataset.encode import read_png
from synthskin.dataset.reader import open_dataset, validate
from synthskin.diffusion import DiffusionError, GenerateRequest, TrainOptions, generate_set, train_lora
from synthskin.diffusion import generate as module

SKIN = (205, 150, 120)


@pytest.fixture(autouse=True)
def stand_in_segmenter(monkeypatch):
    monkeypatch.setattr("synthskin.segment.load_segmenter", lambda path=None: DarkSegmenter(), raising=False)


@pytest.fixture(scope="module")
def renders(tmp_path_factory):
    entries = [(("MEL", "NV")[k % 2], (2, 5)[(k // 2) % 2], SKIN) for k in range(12)]
    return write_set(tmp_path_factory.mktemp("renders") / "set", entries, SIDE, 7)


@pytest.fixture(scope="module")
def lora(renders, tmp_path_factory):
    out = tmp_path_factory.mktemp("lora") / "lora"
    train_lora([renders], str(trained_base()), out, TrainOptions(steps=4, batch=2, rank=2, mask_input=True,
                                                                save_every=50))
    return out


def ask(model, out, n, **changes):
    settings = {"strength": 0.2, "steps": 10, "guidance": 1.0, "batch": 4, "tries": 3,
                "skip_gates": ("tone", "near-duplicate", "blur"), "min_iou": 0.3} | changes
    return GenerateRequest(model, out, n, **settings)


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))} | {
        "rows": (folder / "metadata.jsonl").read_bytes()}


def test_from_renders(lora, renders, tmp_path):
    out = tmp_path / "set"
    result = generate_set(ask(lora, out, 6, from_set=renders, diagnosis="MEL=2,NV=1", tone="fst2=1,fst5=1"))
    assert result.kept == 6 == result.made and not result.shortfall
    assert validate(out) == []
    data, source = open_dataset(out), open_dataset(renders)
    rows = {row["file_name"]: position for position, row in enumerate(source.rows)}
    assert [row["diagnosis"] for row in data.rows].count("MEL") == 4
    for sample in data:
        row = sample.row
        params = json.loads(row["params"])
        parent = source.load(rows[row["parents"][0]["file_name"]])
        assert np.array_equal(sample.mask, parent.mask) and row["mask_status"] == "inherited"
        assert not np.array_equal(sample.image, parent.image)
        assert (row["diagnosis"], row["group_id"]) == (parent.row["diagnosis"], parent.row["group_id"])
        assert row["diagnosis_status"] == "inherited" and row["generator"] == "diffusion"
        assert params["asked"]["ita_class"] == parent.row["ita_class"]
        content_of_parent = (renders / row["parents"][0]["file_name"]).read_bytes()
        assert row["parents"][0]["sha256"] == hashlib.sha256(content_of_parent).hexdigest()
        assert params["gates"]["mask"] >= 0.3 and row["checkpoint"]
    counts = result.counts
    assert counts["judged"] == counts["kept"] + sum(counts["refused"].values())
    assert data.card.engine["gate mask"]["min_iou"] == 0.3
    told = json.loads((out / "dataset.json").read_text())["run"]["gates"]
    assert told == json.loads(json.dumps(counts))


def test_an_interrupted_run_goes_on_to_the_same_set(lora, renders, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    picky = {"from_set": renders, "min_iou": 0.72, "strength": 0.35, "tries": 4}  # some are refused
    first = generate_set(ask(lora, whole, 10, **picky))
    assert first.counts["refused"]
    generate_set(ask(lora, parts, 10, **picky), stop_after=lambda made: True)
    assert 0 < len(open_dataset(parts).rows) < first.kept and validate(parts) == []
    rows = (parts / "metadata.jsonl").read_bytes().splitlines(keepends=True)
    (parts / "metadata.jsonl").write_bytes(b"".join(rows[:-1]))  # as a kill between two rows would leave it
    second = generate_set(ask(lora, parts, 10, **picky))
    assert content(parts).keys() >= content(whole).keys()
    assert all(content(parts)[name] == value for name, value in content(whole).items())
    assert second.counts == first.counts
    again = generate_set(ask(lora, parts, 10, **picky))
    assert again.made == 0 and again.counts == first.counts


def test_a_larger_n_extends(lora, renders, tmp_path):
    out = tmp_path / "set"
    generate_set(ask(lora, out, 4, from_set=renders))
    before = content(out)
    result = generate_set(ask(lora, out, 6, from_set=renders))
    assert result.made == 2 and result.kept == 6
    assert all(content(out)[name] == value for name, value in before.items() if name not in ("rows", "preview.png"))
    with pytest.raises(RuntimeError, match="holds a set with"):
        generate_set(ask(lora, out, 6, from_set=renders, strength=0.5))


def test_redoing_the_lesion_alone_keeps_the_skin(lora, renders, tmp_path):
    out = tmp_path / "set"
    result = generate_set(ask(lora, out, 2, from_set=renders, redo="lesion", strength=0.5, min_iou=0.0))
    assert result.kept == 2
    for sample in open_dataset(out):
        parent = read_png(renders / sample.row["parents"][0]["file_name"])
        far = np.ones(sample.mask.shape, bool)
        rows, columns = np.nonzero(sample.mask)
        far[max(0, rows.min() - 5):rows.max() + 6, max(0, columns.min() - 5):columns.max() + 6] = False
        assert far.any() and np.abs(sample.image[far].astype(int) - parent[far]).max() <= 1
        assert np.abs(sample.image[sample.mask > 0].astype(int) - parent[sample.mask > 0]).mean() > 2


def test_masks_drawn_and_from_a_set(lora, renders, tmp_path):
    for name, mask_from in (("drawn", "drawn"), ("given", str(renders))):
        out = tmp_path / name
        result = generate_set(ask(lora, out, 3, mask_from=mask_from, diagnosis="MEL=1", min_iou=0.0))
        assert result.kept == 3 and validate(out) == []
        data = open_dataset(out)
        assert {row["mask_status"] for row in data.rows} == {"inherited"}
        assert {row["diagnosis_status"] for row in data.rows} == {"requested"}
        assert all(sample.mask.any() for sample in data)
        assert all(bool(row["parents"]) == (name == "given") for row in data.rows)


def test_the_mask_reaches_the_network(lora):
    from synthskin.diffusion.base import load_base
    from synthskin.diffusion.lora import load_lora
    from synthskin.diffusion.pipeline import make_pictures, text_pipeline

    base = load_base(str(trained_base()))
    mask = load_lora(base, lora)
    made = []
    for where in (np.zeros((SIDE, SIDE), np.uint8), np.full((SIDE, SIDE), 255, np.uint8)):
        mask.show([where], SIDE // base.vae_scale)
        made.append(make_pictures(text_pipeline(base), ["melanoma"], [1], SIDE, steps=4))
    assert not np.array_equal(*made)


def test_free_text_has_predicted_masks(lora, tmp_path):
    out = tmp_path / "set"
    result = generate_set(ask(lora, out, 4, diagnosis="MEL=1,NV=1", tries=8, min_confidence=0.1))
    assert result.kept == 4 and validate(out) == []
    for sample in open_dataset(out):
        assert sample.row["mask_status"] == "predicted" and sample.row["diagnosis_status"] == "requested"
        found = DarkSegmenter().predict([sample.image])[0].mask
        assert np.array_equal(sample.mask, found)
        assert json.loads(sample.row["params"])["mask_confidence"] == 0.9


def test_seeds_are_the_sample_s_own(lora, renders, tmp_path):
    a = generate_set(ask(lora, tmp_path / "a", 3, from_set=renders))
    b = generate_set(ask(lora, tmp_path / "b", 3, from_set=renders, seed=1))
    assert a.kept == b.kept == 3
    seeds = {json.loads(row["params"])["seed"] for out in ("a", "b") for row in open_dataset(tmp_path / out).rows}
    assert len(seeds) == 6


def test_copies_of_training_pictures_do_not_pass(lora, renders, tmp_path, monkeypatch):
    stolen = [read_png(renders / row["file_name"])[:, ::-1] for row in open_dataset(renders).rows]
    monkeypatch.setattr(module, "make_pictures", lambda pipe, prompts, *rest, **named: np.stack(stolen[:len(prompts)]))
    request = ask(lora, tmp_path / "set", 2, diagnosis="MEL=1", skip_gates=("tone", "blur", "mask"), tries=2)
    result = generate_set(request)
    assert result.kept == 0 and result.counts["refused"] == {"near-duplicate": 4}
    assert "gate 'near-duplicate' refused 4" in result.shortfall


class BlindSegmenter:
    def predict(self, images):
        return [Found(np.zeros(image.shape[:2], np.uint8), 0.1) for image in images]


def test_a_class_no_gate_lets_through_exits_with_3(lora, renders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("synthskin.segment.load_segmenter", lambda path=None: BlindSegmenter())
    with pytest.raises(SystemExit) as stop:
        cli.main(["diffusion", "generate", str(lora), "--out", str(tmp_path / "set"), "-n", "3", "--from", str(renders),
                  "--steps", "5", "--tries", "2", "--batch", "4", "--skip-gate", "tone", "--skip-gate",
                  "near-duplicate", "--skip-gate", "blur", "--explain", str(tmp_path / "why"), "--json"])
    assert stop.value.code == 3
    out, err = capsys.readouterr()
    told = json.loads(out.splitlines()[-1])
    assert told["kept"] == 0 and told["counts"]["refused"] == {"mask": 6}
    assert "gate 'mask' refused" in err and "0 of 3 pictures passed" in err
    assert len(list((tmp_path / "why/thumbs").glob("*-mask.png"))) == 6
    assert validate(tmp_path / "set") == []


@pytest.mark.parametrize(("changes", "message"), [
    ({"diagnosis": "MEL=1,BCC=1"}, "holds no picture of BCC"),
    ({"tone": "fst6=1"}, "holds no picture of fst6"),
    ({"diagnosis": "XYZ=1"}, "--diagnosis 'XYZ': allowed are"),
    ({"strength": 0.0}, "--strength 0: allowed is"),
    ({"redo": "hair"}, "--redo hair: allowed are"),
    ({"skip_gates": ("colour",)}, "--skip-gate colour"),
    ({"size_px": 50}, "--size 50"),
])
def test_bad_input_is_one_line(lora, renders, tmp_path, changes, message):
    with pytest.raises(DiffusionError) as error:
        generate_set(ask(lora, tmp_path / "set", 2, from_set=renders, **changes))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


def test_a_lora_without_mask_input_takes_no_mask(renders, tmp_path):
    with pytest.raises(DiffusionError, match="takes no mask"):
        generate_set(ask(trained_base(), tmp_path / "set", 2, mask_from="drawn", diagnosis="MEL=1"))
    with pytest.raises(DiffusionError, match="holds no LoRA"):
        generate_set(ask(renders, tmp_path / "set", 2, diagnosis="MEL=1"))
    with pytest.raises(DiffusionError, match="near-duplicate gate needs"):
        (tmp_path / "moved").mkdir()
        import shutil

        shutil.copytree(trained_base(), tmp_path / "moved/base", ignore=shutil.ignore_patterns("training"))
        generate_set(ask(tmp_path / "moved/base", tmp_path / "set", 2, diagnosis="MEL=1", skip_gates=()))
