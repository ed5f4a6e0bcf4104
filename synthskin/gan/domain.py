"""A domain: the rows of a set that a filter lets through, their pictures at one size, and the split by group."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from synthskin.dataset.card import Card
from synthskin.dataset.format import DatasetError, media_paths
from synthskin.dataset.reader import file_sha256, open_dataset, safe_path
from synthskin.draw import hash_uniform
from synthskin.gan import GanError
from synthskin.gan.lesions import Lesions, beside_mask, lesions_at
from synthskin.gan.where import Where

FEW: Final = 10  # pictures under which a domain cannot be learnt; a warning, not an error
HELD_OUT: Final = 0.1  # share of the groups that validation gets where the rows name none
_CACHE_BYTES: Final = 1_500_000_000
_TEST: Final = ("test",)
_VALIDATION: Final = ("val", "validation", "valid")
_LEARNT_KEYS: Final = ("index", "diagnosis", "ita_class", "ita_deg", "ita_image_deg")  # what methods take from rows
U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """One sample at the working size: image (s, s, 3), masks (s, s) of 0 and 255 or None, the row as it was.

    hair      (s, s); None where the set says nothing of it
    lesions   where the row tells more of them than the one mask does; else None
    """

    row: dict[str, Any]
    image: U8
    mask: U8 | None
    hair: U8 | None
    attributes: dict[str, U8]
    artefacts: dict[str, U8]
    sha256: str
    lesions: Lesions | None = None


@dataclass(frozen=True)
class Domain:
    """Pictures of `directory` that `where` lets through, in the order of the rows; read when asked for, then kept.

    size_px     working size: short side scaled to it, the middle square cut out
    tested      groups of the whole set that have a row of split test, let through or not
    """

    directory: Path
    card: Card
    where: Where
    rows: tuple[dict[str, Any], ...]
    size_px: int
    tested: frozenset[str] = frozenset()
    _cache: dict[int, Picture] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def picture(self, position: int) -> Picture:
        """Decode and scale the sample of `rows[position]`; raises DatasetError naming the file."""
        index = self.rows[position]["index"]
        if index not in self._cache:
            made = read_picture(self.directory, self.rows[position], self.size_px)
            if len(self._cache) * 6 * self.size_px**2 > _CACHE_BYTES:
                return made
            self._cache[index] = made
        return self._cache[index]

    def images(self, positions: Sequence[int]) -> torch.Tensor:
        """(n, 3, s, s) float32 in [-1, 1]: the one value scaling of training and translation, never per picture."""
        return to_unit(np.stack([self.picture(k).image for k in positions]))

    def subset(self, positions: Sequence[int]) -> Domain:
        return replace(self, rows=tuple(self.rows[k] for k in positions))


def to_unit(images: U8) -> torch.Tensor:
    """(n, 3, h, w) in [-1, 1] of (n, h, w, 3) uint8."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def from_unit(x: torch.Tensor) -> U8:
    """Inverse of `to_unit`, rounded; values outside [-1, 1] are clipped (generators end in tanh)."""
    scaled = x.detach().float().cpu().add(1.0).mul(127.5).clamp(0, 255).round()
    return scaled.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def load_domain(directory: Path, where: Where, size_px: int, role: str = "set") -> Domain:
    """Rows of the set that the filter lets through; raises GanError if there are none (`role` names the argument)."""
    data = open_dataset(directory)
    rows = tuple(row for row in data.rows if where(row))
    if not rows:
        total = len(data.rows)
        raise GanError(f"{role} {directory}: none of its {total} samples fulfil '{where}'; at least {FEW} are needed"
                       if str(where) else f"{role} {directory}: holds no samples; at least {FEW} are needed")
    tested = frozenset(group_of(row, data.directory) for row in data.rows if row["split"] in _TEST)
    return Domain(data.directory, data.card, where, rows, size_px, tested)


def read_picture(directory: Path, row: dict[str, Any], size_px: int) -> Picture:
    """All files of a row at the working size, and the hash of the picture's file."""
    from synthskin.dataset.encode import read_png

    arrays: dict[str, U8] = {}
    shape: tuple[int, ...] = ()
    labels = None
    for role, relative in media_paths(row).items():
        try:
            array = read_png(safe_path(directory, relative))
            shape = shape or array.shape
            if array.shape[:2] != shape[:2] or (role != "image" and array.ndim != 2):
                raise DatasetError(f"one channel of {shape[1]} x {shape[0]} pixels, as the picture has, is needed")
            if role == "instances":
                labels = array
            else:
                arrays[role] = _scaled(array, size_px, hard=role != "image")
        except DatasetError as error:
            raise DatasetError(f"{directory}/{relative}: {error}") from None
    lesions = lesions_at(row, labels, arrays.get("mask"), shape, size_px) if beside_mask(row) else None
    image = arrays["image"] if arrays["image"].ndim == 3 else np.repeat(arrays["image"][..., None], 3, axis=2)
    return Picture(row, image, arrays.get("mask"), arrays.get("hair"),
                   {name: arrays[f"attributes/{name}"] for name in row["attributes"]},
                   {name: arrays[f"artefacts/{name}"] for name in row["artefacts"]},
                   file_sha256(directory, row["file_name"]), lesions)


