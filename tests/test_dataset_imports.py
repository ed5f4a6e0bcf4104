"""Every import, on small sources in the published layouts; and what is refused."""

import json
import os
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from real_sets import SETS, photo
from standin import FakeEngine, device

from synthskin import cli
from synthskin.dataset.compare import differences
from synthskin.dataset.exports import export_set
from synthskin.dataset.format import DatasetError
from synthskin.dataset.imports import KINDS, ImportOptions, import_set
from synthskin.dataset.near_duplicates import group
from synthskin.dataset.photo import difference_hash, load_photo
from synthskin.dataset.reader import open_dataset, read_card, read_rows, validate
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunRequest, render_run

OWN = ImportOptions(("CC-BY-4.0",), ("The clinic",), "clinical")


def options(kind):
    return OWN if kind == "folder" else ImportOptions()


def taken(kind, tmp_path):
    SETS[kind](tmp_path / "src")
    import_set(kind, tmp_path / "src", tmp_path / "out", options(kind))
    return {row["source_id"]: row for row in read_rows(tmp_path / "out")}


@pytest.mark.parametrize("kind", SETS)
def test_each_kind_makes_a_valid_set_with_its_licence_and_again_changes_nothing(kind, tmp_path):
    rows = taken(kind, tmp_path)
    out = tmp_path / "out"
    assert validate(out) == []
    card, _ = read_card(out)
    assert card.generator == "real" and card.licences and card.attribution
    assert all(name in (out / "README.md").read_text() for name in (*card.licences, *card.attribution))
    assert "not anonymous" in (out / "README.md").read_text()
    for sample in open_dataset(out):
        row = sample.row
        told = json.loads(row["params"])
        assert (sample.image == load_photo(tmp_path / "src" / told["source_file"])).all()
        assert row["ita_class"] is None and row["hair_file_name"] is None and row["group_id"].startswith(kind)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    result = import_set(kind, tmp_path / "src", out, options(kind))
    assert (result.made, result.samples, result.left_out) == (0, len(rows), {})
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_ham10000(tmp_path):
    rows = taken("ham10000", tmp_path)
    assert {k: r["diagnosis"] for k, r in rows.items()} == {
        "ISIC_0027419": "BKL", "ISIC_0025030": "BKL", "ISIC_0026769": "MEL", "ISIC_0031633": "NV",
        "ISIC_0029176": "AKIEC"}
    first, second, melanoma, nevus, last = rows.values()
    assert first["group_id"] == second["group_id"] == "ham10000-HAM_0000118" != melanoma["group_id"]
    assert (first["diagnosis_status"], melanoma["diagnosis_status"]) == ("histopathology", "clinical")
    assert (first["age_approx"], first["sex"], first["anatom_site"]) == (45, "male", "posterior torso")
    assert (nevus["age_approx"], nevus["sex"], nevus["anatom_site"]) == (None, None, None)
    assert last["benign_malignant"] == "indeterminate" and last["anatom_site"] == "head/neck"
    assert (melanoma["mask_status"], melanoma["bbox"], nevus["mask_status"]) == ("human", [5, 6, 10, 8], "none")
    assert melanoma["caption"] == "Dermoscopic photograph labelled melanoma."
    assert read_card(tmp_path / "out")[0].licences == ["CC-BY-NC-4.0"]
    assert "near-duplicate" not in read_card(tmp_path / "out")[0].description


def test_isic2017(tmp_path):
    rows = taken("isic2017", tmp_path)
    assert [r["diagnosis"] for r in rows.values()] == [None, "NV", "MEL", "BKL"]  # the unlabelled one is of the test
    assert rows["ISIC_0012086"]["split"] == "test" and rows["ISIC_0000001"]["split"] == "train"
    assert rows["ISIC_0000002"]["bbox"] == [4, 3, 9, 7] and rows["ISIC_0000000"]["age_approx"] == 55
    assert "near-duplicate" in read_card(tmp_path / "out")[0].description


