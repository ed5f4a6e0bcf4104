"""Classification with MONAI on a few real samples and many synthetic ones, with tone shifts and rendered hair.

    python examples/classify_monai.py REAL SYNTHETIC --epochs 5

Both are folders of the contract (docs/dataset.md). The share of synthetic samples falls from 80 % to 20 %; diagnoses
come equally often. Real samples whose split is "test" (or every fifth group, where no split is given) are held out.
"""

from __future__ import annotations

import argparse
import zlib

import torch
from monai.networks.nets import DenseNet
from monai.transforms import Compose, NormalizeIntensityd, RandFlipd, RandRotate90d
from monai.utils import set_determinism
from torch.nn import functional as F
from torch.utils.data import DataLoader

from synthskin.hooks import Linear, MixedDataset, RandHairOverlayd, RandToneShiftd, SkinDataset, collate


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real")
    parser.add_argument("synthetic")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--samples", type=int, default=None, help="samples an epoch")
    parser.add_argument("--classes", nargs="+", default=["NV", "MEL", "healthy"])
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    set_determinism(0)
    normalise = NormalizeIntensityd("image", subtrahend=0.5, divisor=0.25)
    augment = Compose([
        RandToneShiftd("image", to=(-50.0, 60.0), prob=0.5),  # before normalising: it needs the colours of the picture
        RandHairOverlayd("image", prob=0.3, count=(2, 15)),
        RandFlipd("image", prob=0.5, spatial_axis=0),
        RandRotate90d("image", prob=0.75),
        normalise,
    ])

    def load(folder: str, transform: Compose | NormalizeIntensityd) -> SkinDataset:
        return SkinDataset(folder, classes=args.classes, size_px=args.size, transform=transform)

    train, test, synthetic = load(args.real, augment), load(args.real, normalise), load(args.synthetic, augment)
    splits = any(row["split"] for row in train.rows)
    held = [row["split"] == "test" if splits else zlib.crc32(str(row["group_id"]).encode()) % 5 == 0
            for row in train.rows]
    train.rows = [row for row, out in zip(train.rows, held, strict=True) if not out]
    test.rows = [row for row, out in zip(test.rows, held, strict=True) if out]
    mixed = MixedDataset(train, synthetic, Linear(0.8, 0.2, args.epochs), balance="diagnosis")
    sampler = mixed.sampler(args.samples)
    loader = DataLoader(mixed, 8, sampler=sampler, num_workers=args.workers, collate_fn=collate)
    model = DenseNet(spatial_dims=2, in_channels=3, out_channels=len(args.classes), block_config=(2, 2, 2))
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    right = 0.0
    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        model.train()
        for batch in loader:
            loss = F.cross_entropy(model(batch["image"]), batch["label"])  # -100, no label, is left out
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            seen = [(model(b["image"]).argmax(1) == b["label"])[b["label"] >= 0]
                    for b in DataLoader(test, 8, collate_fn=collate)]
        right = float(torch.cat(seen).float().mean()) if seen else float("nan")
        share = 100 * mixed.ratio_at(epoch)
        print(f"epoch {epoch + 1}: {share:.0f} % synthetic, right on held-out {100 * right:.1f} %")
    return right


if __name__ == "__main__":
    main()
