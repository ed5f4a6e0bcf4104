"""Throughput of a training loop with the hooks against the same loop on preloaded tensors, and ToneShift's time.

    python benchmarks/hooks_throughput.py --out benchmarks/results/hooks_throughput.txt
    python benchmarks/hooks_throughput.py --only tone
    python benchmarks/hooks_throughput.py --only stream --samples 64

The model is MONAI's BasicUNet on 256 x 256, batch 16, forward, backward and Adam, on a GPU where there is one. The set
is written for the test (painted pictures, PNG as the contract has them). Loops are timed in turn, three rounds, and the
medians compared: `set` reads with SkinDataset, the others add a transform; RenderedStream is apart, it renders. On a
machine whose cores are all taken by the model a loader's work comes on top; there the ratio says how large it is.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import BasicUNet
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from synthskin.conventions import ita_class
from synthskin.dataset.card import Card
from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import Sample, empty_row, stem
from synthskin.dataset.reader import bounding_box
from synthskin.dataset.writer import DatasetWriter
from synthskin.hooks import HairOverlay, RandToneShiftd, RenderedStream, SkinDataset, ToneShift, collate
from synthskin.preset import load_preset

SIZE, BATCH = 256, 16


def painted(index: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(index)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    mask = np.hypot(y - rng.uniform(0.4, 0.6), x - rng.uniform(0.4, 0.6)) < rng.uniform(0.15, 0.3)
    image = np.array([216.0, 176, 150]) + rng.normal(0, 5, (SIZE, SIZE, 3))
    image[mask] = image[mask] * 0.5
    return image.clip(0, 255).astype(np.uint8), np.where(mask, 255, 0).astype(np.uint8)


def write_set(folder: Path, n: int) -> None:
    preset = load_preset("fst2")
    card = Card(generator="physics", preset=preset.name, set_hash=preset.hash, seed=0, n=n, size_px=SIZE,
                field_of_view_mm=12.0, engine={}, description="painted pictures for a benchmark")
    with DatasetWriter(folder, card, preset.resolved_toml()) as writer:
        for index in range(n):
            image, mask = painted(index)
            box = bounding_box(mask)
            row = empty_row() | {
                "file_name": f"images/{stem(index)}.png", "mask_file_name": f"masks/{stem(index)}.png", "index": index,
                "seed": 0, "preset": preset.name, "set_hash": preset.hash, "generator": "physics",
                "mask_status": "exact", "diagnosis": "NV", "diagnosis_status": "by_construction",
                "benign_malignant": "benign", "ita_deg": 45.0, "ita_class": ita_class(45.0), "tone_source": "model",
                "bbox": box, "boxes": [box], "lesions": ["NV"], "caption": "A painted disc.", "params": "{}",
            }
            writer.write(encode_sample(Sample(row, image, mask)))
        writer.finish()


def train(loader, model, optimiser, device, limit: int) -> float:
    """Samples a second over `limit` batches, the first one (start of the workers) left out."""
    model.train()
    seen, start = 0, 0.0
    for number, batch in enumerate(loader):
        image, mask = (batch[0], batch[1]) if isinstance(batch, list) else (batch["image"], batch["mask"])
        loss = F.binary_cross_entropy_with_logits(model(image.to(device)), mask.to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number == 0:
            start = time.perf_counter()
        else:
            seen += len(image)
        if number + 1 == limit:
            break
    return seen / (time.perf_counter() - start)


def loops(workers: int, batches: int, rounds: int) -> list[str]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = BasicUNet(spatial_dims=2, in_channels=3, out_channels=1).to(device)
    optimiser = torch.optim.Adam(model.parameters())
    n = BATCH * batches
    with tempfile.TemporaryDirectory() as folder:
        write_set(Path(folder) / "set", n)
        data = SkinDataset(Path(folder) / "set")
        memory = [data[i] for i in range(n)]
        tensors = TensorDataset(torch.stack([s["image"] for s in memory]), torch.stack([s["mask"] for s in memory]))

        def loader(transform):
            return DataLoader(SkinDataset(Path(folder) / "set", transform=transform), BATCH, num_workers=workers,
                              collate_fn=collate, persistent_workers=workers > 0)

        kinds = {
            "preloaded tensors": DataLoader(tensors, BATCH),
            "set": loader(None),
            "set, RandToneShiftd prob 0.5": loader(RandToneShiftd("image", to=(-50.0, 60.0), prob=0.5)),
            "set, HairOverlay": loader(HairOverlay()),
        }
        found: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, one in kinds.items():
                found[name].append(train(one, model, optimiser, device, batches))
    base = statistics.median(found["preloaded tensors"])
    lines = [f"training loop, BasicUNet, {SIZE} x {SIZE}, batch {BATCH}, {workers} workers, {device}"]
    for name, rates in found.items():
        rate = statistics.median(rates)
        lines.append(f"  {name:32s} {rate:8.1f} samples/s  {rate / base:5.2f} of preloaded  "
                     f"(rounds {', '.join(f'{r:.1f}' for r in rates)})")
    return lines


def tone(rounds: int = 9) -> list[str]:
    lines = [f"ToneShift, {SIZE} x {SIZE}, batch {BATCH}, CPU: ms a picture (median, fastest)"]
    pictures = [painted(i) for i in range(BATCH)]
    image = torch.from_numpy(np.stack([p for p, _ in pictures])).permute(0, 3, 1, 2).contiguous()
    mask = torch.from_numpy(np.stack([m for _, m in pictures]))[:, None]
    shift = ToneShift(to=-20.0)
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        for name, given in (("with masks", mask), ("without", None)):
            shift(image, given)
            wall, busy = [], []
            for _ in range(rounds):
                start, cpu = time.perf_counter(), time.process_time()
                shift(image, given)
                wall.append((time.perf_counter() - start) / BATCH * 1e3)
                busy.append((time.process_time() - cpu) / BATCH * 1e3)
            lines.append(f"  {threads} thread(s), {name:11s} {statistics.median(wall):6.1f} {min(wall):6.1f}   "
                         f"CPU time {statistics.median(busy):6.1f} {min(busy):6.1f}")
    return lines


def stream(samples: int, workers: int) -> list[str]:
    made = RenderedStream("fst2", size_px=SIZE, samples=samples)
    loader = DataLoader(made, 4, num_workers=workers, collate_fn=collate)
    start = time.perf_counter()
    first = None
    for _ in loader:
        first = first or time.perf_counter() - start
    seconds = time.perf_counter() - start
    made.close()
    return [f"RenderedStream, {SIZE} px, {workers} workers: {samples} samples in {seconds:.1f} s, first batch after "
            f"{first:.1f} s, then {(samples - 4) / (seconds - first):.2f} samples/s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["loops", "tone", "stream"])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=48, help="of the stream")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    lines = [f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, load at start {load:.2f}"]
    if args.only in (None, "tone"):
        lines += tone()
    torch.set_num_threads(os.cpu_count() or 1)
    if args.only in (None, "loops"):
        lines += loops(args.workers, args.batches, args.rounds)
    if args.only in (None, "stream"):
        lines += stream(args.samples, 1) + stream(args.samples, 2)
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
