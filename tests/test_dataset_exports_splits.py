"""Exports and their way back: splits, sets without a diagnosis, sizes and kinds of pictures."""

import csv
import json
import shutil

import numpy as np
import pytest
from real_sets import SETS, photo

from synthskin.dataset.encode import png_bytes
from synthskin.dataset.exports import ExportOptions, export_set
from synthskin.dataset.exports.isic import COLUMNS
from synthskin.dataset.format import DatasetError, encode_row
from synthskin.dataset.imports import ImportOptions, import_set
from synthskin.dataset.reader import bounding_box, open_dataset, read_card, read_rows, validate

CLINIC = ImportOptions(("CC-BY-4.0",), ("The clinic",), "clinical")


@pytest.fixture
def ham(tmp_path):
    SETS["ham10000"](tmp_path / "src")
    import_set("ham10000", tmp_path / "src", tmp_path / "ham")
    return tmp_path / "ham"


def with_rows(folder, *changes):
    """The set with a change of keys for each row."""
    rows = [row | change for row, change in zip(read_rows(folder), changes, strict=True)]
    (folder / "metadata.jsonl").write_text("".join(map(encode_row, rows)))
    assert validate(folder) == []
    return rows


def splits(folder, *names):
    return with_rows(folder, *({"split": name} for name in names))


def images(folder):
    return [sample.image for sample in open_dataset(folder)]


def metadata(folder):
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_isic_keeps_the_splits_both_ways(ham, tmp_path):
    rows = splits(ham, "test", "train", None, "val", "validation")
    result = export_set(ham, "isic", tmp_path / "isic")
    there = {path.parent.name: len(list(path.parent.glob("*.png"))) for path in (tmp_path / "isic").rglob("*.png")}
    assert there == {"ISIC2018_Task1-2_Test_Input": 1, "ISIC2018_Task1-2_Training_Input": 2,
                     "ISIC2018_Task1-2_Validation_Input": 2, "ISIC2018_Task1_Training_GroundTruth": 1}
    for part, count in (("Training", 2), ("Validation", 2), ("Test", 1)):
        name = f"ISIC2018_Task3_{part}_GroundTruth"
        assert len((tmp_path / f"isic/{name}/{name}.csv").read_text().splitlines()) == 1 + count
    assert result.remarks == ("1 samples without a split are with the training samples; the column split tells them "
                              "apart",)
    import_set("isic2018", tmp_path / "isic", tmp_path / "again")
    back = read_rows(tmp_path / "again")
    for key in ("split", "diagnosis", "lesion_id", "bbox", "mask_status", "modality"):
        assert [row[key] for row in back] == [row[key] for row in rows], key
    assert all((a == b).all() for a, b in zip(images(ham), images(tmp_path / "again"), strict=True))
    export_set(tmp_path / "again", "isic", tmp_path / "isic2")
    import_set("isic2018", tmp_path / "isic2", tmp_path / "third")
    assert [(r["split"], r["group_id"]) for r in read_rows(tmp_path / "third")] == [
        (r["split"], r["group_id"]) for r in back]


def test_a_split_of_another_name_comes_back_as_it_is(ham, tmp_path):
    splits(ham, "fold3", "test", "fold3", "Testing", "train")
    assert export_set(ham, "isic", tmp_path / "isic").remarks[0].startswith("2 samples of the split 'fold3' are with")
    assert len(list((tmp_path / "isic/ISIC2018_Task1-2_Test_Input").iterdir())) == 2
    import_set("isic2018", tmp_path / "isic", tmp_path / "again")
    assert [r["split"] for r in read_rows(tmp_path / "again")] == ["fold3", "test", "fold3", "Testing", "train"]


def test_an_export_of_before_the_split_column_is_read_as_then(ham, tmp_path):
    export_set(ham, "isic", tmp_path / "isic")
    path = tmp_path / "isic/metadata.csv"
    lines = metadata(tmp_path / "isic")
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS[:-2], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines)
    empty = "ISIC2018_Task3_Validation_GroundTruth"
    (tmp_path / f"isic/{empty}").mkdir()
    (tmp_path / f"isic/{empty}/{empty}.csv").write_text("image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n")
    import_set("isic2018", tmp_path / "isic", tmp_path / "again")
    assert {row["split"] for row in read_rows(tmp_path / "again")} == {None}


def test_a_set_without_a_diagnosis_comes_back_with_its_modality_and_groups(tmp_path):
    SETS["scin"](tmp_path / "src")
    import_set("scin", tmp_path / "src", tmp_path / "set")
    export_set(tmp_path / "set", "isic", tmp_path / "isic")
    assert not [path for path in (tmp_path / "isic").iterdir() if "Task3" in path.name or "Task1_" in path.name]
    import_set("isic2018", tmp_path / "isic", tmp_path / "again")
    before, after = read_rows(tmp_path / "set"), read_rows(tmp_path / "again")
    assert [row["modality"] for row in after] == ["clinical"] * 3
    assert [row["group_id"] for row in after] == [f"isic2018-{row['group_id']}" for row in before]


