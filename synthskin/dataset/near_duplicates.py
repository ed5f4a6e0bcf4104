"""Groups of near-duplicate pictures, for sets that name no lesion or person: (nearly) equal difference hashes."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Bits of 128 by which two pictures may differ and still count as near-duplicates; measured in docs/formats.md.
MAX_BITS: Final = 8
_BLOCK: Final = 512


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
