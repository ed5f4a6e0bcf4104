"""Translated sets: the contract, lineage, what stays bit for bit; balance with its gates; bad input in one line."""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from gan_sets import write_set

from synthskin.dataset.reader import open_dataset, read_rows, validate
from synthskin.gan import GanError
from synthskin.gan.balance import balance_set, find_needs, parse_goal
from synthskin.gan.composite import CompositeOptions, _strands, composite, may_change, under_hair
from synthskin.gan.domain import load_domain
from synthskin.gan.method import TrainOptions
from synthskin.gan.model import Model, ModelCard
from synthskin.gan.translate import Translator, translate_set
from synthskin.gan.where import Where, parse_where
from synthskin.gates import CopyGate, GatePanel, MaskGate, SourceLeakGate

SPECS = [("NV", 1 + k % 6, k % 2 == 0) for k in range(10)] + [("MEL", 2)] * 3 + [("healthy", 3)]


class Darker(torch.nn.Module):
    """A stand-in generator that takes half of the light everywhere: what compositing keeps is then seen."""

    def forward(self, x, tones=None):
        return (x + 1.0) * (0.5 if tones is None else (0.2 + 0.1 * tones.float())[:, None, None, None]) - 1.0


def translator(change="class", method="cyclegan", size=32, whole=False, tones=(), net=None, diagnosis="MEL"):
    where = "diagnosis=NV" if change == "class" else ""
    card = ModelCard(TrainOptions(method, change, size), {"where": where, "set_hash": "s"}, {"where": ""},
                     diagnosis if change == "class" else None, ["NV"], [1, 2, 3, 4, 5, 6], ["CC-BY-4.0"], ["its maker"],
                     1, None, sha256="c" * 64)
    return Translator(Model(card, (net or Darker()).eval(), torch.device("cpu")), CompositeOptions(), whole, tones)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("sets") / "toys", SPECS)


def test_class_translation_keeps_the_contract_and_the_source(toys, tmp_path):
    result = translate_set(translator(), toys, tmp_path / "out")
    assert (result.made, result.left_out) == (10, {})
    assert validate(tmp_path / "out") == []
    parents = {row["file_name"]: row for row in read_rows(toys)}
    made = open_dataset(tmp_path / "out")
    assert made.card.licences == ["CC0-1.0", "CC-BY-4.0"] and "its maker" in made.card.attribution
    changed_somewhere = 0
    for k, row in enumerate(made.rows):
        (parent,) = row["parents"]
        old = parents[parent["file_name"]]
        file = (toys / parent["file_name"]).read_bytes()
        assert parent["sha256"] == hashlib.sha256(file).hexdigest() and parent["set_hash"] == old["set_hash"]
        assert (row["diagnosis"], row["diagnosis_status"], row["mask_status"]) == ("MEL", "requested", "inherited")
        assert (row["benign_malignant"], row["checkpoint"], row["group_id"]) == ("malignant", "c" * 64, old["group_id"])
        assert "melanoma" not in row["caption"] and "nevus" not in row["caption"]
        sample, source = made.load(k), open_dataset(toys).load(old["index"])
        assert (sample.mask == source.mask).all()
        different = (sample.image != source.image).any(-1)
        domain = load_domain(toys, Where(), 32)
        weight = may_change(domain.picture(old["index"]), "class", CompositeOptions())
        assert not different[weight == 0].any() and different[source.mask > 0].all()
        assert (weight[source.mask > 0] == 1).all() and weight[0].max() == 0
        if "ruler" in row["artefacts"]:
            assert not different[sample.artefacts["ruler"] > 0].any()
        changed_somewhere += different.sum()
    assert changed_somewhere > 0


def test_whole_changes_everything(toys, tmp_path):
    translate_set(translator(whole=True), toys, tmp_path / "out", n=2)
    made, source = open_dataset(tmp_path / "out"), open_dataset(toys)
    assert validate(tmp_path / "out") == []
    assert (made.load(0).image != source.load(0).image).any(-1).mean() > 0.95
    assert made.rows[0]["artefacts"] == [] and made.rows[0]["hair_file_name"] is None


