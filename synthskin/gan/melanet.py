"""The MelaNet study (Zunair and Ben Hamza 2020), done right: does oversampling melanoma by translation help?

What differs from the paper: no group is cut by a split; translator, classifier, threshold and stopping never see the
test fold; real and synthetic pictures share one value scaling; sensitivity is TP / (TP + FN); several seeds; intervals
over cases and seeds; and the other ways to treat an imbalance stand beside it.

OUT/fold-K/real            the pictures of the fold at the working size, `split` train, val or test
OUT/fold-K/translator      trained on the train rows alone; OUT/fold-K/gan  its translations that passed the gates
OUT/fold-K/physics         as many renders of the positive class
OUT/fold-K/ARM-sS          a classifier; OUT/melanet.json, OUT/melanet.md  the result
Each part that is finished is kept when the same command is given again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias import metrics
from synthskin.bias.statistics import Interval, Resampler, Statistic, difference, estimate_of, holm, replicate
from synthskin.classify import TrainOptions as ClassifierOptions
from synthskin.classify import load_classifier, train_classifier
from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import Sample, stem
from synthskin.dataset.reader import Progress, bounding_box, read_rows
from synthskin.dataset.writer import DatasetWriter
from synthskin.draw import hash_uniform
from synthskin.files import json_bytes, read_json, write_whole
from synthskin.gan import GanError
from synthskin.gan.balance import balance_set, find_needs, make_panel
from synthskin.gan.composite import CompositeOptions
from synthskin.gan.domain import Domain, content_hash, group_of, load_domain
from synthskin.gan.method import TrainOptions
from synthskin.gan.model import load_model
from synthskin.gan.train import train
from synthskin.gan.translate import Translator
from synthskin.gan.where import Where, parse_where

ARMS: Final = ("none", "weights", "augmentation", "gan", "physics", "gan+physics")
MEASURES: Final = ("sensitivity", "specificity", "auc", "balanced_accuracy")
VALIDATION: Final = 0.15  # share of the groups outside the test fold
Floats = NDArray[np.float64]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """positive, negative: diagnoses. `whole` translates without compositing (no masks needed)."""

    positive: str = "MEL"
    negative: str = "NV"
    folds: int = 5
    seeds: int = 3
    seed: int = 0
    arms: tuple[str, ...] = ARMS
    whole: bool = False
    gates: tuple[str, ...] = ("mask", "near-duplicate", "source-leak")
    replicates: int = 2000
    translator: TrainOptions = field(default_factory=TrainOptions)
    classifier: ClassifierOptions = field(default_factory=lambda: ClassifierOptions(loss="focal"))

    def __post_init__(self) -> None:
        for arm in self.arms:
            if arm not in ARMS:
                raise GanError(f"--arms: {arm!r} is not known; allowed are {', '.join(ARMS)}")
        if "none" not in self.arms:
            raise GanError("--arms: 'none' is what the others are compared with; add it")
        if not 2 <= self.folds <= 20 or not 1 <= self.seeds <= 100:
            raise GanError(f"--folds {self.folds} --seeds {self.seeds}: 2 to 20 folds, 1 to 100 seeds are needed")
        if self.positive == self.negative:
            raise GanError(f"--positive and --negative are both {self.positive}; two diagnoses are needed")


def assign_folds(rows: Sequence[dict[str, Any]], options: StudyOptions, directory: Path) -> NDArray[np.int64]:
    """(n,) test fold of each row: classes spread evenly, no group cut. Raises GanError where groups are too few."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups = [group_of(row, directory) for row in rows]
    labels = np.array([row["diagnosis"] == options.positive for row in rows], int)
    for value, name in ((1, options.positive), (0, options.negative)):
        count = len({g for g, label in zip(groups, labels, strict=True) if label == value})
        if count < 2 * options.folds:
            raise GanError(f"{count} independent {name} for {options.folds} folds: at least {2 * options.folds} are "
                           "needed; take fewer --folds or a larger set")
    splitter = StratifiedGroupKFold(options.folds, shuffle=True, random_state=options.seed)
    folds = np.zeros(len(rows), np.int64)
    for number, (_, test) in enumerate(splitter.split(np.zeros(len(rows)), labels, groups)):
        folds[test] = number
    return folds


def splits_of(
    rows: Sequence[dict[str, Any]], folds: NDArray[np.int64], fold: int, options: StudyOptions, directory: Path
) -> list[str]:
    """train, val or test of each row; val is a share of the groups of each class, by a hash."""
    groups = [group_of(row, directory) for row in rows]
    held: set[str] = set()
    for diagnosis in (options.positive, options.negative):
        own = sorted({g for g, row, f in zip(groups, rows, folds, strict=True)
                      if f != fold and row["diagnosis"] == diagnosis},
                     key=lambda g: hash_uniform("melanet", options.seed, fold, g))
        held |= set(own[:max(1, round(VALIDATION * len(own)))])
    return ["test" if f == fold else "val" if g in held else "train" for f, g in zip(folds, groups, strict=True)]


