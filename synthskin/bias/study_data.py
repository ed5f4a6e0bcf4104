"""The pictures of a study: sets of the contract at the study's size, their splits, and that no test picture is learnt.

Pictures are held in memory, 4 bytes a pixel; a set that does not fit is refused before anything is trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias.errors import BiasError
from synthskin.bias.groups import clusters_of, ids_of, parents_of, value_of
from synthskin.bias.statistics import frozen
from synthskin.bias.study_file import StudySpec
from synthskin.conventions import HEALTHY
from synthskin.dataset.format import DatasetError
from synthskin.dataset.reader import Dataset, Progress, open_dataset, safe_path
from synthskin.laws import nearest, one_line

MASKED: Final = ("exact", "inherited", "human")  # mask_status that may be learnt from and tested on
LEAST: Final = 4  # pictures of a part
_PART: Final = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation",
                "test": "test"}  # by the `split` of a row


@dataclass(frozen=True, slots=True)
class Pictures:
    """A set at the study's size.

    images     (n, 3, s, s) uint8 sRGB; masks (n, s, s) bool
    labels     (n,) position in the classes (classification; else -1)
    measured   hair, size: (n,) shares of the pixels, NaN where there is no mask of hair or lesion; ita (degrees),
               contrast (CIEDE2000): of pictures whose row has none and that are grouped by it, NaN where it cannot be
               said
    clusters   (n,) patient, lesion or group, or the picture that it was made from
    sha256     (n,) of the picture files; `digest` of all that the study takes from the set
    synthetic  any picture that is no photograph
    """

    name: str
    folder: str
    rows: tuple[dict[str, Any], ...]
    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]
    measured: Mapping[str, NDArray[np.float64]]
    clusters: tuple[str, ...]
    sha256: tuple[str, ...]
    digest: str
    facts: Mapping[str, Any]

    @property
    def synthetic(self) -> bool:
        return any(row["generator"] != "real" for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def load_pictures(spec: StudySpec, name: str, folder: Path, progress: Progress | None = None) -> Pictures:
    """Read what the study needs of the set `name`; raises BiasError or DatasetError naming the file."""
    data, kept, left_out = _usable(spec, name, folder)
    n, s = len(kept), spec.size_px
    images, masks = np.zeros((n, 3, s, s), np.uint8), np.zeros((n, s, s), bool)
    measured = {key: np.full(n, np.nan) for key in ("hair", "size", "ita", "contrast")}
    tones = _needs_tone(spec, name)
    hashes, whole = [], hashlib.sha256()
    if progress is not None:
        progress.start(n, 0)
    try:
        for i, row in enumerate(kept):
            image, mask, fuzz = (_read(folder, row[key]) for key in ("file_name", "mask_file_name", "hair_file_name"))
            assert image is not None
            pixels = image[0] if image[0].ndim == 3 else np.repeat(image[0][..., None], 3, axis=2)
            if pixels.dtype != np.uint8:
                raise BiasError(f"{folder}/{row['file_name']}: {pixels.dtype} came; 8-bit pictures are needed")
            images[i] = _squared(pixels, s)
            if mask is not None and row["mask_status"] in MASKED:
                masks[i] = _squared(mask[0][..., None] > 0, s)[0]
                measured["size"][i] = masks[i].mean()
            elif row["diagnosis"] == HEALTHY:
                measured["size"][i] = 0.0
            measured["hair"][i] = np.nan if fuzz is None else float((fuzz[0] > 0).mean())
            if any(row[key] is None for key in tones):
                measured["ita"][i], measured["contrast"][i] = _tone(pixels, row, mask, fuzz)
            hashes.append(image[1])
            for part in (image[1], "" if mask is None else mask[1], str(row["diagnosis"]), str(row["ita_class"])):
                whole.update(f"{part}|".encode())
            if progress is not None:
                progress.step(i + 1)
    finally:
        if progress is not None:
            progress.stop()
    labels = np.array([_label(spec, row) for row in kept], np.int64)
    whole.update(repr((labels.tolist(), s)).encode())
    facts = _facts(kept, left_out | _in_no_part(spec, name, kept), data.card, hashes) | _told_split(spec, name, kept)
    if np.isfinite(measured["ita"]).any():
        facts["tone_measured"] = int(np.isfinite(measured["ita"]).sum())
    kept_measures = {key: frozen(values) for key, values in measured.items()}
    return Pictures(name, str(folder), tuple(kept), frozen(images), frozen(masks), frozen(labels), kept_measures,
                    tuple(clusters_of(kept, [name] * n, hashes)), tuple(hashes), whole.hexdigest(), facts)


def load_rows(spec: StudySpec, name: str, folder: Path) -> Pictures:
    """The set without pictures, hashes and measures: what splits, classes and counts need (but that copies of a picture
    are not known to be such). Raises as load_pictures."""
    _, kept, left_out = _usable(spec, name, folder)
    n, s = len(kept), spec.size_px
    return Pictures(name, str(folder), tuple(kept), np.zeros((0, 3, s, s), np.uint8), np.zeros((0, s, s), bool),
                    np.array([_label(spec, row) for row in kept], np.int64), {}, tuple(clusters_of(kept, [name] * n)),
                    ("",) * n, "", {"left_out": left_out, **_told_split(spec, name, kept)})


def _usable(spec: StudySpec, name: str, folder: Path) -> tuple[Dataset, list[dict[str, Any]], dict[str, int]]:
    data = open_dataset(folder)
    kept, left_out = _choose(spec, name, folder, data.rows)
    _room(len(kept), spec.size_px, f"[data.{name}] {folder}")
    return data, kept, left_out


def _choose(spec: StudySpec, name: str, folder: Path, rows: Sequence[dict[str, Any]]
            ) -> tuple[list[dict[str, Any]], dict[str, int]]:
    where = spec.data[name].where
    for key in where:
        if rows and key not in rows[0] and not key.startswith("params:"):
            raise BiasError(f"[data.{name}] where: '{one_line(key)}' is no key of {folder}/metadata.jsonl"
                            f"{nearest(key, rows[0])}; params:group.field of renders is allowed too")
    kept: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    for row in rows:
        why = next((f"{key} is {found}" for key, allowed in where.items()
                    if (found := value_of(key, row, {}, 0)) not in allowed), None)
        if why is None and spec.task == "segmentation" and row["mask_status"] not in MASKED and (
                row["diagnosis"] != HEALTHY):
            why = f"mask_status is {row['mask_status']}"
        if why is None and spec.task == "classification" and _label(spec, row) < 0:
            why = f"{spec.label} is {row[spec.label]}"
        if why is None:
            kept.append(row)
        else:
            left_out[why] = left_out.get(why, 0) + 1
    if len(kept) < LEAST:
        reasons = "; ".join(f"{count} with {why}" for why, count in sorted(left_out.items())[:4]) or "it is empty"
        allowed = f"mask_status {', '.join(MASKED)}" if spec.task == "segmentation" else (
            f"{spec.label} {', '.join(spec.classes)}")
        raise BiasError(f"[data.{name}] {folder}: {len(kept)} of {len(rows)} pictures can be used ({reasons}); at "
                        f"least {LEAST} with {allowed} are needed")
    return kept, left_out


def _label(spec: StudySpec, row: Mapping[str, Any]) -> int:
    value = str(row[spec.label])
    return spec.classes.index(value) if spec.task == "classification" and value in spec.classes else -1


def _read(folder: Path, relative: str | None) -> tuple[NDArray[Any], str] | None:
    """(array, SHA-256 of the file)."""
    from synthskin.dataset.encode import read_png

    if relative is None:
        return None
    try:
        path = safe_path(folder, relative)
        return read_png(path), hashlib.sha256(path.read_bytes()).hexdigest()
    except (DatasetError, OSError) as error:
        raise BiasError(f"{folder}/{relative}: {one_line(str(error))}; see `synthskin validate {folder}`") from None


def _needs_tone(spec: StudySpec, name: str) -> tuple[str, ...]:
    """Keys of a row whose lack is made good by measuring the picture, where test cases are grouped by them."""
    if not any(test.data == name for test in spec.tests.values()):
        return ()
    wanted = {group.by for group in spec.groups.values()}
    return tuple(key for key, kinds in (("ita_class", {"tone", "ita"}), ("contrast", {"contrast"})) if kinds & wanted)


def _tone(image: NDArray[np.uint8], row: Mapping[str, Any], mask: Any, hair: Any) -> tuple[float, float]:
    """(ITA in degrees, contrast) as `synthskin tone` measures them; NaN where it cannot say."""
    from synthskin.bias.tone import measure_tone
    from synthskin.segment.errors import SegmentError

    try:
        found = measure_tone(image, mask[0] if mask is not None and row["mask_status"] in MASKED else None,
                             None if hair is None else hair[0], optics=row["dermoscopic_type"])
    except (BiasError, SegmentError):
        return float("nan"), float("nan")
    return tuple(float("nan") if v is None else float(v)  # type: ignore[return-value]
                 for v in (found.ita_deg, found.contrast_delta_e))


def _squared(array: NDArray[Any], side: int) -> NDArray[Any]:
    """(c, side, side): as synthskin.hooks.data does it (short side scaled, middle square), masks staying masks."""
    import torch

    from synthskin.hooks.data import squared

    hard = array.dtype == np.bool_
    tensor = torch.from_numpy(np.array(array)).permute(2, 0, 1).float()
    found = squared(tensor if hard else tensor / 255, side, hard)
    return found.numpy() > 0.5 if hard else (found * 255).round().to(torch.uint8).numpy()


def _room(n: int, side: int, what: str) -> None:
    from synthskin.run.request import available_memory_bytes

    needed, there = 4 * n * side * side, available_memory_bytes()
    if there is not None and needed > 0.7 * there:
        raise BiasError(f"{what}: {n} pictures of {side} pixels take {needed / 1e9:.1f} GB of memory, "
                        f"{there / 1e9:.1f} GB are free; choose a smaller size_px or fewer pictures")


def _facts(rows: Sequence[Mapping[str, Any]], left_out: Mapping[str, int], card: Any, hashes: Sequence[str]
           ) -> dict[str, Any]:
    def count(key: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for row in rows:
            found[str(row[key])] = found.get(str(row[key]), 0) + 1
        return dict(sorted(found.items()))

    return {"pictures": len(rows), "generator": count("generator"), "diagnosis": count("diagnosis"),
            "ita_class": count("ita_class"), "mask_status": count("mask_status"), "left_out": dict(left_out),
            "preset": card.preset, "set_hash": card.set_hash, "seed": card.seed,
            "licences": list(card.licences), "attribution": list(card.attribution),
            "pictures_sha256": hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()}


def _keeps_own(spec: StudySpec, rows: Sequence[Mapping[str, Any]]) -> bool:
    return spec.split.given == "keep" and {"train", "test"} <= {str(row["split"]) for row in rows}


def _in_no_part(spec: StudySpec, name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Reason -> pictures that no part takes, as their `split` is none of train, val and test."""
    whole = any(part == "all" for data, part in (*((t.data, t.part) for t in spec.tests.values()), *(
        (u.data, u.part) for arm in spec.arms.values() for u in arm.use)) if data == name)
    if whole or not spec.parts_of(name) or not _keeps_own(spec, rows):
        return {}
    other = [str(row["split"]) for row in rows if str(row["split"]) not in _PART]
    return {f"split is {what}": other.count(what) for what in sorted(set(other))}


