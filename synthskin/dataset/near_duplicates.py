"""Near-duplicate pictures: groups of (nearly) equal difference hashes, and an index that finds altered copies.

`group` serves sets that name no lesion or person. `CopyIndex` finds a picture again that was cropped to 80 %, flipped,
turned by some degrees, saved as JPEG or shifted in hue. Two stages: a 16 x 16 field of band-passed, locally normalised
luma (the embedding), compared in many windows, mirrorings and turns, names the likeliest pictures; those are laid over
the new one at 128 px and correlated in a finer band, where hairs, network and grain lie. Skin pictures are all dark
blobs on light ground, so only the finer band tells lesions apart; its threshold is calibrated on pairs of different
real pictures. Hue is not looked at. The difference hash is the floor: what it calls equal is a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Bits of 128 by which two pictures may differ and still count as near-duplicates; measured in docs/formats.md.
MAX_BITS: Final = 8
_BLOCK: Final = 512

F32 = NDArray[np.float32]


def group(hashes: NDArray[np.uint64], max_bits: int = MAX_BITS) -> list[int]:
    """For each picture the position of the first of its group. hashes (n, 2) uint64. Chains join: a-b, b-c => one."""
    n = len(hashes)
    first = list(range(n))

    def root(k: int) -> int:
        while first[k] != k:
            first[k] = first[first[k]]
            k = first[k]
        return k

    for start in range(0, n, _BLOCK):
        block = hashes[start:start + _BLOCK]
        bits = sum(np.bitwise_count(block[:, None, k] ^ hashes[None, :, k]).astype(np.int16) for k in range(2))
        for a, b in np.argwhere(bits <= max_bits):
            i, j = root(int(a) + start), root(int(b))
            if i != j:
                first[max(i, j)] = min(i, j)
    return [root(k) for k in range(n)]


def hash_of(image: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(2,) uint64 difference hash of (h, w, 3) uint8 (Krawetz 2013), as synthskin.dataset.photo's of a file."""
    grey = np.asarray(Image.fromarray(image).convert("L").resize((9, 9), Image.Resampling.BOX), np.int16)
    across = np.packbits(grey[:8, 1:] > grey[:8, :-1])
    down = np.packbits(grey[1:, :8] > grey[:-1, :8])
    return np.frombuffer(across.tobytes() + down.tobytes(), np.uint64)


#: Similarity from which a picture is a copy, where nothing was calibrated (benchmarks/gates_copies.py).
THRESHOLD: Final = 0.55
_SIDE: Final = 128  # pixels at which pictures are compared
_CELLS: Final = 16  # side of the embedding
_SHORTLIST: Final = 6
_FLOOR_LEVELS: Final = 1.5  # grey levels under which texture counts as noise
_DARK: Final = 24.0  # darker is frame, not skin
#: Windows of the known picture that a crop may show: (share of the side, top, left).
_WINDOWS: Final = ((1.0, 0.0, 0.0), *((0.9, y, x) for y in (0.0, 0.1) for x in (0.0, 0.1)),
                   *((0.8, y, x) for y in (0.0, 0.1, 0.2) for x in (0.0, 0.1, 0.2)))
_TURNS_DEG: Final = (-5.0, 0.0, 5.0)


@dataclass(frozen=True, slots=True)
class Match:
    """The nearest known picture: similarity -1 to 1, differing bits of 128 of the hash, and whether it is a copy."""

    name: str
    similarity: float
    bits: int
    copy: bool


@dataclass(frozen=True, slots=True)
class _Fields:
    """Of one picture at 128 px: the middle band, the finer band, both locally normalised."""

    middle: F32
    fine: F32