def test_an_export_in_an_archive_keeps_its_licences_and_is_known_as_ours(ham, tmp_path):
    export_set(ham, "isic", tmp_path / "x/isic")
    shutil.make_archive(str(tmp_path / "isic"), "zip", tmp_path / "x")
    import_set("isic2018", tmp_path / "isic.zip", tmp_path / "again")
    assert read_card(tmp_path / "again")[0].attribution == read_card(ham)[0].attribution
    assert {row["split"] for row in read_rows(tmp_path / "again")} == {None}
    shutil.copytree(tmp_path / "x/isic", tmp_path / "x/other")
    with pytest.raises(DatasetError, match="several exports"):
        import_set("isic2018", tmp_path / "x", tmp_path / "no")


@pytest.mark.filterwarnings("ignore")
def test_parquet_has_a_file_a_split(ham, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    splits(ham, "test", "train", None, "val", "test")
    result = export_set(ham, "parquet", tmp_path / "x")
    assert sorted(path.name for path in (tmp_path / "x/data").iterdir()) == [
        f"{name}-00000-of-00001.parquet" for name in ("test", "train", "validation")]
    assert "1 samples without a split" in result.remarks[0]
    loaded = datasets.load_dataset(str(tmp_path / "x"), cache_dir=str(tmp_path / "cache"))
    assert {name: list(part["index"]) for name, part in loaded.items()} == {
        "train": [1, 2], "validation": [3], "test": [0, 4]}
    assert list(loaded["train"]["split"]) == ["train", None]
    splits(ham, *["test"] * 5)
    export_set(ham, "parquet", tmp_path / "y")
    alone = datasets.load_dataset(str(tmp_path / "y"), cache_dir=str(tmp_path / "cache2"))
    assert {name: len(part) for name, part in alone.items()} == {"test": 5}


def test_parquet_cuts_each_split_by_size(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    root = tmp_path / "src"
    for k in range(6):
        for part in ("train", "test"):
            rng = np.random.Generator(np.random.Philox(key=k + 10 * (part == "test")))
            path = photo(root / part / "NV" / f"{k}.png", k)
            path.write_bytes(png_bytes(rng.integers(0, 256, (400, 400, 3), np.uint8)))
    import_set("folder", root, tmp_path / "set", CLINIC)
    export_set(tmp_path / "set", "parquet", tmp_path / "x", ExportOptions(shard_mb=1))
    for part in ("train", "test"):
        files = sorted((tmp_path / "x/data").glob(f"{part}-*"))
        assert len(files) == 3 and all(path.name.endswith("-of-00003.parquet") for path in files)
        found = [index for path in files for index in pq.read_table(path)["index"].to_pylist()]
        assert found == [row["index"] for row in read_rows(tmp_path / "set") if row["split"] == part]


def measured(folder, out, view, several=False):
    """(size, kind) that the ISIC export tells of a first sample with a scale and a mask of one square, or of two."""
    height, width = images(folder)[0].shape[:2]
    labels = np.zeros((height, width), np.uint8)
    labels[8:16, 8:16] = 1
    if several:
        labels[18:20, 4:6] = 2
    for name, array in (("masks", np.where(labels, np.uint8(255), np.uint8(0))), ("instances", labels)):
        if several or name == "masks":
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "000000.png").write_bytes(png_bytes(array))
    boxes = [bounding_box(np.where(labels == k, np.uint8(255), np.uint8(0))) for k in range(1, labels.max() + 1)]
    with_rows(folder, {
        "mask_file_name": "masks/000000.png", "mask_status": "human", "bbox": bounding_box(labels), "boxes": boxes,
        "lesions": ["NV"] * len(boxes), "modality": "dermoscopic" if view == "dermoscopic" else "clinical",
        "params": json.dumps({"camera": {"field_of_view_mm": 36.0, "view": view}})}, {}, {}, {}, {})
    export_set(folder, "isic", out)
    line = metadata(out)[0]
    return line["clin_size_long_diam_mm"], line["image_type"]


@pytest.mark.parametrize(("view", "several", "told"), [
    ("dermoscopic", False, ("11.3", "dermoscopic")),  # 8 mm x 8 mm, corner to corner
    ("dermoscopic", True, ("", "dermoscopic")),
    ("clinical", False, ("", "clinical: close-up")),
    ("clinical", True, ("", "clinical: overview")),
    ("region", False, ("", "clinical: overview")),
    ("region", True, ("", "clinical: overview")),
])
def test_a_size_is_told_of_one_lesion_under_a_dermoscope_alone(ham, tmp_path, view, several, told):
    assert measured(ham, tmp_path / "isic", view, several) == told
    import_set("isic2018", tmp_path / "isic", tmp_path / "again")
    assert read_rows(tmp_path / "again")[0]["modality"] == ("dermoscopic" if view == "dermoscopic" else "clinical")
