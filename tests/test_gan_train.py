"""Training: exact resume, splits by group, refusals in one line, every method end to end at a tiny size."""

import json
from dataclasses import replace

import pytest
import torch
from gan_sets import write_set
from interrupt import InterruptAt

from synthskin.cli import main
from synthskin.gan import GanError
from synthskin.gan.domain import from_unit, load_domain, split_domains, to_unit
from synthskin.gan.method import TrainOptions
from synthskin.gan.model import load_model, read_model_card
from synthskin.gan.train import train
from synthskin.gan.where import parse_where

TINY = TrainOptions(size_px=32, steps=4, width=4, blocks=1, every=2, pool=3, rate=1e-3)
BOTH = [("NV", 1 + k % 6) for k in range(12)] + [("MEL", 1 + k % 6) for k in range(12)]


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("sets") / "toys", BOTH)


def domains(directory, size=32):
    return tuple(load_domain(directory, parse_where(f"diagnosis={d}"), size) for d in ("NV", "MEL"))


def weights(folder):
    return (folder / "generator.safetensors").read_bytes(), (folder / "state.safetensors").read_bytes()


@pytest.mark.parametrize("method", ["cyclegan", "cut", "stargan", "pix2pixhd"])
def test_stopped_and_continued_is_the_same(toys, tmp_path, method, monkeypatch):
    """Ctrl-C after an odd step, then the same call: weights, optimisers and pools are bit for bit those of one run."""
    change = {"stargan": "tone", "pix2pixhd": "picture"}.get(method, "class")
    options = replace(TINY, method=method, change=change, generator="unet" if method == "cyclegan" else "resnet")
    source, target = domains(toys)
    whole = train(source, target, options, tmp_path / "whole")
    assert (whole.ended, whole.steps, whole.made) == ("done", 4, 4)

    first = train(source, target, options, tmp_path / "parts", InterruptAt(3))
    assert (first.ended, first.steps) == ("stopped", 3)
    second = train(source, target, options, tmp_path / "parts")
    assert (second.ended, second.made) == ("done", 1)
    assert weights(tmp_path / "whole") == weights(tmp_path / "parts")
    again = train(source, target, options, tmp_path / "parts")
    assert (again.ended, again.made) == ("done", 0)
    card = read_model_card(tmp_path / "parts")
    assert card.options == options and card.licences == ["CC0-1.0"] and card.sha256 == whole.card.sha256
    assert len(list((tmp_path / "whole/samples").glob("*.png"))) == 2
    assert list((tmp_path / "whole/tensorboard").glob("events.*"))


def test_learnt_weights_differ_from_the_first(toys, tmp_path):
    source, target = domains(toys)
    train(source, target, TINY, tmp_path / "a")
    train(source, target, replace(TINY, seed=1), tmp_path / "b")
    assert weights(tmp_path / "a")[0] != weights(tmp_path / "b")[0]


@pytest.mark.parametrize(("changed", "said"), [
    ({"cycle": 5.0}, "--cycle = 10.0, 5.0 came"), ({"method": "cut"}, "--method = cyclegan, cut came"),
    ({"steps": 9}, "--steps = 4, 9 came"),
])
def test_another_training_in_the_folder_is_refused(toys, tmp_path, changed, said):
    source, target = domains(toys)
    train(source, target, TINY, tmp_path)
    before = weights(tmp_path)
    with pytest.raises(GanError, match=said):
        train(source, target, replace(TINY, **changed), tmp_path)
    assert weights(tmp_path) == before


def test_early_stop_keeps_the_best(toys, tmp_path, monkeypatch):
    """Distances 3, 1, 2, 2: after two validations without gain it stops, and the weights of the second are kept."""
    from synthskin.gan.cyclegan import CycleGAN

    told = iter([3.0, 1.0, 2.0, 2.5, 0.1])
    kept = []
    monkeypatch.setattr(CycleGAN, "validate", lambda self, net, held: (kept.append(
        {k: v.clone() for k, v in net.state_dict().items()}), next(told))[1])
    source, target = domains(toys)
    result = train(source, target, replace(TINY, steps=20, every=1, patience=2), tmp_path)
    assert (result.ended, result.steps) == ("early", 4)
    assert (result.card.steps, result.card.validation) == (2, 1.0)
    model = load_model(tmp_path)
    assert all(torch.equal(value, kept[1][name]) for name, value in model.net.state_dict().items())


def test_no_group_is_cut_and_test_is_never_seen(tmp_path):
    """Groups span both domains; rows of split test, and their groups, are in neither part."""
    groups = [f"g{k % 15}" for k in range(60)]
    splits = ["test" if k % 15 == 3 and k < 30 else None for k in range(60)]
    directory = write_set(tmp_path / "set", [("NV" if k < 30 else "MEL", 2) for k in range(60)], groups=groups,
                          splits=splits)
    split = split_domains(domains(directory), seed=0)
    parts = {name: {row["group_id"] for d in part for row in d.rows}
             for name, part in (("learn", split.learn), ("held", split.held_out))}
    assert parts["learn"] and parts["held"] and not parts["learn"] & parts["held"]
    assert "g3" not in parts["learn"] | parts["held"]
    named = write_set(tmp_path / "named", [("NV" if k < 30 else "MEL", 2) for k in range(60)], groups=groups,
                      splits=["val" if k % 15 == 5 else "train" for k in range(60)])
    split = split_domains(domains(named), seed=0)
    assert {row["group_id"] for d in split.held_out for row in d.rows} == {"g5"}


