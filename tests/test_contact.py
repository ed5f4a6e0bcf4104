"""What only a dermatoscope brings is refused in photographs, in one line, before anything is written."""

import pytest
from standin import FakeEngine, device

from synthskin import audit, cli
from synthskin.bias.audit_causes import CAUSES, pick
from synthskin.contact import NEEDS_CONTACT, can_occur, contact_fault
from synthskin.conventions import ARTEFACTS
from synthskin.hooks import RenderedStream
from synthskin.preset import load_preset, preset_names
from synthskin.run import EngineOptions, RunRequest, render_run
from synthskin.variation import VariationError

OF_CLINICAL = "camera.view = clinical: a photograph has no part of a dermatoscope that makes "


def test_shipped_presets_have_none_of_it_in_photographs():
    assert [name for name in preset_names() if contact_fault(load_preset(name)) is not None] == []
    assert set(NEEDS_CONTACT) < set(ARTEFACTS)
    assert all(can_occur(load_preset("isic_like"), name) for name in NEEDS_CONTACT)


@pytest.mark.parametrize(("arguments", "parts"), [
    (["render", "--preset", "clinical", "--set", "artefacts.gel_bubble=1"],
     [OF_CLINICAL + "artefacts.gel_bubble (gel); leave that out (--set artefacts.gel_bubble=0"]),
    (["render", "--preset", "region", "--confound", "glare:NV=0.5"], ["view = region", "artefacts.glare (plate)"]),
    (["render", "--preset", "isic_like", "--set", "camera.view=clinical"],
     [f"artefacts.{name} ({part})" for name, part in NEEDS_CONTACT.items()]),
    (["render", "--preset", "both.toml"], ["artefacts.dark_corner (aperture)"]),
    (["sweep", "--preset", "clinical", "--field", "artefacts.glare", "--values", "0,1"],
     ["artefacts.glare (plate); leave that out or choose camera.view=dermoscopic"]),
    (["sweep", "--preset", "nv", "--field", "camera.view", "--values", "dermoscopic,clinical", "--set",
      "artefacts.glare=1"], [OF_CLINICAL + "artefacts.glare"]),
    (["counterfactual", "--preset", "clinical", "--set", "artefacts.gel_bubble=0..1"], ["artefacts.gel_bubble"]),
    (["followup", "--preset", "region", "--set", "artefacts.dark_corner=1"], ["artefacts.dark_corner"]),
])
def test_photographs_with_it_are_one_line_and_exit_2(arguments, parts, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "both.toml").write_text(
        'name = "both"\nextends = "nv"\n[fields."camera.view"]\nchoice = { dermoscopic = 1, clinical = 1 }\n'
        'source = "own"\n[fields."artefacts.dark_corner"]\nvalue = 1\nzero_probability = 0.5\nsource = "own"\n')
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, "--n", "1", "--size", "32", "--out", "set"])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1
    for part in parts:
        assert part in error
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("sets", [
    ["artefacts.ruler=1", "artefacts.ink=1", "artefacts.colour_patch=1", "artefacts.blur=1", "artefacts.thick_hair=1"],
    ["artefacts.gel_bubble=0", "artefacts.glare=0"],
    ["camera.view=dermoscopic", "artefacts.gel_bubble=1", "artefacts.glare=1", "artefacts.dark_corner=1"],
])
def test_all_else_goes_on(sets, tmp_path):
    chosen = load_preset("clinical").with_sets(sets)
    assert render_run(RunRequest(chosen, 1, 0, tmp_path / "a", EngineOptions(32, 3)), FakeEngine, device).made == 1


def test_a_confound_of_no_chance_is_none():
    clinical = load_preset("clinical").with_diagnosis("NV=1")
    assert contact_fault(clinical.with_confounds(["gel_bubble:NV=0"])) is None
    assert contact_fault(clinical.with_confounds(["gel_bubble:NV=0.1"])) is not None
    mixed = load_preset("isic_like").with_sets(["artefacts.dark_corner=0", "artefacts.glare=0"]).with_diagnosis("NV=1")
    assert can_occur(mixed, "gel_bubble") and not can_occur(mixed.with_confounds(["gel_bubble:NV=0"]), "gel_bubble")


def test_streams_and_audits_of_photographs():
    clinical = load_preset("clinical").with_diagnosis("NV=1,MEL=1")
    with pytest.raises(ValueError, match=r"artefacts\.glare \(plate\)"):
        RenderedStream(clinical.with_sets(["artefacts.glare=1"]))
    left = [cause.name for cause in audit.act_on(clinical, CAUSES)]
    assert left == [cause.name for cause in CAUSES if cause.name not in NEEDS_CONTACT]
    assert audit.act_on(load_preset("nv"), CAUSES) == list(CAUSES)
    assert len(audit.make_jobs(clinical, audit.act_on(clinical, CAUSES), 2, 2)) == len(left) + 1
    for names in ("gel_bubble", "dark_corner", "glare"):
        with pytest.raises(VariationError, match=rf"cause {names}: .*artefacts\.{names}.*leave it out with --causes"):
            audit.make_jobs(clinical, pick(names), 2, 2)
    with pytest.raises(VariationError, match=r"^camera\.view = clinical: .*artefacts\.glare"):
        audit.make_jobs(clinical.with_sets(["artefacts.glare=1"]), pick("ink"), 2, 2)
