"""Imports: which pictures are one group, of which split a picture is, and when a source is another one."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_sets import SETS, mask, photo, table

from synthskin import cli
from synthskin.dataset.compare import differences
from synthskin.dataset.format import DatasetError
from synthskin.dataset.imports import ImportOptions, import_set
from synthskin.dataset.imports.splits import split_of
from synthskin.dataset.imports.ties import tied
from synthskin.dataset.reader import read_card, read_rows, validate

CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def rows_of(path):
    return {row["source_id"]: row for row in read_rows(path)}


def one_mask(root):
    mask(root / "HAM10000_segmentations_lesion_tschandl/ISIC_0026769_segmentation.png", (6, 6, 10, 8))


def one_attribute(root):
    mask(root / "ISIC2018_Task2_Training_GroundTruth_v3/ISIC_0000003_attribute_pigment_network.png", (6, 5, 3, 3))


def one_record(root):
    path = root / "HAM10000_metadata.csv"
    path.write_text(path.read_text().replace("vidir_modern", "rosendahl"))


@pytest.mark.parametrize(("kind", "change"), [("ham10000", one_mask), ("isic2018", one_attribute),
                                              ("ham10000", one_record)])
def test_a_source_with_other_masks_is_another_set(kind, change, tmp_path):
    root = SETS[kind](tmp_path / "src")
    import_set(kind, root, tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "before")
    change(root)
    with pytest.raises(DatasetError, match=r"imported from a source that had other .*choose another") as caught:
        import_set(kind, root, tmp_path / "out")
    assert "\n" not in str(caught.value) and differences(tmp_path / "out", tmp_path / "before") == []
    import_set(kind, root, tmp_path / "new")
    assert read_card(tmp_path / "new")[0].set_hash != read_card(tmp_path / "out")[0].set_hash


def test_a_set_of_an_older_importer_is_told_as_such(tmp_path):
    root = SETS["ham10000"](tmp_path / "src")
    import_set("ham10000", root, tmp_path / "out")
    path = tmp_path / "out/dataset.json"
    path.write_text(path.read_text().replace('"importer_version": 2', '"importer_version": 1'))
    with pytest.raises(DatasetError, match=r"another version of the importer \(1, this is 2\)"):
        import_set("ham10000", root, tmp_path / "out")


@pytest.mark.parametrize(("path", "split"), [
    ("ISIC-2017_Training_Data/a.jpg", "train"), ("ISIC-2017_Test_v2_Data/a.jpg", "test"),
    ("ISIC-2017_Validation_Data/a.jpg", "val"), ("latest/ISIC-2017_Training_Data/a.jpg", "train"),
    ("evaluation/ISIC-2017_Training_Data/a.jpg", "train"), ("latest/a.jpg", None),
    ("contest/value/trained/a.jpg", None),
    ("ISIC2018_training_and_test/ISIC2018_Task3_Test_Input/a.jpg", "test"), ("train_and_test/a.jpg", None),
    ("train/test/a.jpg", "test"), ("TestData/a.jpg", "test"), ("TRAIN/images/a.jpg", "train"), ("test.jpg", None),
])
def test_the_split_is_a_whole_word_of_the_nearest_folder(path, split):
    assert split_of(path) == split


def test_the_split_of_a_source_with_folders_above(tmp_path):
    SETS["isic2017"](tmp_path / "test/src/latest")  # what lies above the source says nothing
    import_set("isic2017", tmp_path / "test/src", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [rows[f"ISIC_000000{k}"]["split"] for k in range(3)] == ["train"] * 3
    assert rows["ISIC_0012086"]["split"] == "test"
    SETS["itobos"](tmp_path / "latest_evaluation")
    import_set("itobos", tmp_path / "latest_evaluation", tmp_path / "boxes")
    assert set(rows_of(tmp_path / "boxes")) == {"train-a1", "train-a2", "test-a1"}


def isic2018(root, groupings, people):
    for k in range(4):
        photo(root / f"ISIC2018_Task3_{'Training' if k < 3 else 'Test'}_Input/ISIC_{k}.jpg", 100 + k)
    table(root / "ISIC2018_Task3_Training_GroundTruth.csv",
          *({"image": f"ISIC_{k}", **{c: int(c == "NV") for c in CLASSES}} for k in range(4)))
    table(root / "ISIC2018_Task3_Training_LesionGroupings.csv",
          *({"image": f"ISIC_{k}", "lesion_id": lesion, "diagnosis_confirm_type": "histopathology"}
            for k, lesion in groupings.items()))
    table(root / "metadata.csv", *({"isic_id": f"ISIC_{k}", "patient_id": patient, "lesion_id": lesion}
                                   for k, (patient, lesion) in people.items()))
    return root


def test_one_patient_is_one_group_whatever_the_lesions(tmp_path):
    root = isic2018(tmp_path / "src", {k: f"HAM_{k}" for k in range(3)}, dict.fromkeys(range(4), ("P1", "")))
    import_set("isic2018", root, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert {row["group_id"] for row in rows.values()} == {"isic2018-P1"}
    assert [rows[f"ISIC_{k}"]["lesion_id"] for k in range(4)] == ["HAM_0", "HAM_1", "HAM_2", None]
    assert validate(tmp_path / "out") == []


def test_patients_and_lesions_of_two_tables_tie_together(tmp_path):
    root = isic2018(tmp_path / "src", {0: "HAM_0", 1: "HAM_0", 2: "HAM_2"},
                    {0: ("P1", "IL_0"), 1: ("unknown", ""), 2: ("", "IL_2"), 3: ("P1", "IL_3")})
    import_set("isic2018", root, tmp_path / "out")
    groups = [rows_of(tmp_path / "out")[f"ISIC_{k}"]["group_id"] for k in range(4)]
    assert groups == ["isic2018-P1", "isic2018-P1", "isic2018-HAM_2", "isic2018-P1"]


def test_the_same_text_as_lesion_and_as_patient_is_two_groups():
    names = tied([[("patient", "1")], [("lesion", "1")], [], [("lesion", None)]])
    assert names == ["patient-1", "lesion-1", None, None]


@given(st.lists(st.lists(st.tuples(st.sampled_from(["group", "patient", "lesion"]), st.sampled_from("abcde")),
                         max_size=3), max_size=8), st.randoms(use_true_random=False))
def test_groups_are_the_connected_parts_in_any_order(pictures, random):
    names = tied(pictures)
    parts = [{("n", k), *ids} for k, ids in enumerate(pictures)]
    merged = True
    while merged:  # join sets that share an id, the slow way
        merged = False
        for a in range(len(parts)):
            for b in range(a):
                if parts[a] & parts[b]:
                    parts[b] |= parts.pop(a)
                    merged = True
                    break
            if merged:
                break
    for part in parts:
        own = {names[k] for kind, k in part if kind == "n"}
        assert len(own) == 1
    numbered = [names[k] for k, ids in enumerate(pictures) if ids]
    assert len(set(numbered)) == sum(len(part) > 1 for part in parts)
    order = list(range(len(pictures)))
    random.shuffle(order)
    assert tied([list(reversed(pictures[k])) for k in order]) == [names[k] for k in order]


@pytest.mark.parametrize("nothing", ["", "unknown", "NaN", "NA"])
def test_pictures_without_a_lesion_are_each_of_their_own(nothing, tmp_path):
    root = SETS["ham10000"](tmp_path / "src")
    path = root / "HAM10000_metadata.csv"
    path.write_text(path.read_text().replace("HAM_0002730", nothing).replace("HAM_0001466", nothing))
    import_set("ham10000", root, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert validate(tmp_path / "out") == []
    alone = [rows[name] for name in ("ISIC_0026769", "ISIC_0031633")]
    assert [row["lesion_id"] for row in alone] == [None, None]
    assert len({row["group_id"] for row in rows.values()}) == 4
    assert "near-duplicate" in read_card(tmp_path / "out")[0].description


def test_cases_without_a_number_are_each_of_their_own(tmp_path):
    root = SETS["scin"](tmp_path / "src")
    for path in (root / "dataset/scin_cases.csv", root / "dataset/scin_labels.csv"):
        lines = [line.split(",", 1) for line in path.read_text().splitlines()]
        path.write_text("\n".join([",".join(lines[0]), *("," + rest for _, rest in lines[1:])]) + "\n")
    import_set("scin", root, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert rows["-1001"]["group_id"] == rows["-1002"]["group_id"] != rows["2001"]["group_id"]
    assert {row["diagnosis_raw"] for row in rows.values()} == {None}  # the labels' line of which case is not known


CLINIC = ImportOptions(("CC-BY-4.0",), ("The clinic",), "clinical")


def classes(root, tmp_path):
    out = tmp_path / f"out-{root.name}"
    result = import_set("folder", root, out, CLINIC)
    return {(row["diagnosis_raw"], row["diagnosis"], row["split"]) for row in read_rows(out)}, result.remarks


@pytest.mark.parametrize("names", [
    {"Melanocytic nevi": "NV", "Vascular lesions": "VASC", "Actinic keratoses": "AKIEC", "Dermatofibroma": "DF",
     "Basal cell carcinoma": "BCC", "Benign keratosis-like lesions": "BKL", "Melanomas": "MEL"},
    {"pigmented benign keratosis": "BKL", "seborrheic_keratosis": "BKL", "squamous cell carcinoma": None, "nevus": "NV",
     "not melanoma": None, "Bowen's disease": "AKIEC", "healthy-skin": "healthy"}])
def test_common_names_and_plurals_of_classes(names, tmp_path):
    for k, name in enumerate(names):
        photo(tmp_path / "src" / name / "a.png", 200 + k)
    found, remarks = classes(tmp_path / "src", tmp_path)
    assert {label: diagnosis for label, diagnosis, _ in found} == names
    assert all(f"'{name}' -> {code or 'none'} (1)" in remarks[0].replace('"', "'") for name, code in names.items())
    unknown = [name for name, code in names.items() if code is None]
    assert len(remarks) == (2 if unknown else 1)
    assert all("no known diagnosis" in remarks[1] and f"'{name}' (1)" in remarks[1] for name in unknown)


@pytest.mark.parametrize(("paths", "labels"), [
    (("top/MEL/a", "top/NV/a"), {("MEL", None), ("NV", None)}),
    (("data/images/wart/a", "data/images/acne/a"), {("wart", None), ("acne", None)}),
    (("top/train/MEL/a", "top/test/MEL/a"), {("MEL", "train"), ("MEL", "test")}),
    (("test/MEL/a", "test/NV/a"), {("MEL", "test"), ("NV", "test")}),
    (("melanoma/2019/a", "melanoma/2020/a"), {("melanoma", None)}),
    (("wart/2019/a", "wart/2019/b"), {("wart", None)}),
    (("MEL/a", "top/NV/a"), {("MEL", None), ("top", None)}),
])
def test_folders_above_the_classes_are_passed_through(paths, labels, tmp_path):
    for k, path in enumerate(paths):
        photo(tmp_path / "src" / f"{path}.png", 300 + k)
    found, remarks = classes(tmp_path / "src", tmp_path)
    assert {(label, split) for label, _, split in found} == labels
    assert remarks[0].startswith("all pictures lie in 'top/'") == (paths[0].startswith("top/"))
    shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path / "src")
    assert classes(tmp_path / "zipped.zip", tmp_path)[0] == found


def test_the_command_tells_the_classes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SETS["folder"](tmp_path / "src")

    def call(*args):
        with pytest.raises(SystemExit) as ended:
            cli.main(["import", "folder", "src", "out", "--licence", "CC0-1.0", "--attribution", "me", *args])
        return ended.value.code

    for _ in range(2):  # told again where all is kept
        assert call() == 0
        told = capsys.readouterr().err
        assert "note: classes: 'NV' -> NV (1), 'melanoma' -> MEL (2), 'wart, other' -> none (1)" in told
        assert "note: no known diagnosis: 'wart, other' (1)" in told
    assert call("--json") == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 4
