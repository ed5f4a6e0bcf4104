"""What sweep, counterfactual and followup tell at their end: what failed, what followed, what was of no effect."""

import json
from dataclasses import replace

import pytest
from standin import FakeEngine, device

import synthskin.run
from synthskin import cli
from synthskin import variation as v
from synthskin.dataset.reader import read_rows
from synthskin.draw import draw
from synthskin.physics import anatomy, labels
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunRequest, render_run

COMMANDS = (["sweep", "--field", "hair.count", "--values", "0,9"], ["counterfactual"], ["followup", "--times", "0.5,1"])


class ShowsHair(FakeEngine):
    """Hair and skin change the picture; nothing else does."""

    def render(self, record):
        made = super().render(record)
        image = made.image.copy()
        image[0, 0] = (record.hair.count, round(255 * record.skin.melanosome_fraction), 0)
        return replace(made, image=image)


class Fails(ShowsHair):
    def render(self, record):
        if record.index == 1 and record.hair.count > 0:
            raise ValueError("boom")
        return super().render(record)


def call(arguments, engine, monkeypatch, capsys):
    real = render_run
    monkeypatch.setattr(synthskin.run, "render_run",
                        lambda request, progress=None: real(request, engine, device, progress))
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, "-n", "2", "--size", "32", "--workers", "1"])
    told = capsys.readouterr()
    return caught.value.code, told.out, told.err


@pytest.mark.parametrize("command", COMMANDS)
def test_what_failed_is_named_and_exits_with_3(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sets = [] if command[0] == "sweep" else ["--set", "hair.count=5"]
    command = [*command, *sets, "--out", "set"]
    code, out, err = call(command, Fails, monkeypatch, capsys)
    assert code == 3 and "sample 3 failed: ValueError: boom\n" in err and "of 4 samples could not be made" in err
    assert "followed" not in out
    code, out, err = call([*command, "--json"], Fails, monkeypatch, capsys)
    told = json.loads(out)
    assert code == 3 and told["failed"]["3"] == "ValueError: boom" and told["followed"] is None
    code, out, _ = call([*command, "--json"], ShowsHair, monkeypatch, capsys)
    told = json.loads(out)
    assert code == 0 and told["failed"] == {} and "set_hash" not in told["followed"]


@pytest.mark.parametrize("values", ["0,9", "0,9,20"])
def test_an_effect_is_not_denied(values, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(["sweep", "--field", "hair.count", "--values", values, "--out", "set", "--json"], ShowsHair,
                          monkeypatch, capsys)
    assert code == 0 and json.loads(out)["same_pictures"] == [] and "note" not in err


def test_a_sweep_of_no_effect_is_told(tmp_path, monkeypatch, capsys):
    """An ink's colour without ink."""
    monkeypatch.chdir(tmp_path)
    command = ["sweep", "--field", "artefacts.ink_colour", "--values", "black,methylene blue", "--out", "set"]
    code, out, err = call(command, ShowsHair, monkeypatch, capsys)
    assert code == 0 and err.count("note: ") == 1
    assert "note: the pictures of black, methylene blue are the same in every lesion: sweep artefacts.ink_colour" in err
    code, out, err = call([*command, "--json"], ShowsHair, monkeypatch, capsys)
    assert json.loads(out)["same_pictures"] == [["black", "methylene blue"]]


def test_siblings_that_are_alike_in_one_lesion_alone_are_not(tmp_path):
    """Pictures of three siblings: a a b in the first lesion, a b b in the second, a a b and a a b in a set beside."""
    for name, second, alike in (("x", "abb", []), ("y", "aab", [[0, 1]])):
        folder = tmp_path / name / "images"
        folder.mkdir(parents=True)
        rows = [{"file_name": f"images/{k}.png"} for k in range(6)]
        for k, letter in enumerate("aab" + second):
            (folder / f"{k}.png").write_text(letter)
        assert v.same_pictures(tmp_path / name, rows, 3) == alike


def test_the_view_moves_the_modality_and_it_is_listed(tmp_path):
    plan = v.make_sweep("camera.view", ["dermoscopic", "clinical"])
    preset = load_preset("fst2").with_diagnosis("NV=1")
    render_run(RunRequest(preset, 2, 0, tmp_path / "a", EngineOptions(32, 3), plan=plan), FakeEngine, device)
    assert "modality" in v.followed(read_rows(tmp_path / "a"), 2)
    assert set(v.followed(read_rows(tmp_path / "a"), 2)) <= set(v.DERIVED)


def test_a_skin_field_that_is_set_is_held_on_every_tone():
    preset = load_preset("nv").with_sets(["skin.blood_fraction=0.02"])
    plan = v.make_counterfactual(preset, "fst1,fst6")
    siblings = [plan.record(preset, 0, k).skin for k in range(2)]
    assert [skin.blood_fraction for skin in siblings] == [0.02, 0.02]
    assert siblings[0].melanosome_fraction < siblings[1].melanosome_fraction


@pytest.mark.parametrize("field", ["structures.ulceration_strength", "structures.pseudopods_density_per_mm"])
def test_structures_that_change_the_border_change_the_mask(field):
    """As docs/variation.md says of the lesion's fields."""
    preset = load_preset("nv").with_diagnosis("NV=1")
    plan = v.make_sweep(field, (0, 1) if "strength" in field else (0, 4))
    masks = []
    for sibling in range(2):
        record = plan.record(preset, 0, sibling)
        scene = anatomy.build_scene(record, 96)
        tissue, fov = scene.tissue, record.camera.field_of_view_mm
        masks.append(labels.lesion_mask(scene.lesion, tissue.column_mm, tissue.origin_mm, fov, 96).tobytes())
    assert masks[0] != masks[1] and draw(preset, 0, 0).lesion == plan.record(preset, 0, 1).lesion