def test_one_value_scaling_for_all(toys):
    """0 and 255 are -1 and 1 whatever else is in the picture, and back exactly."""
    source, _ = domains(toys)
    image = source.picture(0).image
    assert torch.allclose(to_unit(image[None])[0, :, 0, 0], torch.tensor(image[0, 0] / 127.5 - 1.0).float())
    assert (from_unit(to_unit(image[None]))[0] == image).all()


def run(*args):
    with pytest.raises(SystemExit) as caught:
        main(["gan", *map(str, args)])
    return caught.value.code


@pytest.mark.parametrize(("args", "said"), [
    (["--source-where", "diagnosis=NV", "--target-where", "diagnosis=NV|MEL",
      "--change", "tone"], "12 pictures are in SOURCE and in"),
    (["--source-where", "diagnosis=BCC", "--target-where", "diagnosis=MEL"], "none of its 24 samples fulfil"),
    (["--source-where", "diagnosis=NX", "--target-where", "diagnosis=MEL"], "allowed are MEL, NV"),
    ([], "needs two domains"),
    (["--method", "gan"], "allowed are cyclegan, cut"),
    (["--source-where", "ita_class<=3", "--target-where", "ita_class>=4", "--change", "class"], "needs one diagnosis"),
    (["--source-where", "diagnosis=NV", "--target-where", "diagnosis=MEL", "--size", "50"], "multiple of 16"),
    (["--source-where", "diagnosis=NV", "--target-where", "diagnosis=MEL", "--precision", "fp16"], "GPU only"),
    (["--method", "stargan", "--source-where", "ita_class=2"], "at least 2 are needed"),
    (["--method", "stargan", "--change", "class"], "stargan changes the tone"),
    (["--source-where", "diagnosis=NV", "--target-where", "diagnosis=MEL", "--augment", "mirror"], "not known"),
])
def test_bad_input_is_one_line(toys, tmp_path, capsys, args, said):
    size = [] if "--size" in args else ["--size", "32"]
    assert run("train", toys, "--out", tmp_path / "m", "--steps", 1, "--width", 4, "--blocks", 1, *size, *args) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error
    assert not (tmp_path / "m").exists()


def test_same_pictures_under_another_name_are_found(toys, tmp_path):
    import shutil

    shutil.copytree(toys, tmp_path / "copy")
    with pytest.raises(GanError, match="24 pictures are in SOURCE and in TARGET"):
        train(load_domain(toys, parse_where(""), 32), load_domain(tmp_path / "copy", parse_where(""), 32), TINY,
              tmp_path / "m")


def test_few_pictures_are_allowed_with_a_warning(tmp_path, capsys):
    few = write_set(tmp_path / "few", [("NV", 2)] * 5 + [("MEL", 2)] * 12)
    assert run("train", few, "--source-where", "diagnosis=NV", "--target-where", "diagnosis=MEL",
               "--out", tmp_path / "m", "--steps", 1, "--width", 4, "--blocks", 1, "--size", 32, "--json") == 0
    out, error = capsys.readouterr()
    assert "warning: SOURCE has 5 pictures" in error and "under" not in out
    assert json.loads(out)["ended"] == "done"
    assert read_model_card(tmp_path / "m").remarks


def test_checkpoint_of_another_method(toys, tmp_path):
    """The card says cut, the weights are those of a cyclegan: refused, not loaded in part."""
    import hashlib

    source, target = domains(toys)
    train(source, target, TINY, tmp_path / "a")
    train(source, target, replace(TINY, method="stargan", change="tone"), tmp_path / "b")
    data = (tmp_path / "b/generator.safetensors").read_bytes()
    with pytest.raises(GanError, match="sha256 differs"):
        (tmp_path / "a/generator.safetensors").write_bytes(data)
        load_model(tmp_path / "a")
    card = json.loads((tmp_path / "a/model.json").read_text())
    (tmp_path / "a/model.json").write_text(json.dumps({**card, "sha256": hashlib.sha256(data).hexdigest()}))
    with pytest.raises(GanError, match="checkpoint of another method"):
        load_model(tmp_path / "a")
    with pytest.raises(GanError, match=r"no model\.json"):
        load_model(tmp_path / "c")


def test_light_imports():
    from test_imports import loaded_by

    code = "from synthskin import cli\ntry:\n    cli.main(['gan', 'train', '--help'])\nexcept SystemExit:\n    pass"
    assert not loaded_by(code) & {"torch", "numpy", "accelerate", "mitsuba"}
    assert not loaded_by("import synthskin.gan, synthskin.gan.where") & {"torch", "accelerate"}
