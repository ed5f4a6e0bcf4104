"""Shards and their merge: the same folder as one run would have written."""

import json
import os
import shutil
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standin import FakeEngine, device

import synthskin.run
from synthskin import cli
from synthskin.dataset.compare import differences
from synthskin.dataset.format import DatasetError
from synthskin.dataset.merge import merge_sets
from synthskin.dataset.reader import read_rows, validate
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunError, RunRequest, Shard, render_run

N = 7


def run(out, **changes):
    base = RunRequest(load_preset("fst6"), N, 0, out, EngineOptions(32, 2, maps=True))
    return render_run(replace(base, **changes), FakeEngine, device)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One whole run, and the same in three shards."""
    base = tmp_path_factory.mktemp("merge")
    run(base / "whole")
    for number in (1, 2, 3):
        run(base / f"s{number}", shard=Shard(number, 3))
    return base


def shards(made):
    return [made / f"s{number}" for number in (1, 2, 3)]


def test_shards_part_the_indices_and_merge_to_the_whole(made, tmp_path):
    parts = [[row["index"] for row in read_rows(folder)] for folder in shards(made)]
    assert parts == [[0, 3, 6], [1, 4], [2, 5]]
    assert all(validate(folder) == [] for folder in shards(made))
    result = merge_sets(shards(made)[::-1], tmp_path / "m")
    assert (result.n, result.samples, result.copied, result.missing) == (N, N, N, ())
    assert differences(made / "whole", tmp_path / "m") == []
    assert merge_sets(shards(made), tmp_path / "m").copied == 0
    assert differences(made / "whole", tmp_path / "m") == []


def test_missing_shard_is_told_and_the_same_command_completes(made, tmp_path):
    assert merge_sets(shards(made)[:2], tmp_path / "m").missing == (2, 5)
    assert validate(tmp_path / "m") == []
    assert merge_sets(shards(made), tmp_path / "m").copied == 2
    assert differences(made / "whole", tmp_path / "m") == []
    part = tmp_path / "part"
    merge_sets(shards(made)[:2], part)
    assert run(part).made == 2  # a merged set is a set like any other
    assert differences(made / "whole", part) == []


def test_what_does_not_belong_together_is_refused(made, tmp_path):
    run(tmp_path / "seed", seed=1)
    run(tmp_path / "size", options=EngineOptions(64, 2, maps=True))
    for other, part in (("seed", "--seed = 1"), ("size", "--size = 64")):
        with pytest.raises(DatasetError, match=part):
            merge_sets([made / "s1", tmp_path / other], tmp_path / "m")
    card = shutil.copytree(made / "s2", tmp_path / "licence") / "dataset.json"
    card.write_text(card.read_text().replace("CC0-1.0", "CC-BY-NC-4.0"))
    with pytest.raises(DatasetError, match="licences"):
        merge_sets([made / "s1", tmp_path / "licence"], tmp_path / "m")
    with pytest.raises(DatasetError, match="given twice"):
        merge_sets([made / "s1", made / "s1"], tmp_path / "m")
    with pytest.raises(DatasetError, match="one of the folders"):
        merge_sets(shards(made), made / "s1")
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        merge_sets([made / "s1", tmp_path / "none"], tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_damage_in_a_shard_is_named_and_never_copied(made, tmp_path):
    bad = shutil.copytree(made / "s2", tmp_path / "bad")
    os.truncate(bad / "images/000004.png", 700)
    with pytest.raises(DatasetError, match=r"sample 4: images/000004\.png: is damaged"):
        merge_sets([made / "s1", bad], tmp_path / "m")
    assert validate(tmp_path / "m") == []
    assert merge_sets(shards(made), tmp_path / "m").missing == ()
    assert differences(made / "whole", tmp_path / "m") == []


def test_two_rows_for_one_index_are_refused(made, tmp_path):
    other = shutil.copytree(made / "whole", tmp_path / "other")
    lines = (other / "metadata.jsonl").read_text().splitlines()
    row = json.loads(lines[3]) | {"caption": "Another."}
    (other / "metadata.jsonl").write_text("\n".join([*lines[:3], json.dumps(row), *lines[4:]]) + "\n")
    with pytest.raises(DatasetError, match="sample 3 differs"):
        merge_sets([made / "s1", other], tmp_path / "m")


def test_shards_and_merge_on_the_command_line(tmp_path, monkeypatch, capsys):
    real = synthskin.run.render_run
    monkeypatch.setattr(synthskin.run, "render_run",
                        lambda request, progress=None: real(request, FakeEngine, device, progress))
    monkeypatch.chdir(tmp_path)

    def call(*args):
        with pytest.raises(SystemExit) as ended:
            cli.main(list(args))
        return ended.value.code

    common = ("--preset", "fst6", "--n", "5", "--size", "32")
    assert call("render", *common, "--out", "whole") == 0
    assert call("render", *common, "--shard", "1/2", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["made"] == 3
    assert call("merge", "out/fst6-s0-shard1of2", "--out", "m") == 3
    told = capsys.readouterr()
    assert "3 of 5 samples in m" in told.out and "2 samples are missing (1, 3)" in told.err
    assert call("render", *common, "--shard", "2/2") == 0
    assert call("merge", "out/fst6-s0-shard1of2", "out/fst6-s0-shard2of2", "--out", "m", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["copied"] == 2
    assert differences(tmp_path / "whole", tmp_path / "m") == []
    for bad in ("0/2", "3/2", "x", "1/0"):
        assert call("render", *common, "--shard", bad, "--out", "bad") == 2
        assert "3/16" in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()


@given(st.integers(1, 40), st.integers(1, 200))
def test_shards_part_any_index_space(of, n):
    found = sorted(index for number in range(1, of + 1) for index in Shard(number, of).indices(n))
    assert found == list(range(n))


@given(st.text(max_size=12) | st.tuples(st.integers(-2, 30), st.integers(-2, 30)).map(lambda p: f"{p[0]}/{p[1]}"))
def test_any_shard_is_a_share_or_one_error(text):
    try:
        share = Shard.parse(text)
    except RunError as error:
        assert "3/16" in str(error) and "\n" not in str(error)
    else:
        assert 1 <= share.number <= share.of and Shard.parse(str(share)) == share


def test_an_empty_share_is_refused(tmp_path):
    with pytest.raises(RunError, match="empty"):
        run(tmp_path / "a", shard=Shard(9, 9))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("place", ["s1/sub", "s1/images", "s2/a/b", "link/sub"])
def test_a_target_inside_a_shard_is_refused(made, tmp_path, place):
    for name in ("s1", "s2"):
        shutil.copytree(made / name, tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / "s1")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match=r"lies inside .*s[12], which is to be merged; choose"):
        merge_sets([tmp_path / "s1", tmp_path / "s2"], tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_row_that_the_target_has_already_is_compared(made, tmp_path):
    merge_sets(shards(made), tmp_path / "m")
    other = shutil.copytree(made / "s2", tmp_path / "other")
    lines = (other / "metadata.jsonl").read_text().splitlines()
    row = json.loads(lines[0]) | {"caption": "Another."}
    (other / "metadata.jsonl").write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n")
    with pytest.raises(DatasetError, match=r"sample 1 differs from that of another folder or of .*m; only"):
        merge_sets([other], tmp_path / "m")
    assert differences(made / "whole", tmp_path / "m") == []


@pytest.mark.parametrize("place", ["s2/images/000001.png", "s2/new.png", "s2/preview.png", "link/x.png", "to.png"])
def test_a_preview_overwrites_nothing_of_another_set(made, tmp_path, place, monkeypatch, capsys):
    for name in ("s1", "s2"):
        shutil.copytree(made / name, tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / "s2" / "images")
    (tmp_path / "to.png").symlink_to(tmp_path / "s2" / "images" / "000001.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        cli.main(["preview", "s1", "--out", place])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and "lies inside the set" in error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(SystemExit) as caught:
        cli.main(["preview", "s1", "--out", "s1/preview.png"])
    assert caught.value.code == 0
