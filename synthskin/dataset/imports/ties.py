"""Groups out of several ids: pictures that share a lesion or a person are one group, also by way of a third picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

#: Kinds of ids; a group is named by the smallest id of the first kind that it has.
KINDS: Final = ("group", "patient", "lesion")
#: (position in KINDS, id).
_Key = tuple[int, str]


def tied(pictures: Sequence[Sequence[tuple[str, str | None]]]) -> list[str | None]:
    """Name of the group of each picture; None of one that has no id.

    pictures   for each picture its ids as (kind, id), kinds of KINDS; an id of None is no id

    The names depend on the ids alone, not on their order. The same text as a patient and as a lesion is two ids.
    """
    parents: dict[_Key, _Key] = {}

    def root(key: _Key) -> _Key:
        while parents[key] != key:
            parents[key] = parents[parents[key]]
            key = parents[key]
        return key

    found = [[(KINDS.index(kind), text) for kind, text in ids if text is not None] for ids in pictures]
    for keys in found:
        for key in keys:
            parents.setdefault(key, key)
            first, other = sorted((root(keys[0]), root(key)))
            parents[other] = first  # the root is the smallest of its group
    roots = {root(key) for key in parents}
    texts = Counter(text for _, text in roots)
    names = {key: key[1] if texts[key[1]] == 1 else f"{KINDS[key[0]]}-{key[1]}" for key in roots}
    return [names[root(keys[0])] if keys else None for keys in found]
