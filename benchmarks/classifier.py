"""Can the seven classes be told apart, and not by colour alone? A classifier on renders, tested on other renders.

synthskin render --preset fst2 --tone fst1=1,fst2=1,fst3=1,fst4=1 --n 1750 --size 128 --seed 11 --out SET
    --diagnosis MEL=1,NV=1,BCC=1,AKIEC=1,BKL=1,DF=1,VASC=1
python benchmarks/classifier.py SET --model MODEL [--train 1400 --test 350] [--steps 1500] [--network small]

The last --test samples are for testing alone, the first --train for training (a tenth of them for the temperature). The
same command again continues the training. Beside it a baseline that sees nothing but the histogram of colours
(logistic regression and random forest, scikit-learn). Asked: recall of each class >= 0.5, balanced accuracy 0.75 to
0.98 (under: classes are not distinct; over: too easy). Writes results/classifier.json, the picture and the table of
docs/classifier.md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from synthskin.classify import Classifier, TrainOptions, evaluate, load_classifier, train_classifier
from synthskin.classify.metrics import figures
from synthskin.classify.pictures import fitted, labelled, open_sets, read_picture
from synthskin.dataset.format import encode_row
from synthskin.dataset.reader import Dataset, open_dataset
from synthskin.progress import make_progress

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/classifier.json"
PAGE, PICTURE = ROOT / "docs/classifier.md", ROOT / "docs/img/classifier_confusion.png"
BINS = 8  # a channel
RECALL, BALANCED = 0.5, (0.75, 0.98)


def part_of(whole: Dataset, rows: list[dict[str, Any]], folder: Path) -> Path:
    """A set of some of the rows: pictures are hard links, the card is that of the whole."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for row in rows:
        place = folder / row["file_name"]
        picture = whole.directory / row["file_name"]
        if not place.exists() or not place.samefile(picture):  # the set may have been made anew
            place.unlink(missing_ok=True)
            os.link(picture, place)
    bare = [row | {"mask_file_name": None, "hair_file_name": None, "mask_status": "none", "attributes": [],
                   "attributes_delta_e": [], "artefacts": []} for row in rows]
    (folder / "metadata.jsonl").write_text("".join(encode_row(row) for row in bare), encoding="utf-8")
    (folder / "dataset.json").write_bytes((whole.directory / "dataset.json").read_bytes())
    return folder


