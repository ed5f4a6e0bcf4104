"""Training pictures of a set: squares in [-1, 1], masks, prompts; and their latents, encoded once an orientation."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthskin.dataset.card import Card
from synthskin.dataset.encode import read_png
from synthskin.dataset.format import DatasetError
from synthskin.dataset.reader import file_sha256, open_dataset, safe_path
from synthskin.diffusion.devices import keyed
from synthskin.diffusion.errors import DiffusionError
from synthskin.diffusion.prompts import prompt_of_row

#: Pixels times channels of an autoencoder's first level that a GPU encodes at once: 32 pictures of 256 pixels, 32 wide.
_ENCODED_AT_ONCE: Final = 32 * 256 * 256 * 32
#: Mirrorings and quarter turns of a square; dermoscopy has no up.
ORIENTATIONS: Final = 8


@dataclass(frozen=True)
class TrainingSet:
    """Pictures in memory as 8-bit squares.

    images    (n, size, size, 3) uint8
    masks     (n, size, size) uint8 0 or 255, or None where the row has none
    prompts   one a picture
    files     sha256 of the files of picture and mask (None where there is none)
    left_out  rows that are not learnt from, by reason
    """

    names: tuple[str, ...]
    groups: tuple[str | None, ...]
    rows: tuple[dict[str, Any], ...]
    images: NDArray[np.uint8]
    masks: tuple[NDArray[np.uint8] | None, ...]
    prompts: tuple[str, ...]
    cards: tuple[Card, ...]
    files: tuple[tuple[str, str | None], ...]
    left_out: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def licences(self) -> list[str]:
        return list(dict.fromkeys(name for card in self.cards for name in card.licences))

    @property
    def attribution(self) -> list[str]:
        return list(dict.fromkeys(name for card in self.cards for name in card.attribution))

    @property
    def has_patients(self) -> bool:
        return any(card.generator == "real" for card in self.cards)

    def hash(self) -> str:
        """What was trained on, for cards and for continuing: set hashes, names and prompts. `content` is of the files.
        """
        parts = [card.set_hash for card in self.cards]
        return f"{keyed(*parts, *self.names, *self.prompts):016x}"

    def content(self) -> str:
        """sha256 of the files of pictures and masks in their order: a replaced one is another training set."""
        return hashlib.sha256(json.dumps(self.files).encode()).hexdigest()


def load_training_set(folders: Sequence[Path], size_px: int, prompt: str | None = None,
                      with_test: bool = False) -> TrainingSet:
    """Pictures of the sets as squares; raises DiffusionError on none, one, or no captions.

    prompt      for every picture, instead of those made from metadata
    with_test   False leaves out rows of split test and every group, of all the sets, that has one
    """
    names: list[str] = []
    groups: list[str | None] = []
    rows: list[dict[str, Any]] = []
    images, masks, prompts, files = [], [], [], []
    opened = [open_dataset(folder) for folder in folders]
    tested = {_group(row, data.directory) for data in opened for row in data.rows if row["split"] == "test"}
    left_out: Counter[str] = Counter()
    for folder, data in zip(folders, opened, strict=True):
        for row in data.rows:
            if not with_test and _group(row, data.directory) in tested:
                left_out["split=test" if row["split"] == "test" else "a group that has split=test"] += 1
                continue
            told = prompt or prompt_of_row(row)
            if told is None:
                raise DiffusionError(f"{folder}: no captions: {row['file_name']} has neither diagnosis nor tone; give "
                                     "--instance-prompt, or a set with labels")
            mask_name = row["mask_file_name"]
            try:
                image = read_png(safe_path(folder, row["file_name"]))
                mask = None if mask_name is None else read_png(safe_path(folder, mask_name))
            except DatasetError as error:
                raise DiffusionError(f"{folder}/{row['file_name']}: {error}") from None
            images.append(square(image, size_px))
            masks.append(None if mask is None else square(mask, size_px))
            names.append(f"{data.card.set_hash}/{row['file_name']}")
            files.append((file_sha256(folder, row["file_name"]),
                          None if mask_name is None else file_sha256(folder, mask_name)))
            groups.append(row["group_id"])
            rows.append(row)
            prompts.append(told)
    shown = ", ".join(map(str, folders))
    if not names:
        why = "".join(f"; {n} samples with {reason} are left out" for reason, n in left_out.items())
        raise DiffusionError(f"{shown}: no pictures to learn from{why}; give another set")
    if len(names) == 1:
        raise DiffusionError(f"{folders[0]}: one picture only; a LoRA learns what pictures share: give 2 or more, "
                             "better 50 a class")
    return TrainingSet(tuple(names), tuple(groups), tuple(rows), np.stack(images), tuple(masks), tuple(prompts),
                       tuple(data.card for data in opened), tuple(files), dict(left_out))


def _group(row: dict[str, Any], folder: Path) -> str:
    """What no split may cut: the row's group, else person, else lesion, else the picture alone."""
    for key in ("group_id", "patient_id", "lesion_id"):
        if row[key] is not None:
            return f"{key}={row[key]}"
    return f"{folder.resolve()}:{row['index']}"


