"""Unpaired translation between classes and between skin tones. Light to import: PyTorch comes with the modules.

where.py      the filter of `--source-where`         nets.py        networks that methods share
domain.py     pictures of a domain, split by group   losses.py, augment.py, distance.py
method.py     settings, and what a method must do    cyclegan.py, cut.py, stargan.py, pix2pixhd.py   one method a file
train.py      the loop, early stop, resume           checkpoint.py  everything a run needs to go on, as safetensors
model.py      a trained model on disk and its card   composite.py   what may change in a picture
translate.py, balance.py, melanet.py                 what models are used for
reinhard.py   colour transfer, the rival             truth.py       distance to the true counterfactual
"""

from __future__ import annotations

from typing import Final

METHODS: Final = ("cyclegan", "cut", "stargan", "pix2pixhd")
#: What a model may change: the lesion (composited), all skin, or the whole picture (made from masks).
CHANGES: Final = ("class", "tone", "picture")


class GanError(RuntimeError):
    """A translation model cannot be trained, read or used. One line, meant for the user."""
