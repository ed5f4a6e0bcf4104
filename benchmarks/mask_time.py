"""Processor time of a mask and of visible_delta_e, and how much of the lesions shows on each tone.

python benchmarks/mask_time.py
"""

from __future__ import annotations

import time

import numpy as np

from synthskin.draw import draw
from synthskin.physics import labels
from synthskin.physics.anatomy import MARGIN
from synthskin.physics.lesion.structures import grow
from synthskin.preset import load_preset

COLUMNS, SIZE_PX, COUNT = 384, 256, 16


def main() -> None:
    for name in ("fst1", "fst2", "fst4", "fst6"):
        preset = load_preset(name)
        mask_ms, visible_ms, shares, empty, cut = [], [], [], 0, 0
        for index in range(COUNT):
            record = draw(preset, 0, index)
            field_mm = record.camera.field_of_view_mm
            column_mm = field_mm / (COLUMNS * (1 - 2 * MARGIN))
            origin_mm = -COLUMNS * MARGIN * column_mm
            axis = ((np.arange(COLUMNS) - 0.5 * (COLUMNS - 1)) * column_mm).astype(np.float32)
            lesion = grow(record, axis, axis, column_mm)
            start = time.process_time()
            mask = labels.lesion_mask(lesion, column_mm, origin_mm, field_mm, SIZE_PX)
            middle = time.process_time()
            shares.append(labels.visible_delta_e(lesion, mask, record.skin, column_mm, origin_mm, field_mm))
            mask_ms.append(1000.0 * (middle - start))
            visible_ms.append(1000.0 * (time.process_time() - middle))
            empty += not mask.any()
            cut += bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
        print(
            f"{name}: mask {np.median(mask_ms):.0f} ms, visible_delta_e {np.median(visible_ms):.0f} ms of CPU "
            f"(medians of {COUNT}); "
            f"visible share {np.mean(shares):.2f} (least {min(shares):.2f}); empty {empty}, cut by the frame {cut}"
        )


if __name__ == "__main__":
    main()
