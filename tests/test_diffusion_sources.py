"""What is learnt from and started from: test rows stay out or stay test, replaced pictures are noticed, copies are
caught, and what is left out is told."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from diffusion_sets import SIDE, DarkSegmenter, trained_base, write_set
from PIL import Image
from test_diffusion_generate import SKIN, ask

from synthskin import cli
from synthskin.conventions import HEALTHY
from synthskin.dataset.encode import read_png
from synthskin.dataset.reader import open_dataset, read_rows, validate
from synthskin.diffusion import DiffusionError, QuickstartOptions, TrainOptions, generate_set, train_base, train_lora
from synthskin.diffusion import generate as module
from synthskin.diffusion.data import load_training_set

QUICK = TrainOptions(steps=2, batch=2, rank=2, save_every=50, mask_input=True)
ENTRIES = [(("MEL", "NV")[k % 2], (2, 5)[(k // 2) % 2], SKIN) for k in range(8)]
ALL_BUT_COPIES = ("tone", "blur", "mask")


@pytest.fixture(autouse=True)
def stand_in_segmenter(monkeypatch):
    monkeypatch.setattr("synthskin.segment.load_segmenter", lambda path=None: DarkSegmenter(), raising=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(set, LoRA); copied by the tests that change them."""
    root = tmp_path_factory.mktemp("trained")
    write_set(root / "set", ENTRIES, SIDE, 7)
    train_lora([root / "set"], str(trained_base()), root / "lora", QUICK)
    return root / "set", root / "lora"


def rewrite(folder, change):
    rows = read_rows(folder)
    for row in rows:
        change(row)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def with_test_rows(folder, tested=(0,), partners=()):
    """Rows `tested` are split test; `partners` are of the group of the first of them."""
    def change(row):
        row["split"] = "test" if row["index"] in tested else "train"
        if row["index"] in partners:
            row["group_id"] = f"toy-7-{tested[0]}"
    rewrite(folder, change)
    return folder


def inverted(path):
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


# ---- splits
@pytest.mark.parametrize("way", ["from_set", "mask_from"])
def test_a_picture_is_of_its_parent_s_split_and_group(trained, tmp_path, way):
    source = with_test_rows(write_set(tmp_path / "set", ENTRIES, SIDE, 7), (0, 3, 4))
    rewrite(source, lambda row: row.update(group_id=None, lesion_id=f"l{row['index'] // 2}"))
    more = {"from_set": source} if way == "from_set" else {"mask_from": str(source), "min_iou": 0.0}
    generate_set(ask(trained[1], tmp_path / "out", 8, **more))
    assert validate(tmp_path / "out") == []
    parents = {row["file_name"]: row for row in read_rows(source)}
    rows = read_rows(tmp_path / "out")
    assert {row["split"] for row in rows} == {"train", "test"}
    for row in rows:
        parent = parents[row["parents"][0]["file_name"]]
        assert (row["split"], row["group_id"]) == (parent["split"], parent["lesion_id"])


def test_test_rows_and_their_groups_are_not_learnt_from(tmp_path, capsys):
    data = with_test_rows(write_set(tmp_path / "set", ENTRIES, SIDE, 7), (0, 5), (2, 3))
    shutil.copytree(data, tmp_path / "sibling")  # the same groups, no test row: guarded by the other set
    rewrite(tmp_path / "sibling", lambda row: row.update(split=None))
    left_out = {"split=test": 2, "a group that has split=test": 2}
    assert [row["index"] for row in load_training_set([data], SIDE).rows] == [1, 4, 6, 7]
    both = load_training_set([data, tmp_path / "sibling"], SIDE)
    assert len(both) == 8 and both.left_out == {"split=test": 2, "a group that has split=test": 6}
    assert len(load_training_set([data], SIDE, with_test=True)) == 8

    result = train_lora([data], str(trained_base()), tmp_path / "lora", QUICK)
    card = json.loads((tmp_path / "lora/synthskin_lora.json").read_text())
    assert result.left_out == card["left_out"] == left_out and card["pictures"] == 4
    quick = ["--size", str(SIDE), "--steps", "1", "--vae-steps", "1", "--batch", "2", "--width", "16"]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["diffusion", "quickstart", str(data), "--out", str(tmp_path / "base"), *quick, "--json"])
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["left_out"] == left_out
    assert "left out: 2 samples: split=test\n" in err and "left out: 2 samples: a group that has split=test" in err
    assert json.loads((tmp_path / "base/synthskin_base.json").read_text())["pictures"] == 4
    with_test_rows(data, tuple(range(8)))
    with pytest.raises(DiffusionError, match="no pictures to learn from; 8 samples with split=test are left out"):
        train_lora([data], str(trained_base()), tmp_path / "none", QUICK)