def square(array: NDArray[Any], size_px: int) -> NDArray[np.uint8]:
    """Short side scaled to size_px, middle square cut out; masks (h, w) stay 0 or 255."""
    from PIL import Image

    h, w = array.shape[:2]
    if (h, w) == (size_px, size_px):
        return np.ascontiguousarray(array)
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    cut = Image.fromarray(np.ascontiguousarray(array[top:top + side, left:left + side]))
    scaled = np.array(cut.resize((size_px, size_px), Image.Resampling.LANCZOS if array.ndim == 3
                                 else Image.Resampling.BILINEAR))
    return scaled if array.ndim == 3 else np.where(scaled >= 128, np.uint8(255), np.uint8(0))


def to_tensor(image: NDArray[np.uint8]) -> Tensor:
    """(3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float().div(127.5).sub(1.0)


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """(n, h, w, 3) uint8 of (n, 3, h, w) in [-1, 1]."""
    scaled = ((images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).numpy()


def oriented(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """One of the eight mirrorings and quarter turns of (h, w, ...)."""
    turned = np.rot90(array, orientation % 4)
    return np.ascontiguousarray(turned[:, ::-1] if orientation >= 4 else turned)


def mask_input(mask: NDArray[np.uint8] | None, cells: int) -> Tensor:
    """(1, cells, cells): 1 in the lesion, -1 on skin, 0 where nothing is known."""
    if mask is None:
        return torch.zeros(1, cells, cells)
    inside = torch.from_numpy((mask > 0).astype(np.float32))[None, None]
    return torch.nn.functional.adaptive_avg_pool2d(inside, (cells, cells))[0] * 2.0 - 1.0


class Latents:
    """Moments of the autoencoder by (picture, orientation), each encoded once.

    On the processor each picture is encoded alone, so that they are the same whatever the batch; on a GPU those of a
    batch that are new go together. Kept on the autoencoder's device up to `most_bytes` (None: 2 GB, on a GPU half of
    the memory that is free); beyond that a picture is encoded again each time.
    """

    def __init__(self, vae: Any, images: NDArray[np.uint8], most_bytes: int | None = None) -> None:
        self.vae, self.images = vae, images
        on_gpu = vae.device.type == "cuda"
        wide = images[0].shape[0] * images[0].shape[1] * int(vae.config.block_out_channels[0])
        self.at_once = max(1, _ENCODED_AT_ONCE // wide) if on_gpu else 1
        self.most_bytes = most_bytes or (torch.cuda.mem_get_info(vae.device)[0] // 2 if on_gpu else 2_000_000_000)
        self._moments: dict[tuple[int, int], Tensor] = {}
        self._held = 0

    def draw(self, picks: Sequence[tuple[int, int]], noise: torch.Generator) -> Tensor:
        """(n, c, h, w) latents, scaled, one draw from each picture's distribution, on the autoencoder's device."""
        moments = torch.stack(self._of(picks))
        mean, logvar = moments.chunk(2, dim=1)
        std = torch.exp(0.5 * logvar.clamp(-30.0, 20.0))
        drawn = mean + std * torch.randn(mean.shape, generator=noise).to(mean.device)
        return (drawn - float(getattr(self.vae.config, "shift_factor", None) or 0.0)) * self.vae.config.scaling_factor

    @torch.no_grad()
    def _of(self, picks: Sequence[tuple[int, int]]) -> list[Tensor]:
        new = list(dict.fromkeys(key for key in picks if key not in self._moments))
        fresh: dict[tuple[int, int], Tensor] = {}
        for first in range(0, len(new), self.at_once):
            keys = new[first:first + self.at_once]
            images = torch.stack([to_tensor(oriented(self.images[picture], turn)) for picture, turn in keys])
            found = self.vae.encode(images.to(self.vae.device, self.vae.dtype)).latent_dist.parameters.float()
            fresh |= dict(zip(keys, found, strict=True))
        for key, moments in fresh.items():
            if self._held + moments.nbytes <= self.most_bytes:
                self._moments[key] = moments.clone()
                self._held += moments.nbytes
        return [fresh[key] if key in fresh else self._moments[key] for key in picks]


def picks_of_step(n: int, batch: int, step: int, seed: int, augment: bool, stream: str = "train"
                  ) -> list[tuple[int, int]]:
    """(picture, orientation) of a step's batch: every picture once an epoch in an order of its own, by hash alone."""
    picks = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, n)
        order = _order(n, seed, stream, epoch)
        orientation = keyed(seed, stream, "orientation", position) % ORIENTATIONS if augment else 0
        picks.append((int(order[place]), orientation))
    return picks


@lru_cache(maxsize=4)
def _order(n: int, seed: int, stream: str, epoch: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(key=keyed(seed, stream, "order", epoch))).permutation(n)
