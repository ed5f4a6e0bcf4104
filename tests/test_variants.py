"""Variants and tones: tables without code, one line for each fault, the same lesion on any skin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthskin import cli
from synthskin.conventions import DIAGNOSES
from synthskin.draw import draw
from synthskin.preset import PresetError, load_preset
from synthskin.record import field_specs
from synthskin.variants import STRUCTURES, structure_keys

MINE = """
name = "mine"
extends = "base"
[diagnosis]
MEL = 1
[variants.mine]
diagnosis = "MEL"
weight = 3
source = "test"
[variants.mine.structures.dots]
probability = 0.5
density_per_mm2 = [2, 4]
diameter_um = 60
source = "test"
[variants.mine.fields."lesion.diameter_mm"]
uniform = [3.0, 4.0]
source = "test"
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(MINE, encoding="utf-8")
    return file


def test_shipped_presets_cover_the_diagnoses_and_cite():
    for name in DIAGNOSES:
        preset = load_preset(name.lower())
        assert preset.diagnosis == ((name, 1.0),)
        assert sum(v.weight for v in preset.reachable) == pytest.approx(1.0)
        assert all(v.source and v.diagnosis == name for v in preset.reachable)
        assert all(law.source for v in preset.reachable for law in v.fields.values())
        drawn = {draw(preset, 0, i).variant for i in range(150)}
        assert drawn == {v.name for v in preset.reachable}
    assert len(load_preset("mel").reachable) >= 5 and len(load_preset("nv").reachable) >= 7
    mixture = load_preset("isic_like")
    assert {name for name, _ in mixture.diagnosis} == set(DIAGNOSES) and len(mixture.tones) == 6


def test_structures_have_numbers():
    for name in STRUCTURES:
        assert all(key in field_specs() for key in structure_keys(name).values()) and structure_keys(name)


def test_own_variant_needs_no_code(path):
    preset = load_preset(path).with_diagnosis("MEL/mine=1")
    records = [draw(preset, 0, i) for i in range(200)]
    assert {r.variant for r in records} == {"mine"} and {r.diagnosis for r in records} == {"MEL"}
    dots = [r.structures.dots_density_per_mm2 for r in records]
    assert 0.4 < sum(d > 0 for d in dots) / 200 < 0.6 and all(d == 0 or 2 <= d <= 4 for d in dots)
    assert all(r.structures.dots_diameter_um == 60 and 3 <= r.lesion.diameter_mm <= 4 for r in records)


def test_resolved_reads_back(path, tmp_path):
    preset = load_preset(path).with_tones("fst1=1,fst6=3").with_sets(["lesion.diameter_mm=2"])
    again = tmp_path / "again.toml"
    again.write_text(preset.resolved_toml(), encoding="utf-8")
    other = load_preset(again)
    lines = [line for line in preset.resolved_toml().splitlines() if not line.startswith("# changed by")]
    assert other.hash == preset.hash and other.resolved_toml().splitlines() == lines
    for index in range(20):
        assert draw(other, 3, index) == draw(preset, 3, index)
        assert draw(preset, 3, index).lesion.diameter_mm == 2.0, "--set holds against a variant"


def test_weight_alone_changes_a_parents_variant(path):
    text = MINE + '[variants.nodular]\nweight = 0\n'
    path.write_text(text, encoding="utf-8")
    names = {v.name for v in load_preset(path).reachable}
    assert "nodular" not in names and {"mine", "superficial_spreading"} <= names


def test_variants_of_other_diagnoses_do_not_count():
    assert load_preset("fst2").hash == load_preset("fst2").with_diagnosis("NV=0.9,healthy=0.1").hash
    assert "nodular" not in load_preset("fst2").resolved_toml()


def test_same_lesion_on_any_skin():
    base = load_preset("mel")
    pale, dark = base.with_tones("fst1=1"), base.with_tones("fst6=1")
    for index in range(30):
        a, b = draw(pale, 0, index), draw(dark, 0, index)
        assert (a.lesion, a.structures, a.variant, a.camera, a.diagnosis) == (
            b.lesion, b.structures, b.variant, b.camera, b.diagnosis)
        assert a.skin.melanosome_fraction < 0.02 < 0.1 < b.skin.melanosome_fraction
        assert a.hair.count == b.hair.count
    assert pale.hash != dark.hash != base.hash


def test_tone_weights():
    preset = load_preset("nv").with_tones("fst1=1,fst6=3")
    assert [(t.name, t.weight) for t in preset.tones] == [("fst1", 0.25), ("fst6", 0.75)]
    dark = sum(draw(preset, 0, i).skin.melanosome_fraction > 0.1 for i in range(400)) / 400
    assert dark == pytest.approx(0.75, abs=0.06)
    assert any("--tone" in note for note in preset.overrides)


