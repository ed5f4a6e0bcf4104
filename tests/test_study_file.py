"""Files of studies: what is allowed, and that anything else is one line that names the key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_study import CLASSES, MASKS

from synthskin.bias import study_file
from synthskin.bias.errors import BiasError
from synthskin.bias.study_check import check_study


@pytest.mark.parametrize(("old", "new", "says"), [
    ("size_px", "size_pix", "own.toml: unknown key 'size_pix' (did you mean 'size_px'?)"),
    ("steps = 6", "stepps = 6", "own.toml: [training] unknown key 'stepps' (did you mean 'steps'?)"),
    ('{ data = "one" }', '{ dat = "one" }', "[arms.one.use.0] unknown key 'dat' (did you mean 'data'?)"),
    ('by = "tone"', 'bye = "tone"', "[groups.tone] unknown key 'bye' (did you mean 'by'?)"),
    ('data = "one", n = 20', 'data = "onee", n = 20', "'onee' is not there (did you mean 'one'?)"),
    ("share = 0.5 }]", "share = 0.4 }]", "sum to 1"),
    ('metric = "dice"', 'metric = "dise"', "metric 'dise' is not there (did you mean 'dice'?)"),
    ('arms = ["both", "one"]', 'arms = ["both"]', "[primary]: give arms = [a, b]"),
    ("steps = 6", 'steps = "six"', "training.steps = 'six'"),
    ("steps = 6", "steps = 0", "training.steps = 0: input should be greater than or equal to 1"),
    ("seeds = [0, 1]", "seeds = [0, 0]", "different numbers"),
    ('task = "segmentation"', 'task = "detection"', "'segmentation' or 'classification'"),
    ('name = "masks"', "", "the key 'name' is missing"),
    ('pair = ["dark", "light"]', 'pair = ["dark", "dark"]', "two different groups"),
    ("[training]", "[training", "is not valid TOML"),
    ("size_px = 32", "size_px = 48", "size_px = 48: a multiple of 32 is needed"),
    ('by = "size"', 'by = "foo"', '[groups.size] by = "foo": allowed are tone, ita,'),
    ('by = "size"', 'by = "sizes"', "did you mean 'size'"),
    ('by = "size"', 'by = "size"\npair = ["big", "small"]', "'big' is not there; allowed are small, middle, large"),
    ('by = "size"', 'by = "size"\nnames = ["a", "b"]', "2 came, 3 are needed"),
    ('pair = ["dark", "light"]', 'pair = ["dark", "lite"]', "'lite' is not there (did you mean 'light'?)"),
    ('folder = "two"', 'folder = "two"\nwhere = { sexx = ["male"] }', "'sexx' is not there (did you mean 'sex'?)"),
])
def test_a_wrong_file_is_one_line(old, new, says):
    with pytest.raises(BiasError) as error:
        study_file.parse_study(MASKS.replace(old, new, 1), "own.toml")
    assert says in str(error.value) and "own.toml" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("old", "new", "says"), [
    ('positive = ["MEL"]', 'positive = ["NV", "MEL"]', "some of the classes, not all"),
    ('classes = ["NV", "MEL"]', 'classes = ["NV", "MELL"]', "class 'MELL' is not there (did you mean 'MEL'?)"),
    ('threshold = "youden"', 'threshold = "best"', "allowed are youden, half"),
])
def test_wrong_classes(old, new, says):
    with pytest.raises(BiasError, match=says.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")):
        study_file.parse_study(CLASSES.replace(old, new), "own.toml")


def test_options_are_laid_over_the_file():
    small = MASKS + '\n[small]\nsize_px = 64\n[small.training]\nsteps = 2\n[small.data.two]\nfolder = "three"\n'
    spec = study_file.parse_study(small, "x", True, ("training.batch=2", "validation=two"), {"one": "/elsewhere"})
    assert (spec.size_px, spec.training.steps, spec.training.batch, spec.validation) == (64, 2, 2, "two")
    assert spec.data["one"].folder == "/elsewhere" and spec.data["two"].folder == "three"
    assert study_file.parse_study(small, "x").size_px == 32
    for bad, says in ((("training.batch",), "key=value"), (("training.bach=2",), "did you mean 'batch'")):
        with pytest.raises(BiasError, match=says):
            study_file.parse_study(small, "x", False, bad)
    with pytest.raises(BiasError, match="no table"):
        study_file.parse_study(MASKS, "x", True)
    with pytest.raises(BiasError, match="did you mean 'one'"):
        study_file.parse_study(MASKS, "x", False, (), {"on": "y"})


@pytest.mark.parametrize("path", study_file.shipped(), ids=lambda path: path.stem)
@pytest.mark.parametrize("small", [False, True])
def test_shipped_studies(path, small):
    """Each is valid at both scales, and its renders are those of valid presets."""
    from synthskin.variation import changed_preset

    spec = study_file.load_study(path.stem, small)
    assert spec.name == path.stem and spec.description and spec.source
    for data in spec.data.values():
        if data.render is not None:
            preset = changed_preset(data.render.preset, data.render.set, data.render.diagnosis, data.render.tone)
            preset.with_confounds(data.render.confound)
        else:
            assert data.needs


def test_at_least_five_studies_ship():
    assert {path.stem for path in study_file.shipped()} >= {
        "ssynth", "circle", "derm_t2im", "confounders", "robustness"}


LEAVES = st.one_of(st.integers(-3, 3), st.floats(-2, 2), st.text(max_size=5), st.booleans())
VALUES = st.recursive(LEAVES, lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["use", "data", "by", "n"]), inner)), max_leaves=6)


@given(st.sampled_from(sorted(study_file.StudySpec.model_fields)), VALUES)
def test_any_value_is_taken_or_refused_in_one_line(key, value):
    body = study_file._toml(MASKS, "x") | {key: value}
    try:
        check_study(study_file.StudySpec.model_validate(body), "x")
    except study_file.ValidationError as error:
        assert "\n" not in study_file._first(error, body)
    except BiasError as error:
        assert "\n" not in str(error)


@given(st.one_of(st.text(max_size=200), st.text("[]={}\"'.\n abdefnosu", max_size=80).map(lambda x: MASKS + x)))
def test_any_text_is_taken_or_refused_in_one_line(text):
    try:
        study_file.parse_study(text, "x")
    except BiasError as error:
        assert str(error).startswith("x: ") and "\n" not in str(error)


def test_a_grouping_can_hold_on_some_tests_alone():
    body = MASKS.replace('by = "size"', 'by = "size"\ntests = ["noisy"]')
    spec = study_file.parse_study(body, "x")
    assert (spec.groups_of("one"), spec.groups_of("noisy")) == (["tone"], ["tone", "size"])
    with pytest.raises(BiasError, match="did you mean 'noisy'"):
        study_file.parse_study(body.replace('["noisy"]', '["noise"]'), "x")
    assert study_file.parse_study(body + "\n[small]\ngroups = {}\n", "x", True).groups == {}
