"""Every export, read back with the library that its users have."""

import io
import json
import os
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from standin import FakeEngine, device

from synthskin import cli
from synthskin.conventions import DIAGNOSES
from synthskin.dataset.card import parse_card
from synthskin.dataset.compare import differences
from synthskin.dataset.encode import png_bytes
from synthskin.dataset.exports import FORMS, ExportOptions, export_set
from synthskin.dataset.exports.coco import polygons
from synthskin.dataset.exports.isic import long_diameter_mm
from synthskin.dataset.format import ROW_KEYS, DatasetError, Sample, encode_row
from synthskin.dataset.imports import import_set
from synthskin.dataset.reader import bounding_box, open_dataset, read_rows, validate
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunRequest, render_run

os.environ["HF_HUB_OFFLINE"] = "1"
N = 9


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Lesions and healthy skin, a mask with an odd shape, maps, and a licence besides that of renders."""
    out = tmp_path_factory.mktemp("set") / "a"
    render_run(RunRequest(load_preset("fst6").with_diagnosis("NV=0.7,healthy=0.3"), N, 3, out,
                          EngineOptions(32, 2, maps=True)), FakeEngine, device)
    rows = read_rows(out)
    shape = np.zeros((32, 32), np.uint8)
    shape[3:9, 4:20] = 255
    shape[6, 10:31] = 255  # a whisker
    shape[20:25, 20:27] = 255  # a second part
    odd = next(row for row in rows if row["diagnosis"] == "NV")
    odd["bbox"] = bounding_box(shape)
    (out / odd["mask_file_name"]).write_bytes(png_bytes(shape))
    (out / "metadata.jsonl").write_text("".join(map(encode_row, rows)))
    card, run = parse_card((out / "dataset.json").read_text())
    card = replace(card, licences=["CC0-1.0", "CC-BY-NC-4.0"], attribution=["synthskin", "Tschandl et al. 2018"])
    (out / "dataset.json").write_text(card.to_json(run))
    assert validate(out) == []
    assert {row["diagnosis"] for row in rows} == {"NV", "healthy"}
    return out


def masks(made):
    return {row["index"]: np.asarray(Image.open(made / row["mask_file_name"])) > 0 for row in read_rows(made)}


@pytest.mark.parametrize("form", FORMS)
def test_licences_and_attribution_go_with_every_form(made, tmp_path, form):
    result = export_set(made, form, tmp_path / "x")
    assert result.samples == N
    text = (tmp_path / "x/LICENCE.txt").read_text()
    told = {"coco": "annotations.json", "webdataset": "dataset.json", "parquet": "README.md", "isic": "metadata.csv",
            "croissant": "croissant.json"}[form]
    for where in (text, (tmp_path / "x" / told).read_text()):
        assert "Tschandl et al. 2018" in where
        assert "NC" in where or "by-nc" in where
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("segm", ["polygon", "rle"])
def test_coco(made, tmp_path, segm):
    coco_module = pytest.importorskip("pycocotools.coco")
    export_set(made, "coco", tmp_path / "x", ExportOptions(segm=segm))
    coco = coco_module.COCO(str(tmp_path / "x/annotations.json"))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())][:7] == list(DIAGNOSES)
    truth = masks(made)
    rows = {row["index"]: row for row in read_rows(made)}
    assert len(coco.imgs) == N
    for image_id, image in coco.imgs.items():
        row = rows[image["index"]]
        path = tmp_path / "x/images" / image["file_name"]
        assert path.read_bytes() == (made / row["file_name"]).read_bytes()
        found = coco.loadAnns(coco.getAnnIds(image_id))
        assert len(found) == (row["diagnosis"] == "NV")
        for annotation in found:
            assert (coco.annToMask(annotation).astype(bool) == truth[row["index"]]).all()
            assert annotation["area"] == truth[row["index"]].sum() and annotation["bbox"] == row["bbox"]
            assert coco.loadCats(annotation["category_id"])[0]["name"] == "NV"
    assert "CC0-1.0 AND CC-BY-NC-4.0" in coco.dataset["licenses"][0]["name"]


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_any_mask_without_holes_comes_back_from_its_polygons(mask):
    coco_mask = pytest.importorskip("pycocotools.mask")
    from scipy import ndimage

    labels, n = ndimage.label(mask)
    filled = np.zeros_like(mask)
    for k in range(1, n + 1):
        filled |= ndimage.binary_fill_holes(labels == k)
    found = polygons(mask)
    assert len(found) == n
    if n:
        coded = coco_mask.merge(coco_mask.frPyObjects(found, *mask.shape))
        assert (coco_mask.decode(coded).astype(bool) == filled).all()


def test_webdataset(made, tmp_path):
    wds = pytest.importorskip("webdataset")
    export_set(made, "webdataset", tmp_path / "x", ExportOptions(shard_mb=1, name="skin"))
    shards = sorted((tmp_path / "x").glob("*.tar"))
    assert [p.name for p in shards] == ["skin-000000.tar"]
    data = wds.WebDataset([str(p) for p in shards], shardshuffle=False).decode("pil")
    rows = {row["index"]: row for row in read_rows(made)}
    truth = masks(made)
    seen = []
    for sample in data:
        row = rows[int(sample["__key__"])]
        seen.append(row["index"])
        assert "." not in sample["__key__"]
        assert (np.asarray(sample["image.png"]) == np.asarray(Image.open(made / row["file_name"]))).all()
        assert ((np.asarray(sample["mask.png"].convert("L")) > 0) == truth[row["index"]]).all()
        assert {key: sample["json"][key] for key in ROW_KEYS} == row
        assert sample["json"]["licences"] == ["CC0-1.0", "CC-BY-NC-4.0"]
        assert ("attribute_network.png" in sample) == (row["attributes"] == ["network"])
    assert seen == sorted(rows)
    first = shards[0].read_bytes()
    export_set(made, "webdataset", tmp_path / "y", ExportOptions(name="skin"))
    assert (tmp_path / "y/skin-000000.tar").read_bytes() == first


def test_webdataset_shards_are_cut_by_size(tmp_path):
    render_run(RunRequest(load_preset("fst6"), 6, 0, tmp_path / "a", EngineOptions(256, 2)), FakeEngine, device)
    export_set(tmp_path / "a", "webdataset", tmp_path / "x", ExportOptions(shard_mb=1))
    shards = sorted((tmp_path / "x").glob("fst6-*.tar"))
    assert len(shards) == 2 and all(p.stat().st_size < 1_050_000 for p in shards)
    keys = []
    for shard in shards:
        with tarfile.open(shard) as tar:
            keys.append({name.split(".")[0] for name in tar.getnames()})
    assert len(keys[0]) + len(keys[1]) == 6 and not keys[0] & keys[1]


@pytest.mark.filterwarnings("ignore")
def test_parquet_in_datasets_pandas_and_pyarrow(made, tmp_path):
    datasets = pytest.importorskip("datasets")
    pd = pytest.importorskip("pandas")
    pq = pytest.importorskip("pyarrow.parquet")
    result = export_set(made, "parquet", tmp_path / "x")
    assert any("maps" in remark for remark in result.remarks)
    path = tmp_path / "x/data/train-00000-of-00001.parquet"
    rows, truth = read_rows(made), masks(made)
    loaded = datasets.load_dataset(str(tmp_path / "x"), split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(loaded.features["mask"], datasets.Image)
    assert len(loaded) == N
    for row, sample in zip(rows, loaded, strict=True):
        assert (np.asarray(sample["image"]) == np.asarray(Image.open(made / row["file_name"]))).all()
        assert ((np.asarray(sample["mask"]) > 0) == truth[row["index"]]).all()
        assert [np.asarray(m).shape for m in sample["attribute_masks"]] == [(32, 32)] * len(row["attributes"])
        for key in ROW_KEYS:
            if not key.endswith("file_name"):
                assert sample[key] == row[key], key
    as_imagefolder = datasets.load_dataset(str(made), split="train", cache_dir=str(tmp_path / "cache"))
    for key, feature in as_imagefolder.features.items():
        assert loaded.features[key] == feature, key
    table = pq.read_table(path)
    assert json.loads(table.schema.metadata[b"licences"]) == ["CC0-1.0", "CC-BY-NC-4.0"]
    frame = pd.read_parquet(path)
    assert frame["index"].tolist() == list(range(N))
    assert Image.open(io.BytesIO(frame["image"][0]["bytes"])).size == (32, 32)


def test_isic(made, tmp_path):
    pd = pytest.importorskip("pandas")
    result = export_set(made, "isic", tmp_path / "x")
    rows, truth = read_rows(made), masks(made)
    labels = pd.read_csv(tmp_path / "x/ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv")
    assert list(labels.columns) == ["image", "MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    assert (labels[list(DIAGNOSES)].sum(axis=1) == 1.0).all()
    lesions = [row for row in rows if row["diagnosis"] == "NV"]
    assert labels["NV"].sum() == len(labels) == len(lesions)
    assert str(N - len(lesions)) in result.remarks[0]
    metadata = pd.read_csv(tmp_path / "x/metadata.csv")
    assert len(metadata) == N and (metadata["image_manipulation"] == "synthetic").all()
    assert set(metadata["image_type"]) == {"dermoscopic"}
    assert set(metadata["diagnosis_1"].dropna()) == {"Benign"} and metadata["fitzpatrick_skin_type"].isna().all()
    assert set(metadata["copyright_license"]) == {"CC-0 AND CC-BY-NC"}
    assert not metadata["isic_id"].str.startswith("ISIC_").any()
    for row, name in zip(rows, metadata["isic_id"], strict=True):
        assert (tmp_path / "x/ISIC2018_Task1-2_Training_Input" / f"{name}.png").is_file()
        mask = Image.open(tmp_path / "x/ISIC2018_Task1_Training_GroundTruth" / f"{name}_segmentation.png")
        assert ((np.asarray(mask) > 0) == truth[row["index"]]).all()
        attributes = sorted(p.name.split("_attribute_")[1][:-4] for p in
                            (tmp_path / "x/ISIC2018_Task2_Training_GroundTruth_v3").glob(f"{name}_*"))
        assert attributes == ["globules", "milia_like_cyst", "negative_network", "pigment_network", "streaks"]


def test_long_diameter_of_a_disc():
    y, x = np.mgrid[:200, :200]
    disc = (((x - 99.5) ** 2 + (y - 99.5) ** 2) <= 50.0**2).astype(np.uint8) * 255
    row = {"params": json.dumps({"camera": {"field_of_view_mm": 20.0}})}
    sample = Sample(row, np.zeros((200, 200, 3), np.uint8), disc)
    assert abs(long_diameter_mm(row, sample) - 10.0) < 0.2
    cut = Sample(row, sample.image, np.full((200, 200), 255, np.uint8))
    assert long_diameter_mm(row, cut) is None and long_diameter_mm({"params": "{}"}, sample) is None


@pytest.mark.filterwarnings("ignore")
def test_croissant_passes_the_validator_and_loads(made, tmp_path, monkeypatch):
    mlc = pytest.importorskip("mlcroissant")
    export_set(made, "croissant", tmp_path / "x")
    assert validate_copy(tmp_path / "x") == []
    monkeypatch.chdir(tmp_path)
    data = mlc.Dataset(jsonld=str(tmp_path / "x/croissant.json"))
    assert not data.metadata.ctx.issues.errors and not data.metadata.ctx.issues.warnings
    document = json.loads((tmp_path / "x/croissant.json").read_text())
    assert document["conformsTo"].endswith("croissant/1.1")
    for key in ("name", "description", "license", "url", "creator", "datePublished"):
        assert document[key]
    rows, truth = read_rows(made), masks(made)
    found = list(data.records("samples"))
    for row, record in zip(rows, found, strict=True):
        assert record["samples/index"] == row["index"] and record["samples/caption"].decode() == row["caption"]
        assert (np.asarray(record["samples/image"]) == np.asarray(Image.open(made / row["file_name"]))).all()
    for record in data.records("masks"):
        index = int(record["masks/file"].decode()[:6])
        assert ((np.asarray(record["masks/mask"].convert("L")) > 0) == truth[index]).all()
    text = json.dumps(document)
    assert "cr:SegmentationMask" in text and "255 where the lesion is" in text and "rai:dataCollection" in text


def validate_copy(folder):
    """Faults of the set inside a croissant export, but for the export's own two files."""
    return [fault for fault in validate(folder) if not fault.startswith(("croissant.json", "LICENCE.txt"))]