def _told_split(spec: StudySpec, name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What is to be said of a `split` that the rows have of their own: {"split": words}, else nothing."""
    own = [str(row["split"]) for row in rows]
    if not spec.parts_of(name) or all(row["split"] is None for row in rows):
        return {}
    counts = ", ".join(f"{what} {own.count(what)}" for what in sorted(set(own)))
    if _keeps_own(spec, rows):
        same = f", the same in all {spec.split.repeats} repeats" if spec.split.repeats > 1 else ""
        return {"split": f"the rows' own train and test are kept{same} ({counts})"}
    why = "[split] given = \"ignore\"" if spec.split.given == "ignore" else "it has no train and test"
    return {"split": f"drawn; the rows' own ({counts}) is not used: {why}"}


@dataclass(frozen=True, slots=True)
class Parts:
    """Positions in a set for one repeat of the split; `other` are in no part (their rows' `split` is none of ours)."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    other: NDArray[np.int64]


def split(spec: StudySpec, data: Pictures, repeat: int) -> Parts:
    """Whole clusters into test, validation, training, about the asked shares of each class; by a keyed hash.

    Rows that carry a `split` of their own with train and test keep it in every repeat, unless [split] given = "ignore".
    Raises BiasError where a part would be too small, or a class has no cluster for it.
    """
    everything = np.arange(len(data))
    if not spec.parts_of(data.name):
        return Parts(everything, everything[:0], everything, everything[:0])
    tested = any(test.data == data.name and test.part != "all" for test in spec.tests.values())
    if spec.validation_data != data.name:
        spec = spec.model_copy(update={"split": spec.split.model_copy(update={"validation": 0.0})})
    held: dict[str, str] = {}
    if _keeps_own(spec, data.rows):
        for cluster, row in zip(data.clusters, data.rows, strict=True):
            part = _PART.get(str(row["split"]), str(row["split"]))
            if held.setdefault(cluster, part) != part:
                raise BiasError(f"[data.{data.name}] {data.folder}: the group {one_line(cluster)} lies in the splits "
                                f"{held[cluster]} and {part} of the rows; no split may cut a patient or lesion, or "
                                "what was made of one picture: mend the rows, or give [split] given = \"ignore\"")
        strata: list[list[str]] = [] if "validation" in set(held.values()) else [
            sorted(c for c, part in held.items() if part == "train")]
        wanted = (0.0, spec.split.validation)
    else:
        first: dict[str, int] = {}
        for cluster, label in zip(data.clusters, data.labels, strict=True):
            first.setdefault(cluster, int(label))
        strata = [[c for c, own in first.items() if own == label] for label in sorted(set(first.values()))]
        wanted = (spec.split.test if tested else 0.0, spec.split.validation)
    for clusters in strata:
        order = _shuffled(clusters, f"{spec.split.seed}|{repeat}|{data.name}")
        test, validation = (round(share * len(order)) for share in wanted)
        for position, cluster in enumerate(order):
            held[cluster] = "test" if position < test else "validation" if position < test + validation else "train"
    own = np.array([held[c] for c in data.clusters])
    own = np.where(np.isin(own, ("train", "validation", "test")), own, "other")
    parts = Parts(*(np.flatnonzero(own == part) for part in ("train", "validation", "test", "other")))
    for part, needed in (("train", True), ("validation", spec.split.validation > 0), ("test", tested)):
        count = len(getattr(parts, part))
        if count < LEAST and needed:
            raise BiasError(f"[data.{data.name}] {data.folder}: {count} pictures for {part} of {len(set(held))} "
                            f"patients or lesions; at least {LEAST} are needed: give more pictures or other shares in "
                            "[split]")
    return parts


def check_leaks(spec: StudySpec, sets: Mapping[str, Pictures], parts: Mapping[str, Parts]) -> None:
    """Raise BiasError if an arm learns, or a threshold would be chosen on, a test picture or one tied to it (of the
    same patient, lesion or group, made from it, its source, or made from the same picture); or if an arm learns what a
    threshold is chosen on."""
    tested: dict[str, tuple[str, str]] = {}
    for name, test in spec.tests.items():
        data = sets[test.data]
        for i in test_positions(spec, name, data, parts[test.data]):
            for key, kind in _ties(data, i).items():
                tested.setdefault(key, (f"the test set '{name}'", kind))
    learnt = [(f"[arms.{name}]", sets[use.data], train_positions(spec, use.data, use.part, parts[use.data]))
              for name, arm in spec.arms.items() for use in arm.use]
    own = spec.validation_data
    validated = (f"validation = \"{own}\"", sets[own], parts[own].validation)
    remedy = "give sets that are apart, or the parts \"train\" and \"test\" of one set"
    for what, data, positions in [*learnt, validated]:
        _apart(what, data, positions, tested, remedy)
    if spec.threshold_is_chosen:
        where = f"the validation pictures of '{own}', on which the threshold is chosen"
        decides = {key: (where, kind) for i in validated[2] for key, kind in _ties(sets[own], i).items()}
        remedy = "give sets that are apart, another `validation`, or a threshold that is a number"
        for what, data, positions in learnt:
            _apart(what, data, positions, decides, remedy)


_TIED: Final = {("id", "id"): "shares its patient, lesion or group with", ("picture", "picture"):
                "shares its picture with", ("parent", "picture"): "was made from a picture of", ("picture", "parent"):
                "is the source of a picture of", ("parent", "parent"): "was made from the same picture as one of"}


def _ties(data: Pictures, i: int) -> dict[str, str]:
    """All by which a case is tied to others, and what each is."""
    ids, parents = dict.fromkeys(ids_of(data.rows[i]), "id"), dict.fromkeys(parents_of(data.rows[i]), "parent")
    return {**ids, **parents, f"picture:{data.sha256[i]}": "picture"}


def _apart(what: str, data: Pictures, positions: NDArray[np.int64], held: Mapping[str, tuple[str, str]], remedy: str
           ) -> None:
    """Raise BiasError where a case at the positions is tied to one of those held."""
    for i in positions:
        key, kind = next(((k, kind) for k, kind in _ties(data, i).items() if k in held), ("", ""))
        if key:
            where, other = held[key]
            raise BiasError(f"{what} {data.folder}/{data.rows[i]['file_name']}: {_TIED[kind, other]} {where}; {remedy}")


def test_positions(spec: StudySpec, test: str, data: Pictures, parts: Parts) -> NDArray[np.int64]:
    part = spec.tests[test].part or ("test" if spec.parts_of(data.name) else "all")
    return np.arange(len(data)) if part == "all" else parts.test


def train_positions(spec: StudySpec, name: str, part: str | None, parts: Parts) -> NDArray[np.int64]:
    """The training part, or with `all` the whole set, less what a threshold is chosen on."""
    if part != "all" or not spec.parts_of(name):
        return parts.train
    held_back = spec.threshold_is_chosen and name == spec.validation_data
    return np.sort(np.concatenate([parts.train, parts.test, parts.other, parts.validation[:0 if held_back else None]]))


def chosen(positions: NDArray[np.int64], n: int | None, data: Pictures, seed: int, what: str) -> NDArray[np.int64]:
    """`n` of the positions in the classes' proportions, by a keyed hash: a larger n holds the smaller one's."""
    if n is None:
        return positions
    if n > len(positions):
        raise BiasError(f"{what}: n = {n}, but {data.name} has {len(positions)} pictures for training; give a larger "
                        "set or a smaller n")
    ranked: list[tuple[float, int]] = []
    for label in np.unique(data.labels[positions]):
        own = {data.sha256[i] + str(i): int(i) for i in positions[data.labels[positions] == label]}
        ranked += [((k + 0.5) / len(own), own[key]) for k, key in enumerate(_shuffled(list(own), str(seed)))]
    return np.sort(np.array([i for _, i in sorted(ranked)[:n]], np.int64))


def _shuffled(names: Sequence[str], key: str) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{key}|{name}".encode()).digest())
