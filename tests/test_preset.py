import re

import pytest
from conftest import OWN
from hypothesis import given
from hypothesis import strategies as st

from synthskin.preset import LAWS, FieldLaw, PresetError, load_preset, parse_set, preset_names
from synthskin.record import field_specs


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def fails(path, *parts):
    with pytest.raises(PresetError) as caught:
        load_preset(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


def test_shipped_presets_resolve_and_read_back_the_same(tmp_path):
    assert {"fst1", "fst2", "fst3", "fst4", "fst5", "fst6", "healthy"} <= set(preset_names())
    for name in preset_names():
        preset = load_preset(name)
        assert preset.name == name
        assert set(preset.fields) == set(field_specs())
        assert all(law.source for law in preset.fields.values())
        again = load_preset(write(tmp_path / f"{name}.toml", preset.resolved_toml()))
        assert again.hash == preset.hash
        assert again.resolved_toml() == preset.resolved_toml()


def test_hashes_differ_and_citations_do_not_count(own_path):
    assert len({load_preset(name).hash for name in preset_names()}) == len(preset_names())
    first = load_preset(own_path)
    second = load_preset(write(own_path, OWN.replace('source = "test"', 'source = "other"')))
    assert first.hash == second.hash
    assert load_preset(write(own_path, OWN.replace("0.43", "0.42"))).hash != first.hash
    assert re.fullmatch("[0-9a-f]{16}", first.hash)


def test_extends_merges_a_field_at_a_time(tmp_path, own_path):
    child = write(tmp_path / "child.toml", 'name = "child"\nextends = "own.toml"\n[fields."hair.count"]\n'
                                           'value = 3\nsource = "test"\n')
    preset, parent = load_preset(child), load_preset(own_path)
    assert preset.name == "child"
    assert preset.fields["hair.count"].args == (3,)
    assert preset.fields["skin.blood_fraction"] == parent.fields["skin.blood_fraction"]
    assert preset.diagnosis == parent.diagnosis == (("NV", 0.75), ("healthy", 0.25))


def test_extends_in_a_circle(tmp_path):
    write(tmp_path / "a.toml", 'name = "a"\nextends = "b.toml"\n')
    write(tmp_path / "b.toml", 'name = "b"\nextends = "a.toml"\n')
    fails(tmp_path / "a.toml", "circle")


def test_unknown_name_suggests_the_nearest():
    fails("fts6", "fts6", "did you mean 'fst", "fst1")
    fails("no/such.toml", "is not there")


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('[fields."hair.count"]', '[fields."hair.cuont"]', ["hair.cuont", "did you mean 'hair.count'", "line 16"]),
        ("[0.30, 0.43]", "[0.30, 0.93]", ["skin.melanosome_fraction", "0.001 to 0.6", "line 8"]),
        ("[0.30, 0.43]", "[0.43, 0.30]", ["low is above high"]),
        ("[0.30, 0.43]", "[0.30]", ["[low, high]"]),
        ("[0.30, 0.43]", '["a", 0.4]', ["[low, high]"]),
        ("[0.30, 0.43]", "[0.3, inf]", ["[low, high]"]),
        ("uniform = [0.30, 0.43]", "uniformm = [0.30, 0.43]", ["unknown key 'uniformm'", "uniform", "line 8"]),
        ("uniform = [0.30, 0.43]", "integer = [1, 2]", ["law integer does not fit", "line 8"]),
        ("integer = [0, 12]", "uniform = [0, 12]", ["law uniform does not fit", "integer"]),
        ("integer = [0, 12]", "integer = [0, 1.5]", ["whole number"]),
        ("uniform = [0.30, 0.43]", "", ["exactly one law"]),
        ("uniform = [0.30, 0.43]", "uniform = [0.30, 0.43]\nvalue = 0.3", ["exactly one law"]),
        ("[0.75, 0.1, 0.5, 0.95]", "[0.75, 0, 0.5, 0.95]", ["standard deviation"]),
        ("[0.75, 0.1, 0.5, 0.95]", "[0.1, 0.001, 0.5, 0.95]", ["0.1 %"]),
        ("zero_probability = 0.2", "zero_probability = 1.2", ["zero_probability", "0 to 1"]),
        ('"contact polarized" = 0.7', '"contact polarised" = 0.7', ["contact polarised", "contact polarized"]),
        ("NV = 3", "NV = -3", ["NV", "0 or more"]),
        ("NV = 3\nhealthy = 1", "NV = 0", ["sum to 0"]),
        ("NV = 3", "NVV = 3", ["NVV", "did you mean 'NV'"]),
        ("NV = 3", "MEL = 3", ["no variant of MEL", "NV, healthy", "variants_from"]),
        ('name = "own"', 'name = "../own"', ["name"]),
        ('name = "own"', "name = 3", ["name"]),
        ('name = "own"', 'name = "own"\ncolour = 3', ["unknown key 'colour'"]),
        ('name = "own"', 'name = "own', ["not valid TOML", "line 2"]),
        ('name = "own"', 'name = "own"\nextends = "fst66"', ["fst66", "did you mean 'fst6'"]),
        ('"skin.oxygenation"', "skin.oxygenation", ["unknown field 'skin'", "quotes"]),
    ],
)
def test_faults_name_file_line_key_and_what_is_allowed(own_path, old, new, parts):
    assert old in OWN
    fails(write(own_path, OWN.replace(old, new, 1)), str(own_path), *parts)


