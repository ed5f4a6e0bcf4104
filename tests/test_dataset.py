import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from standin import FakeEngine, device

from synthskin.captions import LESIONS
from synthskin.dataset.card import parse_card
from synthskin.dataset.encode import npz_bytes, png_bytes, read_npz, read_png
from synthskin.dataset.format import ROW_KEYS, DatasetError, check_row, empty_row, encode_row, parse_row
from synthskin.dataset.preview import write_preview
from synthskin.dataset.reader import open_dataset, read_rows, safe_path, validate
from synthskin.facts import Facts
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunRequest, render_run


def make(out, n=4, preset="fst6", sets=("hair.count=3",), size=32, maps=False, **more):
    request = RunRequest(load_preset(preset).with_sets(sets), n, more.pop("seed", 0), out,
                         EngineOptions(size, 2, maps=maps), **more)
    return render_run(request, FakeEngine, device)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("set") / "a"
    make(out, n=8, maps=True)
    return out


@pytest.fixture
def folder(made, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(made, tmp_path / "copy")


def test_layout_and_rows(made):
    assert validate(made) == []
    names = {p.name for p in made.iterdir()}
    assert names == {"README.md", "dataset.json", "preset.toml", "metadata.jsonl", "images", "masks", "hair",
                     "attributes", "maps", "preview.png"}
    rows = read_rows(made)
    assert [row["index"] for row in rows] == list(range(8))
    for row in rows:
        assert list(row) == list(ROW_KEYS)
        assert json.loads(row["params"])["skin"]["melanosome_fraction"] > 0
        assert row["benign_malignant"] == "benign" and row["tone_source"] == "model"
        if row["diagnosis"] == "healthy":
            assert row["bbox"] == [] and row["lesion_id"] is None and row["attributes"] == []
        else:
            assert row["bbox"] == [8, 8, 16, 8] and row["attributes"] == ["network"]
    assert len({row["group_id"] for row in rows}) == 8
    card, run = parse_card((made / "dataset.json").read_text())
    assert (card.n, card.size_px, card.seed, card.engine["device"]) == (8, 32, 0, "llvm")
    assert run["device"] == "stand-in"
    preset = load_preset(made / "preset.toml")
    assert preset.hash == card.set_hash == rows[0]["set_hash"]


def test_samples_load_and_pictures_say_they_are_synthetic(made):
    data = open_dataset(made)
    assert len(data) == 8
    for sample in data:
        assert sample.image.shape == (32, 32, 3) and sample.mask.shape == sample.hair.shape == (32, 32)
        assert sample.maps["melanin_column_mm"].dtype == np.float32
    with Image.open(made / "images/000000.png") as image:
        image.load()
        assert image.text["DigitalSourceType"].endswith("algorithmicMedia")
        assert "DigitalSourceType" in image.text["XML:com.adobe.xmp"]


def test_captions_are_true(made):
    for sample in open_dataset(made):
        row = sample.row
        assert row["caption"].endswith(".") and "\n" not in row["caption"]
        assert any(word in row["caption"] for word in LESIONS["NV"]) == (row["diagnosis"] == "NV")
        assert ("hair" in row["caption"]) == (Facts.of(sample).hair_share is not None)


def test_groups_are_shared_by_counterfactuals(tmp_path):
    make(tmp_path / "a", n=2)
    make(tmp_path / "b", n=2, sets=("hair.count=0",))
    make(tmp_path / "c", n=2, seed=1)
    a, b, c = ([row["group_id"] for row in read_rows(tmp_path / x)] for x in "abc")
    assert a == b and not set(a) & set(c)


DAMAGE = {
    "missing picture": (lambda d: (d / "images/000001.png").unlink(), "images/000001.png: is missing"),
    "cut picture": (lambda d: os.truncate(d / "images/000001.png", 900), "images/000001.png: is damaged"),
    "empty picture": (lambda d: (d / "images/000001.png").write_bytes(b""), "images/000001.png: is damaged"),
    "flipped byte": (lambda d: flip(d / "images/000001.png", 1500), "images/000001.png: is damaged"),
    "wrong size": (lambda d: (d / "masks/000001.png").write_bytes(png_bytes(np.zeros((8, 8), np.uint8))),
                   "masks/000001.png"),
    "grey mask": (lambda d: (d / "hair/000001.png").write_bytes(png_bytes(np.full((32, 32), 7, np.uint8))),
                  "values other than 0 and 255"),
    "other mask": (lambda d: (d / "masks/000001.png").write_bytes(png_bytes(np.full((32, 32), 255, np.uint8))),
                   "mask"),
    "stranger": (lambda d: (d / "images/cat.jpg").write_bytes(b"x"), "images/cat.jpg: does not belong"),
    "stranger on top": (lambda d: (d / "notes.txt").write_bytes(b"x"), "notes.txt: does not belong"),
    "bad row": (lambda d: append(d, b"{}\n"), "line 9: the key 'file_name' is missing"),
    "no json": (lambda d: append(d, b"hello\n"), "line 9: not JSON"),
    "row twice": (lambda d: append(d, (d / "metadata.jsonl").read_bytes().splitlines(True)[0]), "comes twice"),
    "map of objects": (lambda d: np.savez(d / "maps/000001.npz", a=np.array([{}], dtype=object)), "maps/000001.npz"),
    "no preset": (lambda d: (d / "preset.toml").unlink(), "preset.toml: is missing"),
}


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(bytes(data))


def append(folder, data):
    with (folder / "metadata.jsonl").open("ab") as handle:
        handle.write(data)


@pytest.mark.parametrize("name", sorted(DAMAGE))
def test_validate_finds(folder, name):
    damage, part = DAMAGE[name]
    damage(folder)
    faults = validate(folder)
    assert faults and any(part in fault for fault in faults), faults
    assert all("\n" not in fault for fault in faults)


def test_unfinished_last_line_of_an_open_set_and_orphans_are_no_fault(folder):
    """What a kill may leave: the card says that a run has the set open."""
    card = json.loads((folder / "dataset.json").read_text())
    assert "open" not in card["run"]
    card["run"]["open"] = True
    (folder / "dataset.json").write_text(json.dumps(card))
    append(folder, b'{"file_name": "images/0000')
    (folder / "images/000009.png").write_bytes((folder / "images/000001.png").read_bytes())
    assert validate(folder) == []
    assert len(read_rows(folder)) == 8


def test_cut_last_line_of_a_finished_set_is_named(folder):
    rows = folder / "metadata.jsonl"
    os.truncate(rows, rows.stat().st_size - 9)
    assert validate(folder) == ["metadata.jsonl, line 8: is cut off"]


def test_faults_print_no_control_characters(folder):
    row = read_rows(folder)[0] | {"preset": "x\x1b[2J\ny"}
    append(folder, (json.dumps(row) + "\n").encode())
    assert any("the card says" in fault for fault in validate(folder))
    assert all(fault.isprintable() for fault in validate(folder))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "images/../../x", "", "a//b", "./a", "a\\b", "a\0b"])
