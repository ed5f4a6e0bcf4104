"""The split a picture belongs to by the names of its folders: whole words, the nearest folder that names one."""

from __future__ import annotations

import re
from typing import Final

SPLITS: Final = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
                 "test": "test", "testing": "test"}
#: Words of a name: `ISIC-2017_Test_v2_Data` and `TestData` have the word test, `latest` has not.
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def split_of(path: str) -> str | None:
    """train, val or test of a picture's path inside its source; None if no folder names one.

    The nearest folder counts. One that names two (`training_and_test`) says nothing, and the next above it is asked.
    """
    for folder in reversed(path.split("/")[:-1]):
        named = {SPLITS[word.lower()] for word in _WORD.findall(folder) if word.lower() in SPLITS}
        if len(named) == 1:
            return named.pop()
    return None
