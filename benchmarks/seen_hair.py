"""Is hair said to be in a picture where it can be seen? Against the same pictures rendered without hair.

    synthskin render --preset isic_like --n 40 --size 128 --seed 21 --out out/hair
    synthskin render --preset isic_like --n 40 --size 128 --seed 21 --out out/bald --set hair.count=0 \
        --set hair.vellus_count=0 --set artefacts.thick_hair=0 --set artefacts.thin_hair=0
    python benchmarks/seen_hair.py out/hair out/bald [out/hair-2 out/bald-2 ...]

The figure of docs/variation.md is of five such pairs of 128 pixels: isic_like --n 40 --seed 21, and --seed 31; clinical
--n 20 --seed 32 --set artefacts.ink=1; isic_like --n 25 --seed 14 --set hair.count=0 with artefacts.dark_corner=1, its
dark_corner_radius=0.5..0.9 and colour_patch=1; isic_like --n 30 --seed 11 with artefacts.dark_corner=1,
dark_corner_radius=0.6..1.2, ruler=1, ruler_style=paper, ruler_offset=0.2..0.9, colour_patch=1, ink=1, gel_bubble=1,
blur=1, blur_um=5..200, glare=1.

Hair is in a picture where it changes LEAST_HAIR_SHARE of it or more, in view, by SEEN_HAIR or more.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from synthskin.dataset.reader import open_dataset
from synthskin.facts import LEAST_HAIR_SHARE, OPAQUE, SEEN_HAIR, Facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+", help="with hair, without, with, without ...")
    sets = parser.parse_args().sets
    if len(sets) % 2:
        parser.error("sets come in pairs: with hair, without")
    counts: Counter[tuple[str, str]] = Counter()
    for with_hair, without in zip(sets[::2], sets[1::2], strict=True):
        for sample, bald in zip(open_dataset(with_hair), open_dataset(without), strict=True):
            if sample.hair is None or not sample.hair.any():
                continue
            changed = np.linalg.norm(sample.image / 255 - bald.image / 255, axis=2) >= SEEN_HAIR
            hidden = np.any([sample.artefacts[name] > 0 for name in OPAQUE if name in sample.artefacts] or [False],
                            axis=0)
            there = (changed & (sample.hair > 0) & ~hidden).mean() >= LEAST_HAIR_SHARE
            share = Facts.of(sample).hair_share
            told = "nothing" if share is None else "hair" if share >= LEAST_HAIR_SHARE else "no hair in view"
            counts["hair" if there else "no hair in view", told] += 1
    for (there, told), number in sorted(counts.items()):
        print(f"{there}: {told} told of {number} pictures")


if __name__ == "__main__":
    main()
