"""Which share of the samples this process makes: rank of the training job times worker of its DataLoader."""

from __future__ import annotations

import os
import zlib
from typing import Any

import torch.distributed
from torch.utils.data import get_worker_info


def rank_and_world() -> tuple[int, int]:
    """(rank, number of ranks): from torch.distributed where it runs, else RANK and WORLD_SIZE, else (0, 1)."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    rank, world = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if rank.isdigit() and world.isdigit() and int(rank) < int(world):
        return int(rank), int(world)
    return 0, 1


def worker_and_workers() -> tuple[int, int]:
    """(worker, number of workers) of the DataLoader this runs in; (0, 1) outside."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


def worker_seed() -> int:
    """Seed of this DataLoader worker, new in every epoch; 0 outside a worker."""
    info = get_worker_info()
    return 0 if info is None else int(info.seed)


def reseed(transform: Any, name: str, before: int | None) -> int | None:
    """Give MONAI's random state in `transform` numbers of its own in this DataLoader worker and epoch.

    Workers are copies of one process: unless something does this, all of them draw the same, and each epoch again.
    `name` sets the data sets of one worker apart; `before` is what the last call here returned, None at first. Nothing
    is done outside a worker, a second time in one, or where there is no such state.
    """
    info = get_worker_info()
    if info is None or info.seed == before:
        return before
    if hasattr(transform, "set_random_state"):
        transform.set_random_state(seed=(int(info.seed) + zlib.crc32(name.encode())) % 2**32)
    return int(info.seed)