def test_source_is_required(own_path):
    text = OWN.replace('uniform = [0.30, 0.43]\nsource = "test"', "uniform = [0.30, 0.43]")
    fails(write(own_path, text), "skin.melanosome_fraction", "source")


def test_not_text_and_too_large(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00")
    fails(path, "UTF-8")
    path.write_bytes(b"#" * 2_000_000)
    fails(path, "larger than")


def test_sets(own_path):
    preset = load_preset(own_path)
    changed = preset.with_sets(["hair.count=0", "skin.blood_fraction=0.01..0.02", "hair.length_mm = 3..4",
                                "camera.dermoscopic_type=contact polarized", "hair.count=2..5"])
    assert changed.fields["hair.count"] == FieldLaw("integer", (2, 5), 0.0, "--set hair.count=2..5", pinned=True)
    assert changed.fields["skin.blood_fraction"].args == (0.01, 0.02)
    assert changed.hash != preset.hash and changed.name == preset.name
    assert load_preset(write(own_path, changed.resolved_toml())).hash == changed.hash
    assert preset.with_diagnosis("healthy=1").diagnosis == (("healthy", 1.0),)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("hair.count", "key=value"), ("hair.count=", "key=value"), ("=3", "key=value"),
        ("hair.cnt=3", "did you mean 'hair.count'"), ("hair.count=401", "0 to 400"), ("hair.count=1.5", "whole"),
        ("hair.count=-1", "0 to 400"), ("hair.count=nan", "not a number"), ("hair.count=1_0", "not a number"),
        ("hair.count=3..1", "low is above high"), ("hair.count=1..", "not a number"),
        ("camera.dermoscopic_type=red", "contact polarized"), ("skin.blood_fraction=1e999", "not a number"),
    ],
)
def test_bad_sets(text, part):
    with pytest.raises(PresetError, match=re.escape(part)):
        parse_set(text)


@pytest.mark.parametrize("text", ["NV", "NV=x", "NV=-1", "NV=1,NV=2", "MEL=1", "XX=1", "NV=0", "NV=nan", "NV=inf", ""])
def test_bad_diagnosis(own_path, text):
    with pytest.raises(PresetError):
        load_preset(own_path).with_diagnosis(text)


@given(st.text(max_size=80))
def test_any_text_as_set_is_a_law_or_one_line(text):
    try:
        key, law = parse_set(text)
    except PresetError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert key in field_specs() and law.law in LAWS


@given(st.text(max_size=300))
def test_any_text_as_preset_is_a_preset_or_one_line(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("p") / "x.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_preset(path)
    except PresetError as error:
        assert len(str(error).splitlines()) == 1


KEYS = sorted(key for key, spec in field_specs().items() if "options" not in spec)


@given(st.data())
def test_any_valid_law_reads_back_the_same(tmp_path_factory, data):
    key = data.draw(st.sampled_from(KEYS))
    spec = field_specs()[key]
    number = st.integers(spec["low"], spec["high"]) if spec.get("integer") else st.floats(spec["low"], spec["high"])
    low, high = sorted((data.draw(number), data.draw(number)))
    base = load_preset("fst2")
    changed = base.with_sets([f"{key}={low}..{high}"])
    path = write(tmp_path_factory.mktemp("p") / "x.toml", changed.resolved_toml())
    assert load_preset(path).hash == changed.hash
