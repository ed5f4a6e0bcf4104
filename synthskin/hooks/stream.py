"""RenderedStream: an iterable data set that renders while a model trains, without end and without repeats."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.data import IterableDataset, get_worker_info

from synthskin.contact import contact_fault
from synthskin.dataset.format import MAX_SAMPLES
from synthskin.hooks.data import Transform, checked_classes, make_sample
from synthskin.hooks.renderer import AHEAD, RECYCLE_AFTER, Renderer
from synthskin.hooks.shards import rank_and_world, reseed, worker_and_workers
from synthskin.preset import Preset, load_preset
from synthskin.run import EngineOptions

MAX_WORKERS: Final = 256
_COUNT, _LAYOUT = 0, 1  # a row each: samples a worker has made, and the number of shares they were counted in
_SHARES, _LOADED_SHARES, _LOADED_MOST = MAX_WORKERS, MAX_WORKERS + 1, MAX_WORKERS + 2  # places in the first row


class RenderedStream(IterableDataset[dict[str, Any]]):
    """Samples of a preset as SkinDataset gives them (keys image, mask, label, meta_json), rendered on the way.

    preset      name, path of a TOML file, or a Preset
    seed        with the preset's hash and an index it decides each sample, as in `synthskin render`
    size_px, spp, device, threads   of the renderer; threads 0: the machine's cores shared among the workers
    samples     length of one pass over all ranks and workers together; None: a pass has no end
    label, classes, transform       as in SkinDataset
    start       first index

    Rank r of R with w of W DataLoader workers takes the indices start + r W + w + k R W, k = 0, 1, 2 ...; the next pass
    goes on where the last one ended, so nothing comes twice. Each worker renders in a process of its own, a few samples
    ahead. `state_dict()` says how far every worker of this rank has come (what a DataLoader has fetched but not yet
    handed out counts as used); `load_state_dict` goes on behind it, with any number of ranks and workers. Save one
    state a rank, and load all of them as a list if that number has changed.

    Raises ValueError on bad settings, RenderError if the renderer fails, RuntimeError if the number of workers changes
    between two passes without a `load_state_dict`.
    """

    def __init__(
        self,
        preset: str | Path | Preset,
        seed: int = 0,
        size_px: int = 256,
        spp: int | None = None,
        samples: int | None = None,
        label: str = "diagnosis",
        classes: Sequence[Any] | None = None,
        transform: Transform | None = None,
        device: str = "auto",
        threads: int = 0,
        start: int = 0,
        engine: str = "synthskin.run:real_engine",
    ) -> None:
        loaded = preset if isinstance(preset, Preset) else load_preset(preset)
        for name, value, least in (("seed", seed, 0), ("start", start, 0), ("samples", samples, 1),
                                   ("size_px", size_px, 32)):
            if value is not None and value < least:
                raise ValueError(f"{name}={value}: {least} or more is needed")
        fault = contact_fault(loaded)
        if fault is not None:
            raise ValueError(fault)
        self.preset_toml, self.set_hash = loaded.resolved_toml(), loaded.hash
        self.seed, self.samples, self.first = seed, samples, start
        self.options = EngineOptions(size_px=size_px, spp=spp, device=device, threads=threads)
        self.label, self.classes = label, checked_classes(label, classes)
        self._seeded: int | None = None
        self.transform, self.engine = transform, engine
        self.rank, self.world = rank_and_world()
        # shared with the workers, which end after a pass: where they stopped must outlive them
        self._shared = torch.zeros((2, MAX_WORKERS + 3), dtype=torch.int64).share_memory_()
        self._renderer: Renderer | None = None
        self._owner = 0  # the process that started it

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_renderer": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._shared.share_memory_()  # a plain pickle holds a copy; what the DataLoader sends is shared already

    def __len__(self) -> int:
        """Samples of one pass on this rank."""
        if self.samples is None:
            raise TypeError("this RenderedStream has no end; give samples=...")
        return -(-self.samples // self.world)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker, workers = worker_and_workers()
        if workers > MAX_WORKERS:
            raise ValueError(f"num_workers={workers}: allowed are up to {MAX_WORKERS}")
        shares, share = self.world * workers, self.rank * workers + worker
        place = self._shared[_COUNT]
        before = int(place[_SHARES])
        if before not in (0, shares, int(place[_LOADED_SHARES])):
            raise RuntimeError(f"RenderedStream: {before} shares before, {shares} now; write "
                               "stream.load_state_dict(stream.state_dict()) before changing num_workers or ranks")
        place[_SHARES] = shares
        if int(self._shared[_LAYOUT, worker]) != shares:
            place[worker], self._shared[_LAYOUT, worker] = 0, shares
        first = self._first(shares)
        self._seeded = reseed(self.transform, self.set_hash, self._seeded)
        left = None if self.samples is None else len(range(worker, len(self), workers))
        while left is None or left > 0:
            renderer = self._started(workers)
            ahead = AHEAD if left is None else min(AHEAD, left)
            while len(renderer.asked) < ahead and renderer.made + len(renderer.asked) < RECYCLE_AFTER:
                index = first + share + (int(place[worker]) + len(renderer.asked)) * shares
                renderer.ask(self.seed + index // MAX_SAMPLES, index % MAX_SAMPLES)
            row, arrays = renderer.take()
            place[worker] += 1
            left = None if left is None else left - 1
            value = row[self.label]
            label = self.classes.index(value) if value in self.classes else None
            sample = make_sample(arrays["image"], arrays.get("mask"), label, row)
            yield sample if self.transform is None else self.transform(sample)

    def _first(self, shares: int) -> int:
        """Index behind everything that a loaded state with another number of shares has used."""
        loaded = int(self._shared[_COUNT, _LOADED_SHARES])
        return self.first + (int(self._shared[_COUNT, _LOADED_MOST]) * loaded if loaded not in (0, shares) else 0)

    def _started(self, workers: int) -> Renderer:
        if self._renderer is not None and self._owner != os.getpid():
            self._renderer = None  # of the process this one was forked from
        if self._renderer is not None and self._renderer.made >= RECYCLE_AFTER and not self._renderer.asked:
            self.close()
        if self._renderer is None:
            options = asdict(self.options)
            if options["threads"] == 0 and workers > 1:
                options["threads"] = max(1, (os.cpu_count() or 1) // workers)
            self._owner = os.getpid()
            self._renderer = Renderer({"preset": self.preset_toml, "set_hash": self.set_hash, "engine": self.engine,
                                       "options": options})
        return self._renderer

    def close(self) -> None:
        """End the renderer of this process; the next pass starts a new one."""
        if self._renderer is not None and self._owner == os.getpid():
            self._renderer.close()
        self._renderer = None

    def __del__(self) -> None:
        if getattr(self, "_renderer", None) is not None:
            self.close()

    def state_dict(self) -> dict[str, Any]:
        """How far this rank has come; plain numbers and text, ready for JSON or torch.save."""
        place = self._shared[_COUNT]
        shares = int(place[_SHARES])
        workers = shares // self.world
        done = {}
        for w in range(workers):
            counted = int(self._shared[_LAYOUT, w]) == shares
            done[str(self.rank * workers + w)] = int(place[w]) if counted else 0
        return {"set_hash": self.set_hash, "seed": self.seed, "first": self._first(shares), "shares": shares,
                "done": done}

    def load_state_dict(self, state: dict[str, Any] | Sequence[dict[str, Any]]) -> None:
        """Go on behind a state, or behind several (one a rank); raises ValueError if it belongs to another stream."""
        states = [state] if isinstance(state, dict) else list(state)
        for one in states:
            for key, mine in (("set_hash", self.set_hash), ("seed", self.seed), ("first", states[0]["first"]),
                              ("shares", states[0]["shares"])):
                if one.get(key) != mine:
                    raise ValueError(f"state of a stream with {key}={one.get(key)!r}, {mine!r} is needed")
        shares, done = int(states[0]["shares"]), {int(k): int(v) for one in states for k, v in one["done"].items()}
        self.close()
        self.first = int(states[0]["first"])
        place, layout = self._shared[_COUNT], self._shared[_LAYOUT]
        inside = get_worker_info()
        if inside is None:
            self._shared.zero_()
            place[_LOADED_SHARES], place[_LOADED_MOST] = shares, max(done.values(), default=0)
        place[_SHARES] = shares
        workers = shares // self.world  # with another number of ranks no count is kept: all go on behind the furthest
        if shares % self.world == 0:
            for w in range(workers):
                if self.rank * workers + w in done and (inside is None or inside.id == w):  # others load their own
                    place[w], layout[w] = done[self.rank * workers + w], shares
