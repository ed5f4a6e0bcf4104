"""Figures of the deterministic optics: published values, iadpython, the anisotropy convention, time.

python benchmarks/optics_table.py
"""

from __future__ import annotations

import time

import iadpython
import numpy as np

from synthskin.draw import draw
from synthskin.physics import adding_doubling as ad
from synthskin.physics import flat_skin
from synthskin.preset import load_preset


def main() -> None:
    print("cosines  slab R     slab T     Giovanelli total   (published 0.09739, 0.66096, 0.2600)")
    for cosines in (8, 10, 12, 16, 24):
        slab = ad.slab(0.2, 1.0, 9.0, 0.75, ad.quadrature(cosines, 1.0, 1.0))
        glass = ad.quadrature(cosines, 1.5, 1.0)
        half = ad.layered_reflectance([np.inf], [1.0], [9.0], [0.0], glass) + ad.surface_reflectance(glass)
        print(f"{cosines:5d}    {float(slab[0]):.5f}    {float(slab[1]):.5f}    {float(half):.5f}")
    worst = {}
    for cosines in (8, 12, 16):
        quad = ad.quadrature(cosines)
        errors = []
        for d, mu_a, mu_s, g in (
            (0.06, 20.0, 40.0, 0.8),
            (0.06, 2.0, 40.0, 0.8),
            (1.0, 0.1, 5.0, 0.0),
            (0.1, 0.5, 30.0, 0.8),
            (1.0, 0.05, 20.0, 0.8),
        ):
            sample = iadpython.Sample(a=mu_s / (mu_s + mu_a), b=(mu_s + mu_a) * d, g=g, n=1.4, quad_pts=24)
            errors.append(float(ad.slab(d, mu_a, mu_s, g, quad)[0]) / float(sample.rt()[0]) - 1.0)
        worst[cosines] = 100.0 * float(np.abs(errors).max())
    print("five single layers against iadpython (24 points), worst R:", {q: f"{v:.2f} %" for q, v in worst.items()})
    print("HG in the fine zone and isotropic below against HG everywhere, 8 skins, worst of 450/550/650 nm:")
    for number in range(1, 7):
        skins = [draw(load_preset(f"fst{number}"), 0, i).skin for i in range(8)]
        nm, quad = [450.0, 550.0, 650.0], ad.quadrature(16)
        shipped = ad.layered_reflectance(*flat_skin.layers(skins, nm), quad)
        everywhere = ad.layered_reflectance(*flat_skin.layers(skins, nm, True), quad)
        print(f"  fst{number} {100.0 * np.abs(shipped / everywhere - 1.0).max():.2f} %")
    skins = [draw(load_preset("fst4"), 0, i).skin for i in range(20)]
    start = time.perf_counter()
    for skin in skins:
        flat_skin.ita_of_skin(skin)
    print(f"ita_of_skin: {1000.0 * (time.perf_counter() - start) / len(skins):.0f} ms a skin")


if __name__ == "__main__":
    main()
