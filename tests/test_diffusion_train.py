"""Training: resumed after kill -9 bit for bit, each architecture of the family, refusals, cards, options that do what
they say."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from diffusion_sets import SIDE, trained_base, write_set
from hypothesis import given
from hypothesis import strategies as st

from synthskin import cli
from synthskin.conventions import DIAGNOSES
from synthskin.diffusion import DiffusionError, QuickstartOptions, TrainOptions, train_base, train_lora
from synthskin.diffusion.base import load_base
from synthskin.diffusion.data import Latents, load_training_set, picks_of_step, square
from synthskin.diffusion.devices import told_of_memory
from synthskin.diffusion.drawn import draw_mask
from synthskin.diffusion.lora import add_lora, load_lora
from synthskin.diffusion.noise import snr_weight
from synthskin.diffusion.pipeline import make_pictures, text_pipeline
from synthskin.diffusion.plan import plan_slots
from synthskin.diffusion.prompts import every_prompt, parse_weights, prompt
from synthskin.diffusion.small import build_small, save_base

QUICK = {"steps": 3, "batch": 2, "rank": 2, "save_every": 50}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    entries = [(("MEL", "NV")[k % 2], None, None) for k in range(6)]
    return write_set(tmp_path_factory.mktemp("data") / "set", entries, SIDE, 3)


def test_a_killed_training_goes_on_bit_for_bit(data, tmp_path):
    options = {"steps": 14, "batch": 2, "rank": 2, "dropout": 0.1, "save_every": 3, "mask_input": True, "ema": 0.9}
    whole = tmp_path / "whole"
    train_lora([data], str(trained_base()), whole, TrainOptions(**options))
    killed = tmp_path / "killed"
    code = (f"from synthskin.diffusion import TrainOptions, train_lora; from pathlib import Path; import time\n"
            f"train_lora([Path({str(data)!r})], {str(trained_base())!r}, Path({str(killed)!r}), "
            f"TrainOptions(**{options!r}), stop_after=lambda step: time.sleep(0.15 if step < 10 else 600))")
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"})
    log = killed / "training/losses.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not log.is_file() or log.read_bytes().count(b"\n") < 5):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "synthskin_lora.json").exists()
    at = json.loads((killed / "training/state.json").read_text())["step"]
    assert 3 <= at <= 9
    result = train_lora([data], str(trained_base()), killed, TrainOptions(**options))
    assert result.resumed_at == at
    for name in ("training/losses.jsonl", "pytorch_lora_weights.safetensors", "mask_input.safetensors",
                 "synthskin_lora.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    losses = [json.loads(line)["loss"] for line in log.read_text().splitlines()]
    assert len(losses) == 14 == len(set(losses))
    with pytest.raises(DiffusionError, match=r"holds another training.*rank 2 there, 4 here"):
        train_lora([data], str(trained_base()), killed, TrainOptions(**options | {"rank": 4}))


@pytest.mark.parametrize(("kind", "settings"), [
    ("sd1", {"prediction_type": "epsilon"}),
    ("sd2", {"prediction_type": "v_prediction", "text_width": 1024}),
    ("sdxl", {"prediction_type": "epsilon", "xl": True}),
])
def test_the_family(data, tmp_path, kind, settings):
    base = build_small(every_prompt(), SIDE, 16, seed=1, **settings)
    save_base(base, tmp_path / "base")
    assert load_base(str(tmp_path / "base")).kind == kind
    options = TrainOptions(**QUICK | {"steps": 2}, text_encoder=kind != "sd2", mask_input=True)
    train_lora([data], str(tmp_path / "base"), tmp_path / "lora", options)
    again = load_base(str(tmp_path / "base"))
    before = make_pictures(text_pipeline(again), ["melanoma"], [0], SIDE, steps=2)
    mask = load_lora(again, tmp_path / "lora")
    mask.show([np.full((SIDE, SIDE), 255, np.uint8)], SIDE // again.vae_scale)
    after = make_pictures(text_pipeline(again), ["melanoma"], [0], SIDE, steps=2)
    assert before.shape == after.shape == (1, SIDE, SIDE, 3) and not np.array_equal(before, after)
    card = json.loads((tmp_path / "lora/synthskin_lora.json").read_text())
    assert card["kind"] == kind and "CreativeML Open RAIL" in card["licences"][0] and "CC0-1.0" in card["licences"]
    assert "base_model" in (tmp_path / "lora/README.md").read_text()


def test_inpainting_base(data, tmp_path):
    save_base(build_small(every_prompt(), SIDE, 16, in_channels=9), tmp_path / "base")
    base = load_base(str(tmp_path / "base"))
    assert base.inpainting
    result = train_lora([data], str(tmp_path / "base"), tmp_path / "lora", TrainOptions(**QUICK))
    assert result.steps == 3 and math.isfinite(result.last)


def test_dreambooth_ema_validation(data, tmp_path):
    options = TrainOptions(**QUICK, instance_prompt="sks skin", class_prompt="skin", prior_n=3, ema=0.9,
                           validate_every=3, validate_n=2, accumulate=2, gradient_checkpointing=True)
    train_lora([data], str(trained_base()), tmp_path / "lora", options)
    assert len(list((tmp_path / "lora/training/prior").glob("*.png"))) == 3
    assert (tmp_path / "lora/validation/step-000003.png").is_file()
    assert list((tmp_path / "lora/training/tensorboard").iterdir())
    assert json.loads((tmp_path / "lora/synthskin_lora.json").read_text())["prompts"] == 1


def test_the_prior_weighs_in(data, tmp_path):
    losses = {}
    for weight in (0.0, 1.0, 3.0):
        out = tmp_path / str(weight)
        options = TrainOptions(**QUICK | {"steps": 1}, instance_prompt="sks skin", class_prompt="skin", prior_n=2,
                               prior_weight=weight)
        losses[weight] = train_lora([data], str(trained_base()), out, options).first
    assert losses[1.0] > losses[0.0]
    assert losses[3.0] - losses[0.0] == pytest.approx(3 * (losses[1.0] - losses[0.0]), rel=1e-3)


def test_a_mask_input_changes_nothing_at_first():
    base = load_base(str(trained_base()))
    plain = make_pictures(text_pipeline(base), ["melanoma"], [4], SIDE, steps=2)
    mask = add_lora(base, TrainOptions(mask_input=True), 0)
    mask.show([draw_mask(SIDE, 1)], SIDE // base.vae_scale)
    assert np.array_equal(plain, make_pictures(text_pipeline(base), ["melanoma"], [4], SIDE, steps=2))


def test_snr_weights_by_hand():
    base = build_small(["skin"], SIDE, 16)
    times = torch.tensor([0, 300, 999])
    alphas = base.scheduler.alphas_cumprod[times].double()
    for velocity in (False, True):
        found = snr_weight(base.scheduler, times, 5.0, velocity)
        for k, alpha in enumerate(alphas.tolist()):
            snr = alpha / (1 - alpha)
            assert float(found[k]) == pytest.approx(min(snr, 5.0) / (snr + velocity), rel=1e-4)


@pytest.mark.parametrize(("made", "message"), [
    ("nothing", "there is no such folder"), ("empty", "is not a diffusers folder"), ("sd3", "is a StableDiffusion3"),
    ("cut", "cannot be loaded as"), ("hub", "hub cannot be reached.*give its folder"),
])
def test_bad_bases(data, tmp_path, monkeypatch, made, message):
    base = tmp_path / "base"
    name = str(base)
    if made != "nothing":
        base.mkdir()
    if made == "sd3":
        (base / "model_index.json").write_text('{"_class_name": "StableDiffusion3Pipeline"}')
    if made == "cut":
        (base / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    if made == "hub":
        import diffusers

        def refuse(*args, **named):
            raise ConnectionError("no network")

        monkeypatch.setattr(diffusers.DiffusionPipeline, "load_config", refuse)
        name = "owner/model"
    with pytest.raises(DiffusionError, match=message) as error:
        train_lora([data], name, tmp_path / "out", TrainOptions(**QUICK))
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_two_trainings_into_one_folder(data, tmp_path):
    options = TrainOptions(steps=2, batch=1, rank=1)

    def another(step: int) -> bool:
        with pytest.raises(DiffusionError, match="another training writes there"):
            train_lora([data], str(trained_base()), tmp_path / "out", options)
        return False

    assert train_lora([data], str(trained_base()), tmp_path / "out", options, stop_after=another).steps == 2


def test_bad_data_and_options(data, tmp_path, capsys):
    one = write_set(tmp_path / "one", [("MEL", None, None)], SIDE, 4)
    mute = write_set(tmp_path / "mute", [(None, None, None)] * 2, SIDE, 5)
    bare = write_set(tmp_path / "bare", [("MEL", None, None)] * 2, SIDE, 6)
    with pytest.raises(DiffusionError, match="one picture only"):
        train_lora([one], str(trained_base()), tmp_path / "out", TrainOptions(**QUICK))
    with pytest.raises(DiffusionError, match="no captions"):
        train_lora([mute], str(trained_base()), tmp_path / "out", TrainOptions(**QUICK))
    with pytest.raises(DiffusionError, match="no such layers"):
        train_lora([bare], str(trained_base()), tmp_path / "out", TrainOptions(**QUICK, targets=("to_z",)))
    with pytest.raises(DiffusionError, match="multiple of"):
        train_lora([bare], str(trained_base()), tmp_path / "out", TrainOptions(**QUICK, size_px=34))
    for changes in ({"rank": 0}, {"precision": "fp8"}, {"schedule": "none"}, {"class_prompt": "skin"}, {"ema": 1.0}):
        with pytest.raises(DiffusionError):
            TrainOptions(**changes)
    with pytest.raises(SystemExit) as stop:
        cli.main(["diffusion", "train", str(data), "--base", str(tmp_path / "no"), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_lora_of_another_base_names_the_shapes(data, tmp_path):
    train_lora([data], str(trained_base()), tmp_path / "lora", TrainOptions(**QUICK | {"steps": 1}))
    other = build_small(every_prompt(), SIDE, 32)
    with pytest.raises(DiffusionError, match=r"LoRA of another base: unet\..* has 32 \w+ in the LoRA, 64 in small"):
        load_lora(other, tmp_path / "lora")
    xl = build_small(every_prompt(), SIDE, 16, xl=True)
    with pytest.raises(DiffusionError, match="LoRA of another base"):
        load_lora(xl, tmp_path / "lora")
    weights = tmp_path / "lora/pytorch_lora_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(DiffusionError, match="damaged"):
        load_lora(load_base(str(trained_base())), tmp_path / "lora")


def test_out_of_memory_names_the_flags():
    for error in (torch.cuda.OutOfMemoryError("CUDA out of memory."), MemoryError(),
                  RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")):
        with pytest.raises(DiffusionError, match=r"what helps: --batch"), told_of_memory("--batch"):
            raise error
    with pytest.raises(RuntimeError, match="else"), told_of_memory("--batch"):
        raise RuntimeError("something else")


def test_class_and_tone_come_first():
    assert prompt("MEL", 5, "dermoscopic", "contact polarized", "upper extremity") == (
        "melanoma on brown skin, polarized contact dermoscopy, upper extremity")
    assert prompt("healthy", 6, "clinical") == "healthy dark skin, clinical photograph"
    base = load_base(str(trained_base()))
    tokenizer = base.tokenizers[0]
    for text in every_prompt():
        ids = tokenizer(text).input_ids
        assert len(ids) <= tokenizer.model_max_length and tokenizer.unk_token_id not in ids[1:-1]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 3))
def test_slots_are_dealt_exactly_and_a_larger_n_extends(n, more, seed):
    weights = {"MEL": 0.5, "NV": 0.3, "BCC": 0.2}
    text = ",".join(f"{name}={share}" for name, share in weights.items())
    slots = plan_slots(n + more, text, "fst1=1,fst6=3", None, seed)
    assert plan_slots(n, text, "fst1=1,fst6=3", None, seed) == slots[:n]
    for name, share in weights.items():
        own = [slot for slot in slots if slot.diagnosis == name]
        assert abs(len(own) - share * len(slots)) <= 1
        assert abs(sum(slot.ita_class == 6 for slot in own) - 0.75 * len(own)) <= 1


@given(st.text(max_size=30))
def test_weights_never_crash(text):
    try:
        found = parse_weights(text, list(DIAGNOSES), "--diagnosis")
    except DiffusionError as error:
        assert "--diagnosis" in str(error)
    else:
        assert sum(found.values()) == pytest.approx(1.0) and set(found) <= set(DIAGNOSES)


def test_every_picture_comes_once_an_epoch():
    picks = [pick for step in range(15) for pick in picks_of_step(10, 4, step, 0, True)]
    for epoch in range(6):
        assert sorted(picture for picture, _ in picks[10 * epoch:10 * epoch + 10]) == list(range(10))
    assert len({orientation for _, orientation in picks}) == 8
    assert {orientation for _, orientation in picks_of_step(10, 40, 0, 0, False)} == {0}


def test_drawn_masks_and_squares():
    masks = [draw_mask(64, k) for k in range(40)]
    shares = [float((mask > 0).mean()) for mask in masks]
    assert min(shares) > 0.01 and max(shares) < 0.6 and np.std(shares) > 0.03
    assert np.array_equal(masks[0], draw_mask(64, 0)) and not np.array_equal(masks[0], masks[1])
    assert set(np.unique(square(np.kron(masks[0], np.ones((3, 4), np.uint8)), 48))) <= {0, 255}


@pytest.mark.parametrize(("options", "message"), [
    ({"vae_width": 6}, "--vae-width 6: a multiple of 4"),
    ({"vae_crop_px": 20}, "--vae-crop 20: a multiple of 16"),
    ({"precision": "fp16"}, "--precision fp16: allowed are no and bf16"),
    ({"vae_batch": 0}, "--vae-batch 0: 1 or more"),
])
def test_quickstart_refuses(options, message):
    with pytest.raises(DiffusionError, match=message):
        QuickstartOptions(**options)


def test_quickstart_takes_widths_and_latents_a_batch_at_a_time(data, tmp_path):
    """What a GPU uses: a wider autoencoder, larger crops, latents encoded together; the same but for rounding."""
    made = train_base([data], tmp_path / "base", QuickstartOptions(
        size_px=SIDE, steps=2, vae_steps=2, batch=2, vae_batch=3, width=16, vae_width=12, vae_crop_px=32, save_every=2))
    assert made.pictures_per_s > 0 and made.gpu_memory_bytes is None
    base = load_base(str(tmp_path / "base"))
    assert tuple(base.vae.config.block_out_channels) == (12, 24, 48)
    images = load_training_set([data], SIDE).images
    picks = [(0, 0), (1, 5), (0, 0), (1, 2), (0, 3)]
    one, many = Latents(base.vae, images), Latents(base.vae, images)
    many.at_once = 4
    drawn = [latents.draw(picks, torch.Generator().manual_seed(1)) for latents in (one, many)]
    assert torch.allclose(drawn[0], drawn[1], atol=1e-4)
    many.most_bytes = 1  # nothing more is kept: encoded again
    assert torch.allclose(one.draw(picks[:2], torch.Generator().manual_seed(2)),
                          many.draw(picks[:2], torch.Generator().manual_seed(2)), atol=1e-4)
