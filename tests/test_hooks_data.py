"""SkinDataset, collate and RenderedStream, with a stand-in renderer where rendering is not the point."""

import json
import multiprocessing
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from PIL import Image
from standin import FakeEngine, device
from torch.utils.data import DataLoader, Subset

from synthskin.conventions import DIAGNOSES
from synthskin.dataset.format import DatasetError
from synthskin.hooks import (
    MixedDataset,
    RandHairOverlayd,
    RandToneShiftd,
    RenderedStream,
    SkinDataset,
    collate,
)
from synthskin.hooks.data import squared
from synthskin.hooks.renderer import RenderError
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunRequest, render_run

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """12 stand-in samples of 32 pixels, nevi and healthy skin."""
    out = tmp_path_factory.mktemp("sets") / "set"
    preset = replace(load_preset("fst2"), diagnosis=(("NV", 0.7), ("healthy", 0.3)))
    render_run(RunRequest(preset, 12, 3, out, EngineOptions(size_px=32)), FakeEngine, device)
    return out


def loaded(batch_or_sample):
    return json.loads(batch_or_sample["meta_json"])


def test_samples_are_what_is_on_disk(folder):
    data = SkinDataset(folder)
    assert len(data) == 12
    for i in (0, 5, 11):
        sample = data[i]
        row = loaded(sample)
        image = np.asarray(Image.open(folder / row["file_name"]))
        mask = np.asarray(Image.open(folder / row["mask_file_name"]))
        assert sample["image"].shape == (3, 32, 32) and sample["image"].dtype == torch.float32
        assert np.array_equal((sample["image"] * 255).round().byte().permute(1, 2, 0).numpy(), image)
        assert np.array_equal(sample["mask"][0].numpy(), mask / 255)
        assert data.classes[sample["label"]] == row["diagnosis"]
    tone = SkinDataset(folder, label="ita_class")
    assert tone.classes[tone[0]["label"]] == loaded(tone[0])["ita_class"]
    only = SkinDataset(folder, classes=["NV"])
    assert {only[i]["label"] for i in range(12)} == {0, None}


def test_transform_and_size(folder):
    data = SkinDataset(folder, size_px=16, transform=lambda sample: {**sample, "seen": 1})
    assert data[0]["image"].shape == (3, 16, 16) and data[0]["seen"] == 1
    assert set(data[0]["mask"].unique().tolist()) <= {0.0, 1.0}
    wide = torch.rand(3, 40, 80)
    assert squared(wide, 20).shape == (3, 20, 20)
    flat = torch.full((3, 48, 64), 0.25)
    assert torch.allclose(squared(flat, 24), torch.full((3, 24, 24), 0.25))


def test_refusals(folder, tmp_path):
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        SkinDataset(tmp_path)
    with pytest.raises(DatasetError, match="split=test"):
        SkinDataset(folder, split="test")
    with pytest.raises(DatasetError, match=r"no row has a split \(rendered sets never do\); leave split out"):
        SkinDataset(folder, split="train")
    with pytest.raises(ValueError, match="label='colour'"):
        SkinDataset(folder, label="colour")
    with pytest.raises(ValueError, match="classes"):
        SkinDataset(folder, label="sex")
    for bad, told in (("MEL", "a list of values"), ([], "a list of values"), (["NV", "NV"], "comes twice"),
                      (["NV", "melanoma"], "'melanoma' is no diagnosis; allowed are MEL, NV")):
        with pytest.raises(ValueError, match=told):
            SkinDataset(folder, classes=bad)
        with pytest.raises(ValueError, match=told):
            RenderedStream("fst2", classes=bad)
    with pytest.raises(ValueError, match="is no ita_class"):
        SkinDataset(folder, label="ita_class", classes=["1", "2"])
    with pytest.raises(ValueError, match="no row has one of them as its modality; there are dermoscopic"):
        SkinDataset(folder, label="modality", classes=["dermatoscopic"])
    data = SkinDataset(folder)
    data.rows = [data.rows[0] | {"file_name": "../secret.png"}]
    with pytest.raises(DatasetError, match="stay inside"):
        data[0]


def test_labels_of_mixed_sets_mean_the_same(folder):
    own, other = SkinDataset(folder, classes=["NV", "MEL"]), SkinDataset(folder)
    for real, synthetic in ((own, other), (other, own), (Subset(own, [0, 1]), other),
                            (other, SkinDataset(folder, label="ita_class"))):
        with pytest.raises(ValueError, match="labels mean different things: real has "):
            MixedDataset(real, synthetic)
    assert len(MixedDataset(Subset(own, [0, 1]), SkinDataset(folder, classes=["NV", "MEL"]))) == 14