class CopyIndex:
    """Known pictures, and whether a new one is an altered copy of any of them.

    threshold   similarity from which a picture is a copy; `calibrate` sets it
    max_bits    differing bits of 128 of the difference hash up to which a picture is a copy whatever its similarity
    """

    def __init__(self, threshold: float = THRESHOLD, max_bits: int = MAX_BITS) -> None:
        self.threshold, self.max_bits = threshold, max_bits
        self._names: list[str] = []
        self._fields: list[_Fields] = []
        self._hashes: list[NDArray[np.uint64]] = []
        self._embedded = np.zeros((0, len(_WINDOWS), _CELLS * _CELLS), np.float16)
        self._held = 0

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, image: NDArray[np.uint8]) -> None:
        """Know this (h, w, 3) uint8 picture from now on."""
        fields = _fields(image)
        if self._held == len(self._embedded):
            more = np.zeros((max(64, len(self._embedded)), len(_WINDOWS), _CELLS * _CELLS), np.float16)
            self._embedded = np.concatenate([self._embedded, more])
        self._embedded[self._held] = [_embedding(fields.middle, window) for window in _WINDOWS]
        self._held += 1
        self._names.append(name)
        self._fields.append(_Fields(fields.middle.astype(np.float16), fields.fine.astype(np.float16)))
        self._hashes.append(hash_of(image))

    def nearest(self, image: NDArray[np.uint8], exempt: AbstractSet[str] = frozenset()) -> Match | None:
        """The known picture that (h, w, 3) uint8 resembles most, `exempt` ones left out; None if none is left."""
        kept = np.array([name not in exempt for name in self._names], bool)
        if not kept.any():
            return None
        bits = np.bitwise_count(np.stack(self._hashes) ^ hash_of(image)[None]).astype(int).sum(axis=1)
        bits[~kept] = 999
        nearest = int(bits.argmin())
        found = self._search(_fields(image), kept)
        if bits[nearest] <= self.max_bits and not found[1] >= self.threshold:
            found = (nearest, max(found[1] if found[0] == nearest else -1.0, -1.0))
        k, similarity = found
        copy = similarity >= self.threshold or bits[nearest] <= self.max_bits
        return Match(self._names[k], float(similarity), int(bits[k]), bool(copy))

    def calibrate(self, groups: Sequence[str | None] | None = None, share: float = 0.01,
                  most: int = 150) -> dict[str, Any]:
        """Set the threshold so that at most `share` of the known pictures would count as copies of another one.

        groups   one a picture: pictures of one group (lesion, person, near-duplicates) are not held against each other
        most     pictures that are asked, spread evenly
        Never below THRESHOLD; with fewer than 20 pictures it stays THRESHOLD. Gives what was found.
        """
        asked = sorted({int(k) for k in np.linspace(0, len(self) - 1, min(most, len(self)))}) if len(self) else []
        values = []
        for k in asked:
            own = None if groups is None else groups[k]
            kept = np.array([j != k and (own is None or groups is None or groups[j] != own) for j in range(len(self))])
            if kept.any():
                fields = self._fields[k]
                values.append(self._search(_Fields(fields.middle.astype(np.float32), fields.fine.astype(np.float32)),
                                           kept)[1])
        if len(values) >= 20:
            self.threshold = max(THRESHOLD, round(float(np.quantile(values, 1.0 - share)), 4))
        return {"pictures": len(values), "share": share, "threshold": self.threshold,
                "quantiles": {str(q): round(float(np.quantile(values, q)), 4) for q in (0.5, 0.9, 0.98, 0.99, 1.0)}
                if values else {}}

    def _search(self, new: _Fields, kept: NDArray[np.bool_]) -> tuple[int, float]:
        """(position, similarity) of the most similar known picture among `kept`."""
        queries = np.stack([_embedding(_mirrored(_turned(new.middle, turn), mirroring), _WINDOWS[0])
                            for turn in _TURNS_DEG for mirroring in range(8)]).astype(np.float32)
        alike = np.empty((len(queries), self._held, len(_WINDOWS)), np.float32)
        for start in range(0, self._held, _BLOCK):
            part = self._embedded[start:min(start + _BLOCK, self._held)].astype(np.float32)
            alike[:, start:start + len(part)] = np.tensordot(queries, part, axes=(1, 2))
        alike[:, ~kept] = -2.0
        likeliest = alike.max(axis=(0, 2))
        order = np.argsort(-likeliest, kind="stable")[:min(_SHORTLIST, int(kept.sum()))]
        best, query_fields = (int(order[0]), -1.0), _Query(new)
        for k in order:
            query, window = np.unravel_index(int(alike[:, k].argmax()), alike[:, k].shape)
            value = _laid_over(query_fields, self._fields[int(k)], _TURNS_DEG[int(query) // 8], int(query) % 8,
                               _WINDOWS[int(window)])
            if value > best[1]:
                best = (int(k), value)
        return best


def _fields(image: NDArray[np.uint8]) -> _Fields:
    from scipy.ndimage import gaussian_filter

    grey = np.asarray(Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)
    skin = (gaussian_filter(grey, 2.0) > _DARK).astype(np.float32)
    weight = np.clip(2.0 * gaussian_filter(skin, 3.0) - 1.0, 0.0, 1.0)

    def band(low: float, high: float, around: float) -> F32:
        passed = weight * (gaussian_filter(grey, low) - gaussian_filter(grey, high))
        strength = np.sqrt(gaussian_filter(passed * passed, around))
        return (passed / (strength + _FLOOR_LEVELS)).astype(np.float32)

    return _Fields(band(3.0, 9.0, 24.0), band(0.8, 2.4, 8.0))


def _embedding(field: F32, window: tuple[float, float, float]) -> F32:
    """(256,) of unit length: the window of a field at 16 x 16."""
    from scipy.ndimage import map_coordinates

    share, top, left = window
    step = (np.arange(_CELLS) + 0.5) / _CELLS * share * _SIDE - 0.5
    at = np.meshgrid(step + top * _SIDE, step + left * _SIDE, indexing="ij")
    cells = map_coordinates(field, at, order=1, mode="nearest").ravel()
    cells -= cells.mean()
    return (cells / (np.linalg.norm(cells) + 1e-9)).astype(np.float32)


def _mirrored(field: F32, which: int) -> F32:
    """One of the eight mirrorings and quarter turns of a square."""
    return np.rot90(field[:, ::-1] if which >= 4 else field, which % 4)


def _turned(field: F32, degrees: float) -> F32:
    from scipy.ndimage import rotate

    return field if degrees == 0 else rotate(field, degrees, reshape=False, order=1, mode="constant")


def _windowed(field: F32, window: tuple[float, float, float]) -> F32:
    from scipy.ndimage import affine_transform

    share, top, left = window
    side = len(field)
    offset = (0.5 * share - 0.5 + top * side, 0.5 * share - 0.5 + left * side)
    return affine_transform(field, (share, share), offset, order=1, mode="constant")


def _taper(side: int) -> F32:
    edge = np.hanning(side + 2)[1:-1]
    return np.sqrt(np.outer(edge, edge)).astype(np.float32)


_TAPERS: Final = {side: _taper(side) for side in (_SIDE, _SIDE // 2)}


def _transformed(field: F32) -> NDArray[np.complex64]:
    """Fourier transform of the tapered field, of unit length."""
    from scipy.fft import rfft2

    field = _TAPERS[len(field)] * (field - field.mean())
    return rfft2(field / (np.linalg.norm(field) + 1e-9))


def _correlated(first: NDArray[np.complex64], second: NDArray[np.complex64], side: int) -> float:
    """Highest correlation of two transformed fields over shifts of up to 1/16 of the side."""
    from scipy.fft import irfft2

    over = irfft2(first * np.conj(second), s=(side, side))
    most = side // 16
    ends = np.r_[0:most + 1, side - most:side]
    return float(over[np.ix_(ends, ends)].max())


class _Query:
    """A new picture turned and mirrored as asked, each transform made once."""

    def __init__(self, fields: _Fields) -> None:
        self.bands = {"middle": _halved(fields.middle), "fine": fields.fine}
        self._made: dict[tuple[str, float, int], NDArray[np.complex64]] = {}

    def at(self, band: str, turn_deg: float, mirroring: int) -> NDArray[np.complex64]:
        key = (band, turn_deg, mirroring)
        if key not in self._made:
            self._made[key] = _transformed(_mirrored(_turned(self.bands[band], turn_deg), mirroring))
        return self._made[key]


def _halved(field: F32) -> F32:
    return field.reshape(_SIDE // 2, 2, _SIDE // 2, 2).mean(axis=(1, 3))


def _laid_over(new: _Query, known: _Fields, turn_deg: float, mirroring: int,
               window: tuple[float, float, float]) -> float:
    """Correlation in the finer band, at the turn and scale that fit best in the middle one, then refined."""
    middle_y, middle_x = window[1] + window[0] / 2, window[2] + window[0] / 2
    bands = {"middle": _halved(known.middle.astype(np.float32)), "fine": known.fine.astype(np.float32)}

    def best(band: str, turn: float, share: float, turn_step: float, share_step: float) -> tuple[float, float, float]:
        found = (-1.0, turn, share)
        for other in (share - share_step, share, share + share_step):
            there = _transformed(_windowed(bands[band], (other, middle_y - other / 2, middle_x - other / 2)))
            for angle in (turn - turn_step, turn, turn + turn_step):
                value = _correlated(new.at(band, angle, mirroring), there, len(bands[band]))
                found = max(found, (value, angle, other))
        return found

    _, turn, share = best("middle", turn_deg, window[0], 2.5, 0.05)
    return best("fine", turn, share, 1.25, 0.025)[0]