# ---- replaced pictures
@pytest.mark.parametrize("file", ["images/000001.png", "masks/000001.png"])
def test_a_training_does_not_go_on_with_other_files(tmp_path, file):
    data = write_set(tmp_path / "set", ENTRIES, SIDE, 7)
    small = QuickstartOptions(size_px=SIDE, steps=2, vae_steps=1, batch=2, width=16)

    def both():
        train_lora([data], str(trained_base()), tmp_path / "lora", QUICK)
        train_base([data], tmp_path / "base", small)

    both()
    both()
    kept, folders = (data / file).read_bytes(), (tmp_path / "base/training/folders.json").read_bytes()
    inverted(data / file)
    for train in (lambda: train_lora([data], str(trained_base()), tmp_path / "lora", QUICK),
                  lambda: train_base([data], tmp_path / "base", small)):
        with pytest.raises(DiffusionError, match=r"another training \(pictures and masks .*choose another --out"):
            train()
    assert (tmp_path / "base/training/folders.json").read_bytes() == folders
    for name in ("lora", "base"):  # begun before files were hashed: goes on
        state = tmp_path / name / "training/state.json"
        told = json.loads(state.read_text())
        del told["identity"]["pictures and masks"]
        state.write_text(json.dumps(told))
    both()
    (data / file).write_bytes(kept)


def test_the_near_duplicate_gate_wants_the_pictures_that_were_learnt(trained, tmp_path):
    data, lora = tmp_path / "set", tmp_path / "lora"
    write_set(data, ENTRIES, SIDE, 7)
    train_lora([data], str(trained_base()), lora, QUICK)
    request = {"diagnosis": "MEL=1", "skip_gates": ALL_BUT_COPIES}
    assert generate_set(ask(lora, tmp_path / "a", 1, **request)).remarks == ()
    card = lora / "synthskin_lora.json"
    old = json.loads(card.read_text())
    del old["content"]
    inverted(data / "images/000002.png")
    with pytest.raises(DiffusionError, match=r"set: holds other pictures or masks than .*lora was .*give --train-data"):
        generate_set(ask(lora, tmp_path / "b", 1, **request))
    assert not (tmp_path / "b").exists()
    generate_set(ask(lora, tmp_path / "c", 1, **request, train_data=(trained[0],)))
    generate_set(ask(lora, tmp_path / "d", 1, diagnosis="MEL=1", skip_gates=("tone", "mask", "near-duplicate", "blur")))
    card.write_text(json.dumps(old))  # a LoRA of before: loads, and it is said what is not known
    (remark,) = generate_set(ask(lora, tmp_path / "e", 1, **request)).remarks
    assert "trained before cards told the hash of the training pictures" in remark


def test_a_copy_is_caught_though_sets_of_one_preset_share_their_names(trained, tmp_path, monkeypatch):
    """Another seed of the preset: the same set hash and file names, other pictures."""
    data, lora = trained
    other = write_set(tmp_path / "other", ENTRIES, SIDE, 9)
    for name in ("dataset.json", "metadata.jsonl"):
        (other / name).write_text((other / name).read_text().replace(f"{9:016x}", f"{7:016x}"))
    assert validate(other) == []
    learnt = {row["file_name"]: read_png(data / row["file_name"]) for row in read_rows(data)}
    started = {read_png(other / row["file_name"]).tobytes(): row["file_name"] for row in read_rows(other)}

    def copies(*_, images, **__):
        return np.stack([learnt[started[image.tobytes()]] for image in images])

    monkeypatch.setattr(module, "make_pictures", copies)
    result = generate_set(ask(lora, tmp_path / "out", 2, from_set=other, skip_gates=ALL_BUT_COPIES, tries=2))
    assert result.kept == 0 and result.counts["refused"] == {"near-duplicate": 4}
    monkeypatch.setattr(module, "make_pictures", lambda *_, images, **__: np.stack(images))
    own = generate_set(ask(lora, tmp_path / "own", 2, from_set=data, skip_gates=ALL_BUT_COPIES, tries=2))
    assert own.kept == 2  # a render that was learnt from is like what is made of it


