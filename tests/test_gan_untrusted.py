"""A model folder from anywhere: what is wrong with its card is one line that names it, exit 2."""

import json

import pytest
from gan_sets import write_set
from test_gan_train import BOTH, TINY, domains

from synthskin.cli import main
from synthskin.gan import GanError
from synthskin.gan.model import read_model_card
from synthskin.gan.train import train


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gan")
    train(*domains(write_set(folder / "set", BOTH)), TINY, folder / "m")
    return folder


@pytest.mark.parametrize(("changed", "said"), [
    ("[" * 200_000, "is no model card of this version"),
    ('{"a": NaN}', "NaN is not a finite number"),
    ("[1, 2]", "other keys or another version"),
    ({"source": {"where": 5}}, r"source\.where = 5: the text of a filter is needed"),
    ({"source": ["NV"]}, "source = .* an object is needed"),
    ({"source": {"where": "diagnosis"}}, r"source\.where: 'diagnosis' is no clause"),
    ({"target": {"where": None}}, r"target\.where = None"),
    ({"target": "set"}, "target = 'set': an object is needed"),
    ({"licences": "CC0-1.0"}, "licences = 'CC0-1.0': a list of texts"),
    ({"licences": []}, r"licences = \[\]: a list of texts, at least one"),
    ({"attribution": [5]}, r"attribution = \[5\]"),
    ({"diagnosis": 5}, "diagnosis = 5: one of MEL"),
    ({"diagnosis": ["MEL"]}, "diagnosis = "),
    ({"diagnosis": None}, "diagnosis = None: one of MEL"),
    ({"source_diagnoses": {"NV": 1}}, "source_diagnoses = "),
    ({"tones": [7]}, r"tones = \[7\]: a list of ITA classes"),
    ({"steps": "4"}, "steps = '4': a whole number"),
    ({"validation": "good"}, "validation = 'good'"),
    ({"sha256": 5}, "sha256 = 5: text"),
    ({"remarks": "few"}, "remarks = 'few'"),
    ({"options": {"width": 4.0}}, r"options\.width = 4\.0: a value of kind int"),
    ({"options": {"size_px": "32"}}, r"options\.size_px = '32'"),
    ({"options": {"skip": 1}}, r"options\.skip = 1: a value of kind bool"),
    ({"options": {"steps": True}}, r"options\.steps = True"),
    ({"options": [1]}, r"options = \[1\]: an object"),
])
def test_a_strangers_card(made, tmp_path, capsys, changed, said):
    folder = tmp_path / "m"
    folder.mkdir()
    card = json.loads((made / "m/model.json").read_text())
    if isinstance(changed, dict):
        options = changed.get("options")
        changed = {**card, **changed}
        if isinstance(options, dict):
            changed["options"] = {**card["options"], **options}
        changed = json.dumps(changed)
    (folder / "model.json").write_text(changed)
    (folder / "generator.safetensors").write_bytes((made / "m/generator.safetensors").read_bytes())
    with pytest.raises(GanError, match=said) as error:
        read_model_card(folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    with pytest.raises(SystemExit) as stop:
        main(["gan", "translate", str(folder), str(made / "set"), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2 and not (tmp_path / "out").exists()
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "Traceback" not in told


def test_every_card_that_training_writes_is_read(made):
    card = read_model_card(made / "m")
    assert json.loads(card.to_json()) == json.loads((made / "m/model.json").read_text())


@pytest.mark.parametrize("told", ["[" * 200_000, "[]", '{"identity": 5}'])
def test_a_strangers_checkpoint(made, tmp_path, told):
    import torch

    from synthskin.training_state import tensor_bytes

    (tmp_path / "m").mkdir()
    (tmp_path / "m/state.safetensors").write_bytes(tensor_bytes({"a": torch.zeros(1)}, {"synthskin": told}))
    with pytest.raises(GanError, match="is no checkpoint of `synthskin gan train`, or damaged"):
        train(*domains(made / "set"), TINY, tmp_path / "m")