@pytest.mark.parametrize("transform", [
    RandToneShiftd("image", to=(-50.0, 60.0), prob=1.0),
    Compose([RandHairOverlayd("image", prob=1.0, count=(5, 20)), RandToneShiftd("image", to=(-50.0, 60.0), prob=1.0)]),
], ids=("alone", "in a Compose"))
def test_monai_transforms_draw_anew_in_each_worker_and_epoch(folder, transform):
    def passes(seed):
        real, synthetic = (SkinDataset(where, transform=transform) for where in (folder, folder / "../set"))
        loader = DataLoader(MixedDataset(real, synthetic), 6, num_workers=2, collate_fn=collate,
                            generator=torch.Generator().manual_seed(seed),
                            multiprocessing_context=multiprocessing.get_context("fork"))
        return [torch.cat([batch["ita_reached_deg"] for batch in loader]).tolist() for _ in range(2)]

    first, second = passes(3)
    goals = np.array(first + second).reshape(4, 12)  # the same 12 pictures, four times
    assert all(len(set(np.round(own, 3))) > 2 for own in goals.T)
    assert min(np.abs(a - b).max() for k, a in enumerate(goals) for b in goals[:k]) > 5
    assert passes(3)[0] == first and passes(4)[0] != first


def test_collate_of_nulls(folder):
    data = SkinDataset(folder)
    samples = [data[0], data[1] | {"mask": None}, data[2] | {"label": None}]
    batch = collate(samples)
    assert batch["image"].shape == (3, 3, 32, 32)
    assert batch["has_mask"].tolist() == [True, False, True]
    assert batch["mask"][1].isnan().all() and not batch["mask"][[0, 2]].isnan().any()
    assert batch["label"].dtype == torch.int64 and batch["label"][2] == -100
    logits = torch.zeros(3, 8)
    assert torch.isfinite(torch.nn.functional.cross_entropy(logits, batch["label"]))  # -100 is left out
    assert [loaded({"meta_json": m})["index"] for m in batch["meta_json"]] == [0, 1, 2]
    more = collate([s | {"ita_reached_deg": torch.tensor(1.0), "n": 2, "name": "x"} for s in samples])
    assert more["ita_reached_deg"].shape == (3,) and more["n"].tolist() == [2, 2, 2] and more["name"] == ["x"] * 3
    with pytest.raises(ValueError, match="one size"):
        collate([data[0], {"image": torch.zeros(3, 8, 8)}])
    with pytest.raises(ValueError, match="no samples"):
        collate([])


@pytest.mark.parametrize("first", [0, 1])
def test_collate_of_keys_that_only_some_samples_have(first):
    plain = {"image": torch.zeros(3, 8, 6), "mask": None, "label": 0}
    cover, depth = torch.ones(1, 8, 6), torch.ones(1, 8, 6)
    own = plain | {"ita_reached_deg": torch.tensor(31.5), "age": 40, "hair": cover, "artefact": cover, "depth": depth,
                   "name": "x", "none": None, "sure": True}
    samples = [plain, own | {"age": None}, own]
    batch = collate(samples if first == 0 else samples[::-1])
    order = [0, 1, 2] if first == 0 else [2, 1, 0]
    assert batch["ita_reached_deg"][order].nan_to_num(-1).tolist() == [-1, 31.5, 31.5]
    assert batch["age"][order].nan_to_num(-1).tolist() == [-1, -1, 40]
    for key in ("hair", "artefact"):
        assert batch[key].shape == (3, 1, 8, 6) and batch[key].mean((1, 2, 3))[order].tolist() == [0, 1, 1]
    assert [batch["depth"][k] is None for k in order] == [True, False, False]  # zeros would be made up
    assert [batch["name"][k] for k in order] == [None, "x", "x"] and batch["none"] == [None] * 3
    assert [batch["sure"][k] for k in order] == [None, True, True]
    assert collate([plain | {"n": 1}, plain | {"n": torch.tensor(2)}, plain])["n"].nan_to_num(-1).tolist() == [1, 2, -1]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_four_workers(folder, method):
    """Both ways of starting workers give what one process gives."""
    data = SkinDataset(folder)
    alone = [data[i]["image"] for i in range(12)]
    loader = DataLoader(data, 3, num_workers=4 if method == "fork" else 2, collate_fn=collate,
                        multiprocessing_context=multiprocessing.get_context(method))
    assert torch.equal(torch.cat([batch["image"] for batch in loader]), torch.stack(alone))
    assert pickle.loads(pickle.dumps(data))[3]["meta_json"] == data[3]["meta_json"]


