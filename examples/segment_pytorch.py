"""Lesion segmentation on a synthetic set, in plain PyTorch.

    synthskin render --preset fst2 --n 200 --size 128 --out out/train
    python examples/segment_pytorch.py out/train --epochs 5

Every tenth group of samples is held out; the Dice score on it is printed after each epoch.
"""

from __future__ import annotations

import argparse
import zlib

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from synthskin.hooks import SkinDataset, collate


class SmallUNet(nn.Module):
    """Two levels down, two up: 3 channels to a logit a pixel; sides are multiples of 4."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        sizes = [(3, width), (width, 2 * width), (2 * width, 4 * width), (6 * width, 2 * width), (3 * width, width)]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(4, b), nn.ReLU(),
                          nn.Conv2d(b, b, 3, padding=1), nn.GroupNorm(4, b), nn.ReLU()) for a, b in sizes)
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.blocks[0](x)
        middle = self.blocks[1](F.max_pool2d(fine, 2))
        x = self.blocks[2](F.max_pool2d(middle, 2))
        x = self.blocks[3](torch.cat([F.interpolate(x, scale_factor=2.0), middle], 1))
        return self.last(self.blocks[4](torch.cat([F.interpolate(x, scale_factor=2.0), fine], 1)))


def dice(share: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (2 * (share * mask).sum() + 1) / (share.sum() + mask.sum() + 1)


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    data = SkinDataset(args.directory, size_px=args.size)
    usable = [i for i, row in enumerate(data.rows) if row["mask_file_name"] is not None]
    held = [i for i in usable if zlib.crc32(str(data.rows[i]["group_id"]).encode()) % 10 == 0] or usable[-1:]
    train = DataLoader(Subset(data, [i for i in usable if i not in set(held)]), 8, shuffle=True,
                       num_workers=args.workers, collate_fn=collate)
    test = DataLoader(Subset(data, held), 8, num_workers=args.workers, collate_fn=collate)
    model = SmallUNet()
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    score = 0.0
    for epoch in range(args.epochs):
        model.train()
        for batch in train:
            logits = model(batch["image"] - 0.5)
            loss = F.binary_cross_entropy_with_logits(logits, batch["mask"]) + 1 - dice(logits.sigmoid(), batch["mask"])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            scores = [float(dice(model(b["image"] - 0.5) > 0, b["mask"])) for b in test]
        score = sum(scores) / len(scores)
        print(f"epoch {epoch + 1}: loss of the last batch {float(loss.detach()):.3f}, Dice on held-out {score:.3f}")
    return score


if __name__ == "__main__":
    main()
