"""Pictures of several lesions: a tone carries each of them, class and picture leave them out and say so."""

import json

import numpy as np
import pytest
from gan_sets import picture, write_set
from test_gan_translate import translator

from synthskin.dataset.card import Card
from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import Sample, empty_row
from synthskin.dataset.reader import bounding_box, open_dataset, read_rows, validate
from synthskin.dataset.writer import DatasetWriter
from synthskin.gan import GanError
from synthskin.gan.balance import _sources, balance_set, find_needs
from synthskin.gan.domain import load_domain
from synthskin.gan.train import one_lesion
from synthskin.gan.translate import translate_set
from synthskin.gan.where import Where, parse_where
from synthskin.gates import GatePanel, SourceLeakGate

KINDS = ("BCC", "NV", "NV")


def write_regions(directory, n=2, height=32, width=32, masks=True, centres=((8, 8), (22, 10), (16, 26))):
    """Pictures of three lesions; without masks, boxes alone, as imported tiles have them."""
    card = Card("physics", "region", "fedcba9876543210", 0, n, 32 if height == width == 32 else 0, None, {"by": "test"})
    with DatasetWriter(directory, card, 'name = "region"\n') as writer:
        for index in range(n):
            y, x = np.mgrid[:height, :width]
            labels = np.zeros((height, width), np.uint8)
            for number, (cy, cx) in enumerate(centres, start=1):
                labels[(y - cy) ** 2 + (x - cx) ** 2 < 16] = number
            image = np.full((height, width, 3), (200, 160, 130), np.uint8)
            image[labels > 0] = (90, 60, 50)
            mask = np.where(labels > 0, 255, 0).astype(np.uint8)
            row = empty_row() | {
                "file_name": f"images/{index:06d}.png", "mask_file_name": f"masks/{index:06d}.png" if masks else None,
                "index": index, "seed": 0, "preset": "region", "set_hash": "fedcba9876543210", "generator": "physics",
                "mask_status": "exact" if masks else "none", "diagnosis": "BCC", "diagnosis_status": "by_construction",
                "benign_malignant": "malignant", "ita_class": 3, "tone_source": "model",
                "bbox": bounding_box(mask) if masks else [],
                "boxes": [bounding_box(labels == k) for k in (1, 2, 3)], "lesions": list(KINDS) if masks else [],
                "modality": "clinical", "group_id": f"region-{index}", "caption": "Toys.", "params": json.dumps({}),
            }
            sample = Sample(row, image, mask if masks else None, instances=labels if masks else None)
            writer.write(encode_sample(sample))
    return directory


def test_a_tone_carries_every_lesion(tmp_path):
    regions = write_regions(tmp_path / "set")
    assert validate(regions) == []
    translate_set(translator("tone"), regions, tmp_path / "out")
    assert validate(tmp_path / "out") == []
    made, source = open_dataset(tmp_path / "out"), open_dataset(regions)
    for k, row in enumerate(made.rows):
        assert (row["lesions"], row["boxes"]) == (list(KINDS), source.rows[k]["boxes"])
        assert row["bbox"] == source.rows[k]["bbox"] and row["diagnosis"] == "BCC"
        assert (made.load(k).instances == source.load(k).instances).all()
        assert (made.load(k).mask == source.load(k).mask).all()


def test_lesions_are_scaled_and_cut_with_their_picture(tmp_path):
    """48 x 96 pixels to 32 x 32: of three lesions the one on the right is cut off, and labels are closed up."""
    regions = write_regions(tmp_path / "set", 1, 48, 96, centres=((24, 40), (24, 90), (12, 60)))
    translate_set(translator("tone"), regions, tmp_path / "out")
    assert validate(tmp_path / "out") == []
    sample = open_dataset(tmp_path / "out").load(0)
    assert sample.row["lesions"] == ["BCC", "NV"] and len(sample.row["boxes"]) == 2
    assert ((sample.instances > 0) == (sample.mask > 0)).all() and set(np.unique(sample.instances)) == {0, 1, 2}
    for number, (cy, cx) in ((1, (16, 10.67)), (2, (8, 24))):
        x, y, w, h = sample.row["boxes"][number - 1]
        assert (y + h / 2, x + w / 2) == pytest.approx((cy, cx), abs=1) and 4 <= w <= 6
        assert bounding_box(sample.instances == number) == [x, y, w, h]


