"""A small latent diffusion of real architecture (AutoencoderKL, UNet2DConditionModel, CLIP text model), untrained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

from synthskin.diffusion.base import Base, fingerprint

#: Longest prompt in tokens of our own tokenizer; every prompt of `prompts.every_prompt` is shorter.
MAX_TOKENS: Final = 32
TEXT_WIDTH: Final = 64


def build_tokenizer(texts: Sequence[str], max_tokens: int = MAX_TOKENS) -> Any:
    """A CLIP tokenizer whose vocabulary is that of the texts: byte pairs merged until each word is one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    start, end = "<|startoftext|>", "<|endoftext|>"
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=end))
    learner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(
        add_prefix_space=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner.train_from_iterator(sorted({text.lower() for text in texts}), trainers.BpeTrainer(
        vocab_size=4096, min_frequency=1, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False))
    import json

    model = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(pair) for pair in merges), start, end]
    vocab = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_tokens)


def build_small(
    texts: Sequence[str], size_px: int, width: int = 48, *, vae_channels: Sequence[int] | None = None,
    prediction_type: str = "v_prediction", text_width: int = TEXT_WIDTH, xl: bool = False, in_channels: int = 4,
    layers: int = 1, seed: int = 0,
) -> Base:
    """Parts with random weights from `seed`. Latents are size_px / 4 wide (three autoencoder levels).

    width   channels of the UNet's first level; the others have twice as many
    vae_channels   of the autoencoder's levels, whose number decides how wide latents are
    xl      two text encoders and pooled text, as Stable Diffusion XL has
    """
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        tokenizer = build_tokenizer(texts)
        vae_channels = vae_channels or ((16, 32, 64) if size_px >= 64 else (8, 16, 32))
        levels = len(vae_channels)
        vae = AutoencoderKL(
            in_channels=3, out_channels=3, latent_channels=4, block_out_channels=tuple(vae_channels),
            down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=1, norm_num_groups=2, mid_block_add_attention=False, sample_size=size_px,
            scaling_factor=1.0,
        )
        config = CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=text_width, intermediate_size=2 * text_width, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=MAX_TOKENS, projection_dim=text_width,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        encoders: list[Any] = [CLIPTextModel(config)]
        if xl:
            encoders.append(CLIPTextModelWithProjection(config))
        extra: dict[str, Any] = {}
        if xl:
            extra = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8,
                     "projection_class_embeddings_input_dim": text_width + 6 * 8, "use_linear_projection": True}
        attended = 1 if size_px < 64 else 2  # levels of the UNet that attend to the text
        unet = UNet2DConditionModel(
            sample_size=size_px // 2 ** (levels - 1), in_channels=in_channels, out_channels=4,
            block_out_channels=(width, *(2 * width,) * attended), layers_per_block=layers,
            down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * attended),
            up_block_types=(*("CrossAttnUpBlock2D",) * attended, "UpBlock2D"),
            cross_attention_dim=text_width * len(encoders), attention_head_dim=4 if not xl else (2, *(4,) * attended),
            norm_num_groups=4, **extra,
        )
    finally:
        torch.set_rng_state(state)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085,
                              beta_end=0.012, prediction_type=prediction_type, clip_sample=False, steps_offset=1)
    kind = "sdxl" if xl else "sd1"
    return Base("small", kind, [tokenizer] * len(encoders), encoders, vae, unet, scheduler, fingerprint(unet), [], [])


def save_base(base: Base, folder: Any) -> None:
    """In the layout of diffusers, safetensors only: `StableDiffusionPipeline.from_pretrained` reads it."""
    from synthskin.diffusion.pipeline import text_pipeline

    text_pipeline(base).save_pretrained(folder, safe_serialization=True)
