"""Seeded randomness for structures: generators keyed by (preset, seed, index, name), and smooth noise in millimetres.

Keys never contain parameter values, so a structure stays where it was when another field (tone, hair count, ...) is
changed. Noise lives on a periodic lattice anchored at the middle of the picture, so it does not depend on how many
columns look at it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthskin.record import SampleRecord

F32 = NDArray[np.float32]
PERIOD = 128  # nodes of the noise lattice before it repeats


def keyed_rng(record: SampleRecord, name: str) -> np.random.Generator:
    """Counter-based generator for the structure `name` of this sample (Philox; Salmon et al. 2011)."""
    text = f"{record.preset}\0{record.seed}\0{record.index}\0{name}".encode()
    key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))


def _weights(coordinate: F32) -> tuple[F32, NDArray[np.intp]]:
    """Cubic B-spline weights (n, k) of lattice nodes at fractional node coordinates, and the k nodes' indices.

    Each row has unit 2-norm, so independent unit-variance nodes give unit variance everywhere.
    """
    base = np.floor(coordinate).astype(np.intp)
    u = coordinate - base
    first = int(base.min()) - 1
    nodes = np.arange(first, int(base.max()) + 3)
    taps = np.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3], axis=1)
    taps /= np.sqrt((taps**2).sum(axis=1, keepdims=True))
    weights = np.zeros((len(coordinate), len(nodes)), np.float32)
    rows = np.arange(len(coordinate))
    for tap in range(4):
        weights[rows, base - first - 1 + tap] = taps[:, tap]
    return weights, nodes


@dataclass(frozen=True, slots=True)
class NoiseField:
    """Smooth Gaussian noise over (y, x): zero mean, unit variance, correlation length about `scale_mm`.

    name      type      meaning
    record    -         identity of the sample
    x_mm      (n,)      column centres from the middle of the picture
    y_mm      (n,)      row centres
    memory    dict      octaves that were asked for, where several lesions of one sample grow on the same columns
    """

    record: SampleRecord
    x_mm: F32
    y_mm: F32
    memory: dict[tuple[str, float, float], F32] | None = None

    def __call__(self, name: str, scale_mm: float, stretch_x: float = 1.0) -> F32:
        """One octave, (len(y), len(x)) float32. `stretch_x` > 1 draws it out along x."""
        if self.memory is None:
            return self._octave(name, scale_mm, stretch_x)
        key = (name, float(scale_mm), float(stretch_x))
        if key not in self.memory:
            self.memory[key] = self._octave(*key)
        return self.memory[key].copy()

    def _octave(self, name: str, scale_mm: float, stretch_x: float) -> F32:
        table = keyed_rng(self.record, name).standard_normal((PERIOD, PERIOD), dtype=np.float32)
        wx, ix = _weights(np.asarray(self.x_mm / (scale_mm * stretch_x), np.float32))
        wy, iy = wx, ix
        if self.y_mm is not self.x_mm or stretch_x != 1.0:
            wy, iy = _weights(np.asarray(self.y_mm / scale_mm, np.float32))
        block = table[np.ix_(iy % PERIOD, ix % PERIOD)]
        return np.asarray(wy @ block @ wx.T, np.float32)

    def octaves(self, name: str, scales_mm: tuple[float, ...], weights: tuple[float, ...]) -> F32:
        """Sum of octaves, weighted and scaled back to unit variance."""
        total = np.zeros((len(self.y_mm), len(self.x_mm)), np.float32)
        for number, (scale, weight) in enumerate(zip(scales_mm, weights, strict=True)):
            total += np.float32(weight) * self(f"{name}/{number}", scale)
        return total / np.float32(np.sqrt(sum(w * w for w in weights)))


def smoothstep(x: F32) -> F32:
    """0 below 0, 1 above 1, 3x^2 - 2x^3 between."""
    x = np.clip(x, np.float32(0), np.float32(1))
    return x * x * (np.float32(3) - np.float32(2) * x)
