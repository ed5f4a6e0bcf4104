"""From parts to pictures: diffusers' pipelines for text, image-to-image and inpainting, a seed a picture.

The safety checker of Stable Diffusion is left out: it takes close-ups of skin for nudity and returns black pictures.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from synthskin.diffusion.base import Base
from synthskin.diffusion.data import to_tensor

#: A fast, deterministic sampler; its own noise would need a generator a picture too.
STEPS: Final = 25
GUIDANCE: Final = 5.0


def _scheduler(base: Base) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_config(base.scheduler.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def _parts(base: Base) -> dict[str, Any]:
    parts = {"vae": base.vae, "unet": base.unet, "scheduler": _scheduler(base), "tokenizer": base.tokenizers[0],
             "text_encoder": base.text_encoders[0]}
    if base.is_xl:
        return parts | {"tokenizer_2": base.tokenizers[1], "text_encoder_2": base.text_encoders[1],
                        "add_watermarker": False}
    return parts | {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def text_pipeline(base: Base) -> Any:
    import diffusers

    cls = diffusers.StableDiffusionXLPipeline if base.is_xl else diffusers.StableDiffusionPipeline
    return _quiet(cls(**_parts(base)))


def image_pipeline(base: Base) -> Any:
    import diffusers

    cls = diffusers.StableDiffusionXLImg2ImgPipeline if base.is_xl else diffusers.StableDiffusionImg2ImgPipeline
    return _quiet(cls(**_parts(base)))


def inpaint_pipeline(base: Base) -> Any:
    import diffusers

    cls = diffusers.StableDiffusionXLInpaintPipeline if base.is_xl else diffusers.StableDiffusionInpaintPipeline
    return _quiet(cls(**_parts(base)))


@contextlib.contextmanager
def quiet_diffusers() -> Iterator[None]:
    """No warnings about parts we leave out on purpose, no progress bars of weights."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    before = of_diffusers.get_verbosity(), of_transformers.get_verbosity()
    of_diffusers.set_verbosity_error()
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    of_diffusers.disable_progress_bar()
    try:
        yield
    finally:
        of_diffusers.set_verbosity(before[0])
        of_transformers.set_verbosity(before[1])


def settle(pipe: Any, device: torch.device, offload: bool, sliced: bool = True) -> Any:
    """Memory: the autoencoder one picture at a time, parts moved to the GPU only while they are used."""
    if sliced:
        pipe.vae.enable_slicing()
    if offload and device.type == "cuda":
        pipe.enable_model_cpu_offload()
    return pipe


@torch.inference_mode()
def make_pictures(
    pipe: Any, prompts: Sequence[str], seeds: Sequence[int], size_px: int, *, steps: int = STEPS,
    guidance: float = GUIDANCE, negative: str | None = None, images: Sequence[NDArray[np.uint8]] | None = None,
    masks: Sequence[NDArray[np.uint8]] | None = None, strength: float = 0.5,
) -> NDArray[np.uint8]:
    """(n, size, size, 3) uint8; a seed a picture. `images` go in with noise of `strength`; `masks` say what is redone.
    """
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    asked: dict[str, Any] = {"prompt": list(prompts), "num_inference_steps": steps, "guidance_scale": guidance,
                             "generator": generators, "output_type": "np"}
    if negative and guidance > 1:
        asked["negative_prompt"] = [negative] * len(prompts)
    if images is not None:
        asked |= {"image": torch.stack([(to_tensor(image) + 1.0) / 2.0 for image in images]), "strength": strength}
        if masks is not None:
            asked["mask_image"] = torch.stack([torch.from_numpy((mask > 0).astype(np.float32))[None]
                                               for mask in masks])
            asked |= {"height": size_px, "width": size_px}
    else:
        asked |= {"height": size_px, "width": size_px}
    made = np.asarray(pipe(**asked).images)
    return np.clip(made * 255.0, 0, 255).round().astype(np.uint8)