def test_isic2018(tmp_path):
    rows = taken("isic2018", tmp_path)
    assert rows["ISIC_0000003"]["attributes"] == ["pigment_network"] and rows["ISIC_0000000"]["attributes"] == []
    assert {k: r["diagnosis"] for k, r in rows.items() if r["diagnosis"]} == {
        "ISIC_0024306": "NV", "ISIC_0024307": "VASC", "ISIC_0024308": "MEL"}
    assert rows["ISIC_0024306"]["group_id"] == rows["ISIC_0024307"]["group_id"] == "isic2018-HAM_1"
    assert (rows["ISIC_0024306"]["diagnosis_status"], rows["ISIC_0024307"]["diagnosis_status"]) == (
        "histopathology", "clinical")


def test_ph2(tmp_path):
    rows = taken("ph2", tmp_path)
    assert [(r["diagnosis"], r["diagnosis_raw"], r["diagnosis_status"]) for r in rows.values()] == [
        ("NV", "common nevus", "clinical"), ("NV", "atypical nevus", "clinical"), ("MEL", "melanoma", "histopathology")]
    assert all(r["bbox"] == [6, 5, 10, 9] for r in rows.values())
    assert "no redistribution" in read_card(tmp_path / "out")[0].licences[0]


def test_fitzpatrick17k(tmp_path):
    rows = list(taken("fitzpatrick17k", tmp_path).values())
    assert [(r["fitzpatrick_min"], r["fitzpatrick_max"]) for r in rows] == [(3, 3), (None, None), (6, 6)]
    assert [r["diagnosis"] for r in rows] == [None, "MEL", "BKL"]
    assert [r["benign_malignant"] for r in rows] == [None, "malignant", "benign"]
    assert rows[0]["caption"] == 'Clinical photograph labelled "drug induced pigmentary changes".'


def test_ddi(tmp_path):
    rows = list(taken("ddi", tmp_path).values())
    assert [(r["fitzpatrick_min"], r["fitzpatrick_max"]) for r in rows] == [(5, 6), (1, 2), (3, 4)]
    assert [(r["diagnosis"], r["benign_malignant"]) for r in rows] == [
        ("MEL", "malignant"), (None, "benign"), ("BKL", "benign")]
    assert all(r["diagnosis_status"] == "histopathology" for r in rows)


def test_scin(tmp_path):
    rows = taken("scin", tmp_path)
    one, two, three = rows["-1001"], rows["-1002"], rows["2001"]
    assert one["group_id"] == two["group_id"] != three["group_id"]
    assert one["diagnosis_raw"] == "Grover's disease" and one["diagnosis"] is None and three["diagnosis_raw"] is None
    assert (one["fitzpatrick_min"], one["fitzpatrick_max"], one["monk"]) == (3, 5, 4)
    assert (three["fitzpatrick_min"], three["monk"], three["age_approx"]) == (4, None, None)
    assert (one["age_approx"], one["sex"], one["anatom_site"], three["anatom_site"]) == (
        35, "female", "upper extremity", None)


def test_itobos(tmp_path):
    rows = taken("itobos", tmp_path)
    assert rows["train-a1"]["boxes"] == [[13.5, 3.0, 9.0, 6.0], [1.8, 1.2, 3.6, 2.4]]
    assert rows["train-a2"]["boxes"] == [] and rows["train-a1"]["mask_status"] == "none"
    assert rows["test-a1"]["split"] == "test" and rows["train-a1"]["caption"].endswith("2 marked lesions.")


def test_boxes_go_to_coco(tmp_path):
    coco_module = pytest.importorskip("pycocotools.coco")
    taken("itobos", tmp_path)
    result = export_set(tmp_path / "out", "coco", tmp_path / "coco")
    coco = coco_module.COCO(str(tmp_path / "coco/annotations.json"))
    assert sorted(a["bbox"] for a in coco.anns.values()) == [[1.8, 1.2, 3.6, 2.4], [13.5, 3.0, 9.0, 6.0]]
    assert {coco.cats[a["category_id"]]["name"] for a in coco.anns.values()} == {"lesion"}
    assert result.remarks == ("2 boxes have no mask and so no segmentation",)


def test_folder_per_class(tmp_path):
    rows = taken("folder", tmp_path)
    assert [(r["diagnosis"], r["diagnosis_raw"], r["split"]) for r in rows.values()] == [
        (None, "wart, other", "test"), ("NV", "NV", "train"), ("MEL", "melanoma", "train"), ("MEL", "melanoma", "val")]
    card, _ = read_card(tmp_path / "out")
    assert (card.licences, card.attribution) == (["CC-BY-4.0"], ["The clinic"])
    assert all(r["modality"] == "clinical" for r in rows.values())


