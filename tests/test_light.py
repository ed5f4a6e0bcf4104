"""The light of photographs is checked before anything is made or written: a panorama, its directions, what is asked."""

import numpy as np
import pytest
from standin import FakeEngine, device

from synthskin import cli
from synthskin import variation as v
from synthskin.physics import environment
from synthskin.preset import PresetError, load_preset
from synthskin.run import EngineOptions, RunError, RunRequest, render_run

CLINICAL = load_preset("clinical")


def panorama(path, *lamps, colour=(1.0, 1.0, 1.0)):
    """A black room of 64 x 128 pixels with lamps at azimuths in degrees: 0 is the middle, straight before the skin."""
    import mitsuba as mi

    pixels = np.zeros((64, 128, 3), np.float32)
    for azimuth in lamps:
        pixels[30:34, (64 + round(azimuth / 360 * 128)) % 128] = colour
    mi.Bitmap(pixels).write(str(path))
    return path


def run(out, path, *sets, preset=CLINICAL, plan=None):
    chosen = preset.with_sets(sets).in_environment()
    options = EngineOptions(32, 3, environment=str(path))
    return render_run(RunRequest(chosen, 2, 0, out, options, plan=plan), FakeEngine, device)


@pytest.mark.parametrize(("sets", "at"), [
    ((), "180"), (("clinical.light_azimuth_deg=0..360",), "90"), (("clinical.light_azimuth_deg=200",), "200"),
])
def test_a_direction_without_light_that_can_be_drawn_is_refused_before_anything(tmp_path, sets, at):
    path = panorama(tmp_path / "one.pfm", 0)
    message = rf"no light falls on the skin where clinical\.light_azimuth_deg is {at}; turn it, --set .*_deg=0$"
    with pytest.raises(RunError, match=message):
        run(tmp_path / "set", path, *sets)
    assert not (tmp_path / "set").exists()
    assert run(tmp_path / "set", path, "clinical.light_azimuth_deg=0..80").made == 2


def test_the_remedy_that_is_named_works(tmp_path):
    """A lamp behind the skin, before which the panorama is turned."""
    path = panorama(tmp_path / "back.pfm", 180)
    with pytest.raises(RunError, match=r"--set clinical\.light_azimuth_deg=17[0-9.]+$"):
        run(tmp_path / "set", path, "clinical.light_azimuth_deg=0")
    assert run(tmp_path / "set", path, "clinical.light_azimuth_deg=174.375").made == 2
    import mitsuba as mi

    room = environment.read_room(mi, path, 0.0)  # as the engine opens it, before it knows a record
    with pytest.raises(environment.EnvironmentMapError, match="no light falls on the skin"):
        environment.integrate(room, 0.3, np.array([0.0, 0.0, 1.0]))


def test_light_of_one_colour_cannot_be_balanced(tmp_path):
    path = panorama(tmp_path / "red.pfm", 0, 180, colour=(1.0, 0.0, 0.0))
    with pytest.raises(RunError, match="no light of all three colours"):
        run(tmp_path / "set", path)


def test_a_sweep_of_the_azimuth_is_checked_at_its_values(tmp_path):
    path = panorama(tmp_path / "one.pfm", 0)
    for values, good in (((0, 30), True), ((0, 180), False)):
        plan = v.make_sweep("clinical.light_azimuth_deg", values)
        if good:
            assert run(tmp_path / "set", path, plan=plan).made == 2
        else:
            with pytest.raises(RunError, match="is 180; turn it"):
                run(tmp_path / "other", path, plan=plan)


@pytest.mark.parametrize("arguments", [
    ["render", "--set", "clinical.light=environment"],
    ["sweep", "--field", "clinical.light", "--values", "window,environment"],
    ["counterfactual", "--set", "clinical.light=environment"],
    ["followup", "--set", "clinical.light=environment"],
    ["sweep", "--preset", "nv", "--set", "clinical.light=environment", "--field", "camera.view", "--values",
     "dermoscopic,clinical"],
])
def test_a_panorama_that_is_missing_is_told_before_anything_is_written(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    preset = [] if "--preset" in arguments else ["--preset", "clinical"]
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, *preset, "--size", "32", "--out", "set"])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1
    assert "needs a panorama" in error and "render --environment room.exr" in error
    assert list(tmp_path.iterdir()) == []


def test_a_light_that_no_photograph_has_is_no_fault(tmp_path):
    """Dermoscopy has its own light."""
    chosen = load_preset("nv").with_sets(["clinical.light=environment"])
    assert render_run(RunRequest(chosen, 1, 0, tmp_path / "a", EngineOptions(32, 3)), FakeEngine, device).made == 1


def test_another_light_is_not_silently_replaced():
    with pytest.raises(PresetError, match=r"clinical\.light is set to flash, .* leave one of them out"):
        CLINICAL.with_sets(["clinical.light=flash"]).in_environment()
    asked = CLINICAL.with_sets(["clinical.light=environment"]).in_environment()
    assert asked.options_of("clinical.light") == {"environment"} and asked.hash == CLINICAL.in_environment().hash


def test_options_are_those_that_can_be_drawn():
    assert CLINICAL.options_of("clinical.light") == {"window", "ceiling", "flash"}
    assert CLINICAL.options_of("camera.view") == {"clinical"}
    assert CLINICAL.with_sets(["clinical.light=flash"]).options_of("clinical.light") == {"flash"}
    assert load_preset("region").in_environment().options_of("clinical.light") == {"environment"}