def test_tone_translation_changes_skin_and_keeps_what_stands_before_it(toys, tmp_path):
    translate_set(translator("tone"), toys, tmp_path / "out")
    assert validate(tmp_path / "out") == []
    made, source = open_dataset(tmp_path / "out"), open_dataset(toys)
    assert len(made) == len(SPECS)
    for k, row in enumerate(made.rows):
        old = source.rows[k]
        assert (row["diagnosis"], row["diagnosis_status"]) == (old["diagnosis"], "inherited")
        assert row["lesion_id"] == old["lesion_id"] and row["tone_source"] == "image"
        different = (made.load(k).image != source.load(k).image).any(-1)
        ruler = source.load(k).artefacts.get("ruler", np.zeros((32, 32), np.uint8)) > 0
        assert not different[ruler].any() and different[:, 16:].mean() > 0.9
    assert np.mean([row["ita_image_deg"] for row in made.rows]) < np.mean([60 - 20 * s[1] for s in SPECS])


def test_what_was_found_or_asked_for_is_not_made_true_by_handing_it_on(toys, tmp_path):
    shutil.copytree(toys, tmp_path / "found")
    rows, exact = tmp_path / "found/metadata.jsonl", '"mask_status": "exact"'
    assert exact in rows.read_text()
    rows.write_text(rows.read_text().replace(exact, '"mask_status": "predicted"'))
    translate_set(translator(), tmp_path / "found", tmp_path / "asked")
    translate_set(translator("tone"), tmp_path / "asked", tmp_path / "again")
    translate_set(translator("tone"), toys, tmp_path / "known")
    for name, status in (("asked", "predicted"), ("again", "predicted"), ("known", "inherited")):
        assert {row["mask_status"] for row in read_rows(tmp_path / name)} == {status}
        assert validate(tmp_path / name) == []
    again, known = read_rows(tmp_path / "again"), read_rows(tmp_path / "known")
    assert {row["diagnosis_status"] for row in again} == {"requested"}
    assert all("melanoma" not in row["caption"] for row in again)
    assert any("melanoma" in row["caption"] for row in known)


def test_hair_lies_over_the_new_skin_and_brings_none_of_the_old(toys):
    pale, dark = (200, 170, 150), (90, 60, 45)
    hair = np.zeros((32, 32), bool)
    hair[10, 4:28], hair[20, 8:] = True, True
    image = np.empty((32, 32, 3), np.uint8)
    image[:] = pale
    image[10, 4:28], image[20, 8:] = (30, 25, 20), (168, 142, 125)  # one hides the skin, the other a third of a pixel
    source = replace(load_domain(toys, Where(), 32).picture(0), image=image, hair=hair, artefacts={})
    new = np.empty_like(image)
    new[:] = dark
    made = under_hair(source, new)
    away = ~hair
    away[9:12] = away[19:22] = False
    assert (made[away] == dark).all() and made.max() <= max(dark)
    assert (made[10, 4:28] < image[10, 4:28]).all()
    light = [((np.asarray(c) / 255 + 0.055) / 1.055) ** 2.4 for c in (made[20, 20], dark, image[20, 20], pale)]
    assert light[0] / light[1] == pytest.approx(light[2] / light[3], abs=0.03)
    assert (may_change(source, "tone", CompositeOptions())[hair] == 1).all()
    assert (may_change(source, "class", CompositeOptions())[hair] == 0).all()


def test_stargan_makes_every_tone(toys, tmp_path):
    translate_set(translator("tone", "stargan", tones=(1, 5)), toys, tmp_path / "out", n=3)
    assert validate(tmp_path / "out") == []
    rows = read_rows(tmp_path / "out")
    assert [json.loads(row["params"])["tone_asked"] for row in rows] == [1, 5, 1, 5, 1, 5]
    assert [row["parents"][0]["file_name"] for row in rows[:2]] == ["images/000000.png"] * 2


