"""A classifier on a labelled set: figures over all, and by class of skin tone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthskin.classify.errors import ClassifyError
from synthskin.classify.metrics import figures
from synthskin.classify.model import Classifier
from synthskin.classify.pictures import Labelled, labelled, open_sets, read_picture
from synthskin.classify.train import short_hash
from synthskin.dataset.format import DatasetError
from synthskin.dataset.photo import ENDINGS, load_photo
from synthskin.dataset.photo_folder import find_photographs
from synthskin.dataset.reader import Progress

U8 = NDArray[np.uint8]
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures over all and by ITA class ("1" to "6"), rows left out by reason, pictures whose group was trained on."""

    classes: tuple[str, ...]
    overall: dict[str, Any]
    by_ita_class: dict[str, dict[str, Any]]
    left_out: dict[str, int]
    trained_on: int

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"classes": list(self.classes), "overall": self.overall, "by_ita_class": self.by_ita_class,
                "left_out": self.left_out, "trained_on": self.trained_on}


def evaluate(classifier: Classifier, directory: str | Path, split: str | None = None, batch: int = 16,
             progress: Progress | None = None) -> Evaluation:
    """Judge the rows of a set whose label the classifier knows (`split`: only those). Raises ClassifyError."""
    data = labelled(open_sets([directory]), classifier.card.label, classifier.classes)
    entries = tuple(e for e in data.entries if split is None or e.row["split"] == split)
    if not entries:
        if data.entries and all(e.row["split"] is None for e in data.entries):
            raise ClassifyError(f"{directory}: no row has a split; leave --split {split} out")
        there = ", ".join(sorted({str(e.row["split"]) for e in data.entries})) or "none with a class of the model"
        raise ClassifyError(f"{directory}: no picture with split={split} has a class of the model; there are {there}")
    chosen = Labelled(data.classes, entries, data.sets, data.left_out)
    pictures = (read_picture(e.dataset.directory, e.row) for e in entries)
    found = predict_all(classifier, pictures, len(entries), batch, progress)
    labels = chosen.labels
    tones = np.array([e.row["ita_class"] or 0 for e in entries])
    trained = set(classifier.card.data.get("groups", []))
    return Evaluation(
        classifier.classes,
        figures(labels, found, classifier.classes),
        {str(t): figures(labels[tones == t], found[tones == t], classifier.classes) for t in range(1, 7)
         if (tones == t).any()},
        data.left_out,
        sum(short_hash(e.group) in trained for e in entries),
    )


def predict_all(classifier: Classifier, pictures: Iterator[U8], total: int, batch: int,
                progress: Progress | None) -> NDArray[np.float32]:
    """(total, k) probabilities of pictures that are read while they are judged."""
    parts: list[NDArray[np.float32]] = []
    held: list[U8] = []
    if progress is not None:
        progress.start(total, 0)
    try:
        for number, picture in enumerate(pictures, start=1):
            held.append(picture)
            if len(held) == max(_CHUNK, batch) or number == total:
                parts.append(classifier.predict(held, batch))
                held = []
                if progress is not None:
                    progress.step(number)
    finally:
        if progress is not None:
            progress.stop()
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Judged:
    """Predictions of a set or folder: file names, true labels (None where there is none), probabilities (n, k), and
    the masks of a folder, left out."""

    names: tuple[str, ...]
    labels: tuple[str | None, ...]
    probabilities: NDArray[np.float32]
    masks: tuple[Path, ...] = ()


def judge(classifier: Classifier, source: str | Path, batch: int = 16, progress: Progress | None = None) -> Judged:
    """Predict every picture of a set, or of a folder of photographs and its subfolders, masks left out.

    Raises ClassifyError; DatasetError where a set lies below the folder.
    """
    source = Path(source)
    masks: tuple[Path, ...] = ()
    if (source / "dataset.json").exists():
        opened = open_sets([source])[0]
        names = tuple(row["file_name"] for row in opened.rows)
        label = classifier.card.label
        labels = tuple(None if row[label] is None else str(row[label]) for row in opened.rows)
        pictures = (read_picture(source, row) for row in opened.rows)
    else:
        if not source.is_dir():
            raise ClassifyError(f"{source}: is not a folder; give a data set or a folder of pictures")
        there = find_photographs(source)
        paths, masks = there.photographs, there.masks
        if not paths:
            raise ClassifyError(f"{source}: no pictures there ({', '.join(ENDINGS)})")
        names = tuple(p.relative_to(source).as_posix() for p in paths)
        labels = (None,) * len(paths)
        pictures = (_photo(path) for path in paths)
    return Judged(names, labels, predict_all(classifier, pictures, len(names), batch, progress), masks)


def _photo(path: Path) -> U8:
    try:
        return load_photo(path)
    except DatasetError as error:
        raise ClassifyError(f"{path}: {error}") from None


def csv_text(classifier: Classifier, judged: Judged) -> str:
    """file_name, label (empty where unknown), predicted, confidence, then a probability a class."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["file_name", "label", "predicted", "confidence", *(f"p_{name}" for name in classifier.classes)])
    for name, label, row in zip(judged.names, judged.labels, judged.probabilities, strict=True):
        best = int(row.argmax())
        writer.writerow([name, label or "", classifier.classes[best], f"{row[best]:.6f}", *(f"{v:.6f}" for v in row)])
    return out.getvalue()


def table(found: Evaluation) -> str:
    """Figures as text: a line a class, then the confusion (rows: true class)."""
    o = found.overall

    def number(value: float | None) -> str:
        return "    -" if value is None else f"{value:5.3f}"

    lines = [f"{o['n']} pictures: balanced accuracy {number(o['balanced_accuracy'])}, "
             f"accuracy {number(o['accuracy'])}, calibration error {number(o['ece'])}",
             f"{'class':14} {'n':>6} recall  prec.   auc   predicted as "
             + " ".join(f"{name:>6.6}" for name in found.classes)]
    for k, name in enumerate(found.classes):
        lines.append(f"{name:14} {o['count'][name]:6d}  {number(o['recall'][name])}  {number(o['precision'][name])}  "
                     f"{number(o['auc'][name])}              " + " ".join(f"{v:6d}" for v in o["confusion"][k]))
    for tone, own in found.by_ita_class.items():
        lines.append(f"ITA class {tone}: {own['n']} pictures, balanced accuracy {number(own['balanced_accuracy'])}")
    return "\n".join(lines)