def test_paths_stay_inside(tmp_path, path):
    with pytest.raises(DatasetError, match="inside"):
        safe_path(tmp_path, path)


def test_links_are_not_followed(folder, tmp_path):
    (tmp_path / "secret.png").write_bytes((folder / "images/000001.png").read_bytes())
    (folder / "images/000001.png").unlink()
    (folder / "images/000001.png").symlink_to(tmp_path / "secret.png")
    assert any("symbolic link" in fault for fault in validate(folder))


def test_rows_cannot_point_elsewhere(folder):
    row = read_rows(folder)[0]
    row["file_name"] = "../../etc/passwd"
    assert any("images/000000.png is needed" in fault for fault in check_row(row))
    row = read_rows(folder)[0] | {"attributes": ["../../x"]}
    assert any("attributes" in fault for fault in check_row(row))


def test_png_and_npz_bytes_are_repeatable(tmp_path):
    array = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    assert png_bytes(array, "x") == png_bytes(array, "x")
    (tmp_path / "a.png").write_bytes(png_bytes(array, "x"))
    assert (read_png(tmp_path / "a.png") == array).all()
    maps = {"b": np.ones((4, 4), np.float32), "a": np.zeros((4, 4), np.float32)}
    assert npz_bytes(maps) == npz_bytes(dict(reversed(maps.items())))
    (tmp_path / "a.npz").write_bytes(npz_bytes(maps))
    assert set(read_npz(tmp_path / "a.npz")) == {"a", "b"}
    with pytest.raises(DatasetError, match="finite"):
        npz_bytes({"a": np.full((2, 2), np.nan, np.float32)})


def test_a_png_cut_anywhere_is_damaged(tmp_path):
    data = png_bytes(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    path = tmp_path / "a.png"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DatasetError, match="damaged"):
            read_png(path)
    path.write_bytes(data + b"x")
    with pytest.raises(DatasetError, match="damaged"):
        read_png(path)


def test_preview(folder, tmp_path):
    path = write_preview(folder, tmp_path / "p.png")
    assert path.read_bytes() == (folder / "preview.png").read_bytes()
    (folder / "metadata.jsonl").write_bytes(b"")
    with pytest.raises(DatasetError, match="no finished sample"):
        write_preview(folder)


def test_card_names_features_of_every_key(made):
    text = (made / "README.md").read_text()
    for key in ROW_KEYS:
        assert f"- name: {key.removesuffix('_file_name') if key != 'file_name' else 'image'}\n" in text


def example(made):
    return read_rows(made)[0]


@given(st.data())
def test_any_change_of_a_row_is_found_or_harmless(made, data):
    row = example(made)
    key = data.draw(st.sampled_from(sorted(ROW_KEYS)))
    junk = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                                                                                    max_size=2), max_leaves=4)
    row[key] = data.draw(junk)
    faults = check_row(row)
    assert all("\n" not in fault for fault in faults)
    if faults:
        with pytest.raises(DatasetError):
            encode_row(row)
    else:
        assert parse_row(encode_row(row)) == row


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_line_is_a_row_or_one_error(line):
    with pytest.raises(DatasetError):
        parse_row(line)


@given(st.text(max_size=100)
       | st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=4)).map(json.dumps))
def test_any_text_as_card_is_one_error(text):
    with pytest.raises(DatasetError):
        parse_card(text)


def test_empty_row_has_every_key():
    assert set(empty_row()) == set(ROW_KEYS)
    assert check_row({}) and check_row(empty_row() | {"more": 1})