class Study:
    """The whole of it; `run` does what is not done yet."""

    def __init__(self, data: Path, out: Path, options: StudyOptions, physics: Path | None = None,
                 segmenter: Any = None, say: Say = print) -> None:
        self.out, self.options, self.say, self.segmenter = out, options, say, segmenter
        wanted = parse_where(f"diagnosis={options.positive}|{options.negative}")
        self.data = load_domain(data, wanted, options.translator.size_px, "DATA")
        self.folds = assign_folds(self.data.rows, options, data)
        self.physics: Domain | None = None
        if any("physics" in arm for arm in options.arms):
            if physics is None:
                raise GanError(f"the arms with physics need --physics, a set of renders of {options.positive} "
                               f"(`synthskin render --diagnosis {options.positive}=1`); or choose --arms without them")
            self.physics = load_domain(physics, parse_where(f"diagnosis={options.positive}"),
                                       options.translator.size_px, "--physics")
        out.mkdir(parents=True, exist_ok=True)
        self._check_identity()

    def _check_identity(self) -> None:
        told = json.loads(json.dumps(asdict(self.options))) | {
            "set_hash": self.data.card.set_hash, "content of DATA": content_hash([self.data]),
            "content of --physics": None if self.physics is None else content_hash([self.physics])}
        path = self.out / "study.json"
        if path.is_file():
            there = {k: told[k] for k in told if k.startswith("content")} | read_json(path, GanError)  # older: not told
            odd = sorted(k for k in told | there if told.get(k) != there.get(k))
            if odd:
                raise GanError(f"--out {self.out}: holds a study with another {odd[0]}; give the same settings to "
                               "continue it, or another --out")
        elif any(self.out.iterdir()):
            raise GanError(f"--out {self.out}: holds other files; choose an empty or new folder")
        write_whole(path, json_bytes(told), GanError)

    def run(self, progress: Progress | None = None) -> dict[str, Any]:
        """Train, predict, compare; writes melanet.json and melanet.md and gives what is in the first."""
        options, started = self.options, time.monotonic()
        n, seeds = len(self.data), options.seeds
        scores = {arm: np.full((n, seeds), np.nan) for arm in options.arms}
        decisions = {arm: np.full((n, seeds), np.nan) for arm in options.arms}
        gates: list[dict[str, Any]] = []
        total, done = options.folds * len(options.arms) * seeds, 0
        if progress is not None:
            progress.start(total, 0)
        for fold in range(options.folds):
            sets = self._sets(fold, gates)
            rows = read_rows(sets["real"])
            for arm in options.arms:
                extra = [sets[part] for part in ("gan", "physics") if part in arm.split("+") and part in sets]
                for seed in range(seeds):
                    probability = self._classify(fold, arm, seed, [sets["real"], *extra])
                    threshold = self._threshold(rows, probability)
                    test = np.array([row["index"] for row in rows if row["split"] == "test"])
                    scores[arm][test, seed] = probability[test]
                    decisions[arm][test, seed] = probability[test] >= threshold
                    done += 1
                    if progress is not None:
                        progress.step(done)
        if progress is not None:
            progress.stop()
        result = self._result(scores, decisions, gates) | {"seconds": round(time.monotonic() - started, 1)}
        write_whole(self.out / "melanet.json", json_bytes(result), GanError)
        write_whole(self.out / "melanet.md", table(result).encode(), GanError)
        return result

    # ---- the sets of a fold
    def _sets(self, fold: int, gates: list[dict[str, Any]]) -> dict[str, Path]:
        folder = self.out / f"fold-{fold}"
        sets = {"real": folder / "real"}
        splits = splits_of(self.data.rows, self.folds, fold, self.options, self.data.directory)
        self._write_real(sets["real"], splits)
        rows = read_rows(sets["real"])
        train_rows = [row for row in rows if row["split"] == "train"]
        counts = [sum(row["diagnosis"] == d for row in train_rows)
                  for d in (self.options.negative, self.options.positive)]
        wanted = max(0, counts[0] - counts[1])
        if any("gan" in arm for arm in self.options.arms):
            told = self._write_gan(folder, sets["real"], fold)
            gates.append({"fold": fold, **told})
            if (folder / "gan" / "metadata.jsonl").is_file() and read_rows(folder / "gan"):
                sets["gan"] = folder / "gan"
            wanted = told["passed_and_used"] if told["passed_and_used"] else wanted  # arms get equally many
        if self.physics is not None:
            sets["physics"] = folder / "physics"
            self._write_physics(sets["physics"], wanted, fold)
        return sets

    def _write_real(self, out: Path, splits: Sequence[str]) -> None:
        """The fold's rows at the working size, indexed as in `self.data`; masks predicted where there are none."""
        card = replace(self.data.card, size_px=self.data.size_px, n=len(self.data),
                       field_of_view_mm=self.data.card.field_of_view_mm if self.data.card.size_px else None)
        with DatasetWriter(out, card, "# copied with splits by synthskin study melanet\n") as writer:
            for index in range(len(self.data)):
                if index not in writer.finished:
                    writer.write(encode_sample(self._fold_sample(index, splits[index])))

    def _fold_sample(self, index: int, split: str) -> Sample:
        picture = self.data.picture(index)
        mask, status = picture.mask, picture.row["mask_status"]
        if mask is None and not self.options.whole:
            mask, status = self._predicted(index), "predicted"
        box: list[Any] = [] if mask is None else bounding_box(mask)
        row = {**picture.row, "index": index, "file_name": f"images/{stem(index)}.png", "split": split,
               "mask_file_name": None if mask is None else f"masks/{stem(index)}.png",
               "mask_status": "none" if mask is None else status, "bbox": box, "boxes": [box] if box else [],
               "lesions": [], "attributes": [], "attributes_delta_e": [], "artefacts": [], "hair_file_name": None,
               "group_id": group_of(picture.row, self.data.directory), "contrast": None, "visible_delta_e": None}
        return Sample(row, picture.image, mask)

    def _predicted(self, index: int) -> NDArray[np.uint8]:
        if self.segmenter is None:
            from synthskin.segment import load_segmenter

            self.segmenter = load_segmenter()
        (found,) = self.segmenter.predict([self.data.picture(index).image])
        return np.where(np.asarray(found.mask) > 0, np.uint8(255), np.uint8(0))

    def _write_gan(self, folder: Path, real: Path, fold: int) -> dict[str, Any]:
        """Translator trained on the fold's train and val rows (val for its early stop), additions through the gates."""
        options = self.options
        size = options.translator.size_px
        source, target = (load_domain(real, parse_where(f"diagnosis={d},split!=test"), size)
                          for d in (options.negative, options.positive))
        settings = replace(options.translator, change="class", seed=options.seed * 1000 + fold)
        result = train(source, target, settings, folder / "translator")
        if result.ended == "stopped":
            raise KeyboardInterrupt
        report = folder / "gan-report" / "balance.json"
        translator = Translator(load_model(folder / "translator"), CompositeOptions(), options.whole)
        needs = find_needs(read_rows(real), 1.0, [translator])
        if not report.is_file():
            everything = load_domain(real, Where(), size)
            learnt = everything.subset([k for k, row in enumerate(everything.rows) if row["split"] == "train"])
            if self.segmenter is None and "mask" in options.gates:
                from synthskin.segment import load_segmenter

                self.segmenter = load_segmenter()
            names = tuple(g for g in options.gates if not (g == "mask" and options.whole))
            panel = make_panel(names, learnt, self.segmenter, None, [options.positive])
            balance_set(real, folder / "gan", needs, panel, options.seed, folder / "gan-report")
        told = read_json(report, GanError)
        return {"wanted": sum(need.wanted for need in needs), "judged": told["judged"], "refused": told["refused"],
                "passed_and_used": sum(told["added"].values()), "translator_steps": result.card.steps
                if result.card else None}

    def _write_physics(self, out: Path, wanted: int, fold: int) -> None:
        """`wanted` renders, other ones in each fold as far as they go; split train."""
        assert self.physics is not None
        order = sorted(range(len(self.physics)),
                       key=lambda k: hash_uniform("melanet physics", self.options.seed, fold, k))
        if len(order) < wanted:
            self.say(f"note: fold {fold}: {len(order)} renders for {wanted} that would balance it")
        card = replace(self.physics.card, size_px=self.physics.size_px, n=min(wanted, len(order)))
        with DatasetWriter(out, card, "# copied by synthskin study melanet\n") as writer:
            for place, k in enumerate(order[:wanted]):
                if place in writer.finished:
                    continue
                picture = self.physics.picture(k)
                row = {**picture.row, "index": place, "file_name": f"images/{stem(place)}.png", "split": "train",
                       "mask_file_name": None, "mask_status": "none", "hair_file_name": None, "attributes": [],
                       "attributes_delta_e": [],
                       "artefacts": [], "bbox": [], "boxes": [], "lesions": []}
                writer.write(encode_sample(Sample(row, picture.image)))

    # ---- classifiers
    def _classify(self, fold: int, arm: str, seed: int, sets: Sequence[Path]) -> Floats:
        """(n,) probability of the positive class of every picture of the fold's real set, by index."""
        options = self.options
        folder = self.out / f"fold-{fold}" / f"{arm.replace('+', '-')}-s{seed}"
        kept = folder / "melanet-scores.json"
        settings = replace(options.classifier, label="diagnosis", classes=(options.positive, options.negative),
                           augment=arm == "augmentation", class_weights="balanced" if arm == "weights" else "none",
                           seed=options.seed * 1000 + seed, size_px=options.translator.size_px)
        if not kept.is_file():
            train_classifier(list(sets), folder, settings)
            found = load_classifier(folder).predict([self.data.picture(k).image for k in range(len(self.data))])
            write_whole(kept, json.dumps([round(float(p), 6) for p in found[:, 0]]).encode(), GanError)
            for state in (folder / "training").glob("state-*.safetensors"):
                with suppress(OSError):
                    state.unlink()
        return np.array(json.loads(kept.read_text(encoding="utf-8")), np.float64)

    def _threshold(self, rows: Sequence[dict[str, Any]], probability: Floats) -> float:
        held = [row for row in rows if row["split"] == "val"]
        labels = [int(row["diagnosis"] == self.options.positive) for row in held]
        return metrics.choose_threshold(labels, probability[[row["index"] for row in held]], "youden")

    # ---- the result
    def _result(
        self, scores: dict[str, Floats], decisions: dict[str, Floats], gates: list[dict[str, Any]]
    ) -> dict[str, Any]:
        options = self.options
        labels = np.array([row["diagnosis"] == options.positive for row in self.data.rows], int)
        clusters = [group_of(row, self.data.directory) for row in self.data.rows]
        draws = Resampler.of(clusters, options.replicates, options.seed)
        found: dict[str, Any] = {}
        compared: dict[str, Any] = {}
        for measure in MEASURES:
            made = {arm: replicate(self._statistic(measure, labels, scores[arm], decisions[arm]), options.seeds, draws,
                                   arm=arm) for arm in options.arms}
            found[measure] = {arm: _told(estimate_of(r)) for arm, r in made.items()}
            others = [arm for arm in options.arms if arm != "none"]
            gains = holm([difference(made[arm], made["none"]) for arm in others])
            compared[measure] = {arm: _told(gain) for arm, gain in zip(others, gains, strict=True)}
        return {"data": {"set": self.data.directory.name, "set_hash": self.data.card.set_hash, "cases": len(labels),
                         "positive": int(labels.sum()), "groups": len(set(clusters))},
                "options": json.loads(json.dumps(asdict(options))), "estimates": found, "gain_over_none": compared,
                "gates": gates}

    def _statistic(self, measure: str, labels: NDArray[np.int64], scores: Floats, decisions: Floats) -> Statistic:
        """A measure under case weights; AUC is the mean over the folds, each ranked by its own classifier."""
        def auc(weights: Floats, seed: int) -> Floats:
            parts = [metrics.auc(labels[self.folds == f], scores[self.folds == f, seed], weights[:, self.folds == f])
                     for f in range(self.options.folds)]
            return np.asarray(np.mean(parts, axis=0), np.float64)

        if measure == "auc":
            return auc
        function = getattr(metrics, measure)
        return lambda weights, seed: np.asarray(function(labels, decisions[:, seed].astype(int), weights), np.float64)