def test_the_same_call_again_continues(toys, tmp_path):
    whole = translate_set(translator(), toys, tmp_path / "whole")
    translate_set(translator(), toys, tmp_path / "parts", n=4)
    assert translate_set(translator(), toys, tmp_path / "parts").made == whole.made - 4
    for path in sorted((tmp_path / "whole/images").glob("*.png")):
        assert path.read_bytes() == (tmp_path / "parts/images" / path.name).read_bytes()
    assert read_rows(tmp_path / "whole") == read_rows(tmp_path / "parts")
    shutil.copytree(toys, tmp_path / "toys")
    name = read_rows(tmp_path / "whole")[0]["parents"][0]["file_name"]
    shutil.copy(toys / "images/000011.png", tmp_path / "toys" / name)
    with pytest.raises(GanError, match=f"was made from another {name} than .* holds now; choose another --out"):
        translate_set(translator(), tmp_path / "toys", tmp_path / "whole")


def test_bytes_stay_where_the_weight_is_zero():
    rng = np.random.default_rng(0)
    source, other = rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    weight = np.zeros((16, 16), np.float32)
    weight[8:] = rng.random((8, 16), dtype=np.float32)
    mixed = composite(source, other, weight)
    assert (mixed[:8] == source[:8]).all()
    assert (composite(source, other, np.ones_like(weight)) == other).all()


def test_a_generator_that_tints_all_skin_leaves_no_halo(toys):
    """Around the lesion the mean colour of the skin stays, whatever is done to all of it; the lesion changes."""

    class Tint(torch.nn.Module):
        def forward(self, x, tones=None):
            colour = torch.tensor([0.85, 0.7, 0.65])[None, :, None, None]
            dark = (x.mean(1, keepdim=True) < x.mean((1, 2, 3), keepdim=True) - 0.15).float()
            return ((x + 1) * colour - 1) * (1 - dark) - 0.9 * dark

    domain = load_domain(toys, parse_where("diagnosis=NV"), 32)
    sources = [domain.picture(k) for k in range(4)]
    for made in translator(net=Tint())(sources):
        picture = made.source
        weight = may_change(picture, "class", CompositeOptions())
        ring = (weight > 0.3) & (picture.mask == 0)
        moved = made.image[ring].astype(float).mean(0) - picture.image[ring].mean(0)
        assert np.abs(moved).max() < 8, moved
        assert np.abs(made.image.astype(float) - picture.image)[picture.mask > 0].max() > 20


def test_only_long_marks_are_hair():
    found = np.zeros((100, 100), bool)
    found[20:24, 20:24] = True
    found[60:62, 10:60] = True
    kept = _strands(found)
    assert not kept[20:24, 20:24].any() and kept[60:62, 10:60].all()


@pytest.mark.parametrize(("kind", "said"), [
    ("no masks", "have no mask"), ("nothing", "none of its 14 samples fulfil"), ("is it already", "is MEL already"),
    ("inside", "lies inside DATA"), ("n", "1 or more"),
])
def test_bad_input(toys, tmp_path, kind, said):
    with pytest.raises(GanError, match=said):
        if kind == "no masks":
            bare = write_set(tmp_path / "bare", [("NV", 2)] * 3, masks=False)
            translate_set(translator(), bare, tmp_path / "out")
        elif kind == "nothing":
            translate_set(translator(), toys, tmp_path / "out", parse_where("diagnosis=DF"))
        elif kind == "is it already":
            translate_set(translator(), toys, tmp_path / "out", parse_where("diagnosis=MEL"))
        elif kind == "inside":
            translate_set(translator(), toys, toys / "out")
        else:
            translate_set(translator(), toys, tmp_path / "out", n=0)
    assert not (tmp_path / "out").exists()
    assert validate(toys) == []


def test_without_masks_whole_still_works(tmp_path):
    bare = write_set(tmp_path / "bare", [("NV", 2)] * 3, masks=False)
    translate_set(translator(whole=True), bare, tmp_path / "out")
    assert validate(tmp_path / "out") == [] and {r["mask_status"] for r in read_rows(tmp_path / "out")} == {"none"}


# ---- balance
@dataclass
class Found:
    mask: np.ndarray
    confidence: float = 1.0