def test_several_lesions_and_artefacts(made, tmp_path):
    """One annotation a lesion in COCO; label maps and artefact masks come back from shards and Parquet."""
    coco_module = pytest.importorskip("pycocotools.coco")
    pq = pytest.importorskip("pyarrow.parquet")
    folder = shutil.copytree(made, tmp_path / "set")
    rows = read_rows(folder)
    row = next(row for row in rows if row["diagnosis"] == "NV")
    labels = np.zeros((32, 32), np.uint8)
    labels[2:6, 2:8], labels[20:30, 10:14] = 1, 2
    row |= {"lesions": ["NV", "MEL"], "boxes": [[2, 2, 6, 4], [10, 20, 4, 10]],
            "bbox": bounding_box((labels > 0).astype(np.uint8))}
    row["artefacts"] = ["ruler"]
    ruler = np.zeros((32, 32), np.uint8)
    ruler[30] = 255
    (folder / "artefacts/ruler").mkdir(parents=True)
    (folder / f"artefacts/ruler/{row['index']:06d}.png").write_bytes(png_bytes(ruler))
    (folder / "instances").mkdir()
    (folder / f"instances/{row['index']:06d}.png").write_bytes(png_bytes(labels))
    (folder / row["mask_file_name"]).write_bytes(png_bytes((labels > 0).astype(np.uint8) * 255))
    (folder / "metadata.jsonl").write_text("".join(map(encode_row, rows)))
    assert validate(folder) == []
    export_set(folder, "coco", tmp_path / "x", ExportOptions(segm="rle"))
    coco = coco_module.COCO(str(tmp_path / "x/annotations.json"))
    found = coco.loadAnns(coco.getAnnIds(row["index"] + 1))
    assert [coco.cats[a["category_id"]]["name"] for a in found] == ["NV", "MEL"]
    assert [a["bbox"] for a in found] == row["boxes"]
    assert (coco.annToMask(found[1]).astype(bool) == (labels == 2)).all()
    export_set(folder, "webdataset", tmp_path / "w")
    import_set("webdataset", tmp_path / "w", tmp_path / "back")
    assert all(line.split(":")[0] in ("README.md", "preview.png") for line in differences(folder, tmp_path / "back"))
    assert (open_dataset(tmp_path / "back").load(row["index"]).instances == labels).all()
    export_set(folder, "parquet", tmp_path / "p")
    record = pq.read_table(next((tmp_path / "p/data").iterdir())).to_pylist()[row["index"]]
    assert (np.asarray(Image.open(io.BytesIO(record["instances"]["bytes"]))) == labels).all()
    assert (np.asarray(Image.open(io.BytesIO(record["artefact_masks"][0]["bytes"]))) == ruler).all()