def _told(interval: Interval) -> dict[str, Any]:
    told = asdict(interval)
    return {key: (None if isinstance(value, float) and not np.isfinite(value) else
                  round(value, 4) if isinstance(value, float) else value) for key, value in told.items()}


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    def cell(entry: dict[str, Any]) -> str:
        if entry["low"] is None:
            return f"{entry['estimate']:.3f} ({entry['note']})"
        return f"{entry['estimate']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"

    data, options = result["data"], result["options"]
    lines = [f"{data['cases']} pictures ({data['positive']} {options['positive']}) in {data['groups']} groups, "
             f"{options['folds']} folds, {options['seeds']} seeds; 95 % intervals over groups and seeds.", "",
             "| arm | " + " | ".join(MEASURES) + " |", "|---" * (1 + len(MEASURES)) + "|"]
    for arm in options["arms"]:
        lines.append(f"| {arm} | " + " | ".join(cell(result["estimates"][m][arm]) for m in MEASURES) + " |")
    lines += ["", "Difference from none (Holm-corrected p):", "", "| arm | " + " | ".join(MEASURES) + " |",
              "|---" * (1 + len(MEASURES)) + "|"]
    for arm in options["arms"]:
        if arm != "none":
            cells = []
            for measure in MEASURES:
                entry = result["gain_over_none"][measure][arm]
                p = "" if entry["p_holm"] is None else f", p {entry['p_holm']:.2f}"
                cells.append(cell(entry) + p)
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


