"""The filter of rows: meaning, round trip, and that no text does anything but parse or give one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthskin.dataset.format import empty_row
from synthskin.gan import GanError
from synthskin.gan.where import Where, parse_where


def row(**values):
    return {**empty_row(), **values}


@pytest.mark.parametrize(("text", "values", "holds"), [
    ("diagnosis=NV", {"diagnosis": "NV"}, True),
    ("diagnosis=NV", {"diagnosis": None}, False),
    ("diagnosis!=NV", {"diagnosis": None}, True),
    ("diagnosis=MEL|BCC", {"diagnosis": "BCC"}, True),
    ("diagnosis=MEL,ita_class>=4", {"diagnosis": "MEL", "ita_class": 4}, True),
    ("diagnosis=MEL,ita_class>=4", {"diagnosis": "MEL", "ita_class": 3}, False),
    ("ita_class>=4", {"ita_class": None}, False),
    ("ita_class<4", {"ita_class": None}, False),
    ("contrast>2.5", {"contrast": 2.6}, True),
    ("contrast<=2.5", {"contrast": 2.6}, False),
    ("diagnosis=null", {"diagnosis": None}, True),
    ("anatom_site=anterior torso", {"anatom_site": "anterior torso"}, True),
    ("artefacts=ruler|ink", {"artefacts": ["ink"]}, True),
    ("artefacts!=ruler", {"artefacts": ["ruler", "ink"]}, False),
    ("artefacts=null", {"artefacts": []}, True),
    (" diagnosis = MEL ", {"diagnosis": "MEL"}, True),
    ("", {"diagnosis": "MEL"}, True),
])
def test_meaning(text, values, holds):
    assert parse_where(text)(row(**values)) is holds


@pytest.mark.parametrize("text", [
    "diagnosis", "diagnosis=", "diagnosis=MELL", "=MEL", "ita_class>=four", "ita_class>=1|2", "diagnosis>=MEL",
    "ita_class=4.5", "contrast>nan", "contrast>inf", "bbox=1", "nothing=1", "diagnosis=MEL,", "x" * 3000,
    "ita_class>null", "diagnosis=__import__('os')", "diagnosis==MEL", "file_name=a\nb",
])
def test_refused_in_one_line(text):
    with pytest.raises(GanError) as caught:
        parse_where(text, "--source-where")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("--source-where")


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text):
    try:
        where = parse_where(text)
    except GanError:
        return
    assert parse_where(str(where)) == where
    assert where(row(diagnosis="MEL", ita_class=3, contrast=1.0)) in (True, False)


CLAUSES = st.one_of(
    st.builds("diagnosis{}{}".format, st.sampled_from(["=", "!="]),
              st.lists(st.sampled_from(["MEL", "NV", "healthy", "null"]), min_size=1, max_size=3).map("|".join)),
    st.builds("ita_class{}{}".format, st.sampled_from(["=", "!=", ">=", "<=", ">", "<"]), st.integers(-9, 9)),
    st.builds("contrast{}{}".format, st.sampled_from([">=", "<=", ">", "<"]),
              st.floats(-1e6, 1e6, allow_nan=False)),
)


@given(st.lists(CLAUSES, min_size=1, max_size=4), st.sampled_from(["MEL", "NV", "BCC", "healthy", None]),
       st.one_of(st.none(), st.integers(1, 6)), st.one_of(st.none(), st.floats(-50, 50)))
def test_clauses_are_joined_by_and(clauses, diagnosis, tone, contrast):
    one = row(diagnosis=diagnosis, ita_class=tone, contrast=contrast)
    together = parse_where(",".join(clauses))
    assert together(one) == all(parse_where(clause)(one) for clause in clauses)
    assert parse_where(str(together)) == together
    for clause in clauses:  # a comparison with a number and its opposite never both hold
        key, opposite = clause, None
        for sign, other in ((">=", "<"), ("<=", ">"), ("!=", "="), ("=", "!="), (">", "<="), ("<", ">=")):
            if sign in clause:
                key, opposite = clause, clause.replace(sign, other, 1)
                break
        assert not (parse_where(key)(one) and parse_where(opposite)(one))


def test_only():
    assert parse_where("diagnosis=MEL,ita_class>=4").only("diagnosis") == "MEL"
    assert parse_where("diagnosis=MEL|NV").only("diagnosis") is None
    assert Where().only("diagnosis") is None
