"""Imports of damaged sources, bad options and any bytes: one line, and nothing half-written."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from real_sets import SETS, mask, photo, table
from test_dataset_imports import OWN

from synthskin.dataset.format import DatasetError
from synthskin.dataset.imports import ImportOptions, import_set, ph2
from synthskin.dataset.imports.common import Source
from synthskin.dataset.imports.itobos import read_boxes
from synthskin.dataset.imports.scin import top_label
from synthskin.dataset.reader import validate


def bad_dx(root):
    table(root / "HAM10000_metadata.csv", {"lesion_id": "a", "image_id": "ISIC_0027419", "dx": "wart",
                                           "dx_type": "histo", "age": "", "sex": "", "localization": ""})


def twice(root):
    photo(root / "copy/ISIC_0027419.jpg", 3)


def listed_twice(root):
    path = root / "HAM10000_metadata.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")


def grey_mask(root):
    Image.fromarray(np.full((24, 36), 99, np.uint8)).save(
        root / "HAM10000_segmentations_lesion_tschandl/ISIC_0026769_segmentation.png")


def small_mask(root):
    mask(root / "HAM10000_segmentations_lesion_tschandl/ISIC_0026769_segmentation.png", None, (8, 8))


BROKEN = {
    "unknown label": (bad_dx, "dx: 'wart'; allowed are nv, mel"),
    "no table": (lambda r: (r / "HAM10000_metadata.csv").unlink(), "HAM10000_metadata.csv.* is not there"),
    "no column": (lambda r: table(r / "HAM10000_metadata.csv", {"image_id": 1}), "the column 'lesion_id' is missing"),
    "no lines": (lambda r: (r / "HAM10000_metadata.csv").write_text(
        "lesion_id,image_id,dx,dx_type,age,sex,localization\n"), "no line below"),
    "cells": (lambda r: (r / "HAM10000_metadata.csv").write_text(
        "lesion_id,image_id,dx,dx_type,age,sex,localization\na,b\n"), "line 2: 2 cells, the header has 7"),
    "no text": (lambda r: (r / "HAM10000_metadata.csv").write_bytes(b"\xff\xfe\x00"), "cannot be read"),
    "picture twice": (twice, "is there twice"),
    "line twice": (listed_twice, "is listed twice"),
    "grey mask": (grey_mask, "a mask of two"),
    "small mask": (small_mask, "8 x 8 pixels, the picture has 36 x 24"),
    "link": (lambda r: (r / "x.jpg").symlink_to("/etc/passwd"), "symbolic link"),
    "linked folder": (lambda r: (r / "more").symlink_to("/etc"), "symbolic link"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_sources_are_one_line(name, tmp_path):
    damage, part = BROKEN[name]
    root = SETS["ham10000"](tmp_path / "src")
    damage(root)
    with pytest.raises(DatasetError, match=part) as caught:
        import_set("ham10000", root, tmp_path / "out")
    assert "\n" not in str(caught.value)
    if (tmp_path / "out").exists():  # found while writing: what is there is whole
        assert "mask" in name and validate(tmp_path / "out") == []


@pytest.mark.parametrize(("kind", "given_", "part"), [
    ("ham", ImportOptions(), "no kind of import"),
    ("folder", ImportOptions(), "--licence and --attribution"),
    ("ddi", ImportOptions(modality="clinical"), "no meaning"),
    ("folder", ImportOptions(("a",), ("b",), "x-ray"), "dermoscopic, clinical"),
    ("folder", ImportOptions(("a\nb",), ("b",)), "one line"),
])
def test_bad_options(kind, given_, part, tmp_path):
    SETS["folder"](tmp_path / "src")
    with pytest.raises(DatasetError, match=part):
        import_set(kind, tmp_path / "src", tmp_path / "out", given_)
    assert not (tmp_path / "out").exists()


def test_other_places_are_refused(tmp_path):
    SETS["folder"](tmp_path / "src")
    for source, out, part in (("none", "out", "not there"), ("src", "src/out", "lies inside"),
                              ("src", "full", "thesis"), ("a.rar", "out", "neither a folder nor an archive")):
        (tmp_path / "a.rar").write_bytes(b"Rar!")
        (tmp_path / "full").mkdir(exist_ok=True)
        (tmp_path / "full/thesis.tex").write_text("x")
        with pytest.raises(DatasetError, match=part):
            import_set("folder", tmp_path / source, tmp_path / out, OWN)
    import_set("folder", tmp_path / "src", tmp_path / "out", OWN)
    photo(tmp_path / "src/NV/new.png", 7)
    with pytest.raises(DatasetError, match="hash"):
        import_set("folder", tmp_path / "src", tmp_path / "out", OWN)


@settings(max_examples=40)
@given(st.text(max_size=60) | st.dictionaries(st.text(max_size=6), st.floats(0, 1), max_size=3).map(str))
def test_any_scin_cell_is_a_label_or_one_error(cell):
    try:
        label = top_label(cell, "x")
    except DatasetError as error:
        assert "\n" not in str(error)
    else:
        assert label is None or isinstance(label, str)


@given(st.binary(max_size=300))
def test_any_bytes_as_table_are_rows_or_one_error(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("t")
    (root / "t.csv").write_bytes(data)
    try:
        rows = Source(root, root).rows("t.csv", ())
    except DatasetError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(row, dict) for row in rows)


@given(st.text(alphabet="0123456789.- \nabcnif", max_size=60) | st.binary(max_size=60))
def test_any_box_file_is_boxes_or_one_error(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("b")
    (root / "a.txt").write_bytes(data if isinstance(data, bytes) else data.encode())
    try:
        boxes = read_boxes(Source(root, root), "a.txt")
    except DatasetError as error:
        assert "line" in str(error) and "\n" not in str(error)
    else:
        assert all(0 <= v <= 1 for found in boxes for v in found)


@given(st.lists(st.sampled_from(["|| IMD002 || Melanoma || 2 || 0 | T || 3 ||", "||", "|| IMD9 || || 7 || | || ||", "x",
                                 "|| IMD004 ||  || 0 || a || b ||", "\x00", "|| IMD || 2 ||"]), max_size=5)
       | st.text(max_size=80))
def test_any_ph2_table_is_a_plan_or_one_error(tmp_path_factory, lines):
    root = tmp_path_factory.mktemp("p")
    (root / "PH2_dataset.txt").write_text(lines if isinstance(lines, str) else "\n".join(lines), encoding="utf-8")
    try:
        made = ph2.plan(Source(root, root), ImportOptions())
    except DatasetError as error:
        assert "allowed are 0, 1, 2" in str(error)
    else:
        assert made.photos == () and set(made.missing) <= {"IMD002", "IMD004"}
