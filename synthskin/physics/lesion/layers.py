"""What structures write into: the maps of a LesionField while it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synthskin.physics.lesion.field import NEUTRAL
from synthskin.physics.noise import F32


@dataclass(slots=True)
class Layers:
    """Mutable maps (r, c); the optional ones come into being when a structure first asks for them."""

    epidermal_um: F32
    junctional_um: F32
    dermal_um: F32
    blood_factor: F32
    ridge: F32
    optional: dict[str, F32] = field(default_factory=dict)
    footprints: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    def get(self, name: str) -> F32:
        """The optional map `name`, neutral until something is written into it."""
        if name not in self.optional:
            self.optional[name] = np.full(self.epidermal_um.shape, NEUTRAL[name], np.float32)
        return self.optional[name]

    def keep(self, share: F32) -> None:
        """Leave `share` (r, c) of the pigment above the dermis: what regression, ulcers and plugs take away."""
        self.epidermal_um *= share
        self.junctional_um *= share
        if "corneal_um" in self.optional:
            self.optional["corneal_um"] *= share

    def deposit(self, column_um: F32, depth_um: F32 | np.float32) -> None:
        """Add melanin under the junction; depths of what is there are averaged by weight."""
        deep, depth = self.get("deep_um"), self.get("deep_depth_um")
        total = deep + column_um
        weight = column_um / np.maximum(total, np.float32(1e-6))
        depth += (depth_um - depth) * weight
        deep += column_um

    def bleed(self, column_um: F32, depth_um: F32 | np.float32) -> None:
        """Put blood (r, c) in resolved vessels; where two cross, the thicker one counts."""
        blood, depth = self.get("vessel_um"), self.get("vessel_depth_um")
        more = column_um > blood
        np.copyto(depth, depth_um, where=more)
        np.copyto(blood, column_um, where=more)

    def mark(self, name: str, where: NDArray[np.bool_]) -> None:
        """Footprint of a structure; several calls add up."""
        self.footprints[name] = self.footprints[name] | where if name in self.footprints else where
