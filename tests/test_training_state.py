"""Equal tensors are equal files, and a training goes on from what was saved."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors import safe_open  # noqa: E402

from synthskin import training_state as ts  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
NOTES = {"format": "pt", "unet.lora_adapter_metadata": '{"r": 4, "what": "nævus \\u007f\\n\\"x\\""}', "a": "1"}
WRITE = """
import json, sys
import torch
from synthskin.training_state import tensor_bytes
made = {"b": torch.arange(6.0).reshape(2, 3).T, "a": torch.tensor(7, dtype=torch.int64), "h": torch.ones(3).half()}
notes = json.loads(sys.argv[1])
sys.stdout.buffer.write(tensor_bytes(made, notes))
"""


class RefusedError(ValueError):
    pass


def test_equal_tensors_are_equal_bytes_in_every_process(tmp_path):
    """safetensors itself orders the keys anew in each process: four processes would agree by chance once in 216."""
    made = [subprocess.run([sys.executable, "-c", WRITE, json.dumps(dict(notes))], capture_output=True, check=True,
                           cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": str(seed)}).stdout
            for seed, notes in enumerate([list(NOTES.items()), list(reversed(NOTES.items()))] * 2)]
    assert len(set(made)) == 1
    (tmp_path / "a.safetensors").write_bytes(made[0])
    with safe_open(tmp_path / "a.safetensors", "pt") as opened:
        assert opened.metadata() == NOTES
    found = ts.read_tensors(tmp_path / "a.safetensors", RefusedError, hashlib.sha256(made[0]).hexdigest())
    assert torch.equal(found["b"], torch.arange(6.0).reshape(2, 3).T) and found["a"].item() == 7
    assert found["h"].dtype == torch.float16 and found["h"].tolist() == [1, 1, 1]


def test_one_key_is_left_as_the_library_writes_it():
    from safetensors.torch import save

    made = {"a": torch.ones(3, 5), "b": torch.zeros(1)}
    assert ts.tensor_bytes(made, {"format": "pt"}) == save(made, {"format": "pt"})
    assert ts.tensor_bytes(made) == save(made)


def test_tensors_that_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(RefusedError, match="is missing"):
        ts.read_tensors(path, RefusedError)
    path.write_bytes(b"no tensors")
    with pytest.raises(RefusedError, match="is damaged"):
        ts.read_tensors(path, RefusedError)
    path.write_bytes(ts.tensor_bytes({"a": torch.ones(2)}))
    with pytest.raises(RefusedError, match="SHA-256 differs"):
        ts.read_tensors(path, RefusedError, "0" * 64)


def make():
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    return layer, torch.optim.AdamW(layer.parameters(), 0.1)


def advance(layer, optimiser, steps):
    for _ in range(steps):
        optimiser.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        optimiser.step()


def test_a_training_goes_on_to_the_same_weights(tmp_path):
    layer, optimiser = make()
    advance(layer, optimiser, 3)
    identity = {"rank": 4, "layers": ("a", "b")}  # a tuple comes back as a list, and is the same training
    tensors = dict(layer.state_dict()) | ts.optimiser_tensors(optimiser, "own")
    for step in (2, 3):
        ts.save_state(tmp_path, identity, step, tensors, RefusedError, {"history": [1, 2]})
    assert sorted(os.listdir(tmp_path)) == ["state-00000003.safetensors", "state.json"]
    advance(layer, optimiser, 3)

    found = ts.load_state(tmp_path, identity, tmp_path, RefusedError)
    assert found is not None and found[0]["step"] == 3 and found[0]["history"] == [1, 2]
    other, resumed = make()
    other.load_state_dict({name: found[1][name] for name in other.state_dict()})
    ts.load_optimiser(resumed, found[1], "own")
    advance(other, resumed, 3)
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), other.parameters(), strict=True))


def test_states_that_are_refused(tmp_path):
    assert ts.load_state(tmp_path, {}, tmp_path, RefusedError) is None
    ts.save_state(tmp_path, {"rank": 2}, 5, {"a": torch.ones(1)}, RefusedError)
    with pytest.raises(RefusedError, match=r"holds another training .rank 2 there, 4 here.; choose another --out, or "):
        ts.load_state(tmp_path, {"rank": 4}, tmp_path, RefusedError)
    state = json.loads((tmp_path / "state.json").read_text())
    for key, value in (("format", 9), ("step", "5"), ("step", -5), ("tensors", "../x.safetensors")):
        (tmp_path / "state.json").write_text(json.dumps(state | {key: value}))
        with pytest.raises(RefusedError, match="is damaged; --overwrite starts anew"):
            ts.load_state(tmp_path, {"rank": 2}, tmp_path, RefusedError)
    (tmp_path / "state.json").write_text(json.dumps(state | {"sha256": "0" * 64}))
    with pytest.raises(RefusedError, match="SHA-256 differs"):
        ts.load_state(tmp_path, {"rank": 2}, tmp_path, RefusedError)