def test_real_set_to_isic_and_back(tmp_path):
    rows = taken("ham10000", tmp_path)
    export_set(tmp_path / "out", "isic", tmp_path / "isic")
    import_set("isic2018", tmp_path / "isic", tmp_path / "again")
    back = read_rows(tmp_path / "again")
    assert [r["diagnosis"] for r in back] == [r["diagnosis"] for r in rows.values()]
    for key in ("age_approx", "sex", "anatom_site", "split", "lesion_id", "bbox"):
        assert [r[key] for r in back] == [r[key] for r in rows.values()], key
    images = [[sample.image for sample in open_dataset(tmp_path / d)] for d in ("out", "again")]
    assert all((a == b).all() for a, b in zip(*images, strict=True))
    first, second = read_card(tmp_path / "out")[0], read_card(tmp_path / "again")[0]
    assert (first.licences, first.attribution) == (second.licences, second.attribution)
    assert len({r["group_id"] for r in back}) == len({r["group_id"] for r in rows.values()})


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    out = tmp_path_factory.mktemp("set") / "a"
    render_run(RunRequest(load_preset("fst6"), 5, 0, out, EngineOptions(32, 2, maps=True)), FakeEngine, device)
    return out


def test_synthetic_sets_come_back_whole_from_shards_and_archives(rendered, tmp_path):
    export_set(rendered, "webdataset", tmp_path / "wds")
    assert import_set("webdataset", tmp_path / "wds", tmp_path / "a").made == 5
    assert differences(rendered, tmp_path / "a") == []
    for name, form in (("s.zip", "zip"), ("s.tar.gz", "gztar")):
        made = shutil.make_archive(str(tmp_path / "arch"), form, rendered.parent, rendered.name)
        os.replace(made, tmp_path / name)
        assert import_set("set", tmp_path / name, tmp_path / form).made == 5
        assert differences(rendered, tmp_path / form) == []
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    export_set(rendered, "isic", tmp_path / "isic")
    with pytest.raises(DatasetError, match="synthetic set"):
        import_set("isic2018", tmp_path / "isic", tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_an_archive_of_a_real_set(tmp_path):
    SETS["ham10000"](tmp_path / "src")
    import_set("ham10000", tmp_path / "src", tmp_path / "a")
    shutil.make_archive(str(tmp_path / "ham"), "zip", tmp_path / "src")
    import_set("ham10000", tmp_path / "ham.zip", tmp_path / "b")
    assert differences(tmp_path / "a", tmp_path / "b") == []


def test_near_duplicates_are_one_group(tmp_path):
    root = tmp_path / "src"
    photo(root / "NV/a.png", 1, (64, 64))
    photo(root / "NV/b.png", 2, (64, 64))
    with Image.open(root / "NV/a.png") as image:
        image.resize((50, 50)).save(root / "NV/c.jpg", quality=50)
    import_set("folder", root, tmp_path / "out", OWN)
    groups = {r["source_id"]: r["group_id"] for r in read_rows(tmp_path / "out")}
    assert groups["NV/a"] == groups["NV/c"] != groups["NV/b"]
    photo(tmp_path / "other/NV/a.png", 9, (64, 64))  # another hospital's picture of that name is of somebody else
    import_set("folder", tmp_path / "other", tmp_path / "elsewhere", OWN)
    assert not set(groups.values()) & {r["group_id"] for r in read_rows(tmp_path / "elsewhere")}
    hashes = np.array([difference_hash(root / f"NV/{n}") for n in ("a.png", "b.png", "c.jpg")])
    assert group(hashes) == [0, 1, 0] and group(hashes[:0]) == []


def test_photographs_are_upright_srgb_and_keep_no_exif(tmp_path):
    photo(tmp_path / "a.png", 5, (20, 40))
    with Image.open(tmp_path / "a.png") as image:
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees
        exif[0x9286] = "name of a patient"
        image.save(tmp_path / "src.jpg", exif=exif, quality=100)
        image.convert("L").save(tmp_path / "grey.png")
        image.convert("P").save(tmp_path / "palette.png")
        image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert load_photo(tmp_path / "src.jpg").shape == (40, 20, 3)
    with pytest.raises(DatasetError, match="orientation"):
        load_photo(tmp_path / "src.jpg", upright=False)
    for name in ("grey.png", "palette.png", "cmyk.jpg"):
        assert load_photo(tmp_path / name).shape == (20, 40, 3)
    root = tmp_path / "s"
    (root / "NV").mkdir(parents=True)
    shutil.copy(tmp_path / "src.jpg", root / "NV/a.jpg")
    import_set("folder", root, tmp_path / "out", OWN)
    assert b"name of a patient" not in b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_missing_and_damaged_photographs(tmp_path):
    root = SETS["ham10000"](tmp_path / "src")
    (root / "HAM10000_images_part_1/ISIC_0025030.jpg").unlink()
    with pytest.raises(DatasetError, match=r"ISIC_0025030: its picture is missing.*--skip-bad"):
        import_set("ham10000", root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    damaged = root / "HAM10000_images_part_2/ISIC_0026769.jpg"
    os.truncate(damaged, damaged.stat().st_size // 2)
    result = import_set("ham10000", root, tmp_path / "out", ImportOptions(skip_bad=True))
    assert result.samples == 3 and set(result.left_out) == {"ISIC_0025030", "ISIC_0026769"}
    assert validate(tmp_path / "out") == []


def test_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SETS["scin"](tmp_path / "src")

    def call(*args):
        with pytest.raises(SystemExit) as ended:
            cli.main(["import", *args])
        return ended.value.code

    assert call("scin", "src", "out", "--json") == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["samples"] == 3
    assert "examining 3 samples" in out.err and "importing 3 samples" in out.err
    (tmp_path / "src/dataset/images/2001.png").unlink()
    assert call("scin", "src", "b") == 2
    assert capsys.readouterr().err.startswith("error: 2001.png: its picture is missing")
    assert call("scin", "src", "b", "--skip-bad") == 3  # it lacks one
    assert "left out: 2001.png" in capsys.readouterr().err
    assert call("--help") == 0
    told = capsys.readouterr().out
    assert all(kind in told for kind in KINDS)
    assert set(SETS) | {"webdataset", "set"} == set(KINDS)


def test_a_licence_is_never_dropped(tmp_path):
    SETS["folder"](tmp_path / "src")
    import_set("folder", tmp_path / "src", tmp_path / "out", OWN)
    with pytest.raises(DatasetError, match=f"under the licence '{OWN.licences[0]}'.*give it again"):
        import_set("folder", tmp_path / "src", tmp_path / "out",
                   ImportOptions(("CC0-1.0",), OWN.attribution, "clinical"))
    with pytest.raises(DatasetError, match="attribution"):
        import_set("folder", tmp_path / "src", tmp_path / "out", ImportOptions(OWN.licences, ("You",), "clinical"))
    more = ImportOptions((*OWN.licences, "CC0-1.0"), OWN.attribution, "clinical")
    import_set("folder", tmp_path / "src", tmp_path / "out", more)
    assert set(read_card(tmp_path / "out")[0].licences) == {*OWN.licences, "CC0-1.0"}


def test_archives_are_read_as_the_folder_in_them(tmp_path):
    SETS["ddi"](tmp_path / "src")
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for path in sorted((tmp_path / "src").iterdir()):
            archive.write(path, f"DDI/{path.name}")
    with tarfile.open(tmp_path / "d.tar", "w") as tar:
        tar.add(tmp_path / "src", "./DDI")
    for name in ("d.zip", "d.tar"):
        assert import_set("ddi", tmp_path / name, tmp_path / f"out-{name}").made == 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["ham10000", "itobos", "folder"])
def test_real_sets_load_in_hugging_face_beside_synthetic_ones(kind, rendered, tmp_path, monkeypatch):
    """Masks for some, for none; the columns are those of a synthetic set."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    rows = taken(kind, tmp_path)
    real, synthetic = (datasets.load_dataset(str(path), split="train", cache_dir=str(tmp_path / "cache"))
                       for path in (tmp_path / "out", rendered))
    assert real.features == synthetic.features
    assert len(datasets.concatenate_datasets([real, synthetic])) == len(rows) + 5
    for row, sample in zip(rows.values(), real, strict=True):
        assert (sample["mask"] is None) == (row["mask_file_name"] is None) and sample["hair"] is None
        assert np.asarray(sample["image"]).shape[2] == 3