def stream(**settings):
    return RenderedStream("fst2", seed=4, size_px=32, engine="standin:FakeEngine", **settings)


def indices(samples):
    return [loaded(sample)["index"] for sample in samples]


def test_stream_gives_the_preset_s_samples(folder):
    made = stream(samples=3)
    got = list(made)
    assert indices(got) == [0, 1, 2] and len(made) == 3
    from synthskin.draw import draw
    from synthskin.rows import make_sample

    record = draw(load_preset("fst2"), 4, 2)
    there = make_sample(record, FakeEngine(EngineOptions(size_px=32)).render(record))
    assert np.array_equal((got[2]["image"] * 255).round().byte().permute(1, 2, 0).numpy(), there.image)
    assert np.array_equal(got[2]["mask"][0].numpy() * 255, there.mask)
    assert loaded(got[2]) == there.row
    assert got[2]["label"] == [*DIAGNOSES, "healthy"].index(there.row["diagnosis"])
    assert indices(made) == [3, 4, 5]  # the next pass goes on
    made.close()


def test_stream_resumes():
    first = stream(samples=4)
    assert indices(first) == [0, 1, 2, 3]
    state = json.loads(json.dumps(first.state_dict()))
    first.close()
    second = stream(samples=2)
    second.load_state_dict(state)
    assert indices(second) == [4, 5]
    second.close()
    taken = []
    third = stream()
    for sample in third:  # without an end; broken off in the middle
        taken.append(sample)
        if len(taken) == 3:
            break
    assert indices(taken) == [0, 1, 2]
    third.load_state_dict(third.state_dict())
    assert indices([next(iter(third))]) == [3]
    third.close()
    for key, value in (("seed", 5), ("set_hash", "0")):
        with pytest.raises(ValueError, match=key):
            stream().load_state_dict(state | {key: value})


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_stream_is_shared_among_workers(method):
    made = pickle.loads(pickle.dumps(stream(samples=7)))
    loader = DataLoader(made, 1, num_workers=2, collate_fn=collate,
                        multiprocessing_context=multiprocessing.get_context(method))
    seen = [json.loads(m)["index"] for batch in loader for m in batch["meta_json"]]
    assert sorted(seen) == [0, 1, 2, 3, 4, 5, 6]
    assert made.state_dict()["done"] == {"0": 4, "1": 3}  # the workers have ended, their counts are here
    if method == "spawn":
        return
    again = [json.loads(m)["index"] for batch in loader for m in batch["meta_json"]]
    assert not set(seen) & set(again) and len(set(again)) == 7
    state = made.state_dict()
    assert state["shares"] == 2 and state["done"] == {"0": 8, "1": 6}
    with pytest.raises(RuntimeError, match="num_workers"):
        next(iter(made))
    made.load_state_dict(state)
    assert min(indices([next(iter(made))])) >= 14 + 2  # behind the furthest worker
    made.close()


def test_stream_ranks(monkeypatch):
    seen = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        part = stream(samples=7)
        assert len(part) == 3
        seen += indices(part)
        part.close()
    assert sorted(seen) == list(range(9))  # every rank makes equally many


def test_stream_reports_a_renderer_that_fails():
    broken = RenderedStream("fst2", size_px=32, engine="standin:BrokenEngine", samples=1)
    with pytest.raises(RenderError, match="no usable LLVM"):
        next(iter(broken))
    hungry = RenderedStream("fst2", size_px=32, engine="standin:HungryEngine", samples=1)
    with pytest.raises(RenderError, match="out of memory"):
        next(iter(hungry))
    dying = stream(samples=4)
    one = iter(dying)
    next(one)
    dying._renderer.process.kill()
    with pytest.raises(RenderError, match="the renderer ended"):
        for _ in range(8):
            next(one)


def test_stream_refusals(own_path):
    for settings, word in (({"size_px": 8}, "size_px=8"), ({"samples": 0}, "samples=0"), ({"label": "sex"}, "label")):
        with pytest.raises(ValueError, match=word):
            RenderedStream("fst2", **settings)
    with pytest.raises(TypeError, match="no end"):
        len(RenderedStream(own_path))
    assert RenderedStream(load_preset(own_path)).set_hash == load_preset(own_path).hash


def test_training_process_stays_free_of_the_renderer():
    import subprocess
    import sys

    code = ("from synthskin.hooks import RenderedStream, ToneShift, SkinDataset\nRenderedStream('fst2')\n"
            "import sys; print(sorted({m.split('.')[0] for m in sys.modules} & {'mitsuba', 'drjit', 'monai'}),"
            "[m for m in sys.modules if m.startswith('synthskin.physics')])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]
