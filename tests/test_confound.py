"""--confound: an artefact whose probability depends on the diagnosis, and nothing else changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthskin import cli
from synthskin.confound import parse_confound
from synthskin.conventions import ARTEFACTS
from synthskin.draw import draw
from synthskin.laws import PresetError
from synthskin.preset import load_preset

PLAIN = load_preset("fst2").with_diagnosis("NV=1,healthy=1")


def share(preset, diagnosis, n=600):
    own = [r for r in (draw(preset, 3, i) for i in range(n)) if r.diagnosis == diagnosis]
    return sum(r.artefacts.ink for r in own) / len(own)


def test_presence_follows_the_diagnosis():
    preset = PLAIN.with_confounds(["ink:NV=0.9,healthy=0.1"])
    assert share(preset, "NV") == pytest.approx(0.9, abs=0.05)
    assert share(preset, "healthy") == pytest.approx(0.1, abs=0.05)
    assert share(PLAIN.with_confounds(["ink:NV=1,healthy=0"]), "NV") == 1
    assert share(PLAIN.with_confounds(["ink:NV=1,healthy=0"]), "healthy") == 0
    assert share(PLAIN.with_confounds(["ink:NV=0.5"]), "healthy") == 0  # not named: the preset's own law


def test_nothing_else_changes_and_more_is_a_superset():
    low, high = (PLAIN.with_confounds([f"ink:NV={p}"]) for p in (0.3, 0.6))
    for index in range(60):
        a, b, c = (draw(p, 0, index).to_dict() for p in (PLAIN, low, high))
        assert b["artefacts"].pop("ink") <= c["artefacts"].pop("ink")
        a["artefacts"].pop("ink")
        assert len({x.pop("set_hash") for x in (a, b, c)}) == 3
        assert a == b == c


def test_resolved_preset_reads_back(tmp_path):
    preset = PLAIN.with_confounds(["ruler:NV=0.25,healthy=1", "blur:NV=0.5"])
    path = tmp_path / "preset.toml"
    path.write_text(preset.resolved_toml(), encoding="utf-8")
    again = load_preset(path)
    assert again.hash == preset.hash != PLAIN.hash and again.confounds == preset.confounds
    assert draw(again, 0, 5) == draw(preset, 0, 5)


@pytest.mark.parametrize(("text", "part"), [
    ("ink", "ink:MEL=0.9"),
    ("ink:", "ink:MEL=0.9"),
    ("inc:NV=0.9", "did you mean 'ink'"),
    ("ink:XX=0.9", "unknown diagnosis 'XX'"),
    ("ink:NV=1.5", "0 to 1"),
    ("ink:NV=-0.1", "0 to 1"),
    ("ink:NV=nan", "no diagnosis=probability"),
    ("ink:NV", "no diagnosis=probability"),
    ("ink:NV=0.1,NV=0.2", "given twice"),
    ("ink:MEL=0.9", "never occurs in this preset"),
])
def test_bad_confounds_are_one_line_and_exit_2(text, part, capsys, tmp_path):
    with pytest.raises(PresetError, match=part):
        PLAIN.with_confounds([text])
    out = tmp_path / "set"
    with pytest.raises(SystemExit) as caught:
        cli.main(["render", "--preset", "fst2", "--confound", text, "--out", str(out)])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and part.split("'")[0].strip() in error
    assert not out.exists()


def test_contradictions_are_refused():
    with pytest.raises(PresetError, match="given twice"):
        PLAIN.with_confounds(["ink:NV=0.1", "ink:healthy=0.1"])
    with pytest.raises(PresetError, match="leave one of them out"):
        PLAIN.with_sets(["artefacts.ink=1"]).with_confounds(["ink:NV=0.1"])


def test_tables_in_a_preset_file(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('name = "own"\nextends = "base"\n[confound.ink]\nNV = 1.0\n', encoding="utf-8")
    assert share(load_preset(path), "NV", 60) == 1
    for body, part in (("[confound.inc]\nNV = 1", "unknown artefact"), ("[confound.ink]\nNV = 2", "0 to 1"),
                       ("[confound]\nink = 1", "table of probabilities"), ("[confound.ink]", "table of probabilities"),
                       ("[confound.ink]\nnv = 1", "unknown diagnosis")):
        path.write_text(f'name = "own"\nextends = "base"\n{body}\n', encoding="utf-8")
        with pytest.raises(PresetError, match=part):
            load_preset(path)


@given(st.text(max_size=40))
def test_any_text_parses_or_is_refused(text):
    try:
        made = parse_confound(text)
    except PresetError as error:
        assert "\n" not in str(error)
    else:
        assert made.artefact in ARTEFACTS and all(0 <= p <= 1 for _, p in made.probabilities)


def own(tmp_path, body, name="own"):
    path = tmp_path / f"{name}.toml"
    path.write_text(f'name = "{name}"\n{body}\n', encoding="utf-8")
    return path


INKED = 'extends = "base"\n[diagnosis]\nMEL = 1\nNV = 1\n[confound.ink]\nMEL = 1\n[confound.ruler]\nNV = 1\n'
PINNED = '[fields."artefacts.ink"]\nvalue = 0\npinned = true\nsource = "own"\n'


def test_a_set_takes_the_place_of_the_table_in_the_file(tmp_path):
    """A known shortcut is switched off, and the resolved preset says so."""
    path = own(tmp_path, INKED)
    assert share(load_preset(path), "MEL", 60) == 1
    off = load_preset(path).with_sets(["artefacts.ink=0"])
    assert share(off, "MEL", 60) == 0 and [c.artefact for c in off.confounds] == ["ruler"]
    text = off.resolved_toml()
    assert "confound.ink" not in text and "[confound.ruler]" in text
    again = load_preset(own(tmp_path, text.partition("\n")[2]))
    assert again.hash == off.hash and share(again, "MEL", 60) == 0
    with pytest.raises(PresetError, match="leave one of them out"):
        off.with_confounds(["ink:MEL=1"])


def test_a_file_that_pins_and_confounds_an_artefact_is_refused(tmp_path):
    with pytest.raises(PresetError, match=r"own\.toml, line 6: artefacts\.ink is pinned by a law too; leave one"):
        load_preset(own(tmp_path, INKED + PINNED))
    own(tmp_path, INKED, "parent")
    child = load_preset(own(tmp_path, 'extends = "parent.toml"\n' + PINNED))
    assert share(child, "MEL", 60) == 0 and [c.artefact for c in child.confounds] == ["ruler"]


def test_a_table_of_a_diagnosis_that_never_occurs_is_refused(tmp_path):
    with pytest.raises(PresetError, match=r"own\.toml, line 10: VASC never occurs in this preset; it has MEL, NV$"):
        load_preset(own(tmp_path, INKED + "[confound.blur]\nVASC = 0.9\n"))


def test_fewer_diagnoses_than_the_table_names_read_back(tmp_path):
    """--diagnosis or a child may leave out what the table names; that is then of no effect and not written."""
    fewer = load_preset(own(tmp_path, INKED)).with_diagnosis("NV=1")
    assert "MEL" not in "".join(line for c in fewer.met_confounds for line in c.toml_lines())
    again = load_preset(own(tmp_path, fewer.resolved_toml().partition("\n")[2]))
    assert again.hash == fewer.hash and draw(again, 0, 3) == draw(fewer, 0, 3)
    own(tmp_path, INKED, "parent")
    assert load_preset(own(tmp_path, 'extends = "parent.toml"\n[diagnosis]\nNV = 1\n')).hash == fewer.hash