def histograms(folder: Path, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, BINS^3) shares of colours and (n,) labels; where a colour lies in the picture is not in it."""
    data = labelled(open_sets([folder]), "diagnosis")
    rows = []
    for entry in data.entries:
        image = fitted(read_picture(entry.dataset.directory, entry.row), size_px).reshape(-1, 3) // (256 // BINS)
        code = (image[:, 0].astype(int) * BINS + image[:, 1]) * BINS + image[:, 2]
        rows.append(np.bincount(code, minlength=BINS**3) / len(code))
    return np.sqrt(np.array(rows)), data.labels  # square roots: Hellinger distance between histograms


def baselines(train: Path, test: Path, size_px: int, classes: tuple[str, ...]) -> dict[str, Any]:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = histograms(train, size_px)
    x_test, y_test = histograms(test, size_px)
    models = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegressionCV(
            Cs=[1e-4, 1e-3, 1e-2], l1_ratios=(0,), cv=3, max_iter=300, scoring="balanced_accuracy",
            use_legacy_attributes=False)),
        "random forest": RandomForestClassifier(400, min_samples_leaf=2, random_state=0),
    }
    return {name: figures(y_test, model.fit(x, y).predict_proba(x_test), classes) for name, model in models.items()}


def draw_confusion(table: list[list[int]], classes: tuple[str, ...], path: Path) -> None:
    cell, left, top = 58, 78, 40
    side = cell * len(classes)
    picture = Image.new("RGB", (left + side + 8, top + side + 8), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((left, 4), "columns: predicted; rows: true; share of the row", fill=(60, 60, 60))
    for i, row in enumerate(table):
        pen.text((6, top + i * cell + cell // 2 - 6), f"{classes[i]} ({sum(row)})", fill=(20, 20, 20))
        pen.text((left + i * cell + 12, top - 16), classes[i], fill=(20, 20, 20))
        for j, count in enumerate(row):
            share = count / max(sum(row), 1)
            shade = tuple(round(255 - share * (255 - c)) for c in (20, 90, 160))
            x, y = left + j * cell, top + i * cell
            pen.rectangle((x, y, x + cell - 2, y + cell - 2), fill=shade)
            pen.text((x + 16, y + cell // 2 - 6), f"{share:.2f}", fill="white" if share > 0.5 else (30, 30, 30))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def page_table(result: dict[str, Any]) -> str:
    classes, own, plain = result["classes"], result["classifier"], result["baselines"]
    names = list(plain)
    lines = [f"{result['train']} renders for training, {result['test']} others for testing, {result['size_px']} px, "
             f"`{result['network']}`, {result['steps']} steps:", "",
             "| class | tested | recall | precision | AUC | recall by colours alone: " + " | ".join(names) + " |",
             "|---|---|---|---|---|" + "---|" * len(names)]
    for c in classes:
        cells = [f"{own[key][c]:.2f}" if own[key][c] is not None else "-" for key in ("recall", "precision", "auc")]
        cells += [f"{plain[name]['recall'][c]:.2f}" for name in names]
        lines.append(f"| {c} | {own['count'][c]} | " + " | ".join(cells) + " |")
    lines.append(f"| **balanced accuracy** | {own['n']} | **{own['balanced_accuracy']:.3f}** | | | "
                 + " | ".join(f"{plain[name]['balanced_accuracy']:.3f}" for name in names) + " |")
    tones = ", ".join(f"{t}: {found['balanced_accuracy']:.2f} ({found['n']})"
                      for t, found in result["by_ita_class"].items())
    lines += ["", f"Balanced accuracy by ITA class: {tones}. Calibration error {own['ece']:.3f}. Asked are "
              f"{RECALL} a class and {BALANCED[0]} to {BALANCED[1]}: "
              + ("reached." if result["reached"] else "not reached."), "",
              "| true \\ predicted | " + " | ".join(classes) + " |", "|---|" + "---|" * len(classes)]
    lines += [f"| {classes[k]} | " + " | ".join(map(str, row)) + " |" for k, row in enumerate(own["confusion"])]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--train", type=int, default=1400)
    parser.add_argument("--test", type=int, default=350)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--network", default="small")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--trial", action="store_true", help="print alone, write nothing into the repository")
    arguments = parser.parse_args()

    whole = open_dataset(arguments.set)
    rows = sorted(whole.rows, key=lambda row: row["index"])
    if len(rows) < arguments.train + arguments.test:
        parser.error(f"{arguments.set} has {len(rows)} samples; --train and --test ask for more")
    parts = arguments.model.with_name(arguments.model.name + "-parts")
    train = part_of(whole, rows[:arguments.train], parts / "train")
    test = part_of(whole, rows[len(rows) - arguments.test:], parts / "test")
    options = TrainOptions(network=arguments.network, size_px=arguments.size, steps=arguments.steps,
                           learning_rate=arguments.learning_rate, validation_share=0.1)
    started = time.process_time()
    done = train_classifier(train, arguments.model, options, make_progress(verb="training", unit="steps"), tell=print)
    spent = time.process_time() - started
    classifier: Classifier = load_classifier(arguments.model)
    found = evaluate(classifier, test)
    assert found.trained_on == 0, "a group of the test was trained on"
    plain = baselines(train, test, arguments.size, classifier.classes)
    own = found.overall
    reached = (min(own["recall"].values()) >= RECALL and BALANCED[0] <= own["balanced_accuracy"] <= BALANCED[1])
    result = {
        "train": arguments.train, "test": arguments.test, "size_px": arguments.size, "network": arguments.network,
        "steps": done.card.steps, "preset": whole.card.preset, "set_hash": whole.card.set_hash,
        "learning_rate": arguments.learning_rate, "cpu_s_of_this_call": round(spent), "classes": list(found.classes),
        "classifier": own, "by_ita_class": found.by_ita_class, "baselines": plain, "reached": bool(reached),
        "validation": done.card.metrics["validation"]["balanced_accuracy"], "history": list(done.card.history),
    }
    print(page_table(result))
    if arguments.trial:
        return
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw_confusion(own["confusion"], found.classes, PICTURE)
    begin, end = "<!-- figures: begin -->", "<!-- figures: end -->"
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(begin)
    PAGE.write_text(before + begin + "\n" + page_table(result) + "\n" + end + rest.split(end)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