BAD = [
    ({"form": "yolo"}, "coco, webdataset, parquet, isic, croissant"),
    ({"form": "coco", "options": ExportOptions(segm="outline")}, "polygon, rle"),
    ({"form": "isic", "options": ExportOptions(segm="rle")}, "no meaning for --to isic"),
    ({"form": "parquet", "options": ExportOptions(shard_mb=0)}, "1 to 100000"),
    ({"form": "webdataset", "options": ExportOptions(name="a.b/../c")}, "letters, digits"),
    ({"form": "coco", "directory": "none"}, "no dataset.json"),
    ({"form": "coco", "out": "set/inside"}, "inside the set"),
    ({"form": "coco", "out": "full"}, "not empty"),
    ({"form": "coco", "out": "file"}, "not a folder"),
    ({"form": "coco", "out": "link"}, "not a folder"),
    ({"form": "coco", "out": "/dev/null/x"}, "cannot be written"),
]


@pytest.mark.parametrize(("given_", "part"), BAD, ids=[part for _, part in BAD])
def test_bad_input_writes_nothing(made, tmp_path, monkeypatch, given_, part):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, "set")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "full")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match=part) as caught:
        export_set(**({"directory": "set", "out": "new/x", "options": None} | given_))
    assert "\n" not in str(caught.value)
    assert [p for p in sorted(tmp_path.rglob("*")) if p.name != "new"] == before


def test_a_damaged_sample_or_a_full_disk_leaves_nothing(made, tmp_path, monkeypatch):
    folder = shutil.copytree(made, tmp_path / "set")
    os.truncate(folder / "images/000004.png", 700)
    for form in FORMS:
        with pytest.raises(DatasetError, match=r"images/000004\.png: is damaged"):
            export_set(folder, form, tmp_path / "x")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    from pathlib import Path
    real = Path.write_bytes

    def full(self, data):
        if self.name == "000006.png":
            raise OSError(28, "No space left on device", str(self))
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DatasetError, match="No space left"):
        export_set(made, "coco", tmp_path / "x")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_command_line(made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*args):
        with pytest.raises(SystemExit) as ended:
            cli.main(["export", str(made), *args])
        return ended.value.code

    assert call("--to", "isic", "--out", "x", "--json") == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["samples"] == N and "exporting 9 samples" in out.err and "note: " in out.err
    assert call("--to", "isic", "--out", "x") == 2
    assert capsys.readouterr().err.startswith("error: --out x: is not empty")
    assert len(open_dataset(made)) == N
