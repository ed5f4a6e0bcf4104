"""Variation sets: one cause differs, everything else is equal; the contract is kept and a stopped run continues."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standin import FakeEngine, device

from synthskin import cli, cli_variation
from synthskin import variation as v
from synthskin.dataset.compare import differences
from synthskin.dataset.format import DatasetError
from synthskin.dataset.reader import open_dataset, read_rows, validate
from synthskin.draw import draw
from synthskin.physics import anatomy, labels
from synthskin.physics.hair import hair_mask
from synthskin.preset import load_preset
from synthskin.record import SampleRecord
from synthskin.run import EngineOptions, RunRequest, render_run

FST2 = load_preset("fst2").with_diagnosis("NV=1")
MELANIN = v.make_sweep("skin.melanosome_fraction", [0.01, 0.11, 0.31])
TONES = v.make_counterfactual(FST2, "fst1,fst4,fst6")


def request(out, plan=MELANIN, groups=2, **changes):
    return replace(RunRequest(FST2, groups * len(plan), 0, out, EngineOptions(32, 3), plan=plan), **changes)


def run(out, **changes):
    return render_run(request(out, **changes), FakeEngine, device)


def flat(record):
    data = record.to_dict() if isinstance(record, SampleRecord) else record
    return {f"{group}.{key}": value for group, fields in data.items() if isinstance(fields, dict)
            for key, value in fields.items()} | {k: x for k, x in data.items() if not isinstance(x, dict)}


def changed(records):
    return {key for record in records for key, value in flat(record).items() if value != flat(records[0])[key]}


def test_a_sweep_moves_its_field_and_no_other():
    req = request("x", groups=3)
    for group in range(3):
        siblings = [req.record(3 * group + k) for k in range(3)]
        assert [r.skin.melanosome_fraction for r in siblings] == [0.01, 0.11, 0.31]
        assert changed(siblings) == {"skin.melanosome_fraction"}
        plain = draw(FST2, 0, group)
        assert {key for key, value in flat(plain).items() if value != flat(siblings[0])[key]} <= {
            "skin.melanosome_fraction", "set_hash"}


def test_a_counterfactual_moves_the_skin_alone_and_into_its_class():
    for group in range(4):
        siblings = [TONES.record(FST2, 0, 3 * group + k) for k in range(3)]
        assert all(key.startswith("skin.") for key in changed(siblings) - {"set_hash"})
        fractions = [r.skin.melanosome_fraction for r in siblings]
        assert fractions == sorted(fractions)
        limits = load_preset("fst6").fields["skin.melanosome_fraction"].limits()
        assert limits[0] <= fractions[-1] <= limits[1]
    hairy = v.make_counterfactual(FST2, "fst1,fst6", hair=True)
    keys = changed([hairy.record(FST2, 0, k) for k in range(2)]) - {"set_hash"}
    assert {k for k in keys if not k.startswith("skin.")} == {"hair.eumelanin", "hair.pheomelanin"}


def masks(record, size=96):
    """Lesion and hair masks as the engine makes them."""
    scene = anatomy.build_scene(record, 120)
    tissue, fov = scene.tissue, record.camera.field_of_view_mm
    lesion = labels.lesion_mask(scene.lesion, tissue.column_mm, tissue.origin_mm, fov, size)
    return lesion.tobytes(), hair_mask(scene.hair, size, fov).tobytes()


@pytest.mark.parametrize(("preset", "plan"), [
    ("nv", TONES), ("mel", TONES), ("fst2", v.make_sweep("skin.melanosome_fraction", [0.01, 0.41])),
    ("fst2", v.make_sweep("skin.blood_fraction", [0.002, 0.05])), ("fst2", v.make_sweep("artefacts.ink", [0, 1])),
    ("fst2", v.make_sweep("device.profile", ["colourimetric", "scanned_slide"])),
    ("fst2", v.make_sweep("skin.epidermis_thickness_um", [60, 90])),
])
def test_masks_are_byte_identical_unless_a_lesion_field_moves(preset, plan):
    chosen = v.with_lesions(load_preset(preset).with_sets(["hair.count=5"]))
    siblings = [masks(plan.record(chosen, 1, k)) for k in range(len(plan))]
    assert any(siblings[0][0]) and any(siblings[0][1])
    assert len(set(siblings)) == 1


def test_masks_follow_what_moves():
    for field, values, which in (("lesion.regularity", (0.95, 0.05), 0), ("lesion.growth_time", (0.5, 1.0), 0),
                                 ("hair.count", (0, 30), 1)):
        plan = v.make_sweep(field, values)
        a, b = (masks(plan.record(FST2, 0, k)) for k in range(2))
        assert a[which] != b[which] and a[1 - which] == b[1 - which], field


def test_a_later_lesion_contains_the_earlier():
    plan = v.make_sweep("lesion.growth_time", (0.4, 0.7, 1.0), kind="followup")
    seen = [np.frombuffer(masks(plan.record(FST2, 0, k))[0], bool) for k in range(3)]
    assert seen[0].sum() < seen[1].sum() < seen[2].sum()
    assert not (seen[0] & ~seen[1]).any() and not (seen[1] & ~seen[2]).any()


def test_the_set_keeps_the_contract_and_the_groups(tmp_path):
    result = run(tmp_path / "a")
    assert (result.made, validate(tmp_path / "a")) == (6, [])
    rows = read_rows(tmp_path / "a")
    assert [row["group_id"] for row in rows] == [f"physics-fst2-s0-{g:06d}" for g in (0, 0, 0, 1, 1, 1)]
    assert len({row["set_hash"] for row in rows}) == 1 and rows[0]["set_hash"] != FST2.hash
    assert [json.loads(row["params"])["index"] for row in rows] == [0, 0, 0, 1, 1, 1]
    variation = open_dataset(tmp_path / "a").card.engine["variation"]
    assert variation["field"] == "skin.melanosome_fraction" and variation["values"] == [0.01, 0.11, 0.31]
    followed = v.followed(rows, 3)
    assert "ita_deg" in followed and set(followed) <= set(v.DERIVED)
    for row in rows:
        params = SampleRecord.from_dict(json.loads(row["params"]))
        assert params.set_hash == row["set_hash"]


def test_the_same_command_continues_and_another_is_refused(tmp_path):
    run(tmp_path / "whole")
    out = tmp_path / "part"
    run(out, groups=1)
    (out / "images/000001.png").unlink()
    result = run(out)
    assert (result.made, result.kept) == (4, 2) and differences(tmp_path / "whole", out) == []
    assert run(out, workers=2).made == 0
    other = v.make_sweep("skin.melanosome_fraction", [0.01, 0.11, 0.41])
    with pytest.raises(DatasetError, match=r"variation .*0\.01.*, .* was asked for"):
        run(out, plan=other)
    with pytest.raises(DatasetError, match="hash"):
        render_run(replace(request(out), plan=None), FakeEngine, device)


def test_workers_make_the_same(tmp_path):
    run(tmp_path / "a", plan=TONES)
    run(tmp_path / "b", plan=TONES, workers=2)
    assert differences(tmp_path / "a", tmp_path / "b") == []


@pytest.mark.parametrize(("name", "values"), [
    ("melanin", (0.01, 0.11, 0.21, 0.31, 0.41)), ("blood", (0.002, 0.005, 0.02, 0.05)), ("hair", (0, 30)),
    ("regularity", (0.95, 0.05)), ("dryness", (0.0, 0.5, 1.0)), ("pheomelanin", (0.0, 0.35, 0.7)),
])
def test_shipped_sweeps(name, values):
    assert name in v.sweep_names()
    given = v.load_sweep(name)
    assert given.values == values and given.name == name
    preset = v.changed_preset(given.preset, given.sets, given.diagnosis, given.tone)
    assert changed([v.make_sweep(given.field, given.values).record(preset, 0, k) for k in range(2)]) == {given.field}


def test_lesion_variations_leave_healthy_skin_out():
    preset = load_preset("fst2")
    assert ("healthy", 0.1) in [(n, round(w, 6)) for n, w in preset.diagnosis]
    assert [name for name, _ in v.with_lesions(preset).diagnosis] == ["NV"]
    assert v.with_lesions(preset).hash != preset.hash
    with pytest.raises(v.VariationError, match="--diagnosis NV=1"):
        v.with_lesions(load_preset("healthy"))


@pytest.mark.parametrize(("arguments", "part"), [
    (["sweep"], "give a sweep file"),
    (["sweep", "melonin"], "did you mean 'melanin'"),
    (["sweep", "--field", "skin.melanin", "--values", "1,2"], "unknown field 'skin.melanin'"),
    (["sweep", "--field", "skin.blood_fraction"], "--values"),
    (["sweep", "--field", "skin.blood_fraction", "--values", "0.01"], "2 to 64 different values"),
    (["sweep", "--field", "skin.blood_fraction", "--values", "0.01,0.01"], "2 to 64 different values"),
    (["sweep", "--field", "skin.blood_fraction", "--values", "0.01,0.9"], "allowed is 0.0005 to 0.15"),
    (["sweep", "--field", "skin.blood_fraction", "--values", "0.01,x"], "numbers with commas"),
    (["sweep", "--field", "hair.count", "--values", "1,2.5"], "whole number"),
    (["sweep", "--field", "camera.dermoscopic_type", "--values", "a,b"], "allowed are contact polarized"),
    (["sweep", "--field", "lesion.regularity", "--values", "0,1", "--preset", "healthy"], "no lesion to vary"),
    (["sweep", "melanin", "--n", "0"], "1 or more lesions"),
    (["counterfactual", "--tones", "fst1"], "two or more different tones"),
    (["counterfactual", "--tones", "fst1,fst1"], "two or more different tones"),
    (["counterfactual", "--tones", "fst1,fst9"], "unknown tone 'fst9'"),
    (["counterfactual", "--set", "skin.melanosome_fraction=0.1"], "cannot follow --tones"),
    (["followup", "--times", "0.8,0.4"], "later times"),
    (["followup", "--times", "0.8,4"], "allowed is 0.05 to 1.0"),
    (["followup", "--times", ""], "--times '': numbers with commas"),
    (["followup", "--times", "0.4,x"], "--times 0.4,x: numbers with commas"),
    (["followup", "--set", "lesion.growth_time=0.5"], "lesion.growth_time is what varies"),
    (["sweep", "--field", "hair.count", "--values", "0,10", "--set", "hair.count=3"], "hair.count is what"),
    (["sweep", "hair", "--set", " hair.count =3"], "hair.count is what varies"),
    (["sweep", "melanin", "--field", "hair.count", "--values", "0,10"], "has its own, skin.melanosome_fraction"),
    (["sweep", "hair", "--field", "hair.count", "--values", "0,10"], "--values alone"),
    (["questions", "nowhere"], "no dataset.json"),
    (["questions", "set", "--out", "set/metadata.jsonl"], "lies inside the set"),
])
def test_bad_input_is_one_line_and_exit_2(arguments, part, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and part in error
    assert list(tmp_path.iterdir()) == []


GOOD = 'field = "skin.blood_fraction"\nvalues = [0.01, 0.02]\n'


@pytest.mark.parametrize(("text", "part"), [
    ("x = [", "not valid TOML"),
    ("", "'field' is missing"),
    ('field = "skin.blood"\nvalues = [0.01, 0.02]', "unknown field 'skin.blood'"),
    ('field = "skin.blood_fraction"\nvalues = [0.01, 9]', "0.0005 to 0.15"),
    ('field = "skin.blood_fraction"\nvalues = ["a", "b"]', "a number from"),
    ('field = "skin.blood_fraction"\nvalues = [[1], 2]', "a number from"),
    (GOOD + "value = 3", "unknown key 'value' (did you mean 'values'?)"),
    (GOOD + 'n = "3"', "a whole number"),
    (GOOD + "n = true", "a whole number"),
    (GOOD + "set = [3]", "list of texts"),
    (GOOD + 'set = ["skin.blood_fraction=0.01"]', "skin.blood_fraction is what varies"),
    (GOOD + 'name = "../x"', "letters, digits"),
])
def test_bad_sweep_files(text, part, tmp_path, capsys):
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        cli.main(["sweep", str(path), "--out", str(tmp_path / "set")])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and part in error and "own.toml" in error
    assert not (tmp_path / "set").exists()


@given(st.text(max_size=200))
def test_any_sweep_text_parses_or_is_refused(text):
    try:
        v.parse_sweep(text, "file", "name")
    except v.VariationError as error:
        assert "\n" not in str(error)


def test_question_lists(tmp_path, capsys):
    run(tmp_path / "a", plan=TONES)
    with pytest.raises(SystemExit) as caught:
        cli.main(["questions", str(tmp_path / "a"), "--out", str(tmp_path / "q.jsonl"), "--json"])
    assert caught.value.code == 0
    told = json.loads(capsys.readouterr().out)
    entries = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    assert told["samples"] == len(entries) == 6 and told["questions"] == sum(len(e["questions"]) for e in entries)
    rows = read_rows(tmp_path / "a")
    assert [e["caption"] for e in entries] == [row["caption"] for row in rows]
    with pytest.raises(SystemExit):
        cli.main(["questions", str(tmp_path / "a"), "--out", str(tmp_path / "no/q.jsonl")])
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["metadata.jsonl", "images/q.jsonl", "../link/q.jsonl", "../to"])
def test_questions_leave_the_set_alone(place, tmp_path, capsys, monkeypatch):
    run(tmp_path / "a", plan=TONES, groups=1)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "to").symlink_to(tmp_path / "a" / "metadata.jsonl")
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path / "a")
    with pytest.raises(SystemExit) as caught:
        cli.main(["questions", str(tmp_path / "a"), "--out", place])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and "lies inside the set" in error
    assert {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("arguments", "field", "values"), [
    (["hair"], "hair.count", (0, 30)),
    (["hair", "--values", "0,10"], "hair.count", (0, 10)),
    (["hair", "--values", "0,10", "--set", "hair.vellus_count=3", "--n", "2"], "hair.count", (0, 10)),
    (["--field", "hair.count", "--values", "0,10", "--set", "hair.vellus_count=0"], "hair.count", (0, 10)),
])
def test_a_sweep_without_contradiction_runs(arguments, field, values, monkeypatch):
    seen = []
    monkeypatch.setattr(cli_variation, "_run", lambda preset, plan, *rest: seen.append(plan))
    with pytest.raises(SystemExit) as caught:
        cli.main(["sweep", *arguments])
    assert caught.value.code == 0 and (seen[0].field, seen[0].values) == (field, values)
