"""Compute synthskin/physics/lesion_colour_reference.npz and print its interpolation error.

python benchmarks/make_lesion_colour.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from synthskin.physics import lesion_colour, spectral

COUNTS = (13, 14, 10)
OUT = Path(lesion_colour.__file__).with_name("lesion_colour_reference.npz")


def main() -> None:
    blood = np.exp(np.linspace(*np.log(lesion_colour.BLOOD_RANGE), 4))
    tables = [
        lesion_colour.build_table(lesion_colour.REFERENCE_SKIN, depth, COUNTS, blood).log_xyz
        for depth in lesion_colour.DEPTH_NODES_UM
    ]
    np.savez_compressed(OUT, log_xyz=np.stack(tables))
    print(f"{OUT.name}: {OUT.stat().st_size / 1e3:.0f} kB")
    lesion_colour._reference_tables.cache_clear()
    rng = np.random.default_rng(0)
    delta = []
    for _ in range(40):
        e, j, d = (
            np.array([np.expm1(rng.uniform(0.0, np.log1p(top / 0.3)) * 0.8) * 0.3])
            for top in lesion_colour.MAX_COLUMN_UM
        )
        b, depth = np.exp(rng.uniform(np.log(0.6), np.log(3.0), 1)), float(rng.uniform(30.0, 300.0))
        exact = _exact(float(e[0]), float(j[0]), float(d[0]), float(b[0]), depth)
        table = lesion_colour.reference_table(depth).xyz(*(v.astype(np.float32) for v in (e, j, d, b)))[0]
        delta.append(float(spectral.ciede2000(spectral.xyz_to_lab(exact), spectral.xyz_to_lab(table))))
    high = np.percentile(delta, 95)
    print(f"interpolation, 40 columns: CIEDE2000 mean {np.mean(delta):.3f}, 95 % {high:.3f}, max {max(delta):.3f}")


def _exact(e: float, j: float, d: float, b: float, depth: float) -> np.ndarray:
    """A table whose last node is the column itself."""
    table = lesion_colour.build_table(lesion_colour.REFERENCE_SKIN, depth, (2, 2, 2), [b], (e, j, d))
    return np.exp(table.log_xyz[1, 1, 1, 0].astype(np.float64))


if __name__ == "__main__":
    main()