def _scaled(array: NDArray[Any], size_px: int, hard: bool) -> U8:
    """Short side to size_px, middle square; unchanged, bit for bit, where it has that size already."""
    if array.shape[:2] == (size_px, size_px):
        return array
    from synthskin.hooks.data import squared

    planes = torch.from_numpy(np.array(array)).float().div(255.0)
    planes = planes[None] if array.ndim == 2 else planes.permute(2, 0, 1)
    made = squared(planes, size_px, hard).mul(255.0).round().to(torch.uint8)
    return (made[0] if array.ndim == 2 else made.permute(1, 2, 0).contiguous()).numpy()


def group_of(row: dict[str, Any], directory: Path | str = "") -> str:
    """What may not be cut by a split: group, else person, else lesion, else the picture itself."""
    for key in ("group_id", "patient_id", "lesion_id"):
        if row[key] is not None:
            return f"{key}={row[key]}"
    return f"file={row['set_hash']}/{row['file_name']}@{directory}"


def refuse_overlap(source: Domain, target: Domain) -> None:
    """Raise GanError where a picture is in both domains, by its place or by its bytes."""
    same_set = source.directory.resolve() == target.directory.resolve()
    both = {row["index"] for row in source.rows} & {row["index"] for row in target.rows} if same_set else set()
    if not both and not same_set:
        of = {file_sha256(source.directory, row["file_name"]): row["index"] for row in source.rows}
        both = {of[h] for h in (file_sha256(target.directory, row["file_name"]) for row in target.rows) if h in of}
    if both:
        raise GanError(f"{len(both)} pictures are in SOURCE and in TARGET (index {min(both)}); they must be apart: "
                       "narrow them by --source-where and --target-where, such as diagnosis=NV and diagnosis=MEL")


@dataclass(frozen=True)
class Split:
    """Domains for learning and for validation; `held_out` are empty where there are too few pictures."""

    learn: tuple[Domain, ...]
    held_out: tuple[Domain, ...]


def split_domains(domains: Sequence[Domain], seed: int) -> Split:
    """Leave out groups with a row of split test (in the whole sets), hold out those of split val, else a tenth of them.

    No group is cut: one that is held out in one domain is held out in all. Raises GanError where nothing is left to
    learn from.
    """
    tested = {group for d in domains for group in d.tested}
    usable = [[k for k, row in enumerate(d.rows) if group_of(row, d.directory) not in tested] for d in domains]
    named = all(any(d.rows[k]["split"] in _VALIDATION for k in ks) for d, ks in zip(domains, usable, strict=True))
    if named:
        held = {group_of(d.rows[k], d.directory) for d, ks in zip(domains, usable, strict=True) for k in ks
                if d.rows[k]["split"] in _VALIDATION}
    else:
        held = set()
        for domain, ks in zip(domains, usable, strict=True):
            groups = sorted({group_of(domain.rows[k], domain.directory) for k in ks},
                            key=lambda g: hash_uniform("gan validation", seed, g))
            if len(groups) >= FEW:
                held |= set(groups[:max(1, round(HELD_OUT * len(groups)))])
    learn, held_out = [], []
    for domain, ks in zip(domains, usable, strict=True):
        inside = [group_of(domain.rows[k], domain.directory) in held for k in ks]
        learn.append(domain.subset([k for k, is_in in zip(ks, inside, strict=True) if not is_in]))
        held_out.append(domain.subset([k for k, is_in in zip(ks, inside, strict=True) if is_in]))
        if not len(learn[-1]):
            raise GanError(f"{domain.directory}: all {len(domain)} pictures of '{domain.where}' are in its test or "
                           "validation split; none is left to learn from")
    if any(not len(d) for d in held_out):
        held_out = [d.subset([]) for d in domains]
    return Split(tuple(learn), tuple(held_out))


def fingerprint(domain: Domain) -> str:
    """16 hex digits of what the domain holds: set hash, seed, indices and filter; the folder's name is left out."""
    told = [domain.card.set_hash, domain.card.seed, str(domain.where), [row["index"] for row in domain.rows]]
    return hashlib.sha256(json.dumps(told).encode("utf-8")).hexdigest()[:16]


def content_hash(domains: Sequence[Domain]) -> str:
    """16 hex digits of all files of the domains' rows and of what these say of tone and class, in their order.

    So another picture, mask or label is another hash, and so is another split of the same rows. Raises DatasetError.
    """
    digest = hashlib.sha256()
    for domain in domains:
        digest.update(f"{len(domain)} rows\n".encode())
        for row in domain.rows:
            digest.update(json.dumps([row[key] for key in _LEARNT_KEYS]).encode())
            for role, relative in media_paths(row).items():
                if role != "instances":
                    digest.update(bytes.fromhex(file_sha256(domain.directory, relative)))
    return digest.hexdigest()[:16]