@pytest.mark.parametrize(
    ("text", "part"),
    [("fst7=1", "did you mean 'fst"), ("fst1=-1", "0 or more"), ("fst1=0", "sum to 0"), ("fst1", "fst1=1,fst6=3"),
     ("fst1=1,fst1=2", "twice"), ("mel=1", "allowed are fst1"), ("fst1=nan", "write weights"), ("", "write weights")],
)
def test_bad_tones(text, part):
    with pytest.raises(PresetError, match=part) as caught:
        load_preset("nv").with_tones(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [("MEL/nodula=1", "did you mean 'nodular'"), ("MEL=1,MEL/nodular=1", "not both"), ("MEL/=1", "unknown variant"),
     ("MEL/nodular=-1", "0 or more"), ("MEL=0,NV=0", "sum to 0"), ("MELL=1", "did you mean 'MEL'")],
)
def test_bad_diagnosis(text, part):
    with pytest.raises(PresetError, match=part) as caught:
        load_preset("mel").with_diagnosis(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('diagnosis = "MEL"', 'diagnosis = "MELL"', ["MELL", "MEL, NV"]),
        ("weight = 3", "weight = -3", ["0 or more"]),
        ("weight = 3", "wieght = 3", ["wieght", "did you mean 'weight'"]),
        ('weight = 3\nsource = "test"', "weight = 3", ["source"]),
        ("structures.dots", "structures.dotz", ["dotz", "did you mean 'dots'", "line 10"]),
        ("diameter_um = 60", "diameter_mm = 60", ["diameter_mm", "did you mean 'diameter_um'"]),
        ("diameter_um = 60", "diameter_um = 600", ["20.0 to 120.0"]),
        ("density_per_mm2 = [2, 4]", "density_per_mm2 = [4, 2]", ["low is above high"]),
        ("density_per_mm2 = [2, 4]", 'density_per_mm2 = "many"', ["number"]),
        ("density_per_mm2 = [2, 4]\n", "", ["density_per_mm2 is needed"]),
        ("probability = 0.5", "probability = 1.5", ["0 to 1"]),
        ('"lesion.diameter_mm"', '"lesion.diamter_mm"', ["did you mean 'lesion.diameter_mm'"]),
        ("[variants.mine]", "[variants.'my own']", ["letters, digits"]),
    ],
)
def test_faults_are_one_line(path, old, new, parts):
    text = MINE.replace(old, new) if old != "[variants.mine]" else MINE.replace("variants.mine", "variants.'my own'")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PresetError) as caught:
        load_preset(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(("structure", "number", "key", "law"), [
    ("dots", "density_per_mm2", "structures.dots_density_per_mm2", "uniform = [2, 4]"),
    ("pigment_network", "strength", "lesion.network_strength", "value = 0.5"),
])
def test_a_number_given_twice_is_refused_with_both_places(path, capsys, structure, number, key, law):
    body = MINE if structure == "dots" else MINE + (
        f'[variants.mine.structures.{structure}]\n{number} = 0.5\nsource = "test"\n')
    path.write_text(body, encoding="utf-8")
    load_preset(path)
    path.write_text(body + f'[variants.mine.fields."{key}"]\n{law}\nsource = "test"\n', encoding="utf-8")
    here = {"dots": 12, "pigment_network": 19}[structure]
    there = len(body.splitlines()) + 1
    with pytest.raises(SystemExit) as caught:
        cli.main(["presets", "show", str(path)])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {path}, line {there}: variants.mine: {key} is given twice: in fields here, and as {number} of "
        f"structures.{structure} ({path}, line {here}); leave one of them out\n")


@given(st.text(max_size=60))
def test_any_text_as_weights_is_one_line_or_weights(text):
    preset = load_preset("fst2")
    for method in (preset.with_tones, preset.with_diagnosis):
        try:
            changed = method(text)
        except PresetError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert sum(w for _, w in changed.diagnosis) == pytest.approx(1.0)


@pytest.mark.parametrize(("head", "at"), [("", "line 6"), ('variants_from = ["other.toml"]\n', "line 3")])
def test_a_variant_never_takes_the_place_of_another_diagnosis(tmp_path, head, at):
    """The shipped nodular melanoma would be lost, and MEL drawn without it."""
    body = '[variants.nodular]\ndiagnosis = "BCC"\nsource = "own"\n'
    (tmp_path / "other.toml").write_text(f'name = "other"\n{body}', encoding="utf-8")
    path = tmp_path / "clash.toml"
    text = f'name = "clash"\nextends = "base"\n{head}[diagnosis]\nMEL = 1\nBCC = 1\n'
    path.write_text(text + ("" if head else body), encoding="utf-8")
    with pytest.raises(PresetError, match=rf"{at}: variants\.nodular: diagnosis = 'BCC', .* of MEL .* another name$"):
        load_preset(path)
    path.write_text(text.replace(head, "") + body.replace("BCC", "MEL").replace("own", "other"), encoding="utf-8")
    assert {v.diagnosis for v in load_preset(path).variants if v.name == "nodular"} == {"MEL"}


@pytest.mark.parametrize(("arguments", "part"), [
    (["--tone", "fst1=1e308,fst2=1e308"], "weight fst1 = 1e+308: at most 1e+09"),
    (["--diagnosis", "MEL=1e308,NV=1e308"], "weight MEL = 1e+308: at most 1e+09"),
    (["--diagnosis", "MEL/nodular=1e308"], "at most 1e+09"),
    (["--preset", "heavy.toml"], "variants.mine: weight = 1e+308: at most 1e+09"),
    (["--preset", "huge.toml"], "a number of 0 or more"),
])
def test_weights_without_end_are_one_line_and_exit_2(arguments, part, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "heavy.toml").write_text(MINE.replace("weight = 3", "weight = 1e308"), encoding="utf-8")
    (tmp_path / "huge.toml").write_text(MINE.replace("weight = 3", "weight = 1" + 400 * "0"), encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        cli.main(["render", "--preset", "base", "--out", "set", *arguments])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and part in error
    assert not (tmp_path / "set").exists()