# ---- continuing
def test_another_source_of_the_same_set_hash_is_another_set(trained, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(trained[0], source)
    generate_set(ask(trained[1], tmp_path / "out", 2, from_set=source))
    shutil.copytree(source, tmp_path / "moved")
    assert generate_set(ask(trained[1], tmp_path / "out", 4, from_set=tmp_path / "moved")).kept == 4
    inverted(source / "images/000006.png")
    with pytest.raises(RuntimeError, match=r"holds a set with .*source_sha256 = .* is asked for"):
        generate_set(ask(trained[1], tmp_path / "out", 4, from_set=source))
    other = write_set(tmp_path / "other", ENTRIES, SIDE, 9)
    for name in ("dataset.json", "metadata.jsonl"):
        (other / name).write_text((other / name).read_text().replace(f"{9:016x}", f"{7:016x}"))
    with pytest.raises(RuntimeError, match=r"holds a set with .*source_sha256"):
        generate_set(ask(trained[1], tmp_path / "out", 4, from_set=other))
    rewrite(tmp_path / "out", lambda row: row["parents"][0].update(sha256="0" * 64))
    with pytest.raises(DiffusionError, match=r"000000\.png was made from another images/.* than .*moved holds now"):
        generate_set(ask(trained[1], tmp_path / "out", 5, from_set=tmp_path / "moved"))


def test_a_classifier_is_known_by_its_weights(trained, tmp_path, monkeypatch):
    class Sure:
        classes = ("MEL", "NV")

        def predict(self, images):
            return np.full((len(images), 2), 0.5)

    weights = {"here/c": "a" * 64, "there/d": "a" * 64, "there/c": "b" * 64}
    monkeypatch.setattr("synthskin.classify.load_classifier", lambda path: Sure())
    monkeypatch.setattr("synthskin.classify.card.read_card", lambda path: SimpleNamespace(
        weights_sha256=weights["/".join(path.parts[-2:])]))

    def made(n, name):
        return generate_set(ask(trained[1], tmp_path / "out", n, from_set=trained[0], classifier=tmp_path / name))

    assert made(1, "here/c").kept == 1 and made(2, "there/d").kept == 2
    with pytest.raises(RuntimeError, match=r"holds a set with .*classifier_sha256"):
        made(2, "there/c")


# ---- what is not started from
def test_redoing_a_lesion_needs_one(trained, tmp_path, capsys):
    entries = [("MEL", 2, SKIN), ("NV", 2, SKIN), ("NV", 5, SKIN), ("MEL", 5, SKIN)]
    mixed = write_set(tmp_path / "mixed", entries, SIDE, 11)
    blank = np.zeros((SIDE, SIDE), np.uint8)

    def bare(row):
        if row["index"] == 1:
            row.update(diagnosis=HEALTHY, benign_malignant=None, bbox=[], boxes=[], lesions=[])
            Image.fromarray(blank).save(mixed / row["mask_file_name"])
        if row["index"] == 2:
            row.update(boxes=[[0, 0, 4, 4], [8, 8, 4, 4]], lesions=[])
    rewrite(mixed, bare)
    several, none = "more than one lesion in the picture", "no lesion in the picture"
    lesion = {"from_set": mixed, "redo": "lesion", "strength": 0.5, "min_iou": 0.0}
    result = generate_set(ask(trained[1], tmp_path / "out", 4, **lesion))
    assert result.left_out == {several: 1, none: 1}
    assert {row["diagnosis"] for row in read_rows(tmp_path / "out")} == {"MEL"}
    skin = generate_set(ask(trained[1], tmp_path / "skin", 3, from_set=mixed, skip_gates=(*ALL_BUT_COPIES,
                                                                                          "near-duplicate")))
    assert skin.left_out == {several: 1}
    assert HEALTHY in {row["diagnosis"] for row in read_rows(tmp_path / "skin")}
    with pytest.raises(DiffusionError, match="holds no picture of healthy"):
        generate_set(ask(trained[1], tmp_path / "h", 1, from_set=mixed, redo="lesion", diagnosis="healthy=1"))
    for row in read_rows(mixed):  # a lesion that no pixel is left of
        Image.fromarray(blank).save(mixed / row["mask_file_name"])
    with pytest.raises(SystemExit) as stop:
        cli.main(["diffusion", "generate", str(trained[1]), "--from", str(mixed), "--redo", "lesion", "--out",
                  str(tmp_path / "i")])
    assert stop.value.code == 2 and not (tmp_path / "i").exists()
    assert f"none of its 4 samples can be started from: 3 have {none}, 1 have {several};" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "said"), [
    (["--explain", "ex/why", "--out", "ex"], "--explain ex/why: lies inside --out ex; choose a folder elsewhere"),
    (["--explain", "ex", "--out", "ex"], "--explain ex: lies inside --out ex"),
    (["--out", "ex", "--n", "0"], "--n 0: allowed is 1 to"),
    (["--out", "SET/ex", "--from", "SET"], "lies inside --from"),
    (["--out", "ex", "--explain", "SET/why", "--mask-from", "SET"], "lies inside --mask-from"),
])
def test_what_cannot_be_is_refused_at_once(trained, tmp_path, monkeypatch, capsys, more, said):
    monkeypatch.chdir(tmp_path)
    more = [part.replace("SET", str(trained[0])) for part in more]
    with pytest.raises(SystemExit) as stop:
        cli.main(["diffusion", "generate", str(trained[1]), "--diagnosis", "MEL=1", *more])
    assert stop.value.code == 2 and said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [] and validate(trained[0]) == []
    assert len(open_dataset(trained[0])) == 8
