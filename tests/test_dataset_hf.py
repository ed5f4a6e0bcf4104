"""The contract loads in Hugging Face `datasets` (needs that package; skipped where it is not installed)."""

import json
import os

import pytest
from standin import FakeEngine, device

from synthskin.dataset.format import encode_row
from synthskin.dataset.reader import read_rows
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunRequest, render_run

os.environ["HF_HUB_OFFLINE"] = "1"  # a local folder needs no network
datasets = pytest.importorskip("datasets")


def test_loads_with_nulls_healthy_first_and_late_columns(tmp_path, monkeypatch):
    sets = []
    for name, preset in (("healthy", "healthy"), ("lesions", "fst6")):
        out = tmp_path / name
        render_run(RunRequest(load_preset(preset), 4, 0, out, EngineOptions(32, 1)), FakeEngine, device)
        loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
        assert len(loaded) == 4 and loaded[0]["image"].size == loaded[0]["mask"].size == (32, 32)
        sets.append(loaded)
    assert sets[0].features == sets[1].features
    assert len(datasets.concatenate_datasets(sets)) == 8
    assert len(datasets.load_dataset("imagefolder", data_dir=str(out), split="train",
                                     cache_dir=str(tmp_path / "cache"))) == 4


def test_twenty_megabytes_of_metadata(tmp_path):
    out = tmp_path / "a"
    render_run(RunRequest(load_preset("healthy"), 2, 0, out, EngineOptions(32, 1)), FakeEngine, device)
    first, last = read_rows(out)
    first["params"] = json.dumps({"filler": "x" * 900_000})
    last |= {"checkpoint": "0" * 64, "parents": [{"set_hash": "a", "file_name": "b", "sha256": "c"}]}
    lines = []
    for index in range(22):
        name = f"{index:06d}.png"
        for folder in ("images", "masks", "hair"):
            (out / folder / name).write_bytes((out / folder / "000000.png").read_bytes())
        row = (last if index == 21 else first) | {
            "index": index, "file_name": f"images/{name}", "mask_file_name": f"masks/{name}",
            "hair_file_name": f"hair/{name}"}
        lines.append(encode_row(row))
    (out / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 22 and loaded[21]["checkpoint"] == "0" * 64 and loaded[0]["checkpoint"] is None
