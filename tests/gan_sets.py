"""Small sets for the tests of synthskin.gan: drawn discs on plain skin, rows as the contract wants them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from synthskin.conventions import BENIGN_MALIGNANT
from synthskin.dataset.card import Card
from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import Sample, empty_row, stem
from synthskin.dataset.reader import bounding_box
from synthskin.dataset.writer import DatasetWriter

#: Skin of ITA classes 1-6, sRGB.
SKIN = {1: (225, 196, 178), 2: (214, 180, 156), 3: (198, 160, 132), 4: (170, 130, 100), 5: (120, 84, 62),
        6: (70, 50, 42)}
LESION = {"NV": (140, 100, 80), "MEL": (60, 40, 60), "BCC": (200, 120, 120), "healthy": None}


def picture(size, tone, diagnosis, key, ruler=False):
    """(image, mask, ruler mask): noisy skin, a disc off the middle, black marks along the left edge."""
    rng = np.random.Generator(np.random.Philox(key=key))
    skin = np.asarray(SKIN[tone], float) + rng.normal(0, 5, 3)
    image = np.broadcast_to(skin, (size, size, 3)) + rng.normal(0, 3, (size, size, 1))
    y, x = np.mgrid[:size, :size] + 0.5
    radius = size * rng.uniform(0.14, 0.2)
    cy, cx = size * rng.uniform(0.48, 0.6, 2)
    inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
    if LESION[diagnosis] is None:
        inside[:] = False
    else:
        share = 0.25 if tone >= 5 else 0.0
        colour = (1 - share) * np.asarray(LESION[diagnosis], float) + share * skin
        image = np.where(inside[..., None], colour + rng.normal(0, 12, (size, size, 1)), image)
    marks = np.zeros((size, size), bool)
    if ruler:
        marks[::4, : max(3, size // 10)] = True
        image = np.where(marks[..., None], 15.0, image)
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return image, np.where(inside, 255, 0).astype(np.uint8), np.where(marks, 255, 0).astype(np.uint8)


def write_set(directory, wanted, size=32, seed=0, masks=True, generator="physics", groups=None, splits=None,
              set_hash="0123456789abcdef", licence="CC0-1.0"):
    """A set of (diagnosis, tone) or (diagnosis, tone, ruler) pictures."""
    directory = Path(directory)
    card = Card(generator, "toys", set_hash, seed, len(wanted), size, 12.0, {"made": "by a test"}, [licence],
                ["a test"])
    with DatasetWriter(directory, card, 'name = "toys"\n') as writer:
        for index, spec in enumerate(wanted):
            diagnosis, tone, ruler = (*spec, False)[:3]
            image, mask, marks = picture(size, tone, diagnosis, 1000 * seed + index, ruler)
            box = bounding_box(mask)
            group = f"toy-{seed}-{index}" if groups is None else groups[index]
            row = empty_row() | {
                "file_name": f"images/{stem(index)}.png",
                "mask_file_name": f"masks/{stem(index)}.png" if masks else None,
                "hair_file_name": f"hair/{stem(index)}.png", "artefacts": ["ruler"] if ruler else [],
                "index": index, "seed": seed, "preset": "toys", "set_hash": set_hash, "generator": generator,
                "mask_status": "exact" if masks else "none", "diagnosis": diagnosis, "diagnosis_raw": diagnosis,
                "diagnosis_scheme": "ISIC 2018 Task 3 and healthy", "diagnosis_status": "by_construction",
                "benign_malignant": BENIGN_MALIGNANT[diagnosis], "ita_deg": 60.0 - 20 * tone, "ita_class": tone,
                "tone_source": "model", "bbox": box if masks else [], "boxes": [box] if box and masks else [],
                "modality": "dermoscopic", "dermoscopic_type": "contact polarized", "group_id": group,
                "split": None if splits is None else splits[index], "caption": "A toy.", "params": json.dumps({}),
            }
            writer.write(encode_sample(Sample(row, image, mask if masks else None, np.zeros_like(mask), {},
                                              {"ruler": marks} if ruler else {})))
    return directory
