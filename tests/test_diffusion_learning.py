"""A LoRA learns, on a base that was itself trained: colours by prompt, losses at fixed noise, only its own weights."""

import hashlib

import numpy as np
import pytest
import torch
from diffusion_sets import COLD, SIDE, WARM, trained_base, write_set
from skimage.color import rgb2lab

from synthskin.diffusion import TrainOptions, train_lora
from synthskin.diffusion.base import load_base
from synthskin.diffusion.data import Latents, load_training_set
from synthskin.diffusion.lora import load_lora
from synthskin.diffusion.metrics import fixed_losses
from synthskin.diffusion.pipeline import make_pictures, text_pipeline
from synthskin.diffusion.prompts import prompt


@pytest.fixture(scope="module")
def base():
    return trained_base()


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    entries = [("MEL", None, COLD) if k % 2 else ("NV", None, WARM) for k in range(24)]
    return write_set(tmp_path_factory.mktemp("two") / "data", entries, SIDE, 2)


@pytest.fixture(scope="module")
def lora(base, two_classes, tmp_path_factory):
    out = tmp_path_factory.mktemp("lora") / "lora"
    options = TrainOptions(steps=80, batch=8, rank=8, learning_rate=1e-2, schedule="cosine", warmup=5, snr_gamma=0,
                           targets=("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"), save_every=1000)
    return out, digest(base), train_lora([two_classes], str(base), out, options)


def digest(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def interval(differences, rounds=2000):
    """Paired bootstrap, 95 %."""
    rng = np.random.default_rng(0)
    means = differences[rng.integers(0, len(differences), (rounds, len(differences)))].mean(axis=1)
    return np.quantile(means, [0.025, 0.975])


def test_loss_with_the_right_caption_is_lower(base, two_classes, lora):
    out, _, _ = lora
    data = load_training_set([two_classes], SIDE)
    pictures = list(range(len(data)))
    right = list(data.prompts)
    swapped = [right[1] if text == right[0] else right[0] for text in right]
    network = load_base(str(base))
    latents = Latents(network.vae, data.images)
    before = fixed_losses(network, latents, pictures, right, SIDE, 5)
    load_lora(network, out)
    with_right = fixed_losses(network, latents, pictures, right, SIDE, 5)
    with_swapped = fixed_losses(network, latents, pictures, swapped, SIDE, 5)
    low, _ = interval(with_swapped - with_right)
    assert low > 0, (with_right.mean(), with_swapped.mean())
    low, _ = interval(before - with_right)
    assert low > 0, (with_right.mean(), before.mean())


def test_prompts_give_their_colours_and_reload_gives_the_same_pictures(base, lora):
    out, _, _ = lora
    seeds = list(range(32))
    means = {}
    for name in ("MEL", "NV"):
        network = load_base(str(base))
        load_lora(network, out)
        made = make_pictures(text_pipeline(network), [prompt(name, None, "dermoscopic")] * 32, seeds, SIDE, steps=10,
                             guidance=3.0)
        means[name] = rgb2lab(made).reshape(32, -1, 3).mean(axis=1)
    again = load_base(str(base))
    load_lora(again, out)
    assert np.array_equal(made, make_pictures(text_pipeline(again), [prompt("NV", None, "dermoscopic")] * 32, seeds,
                                              SIDE, steps=10, guidance=3.0))
    truth = rgb2lab(np.array([[WARM]], np.uint8) / 255.0)[0, 0] - rgb2lab(np.array([[COLD]], np.uint8) / 255.0)[0, 0]
    # towards the true difference; along single axes the base's autoencoder decides too, whose few steps end elsewhere
    # on another processor
    apart = (means["NV"] - means["MEL"]) @ (truth / np.linalg.norm(truth))
    low, _ = interval(apart)
    assert apart.mean() >= 3 and low > 0, (means["NV"].mean(axis=0), means["MEL"].mean(axis=0))


def test_only_the_lora_changed(base, lora):
    out, before, result = lora
    assert digest(base) == before
    network = load_base(str(base))
    weights = {name: value.clone() for name, value in network.unet.state_dict().items()}
    load_lora(network, out)
    after = {name.replace(".base_layer", ""): value for name, value in network.unet.state_dict().items()
             if "lora_" not in name}
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], weights[name]) for name in weights)
    assert result.metrics["loss_right_prompts"] < result.metrics["loss_base"]


def test_diffusers_alone_loads_it(base, lora):
    import diffusers

    out, _, _ = lora
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    pipe.load_lora_weights(out)
    assert "default_0" in pipe.get_list_adapters()["unet"]
    own = load_base(str(base))
    load_lora(own, out)
    words = [prompt("NV", None, "dermoscopic")]
    ours = make_pictures(text_pipeline(own), words, [3], SIDE, steps=6)
    pipe.scheduler = text_pipeline(own).scheduler
    pipe.set_progress_bar_config(disable=True)
    assert np.array_equal(ours, make_pictures(pipe, words, [3], SIDE, steps=6))