def test_of_two_lesions_one_is_left(tmp_path):
    """The basal cell carcinoma is cut off: what is left is said to be a nevus."""
    regions = write_regions(tmp_path / "set", 1, 48, 96, centres=((24, 90), (24, 48), (24, 6)))
    translate_set(translator("tone"), regions, tmp_path / "out")
    assert validate(tmp_path / "out") == []
    (row,) = read_rows(tmp_path / "out")
    assert row["lesions"] == ["NV"] and row["boxes"] == [row["bbox"]] and not (tmp_path / "out/instances").exists()


def test_boxes_without_masks_are_carried(tmp_path):
    tiles = write_regions(tmp_path / "tiles", 1, masks=False)
    translate_set(translator("tone"), tiles, tmp_path / "same")
    assert read_rows(tmp_path / "same")[0]["boxes"] == read_rows(tiles)[0]["boxes"]
    wide = write_regions(tmp_path / "wide", 1, 48, 96, masks=False, centres=((24, 40), (24, 90), (12, 60)))
    translate_set(translator("tone"), wide, tmp_path / "out")
    assert validate(tmp_path / "out") == []
    (row,) = read_rows(tmp_path / "out")
    assert (len(row["boxes"]), row["bbox"], row["lesions"]) == (2, [], [])
    x, y, w, h = row["boxes"][0]
    assert (x + w / 2, y + h / 2, w) == pytest.approx((10.67, 16, 4.67), abs=0.4)


@pytest.mark.parametrize(("change", "method"), [("class", "cyclegan"), ("picture", "pix2pixhd")])
def test_class_and_picture_leave_them_out(tmp_path, change, method):
    regions = write_regions(tmp_path / "set")
    with pytest.raises(GanError, match=r"nothing to translate among 2 .*\(more than one lesion in the picture\)"):
        translate_set(translator(change, method), regions, tmp_path / "out", Where())
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_is_told_and_balance_starts_from_none(tmp_path):
    data = write_set(tmp_path / "set", [("NV", 2)] * 4 + [("MEL", 2)])
    rows = read_rows(data)
    image, mask, _ = picture(32, 2, "NV", 1)
    labels = (mask > 0).astype(np.uint8)
    labels[16:][labels[16:] > 0] = 2
    rows[1] |= {"lesions": ["NV", "NV"], "boxes": [bounding_box(labels == k) for k in (1, 2)]}
    (data / "instances").mkdir()
    from synthskin.dataset.encode import png_bytes

    for folder, array in (("images", image), ("masks", mask), ("instances", labels)):
        (data / folder / "000001.png").write_bytes(png_bytes(array))
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert validate(data) == []
    told = translate_set(translator(), data, tmp_path / "out")
    assert (told.made, told.left_out) == (3, {"more than one lesion in the picture": 1})
    assert all(row["parents"][0]["file_name"] != "images/000001.png" for row in read_rows(tmp_path / "out"))
    needs = find_needs(rows, 1.0, [translator()])
    assert {row["index"] for row in _sources(needs[0], data, 0).rows} == {0, 2, 3}
    result = balance_set(data, tmp_path / "more", needs, GatePanel([SourceLeakGate()]))
    assert json.loads(result.report.read_text())["left_out"] == {"MEL": {"more than one lesion in the picture": 1}}


def test_a_model_of_classes_learns_from_pictures_of_one_lesion(tmp_path):
    data = write_set(tmp_path / "set", [("MEL", 2), ("NV", 3), ("MEL", 2)])
    rows = read_rows(data)
    rows[1] |= {"lesions": ["NV", "NV"], "boxes": [[1, 1, 4, 4], [9, 9, 4, 4]]}
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept, told = one_lesion(load_domain(data, Where(), 32), "SOURCE")
    assert [row["index"] for row in kept.rows] == [0, 2]
    assert told == ["1 of 3 pictures of SOURCE left out: more than one lesion in the picture"]
    assert one_lesion(kept, "SOURCE") == (kept, [])
    with pytest.raises(GanError, match=r"TARGET .*: all 1 pictures have more than one lesion"):
        one_lesion(load_domain(data, parse_where("diagnosis=NV"), 32), "TARGET")


def test_siblings_of_test_pictures_do_not_count_as_learnt(tmp_path):
    """A lesion whose other picture is tested is no source, so it is none of those the class has either."""
    data = write_set(tmp_path / "set", [("NV", 2)] * 4 + [("MEL", 2)] * 3, groups=["a", "b", "c", "d", "e", "f", "f"])
    rows = read_rows(data)
    rows[6] |= {"split": "test"}
    (need,) = find_needs(rows, 1.0, [translator()])
    assert (need.diagnosis, need.have, need.wanted) == ("MEL", 1, 3)
