"""An audit into the folder of another one: the same goes on, a larger one extends it, any other is refused."""

import json

import numpy as np
import pytest
from audit_models import dark_model, violet_model
from test_audit import command, painted, preprocess, results  # noqa: F401  fixtures

from synthskin import audit as jobs
from synthskin.bias.audit_pictures import KEPT
from synthskin.dataset.reader import read_rows, validate


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def made(painted, preprocess, tmp_path):  # noqa: F811
    """(options of an audit less its causes and numbers, its folder, the whole of its options)"""
    out = tmp_path / "out"
    asked = [violet_model(tmp_path / "m.onnx"), "--preprocess", preprocess, "--out", out]
    whole = [*asked, "--causes", "ink,hair", "--lesions", 4, "--n", 12]
    command(*whole)
    return asked, out, whole


@pytest.mark.parametrize(("options", "part"), [
    (["--causes", "melanin,exposure"], "holds an audit of ink, hair, and one of melanin, exposure is asked for"),
    (["--causes", "ink"], "holds an audit of ink, hair, and one of ink is asked for"),
    (["--cause", "hair.count=0,20", "--causes", "ink,hair"], "hair = 0, 10, 30 where 0, 20 is asked for"),
    (["--lesions", 3], "holds an audit with 8 pictures of ink, 6 are asked for"),
    (["--n", 11], "holds an audit with 12 pictures of plain, 11 are asked for"),
    (["--size", 48], "holds an audit with --size = 32 where 48 is asked for"),
    (["--preset", "isic_like"], "holds an audit with --preset = base where isic_like is asked for"),
    (["--set", "hair.count=3"], "holds an audit with --set = none where hair.count=3 is asked for"),
    (["--seed", 1], "holds an audit with --seed = 0 where 1 is asked for"),
    (["--positive", "NV"], "holds an audit with positive = "),
])
def test_another_audit_is_refused_and_its_report_stays(options, part, made, capsys):
    _, out, whole = made
    before = content(out)
    capsys.readouterr()
    assert command(*whole, *options) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and part in said
    assert "another --out, or --overwrite to start anew" in said and "render --overwrite" not in said
    assert content(out) == before


def test_its_own_sets_given_as_renders_do_not_take_its_place(made, capsys):
    _, out, whole = made
    before = content(out)
    capsys.readouterr()
    assert command(*whole[:whole.index("--causes")], "--renders", out / "renders") == 2
    assert "holds an audit that rendered its sets itself; give its own settings" in capsys.readouterr().err
    assert content(out) == before


def test_another_threshold_is_refused(made, preprocess, capsys):  # noqa: F811
    _, out, whole = made
    before = content(out)
    preprocess.write_text(preprocess.read_text().replace("0.5", "0.3"))
    assert command(*whole) == 2
    assert "threshold = 0.5 where 0.3 is asked for" in capsys.readouterr().err and content(out) == before


def test_a_larger_audit_extends_it_and_says_so(made, capsys):
    asked, out, whole = made
    picture = next((out / "renders/ink/images").iterdir())
    written = picture.stat().st_mtime_ns
    capsys.readouterr()
    assert command(*whole) in (0, 3) and "extended" not in capsys.readouterr().err
    assert command(*asked, "--causes", "hair,melanin,ink", "--lesions", 10, "--n", 14) == 0
    assert "the audit there is extended, its report replaced" in capsys.readouterr().err
    assert sorted(results(out)["ranking"]) == ["hair", "ink", "melanin"] and picture.stat().st_mtime_ns == written
    assert len(read_rows(out / "renders/ink")) == 20


def test_renders_of_other_settings_are_refused_in_words_of_the_audit(made, capsys):
    """Stopped before there was a report: nothing is lost, but no set is continued with other settings either."""
    asked, out, _ = made
    for name in ("results.json", KEPT, "report.html", "results.csv", "curves.csv", "predictions.csv"):
        (out / name).unlink()
    before = content(out)
    for options, part in ((["--size", 48], "renders/plain: holds a set with --size = 32, 48 was asked for"),
                          (["--cause", "hair.count=0,20"], "renders/hair: holds a set with")):
        capsys.readouterr()
        assert command(*asked, "--causes", "ink,hair", "--lesions", 4, "--n", 20, *options) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and part in said, said
        assert said.endswith("give the same settings to continue it, another --out, or --overwrite to start anew\n")
        assert content(out) == before  # the plain set, whose settings fit, is not extended first


def test_overwrite_starts_anew_and_leaves_nothing_of_the_former_audit(made, monkeypatch, capsys):
    asked, out, _ = made
    before = content(out)
    assert command(*asked, "--causes", "ink", "--size", 5, "--overwrite") == 2
    assert content(out) == before  # refused for another reason: nothing is deleted
    other = [*asked, "--causes", "exposure,ink", "--size", 48, "--lesions", 4, "--n", 12]
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "render_run", lambda *args: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            command(*other, "--overwrite")
    assert content(out) == {}
    assert command(*other) in (0, 3)  # and is continued without --overwrite
    assert sorted(path.name for path in (out / "renders").iterdir()) == ["exposure", "ink", "plain"]
    assert validate(out / "renders/ink") == []


def test_sets_that_were_given_are_the_same_ones_again(made, preprocess, tmp_path, capsys):  # noqa: F811
    asked, out, _ = made
    second = [violet_model(tmp_path / "m.onnx"), "--preprocess", preprocess, "--out", tmp_path / "b"]
    assert command(*second, "--renders", out / "renders") in (0, 3)
    before = content(tmp_path / "b")
    assert command(*second, "--renders", f"{out}/../out/renders") in (0, 3)  # the same, however they are named
    capsys.readouterr()
    command(*asked[:-1], tmp_path / "other", "--causes", "ink,hair", "--lesions", 4, "--n", 12, "--seed", 1)
    capsys.readouterr()
    for options, part in ((["--renders", out / "renders/ink"], "and one of ink is asked for"),
                          (["--renders", tmp_path / "other/renders"], "holds an audit of other pictures of"),
                          (["--causes", "ink,hair", "--lesions", 4], "holds an audit of sets that were given")):
        assert command(*second, *options) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert part in said and "--overwrite" in said
    after = content(tmp_path / "b")
    assert {name: data for name, data in after.items() if name not in (KEPT, "report.html", "results.json")} == {
        name: data for name, data in before.items() if name not in (KEPT, "report.html", "results.json")}


def test_another_model_is_refused_before_anything_is_rendered(made, tmp_path, monkeypatch, capsys):
    _, _, whole = made
    monkeypatch.setattr(jobs, "render_run", lambda *args: pytest.fail("rendered"))
    assert command(dark_model(tmp_path / "d.onnx"), *whole[1:]) == 2
    assert "holds the audit of another model (m.onnx)" in capsys.readouterr().err


def test_results_that_cannot_be_read_are_written_anew(made):
    _, out, whole = made
    first = (out / "results.json").read_bytes()
    for text in (b"{", b'{"ranking": [], "settings": 3}', json.dumps({"ranking": [], "sets": 1}).encode()):
        (out / "results.json").write_bytes(text)
        assert command(*whole) in (0, 3)
        assert (out / "results.json").read_bytes() == first
    assert np.isfinite(results(out)["causes"][0]["dp"]["estimate"])
