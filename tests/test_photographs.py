"""benchmarks/photographs.py: what isic-cli downloads becomes a folder that every program here takes."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from synthskin import cli
from synthskin.bias.compare_metadata import read_metadata

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import photographs as bench

PICTURES = Path(__file__).resolve().parent / "data/photographs"


@pytest.fixture
def download(tmp_path):
    """Five photographs as isic-cli leaves them, with the columns of the archive."""
    folder = tmp_path / "download"
    folder.mkdir()
    told = ["Benign,Benign melanocytic proliferations,Nevus", "Malignant,,Melanoma Invasive", "Benign,,Nevus",
            "Indeterminate,,", "Malignant,Malignant melanocytic proliferations (Melanoma),Melanoma in a nevus"]
    lines = ["isic_id,attribution,diagnosis_1,diagnosis_2,diagnosis_3"]
    for path, words in zip(sorted(PICTURES.glob("*.jpg")), told, strict=True):
        shutil.copy(path, folder)
        lines.append(f"{path.stem},Anonymous,{words}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_download_becomes_a_folder_of_photographs(download, tmp_path, monkeypatch, capsys):
    out = tmp_path / "photographs"
    monkeypatch.setattr(sys, "argv", ["photographs.py", str(download), str(out), "--short-side", "100"])
    bench.main()
    assert capsys.readouterr().out.startswith("2 MEL, 2 NV, 1 left out in ")
    items = list(read_metadata(out))
    assert [(item.image.stem, item.kind) for item in items] == [
        ("ISIC_0000009", "NV"), ("ISIC_0000072", "MEL"), ("ISIC_0000117", "NV"), ("ISIC_0000515", "MEL")]
    for item in items:
        with Image.open(item.image) as picture:
            assert min(picture.size) == 100
    assert json.loads((out / "metadata.jsonl").read_text().splitlines()[0])["isic_id"] == "ISIC_0000009"
    with pytest.raises(SystemExit) as caught:
        bench.main()
    assert caught.value.code == 2 and "is there already" in capsys.readouterr().err


def test_by_class_it_can_be_imported(download, tmp_path, monkeypatch, capsys):
    out = tmp_path / "photographs"
    monkeypatch.setattr(sys, "argv", ["photographs.py", str(download), str(out), "--by-class"])
    bench.main()
    with pytest.raises(SystemExit) as caught:
        cli.main(["import", "folder", str(out / "images"), str(tmp_path / "set"), "--licence", "CC0-1.0",
                  "--attribution", "ISIC Archive, UDA-1", "--modality", "dermoscopic"])
    assert caught.value.code == 0
    rows = [json.loads(line) for line in (tmp_path / "set/metadata.jsonl").read_text().splitlines()]
    assert sorted(row["diagnosis"] for row in rows) == ["MEL", "MEL", "NV", "NV"]
