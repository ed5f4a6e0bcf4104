"""Skin-tone invariant training in the way of CIRCLe (Pakzad et al. 2022), with ToneShift in the place of its StarGAN.

    python examples/invariant_circle.py DIR --epochs 5

Each picture is seen as it is and in another random tone; the classifier's features of the two are drawn together.
The last column is how far the features move when the tone changes, relative to how far pictures lie apart.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from synthskin.hooks import ColourSpaceShift, InvarianceLoss, SkinDataset, ToneShift, collate


def encoder(width: int = 16, features: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(4, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, features))


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--weight", type=float, default=0.1, help="of the regulariser; 0 switches it off")
    parser.add_argument("--baseline", action="store_true", help="ColourSpaceShift instead of ToneShift")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    data = SkinDataset(args.directory, size_px=args.size)
    loader = DataLoader(data, 8, shuffle=True, num_workers=args.workers, collate_fn=collate, drop_last=len(data) > 8)
    shift = ColourSpaceShift() if args.baseline else ToneShift()
    invariance = InvarianceLoss(args.weight)
    body, head = encoder(), nn.Linear(64, len(data.classes))
    optimiser = torch.optim.Adam([*body.parameters(), *head.parameters()], 1e-3)
    moved = 0.0
    for epoch in range(args.epochs):
        ratios = []
        for batch in loader:
            goal = torch.empty(len(batch["image"])).uniform_(-50.0, 60.0)
            other = shift(batch["image"], batch["mask"], goal).image
            z, z_other = body(batch["image"] - 0.5), body(other - 0.5)
            regulariser = invariance(z, z_other)
            loss = F.cross_entropy(head(z), batch["label"]) + regulariser
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                apart = (z - z.mean(0)).square().sum(1).mean().clamp_min(1e-9)
                ratios.append(float((z - z_other).square().sum(1).mean() / apart))
        moved = sum(ratios) / len(ratios)
        print(f"epoch {epoch + 1}: loss {float(loss.detach()):.3f}, regulariser {float(regulariser.detach()):.4f}, "
              f"tone moves features by {moved:.3f}")
    return moved


if __name__ == "__main__":
    main()