class DarkSegmenter:
    """Finds what is darker than the picture's edge; `blind` pictures are those whose mean is even."""

    def predict(self, images, **_):
        edges = [np.concatenate([i[-2:].reshape(-1, 3), i[:, -2:].reshape(-1, 3)]).mean() for i in images]
        return [Found((i.mean(-1) < 0.75 * e) & (np.indices(i.shape[:2])[1] > i.shape[1] // 8))
                for i, e in zip(images, edges, strict=True)]


def panel(toys, min_iou=0.6, min_change=2.3):
    data = load_domain(toys, Where(), 32)
    pictures = [data.picture(k) for k in range(len(data))]
    return GatePanel([MaskGate(DarkSegmenter(), min_iou=min_iou),
                      CopyGate.of([p.image for p in pictures], [p.sha256 for p in pictures], among=False),
                      SourceLeakGate(min_change=min_change)])


def test_balance_fills_up_and_reports(toys, tmp_path):
    needs = find_needs(read_rows(toys), 0.6, [translator()])
    assert [(n.diagnosis, n.have, n.wanted, n.translator is not None) for n in needs] == [
        ("healthy", 1, 5, False), ("MEL", 3, 3, True)]
    result = balance_set(toys, tmp_path / "out", needs, panel(toys, min_iou=0.3), seed=3)
    assert validate(tmp_path / "out") == []
    told = json.loads(result.report.read_text())
    rows = read_rows(tmp_path / "out")
    assert told["before"] == {"MEL": 3, "NV": 10, "healthy": 1} and result.missing["healthy"] == 5
    assert told["after"]["MEL"] == 3 + len(rows) == 3 + result.added["MEL"] <= 6
    assert told["judged"] == told["passed"] + sum(told["refused"].values())
    assert sum(told["after_by_class_and_tone"].values()) == sum(told["after"].values())
    assert {row["diagnosis"] for row in rows} == {"MEL"}
    assert all(set(json.loads(row["params"])["gates"]) == {"mask", "near-duplicate", "source-leak"} for row in rows)
    assert len({row["parents"][0]["file_name"] for row in rows}) == len(rows)
    again = balance_set(toys, tmp_path / "out", needs, panel(toys, min_iou=0.3), seed=3)
    assert again.added == result.added and read_rows(tmp_path / "out") == rows


def test_balance_refuses_what_did_not_change(toys, tmp_path):
    """An identity generator: every picture is still its source, and all are short."""
    needs = find_needs(read_rows(toys), 0.6, [translator(net=torch.nn.Identity())])
    result = balance_set(toys, tmp_path / "out", needs, panel(toys, min_iou=0.0))
    told = json.loads(result.report.read_text())
    assert result.added == {} and result.missing == {"healthy": 5, "MEL": 3}
    assert told["refused"].get("source-leak", 0) + told["refused"].get("near-duplicate", 0) == 10
    assert (tmp_path / "out-report/gates/report.html").is_file()


def test_goals_and_needs(toys):
    assert parse_goal("equal", None) == 1.0 and parse_goal("ratio", 0.5) == 0.5
    for text, ratio in (("equal", 0.5), ("ratio", None), ("ratio", 0.0), ("ratio", 1.5), ("half", None)):
        with pytest.raises(GanError):
            parse_goal(text, ratio)
    rows = read_rows(toys)
    with pytest.raises(GanError, match="two models make MEL"):
        find_needs(rows, 1.0, [translator(), translator()])
    with pytest.raises(GanError, match="tone model cannot fill"):
        find_needs(rows, 1.0, [translator("tone")])
    with pytest.raises(GanError, match="no model makes"):
        find_needs(rows, 1.0, [translator(diagnosis="BCC")])
    assert find_needs([r for r in rows if r["diagnosis"] != "healthy"], 0.3, [translator()]) == []


def test_validation_and_test_rows_are_left_alone(tmp_path):
    splits = ["train"] * 6 + ["test"] * 4 + ["train"] * 3
    data = write_set(tmp_path / "set", SPECS[:13], splits=splits)
    needs = find_needs(read_rows(data), 1.0, [translator()])
    assert [(n.diagnosis, n.have, n.wanted) for n in needs] == [("MEL", 3, 3)]
    balance_set(data, tmp_path / "out", needs, GatePanel([SourceLeakGate()]))
    rows = read_rows(data)
    used = {row["parents"][0]["file_name"] for row in read_rows(tmp_path / "out")}
    assert used and used <= {row["file_name"] for row in rows if row["split"] == "train"}


def test_translator_is_frozen():
    with pytest.raises(AttributeError):
        translator().whole = True
    assert replace(translator(), whole=True).whole
