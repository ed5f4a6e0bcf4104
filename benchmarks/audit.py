"""Planted causes that an audit must find: a classifier trained with ink on melanoma, one trained on light skin only,
and a control (ink on half of both classes, all tones alike), each audited with the same renders.

    python benchmarks/audit.py renders       the audit's sets; continues after a stop
    python benchmarks/audit.py training      the training sets; continues after a stop; --only a, --only b beside it
    python benchmarks/audit.py train         three classifiers (synthskin classifier), exported to ONNX
    python benchmarks/audit.py audit         three audits, as `synthskin audit --renders` runs them; the table
    python benchmarks/audit.py               all of it; an hour and a half of two cores

All classifiers learn from the same lesions, each rendered on four skins (a light and a dark tone; the skin of its own
tone with little melanin and with much, all else of it as it was) with and without ink and in another white balance each
time, so that nothing but what was planted tells the classes apart by skin, ink or light; siblings are told alike
(`--logit-pairing`); sets `a` and `b` hold other lesions. `--work DIR` holds sets, models
and reports (default out/audit). Writes benchmarks/results/audit.json. What must come out (issue of the audit): planted
|dp| >= 0.2 and >= 3 times the next cause that is not linked to it; on the control the same causes < 0.05.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthskin import cli
from synthskin.audit import SharedEngine, make_jobs, render_jobs
from synthskin.bias.audit_causes import BY_NAME, Cause
from synthskin.conventions import default_spp
from synthskin.dataset.encode import encode_sample
from synthskin.dataset.reader import open_dataset
from synthskin.dataset.writer import DatasetWriter
from synthskin.draw import hash_uniform
from synthskin.preset import Preset, load_preset
from synthskin.progress import make_progress
from synthskin.record import SampleRecord
from synthskin.run import EngineOptions, RunRequest, real_engine, render_run
from synthskin.variation import Counterfactual, make_counterfactual, with_value

ROOT = Path(__file__).resolve().parent.parent
SIZE_PX = 96
LESIONS = 80
PLAIN = 150
AUDIT_SEED = 77
LOGIT_PAIRING = 4  # siblings of a lesion are told alike, wherever what is planted leaves it siblings
TONES = ("fst1", "fst2", "fst3", "fst4", "fst5", "fst6")
SKINS = ("light tone", "dark tone", "little melanin", "much melanin")
LIGHT = ("light tone", "little melanin")
LITTLE, MUCH = (0.01, 0.15), (0.20, 0.43)  # melanosome fraction of epidermis
WITH_INK = {"MEL": 0.95, "NV": 0.05}

#: Causes of the audit with fewer values than by default, the planted ones first.
CAUSES: tuple[Cause, ...] = (
    BY_NAME["ink"],
    replace(BY_NAME["exposure"], values=(-0.3, 0.3), reference=0),
    BY_NAME["ruler"],
    replace(BY_NAME["white_balance"], values=(-40.0, 40.0), reference=0),
    BY_NAME["dark_corner"],
    BY_NAME["gel_bubble"],
    replace(BY_NAME["melanin"], values=(0.01, 0.21, 0.41)),
    replace(BY_NAME["tone"], values=("fst1", "fst6")),
    replace(BY_NAME["hair"], values=(0, 30)),
    replace(BY_NAME["blood"], values=(0.005, 0.05)),
    replace(BY_NAME["pheomelanin"], values=(0.0, 0.7)),
    replace(BY_NAME["dryness"], values=(0.0, 1.0)),
    replace(BY_NAME["redness"], values=(0.0, 1.2)),
    replace(BY_NAME["contrast"], values=(1.0, 0.25)),
    replace(BY_NAME["regularity"], values=(0.95, 0.05)),
)


@dataclass(frozen=True)
class Crossed:
    """Siblings are one lesion on each of SKINS without ink and with it; a plan of a render run."""

    tones: Counterfactual

    def record(self, preset: Preset, seed: int, index: int) -> SampleRecord:
        place, ink = divmod(index, 2)
        lesion, skin = divmod(place, len(SKINS))
        kind = SKINS[skin]

        def drawn(low: float, high: float, what: object) -> float:
            return low + (high - low) * hash_uniform("crossed", seed, lesion, skin, what)

        first = 0 if kind == "light tone" else 3
        tone = first + int(drawn(0, 3, "tone")) if kind.endswith("tone") else int(drawn(0, 6, "tone"))
        own = self.tones.record(preset, seed, lesion * len(TONES) + tone)
        if kind.endswith("melanin"):
            own = with_value(own, "skin.melanosome_fraction", drawn(*(LITTLE if kind == SKINS[2] else MUCH), "melanin"))
        own = with_value(own, "device.white_balance_mired", drawn(-60.0, 60.0, f"white balance {ink}"))
        return with_value(own, "artefacts.ink", ink)

    def settings(self) -> dict[str, Any]:
        return {**self.tones.settings(), "kind": "crossed", "skins": list(SKINS), "ink": [0, 1]}


ALL_TONES = "fst1=1,fst2=1,fst3=1,fst4=1,fst5=1,fst6=1"
SETS = {"a": 11, "b": 12}
SET_LESIONS = 600


@dataclass(frozen=True)
class Subject:
    """A classifier that is audited: the cause that was planted, and which pictures it is trained on."""

    name: str
    planted: tuple[str, ...]
    steps: int = 4000

    def learns(self, row: dict[str, Any]) -> bool:
        skin, ink = SKINS[row["index"] // 2 % len(SKINS)], row["index"] % 2
        if self.name == "light":
            return skin in LIGHT
        if self.name == "ink":
            return ink == (hash_uniform("ink", row["group_id"], skin) < WITH_INK[row["diagnosis"]])
        return True


SUBJECTS = (Subject("ink", ("ink",)), Subject("light", ("melanin", "tone")), Subject("control", (), steps=8000))


def render_sets(work: Path) -> bool:
    """The audit's sets; False if interrupted."""
    preset = load_preset("isic_like").with_diagnosis("MEL=1,NV=1").with_tones(ALL_TONES)
    jobs = make_jobs(preset, CAUSES, LESIONS, PLAIN)
    jobs = [*jobs[1:], jobs[0]]
    options = EngineOptions(SIZE_PX, default_spp(SIZE_PX))
    return all(not result.interrupted for result in render_jobs(
        jobs, work / "renders", AUDIT_SEED, options, 1, False, lambda verb: make_progress(verb=verb)))


def render_training(work: Path, names: Sequence[str]) -> bool:
    preset = load_preset("isic_like").with_diagnosis("MEL=1,NV=1")
    plan = Crossed(make_counterfactual(preset, ",".join(TONES)))
    for name, seed in SETS.items():
        if names and name not in names:
            continue
        request = RunRequest(preset, SET_LESIONS * 2 * len(SKINS), seed, work / name, EngineOptions(SIZE_PX), 1,
                             plan=plan)
        if render_run(request, SharedEngine(real_engine),
                      progress=make_progress(verb=f"{name}: rendering")).interrupted:
            return False
    return True


def subsets(work: Path, subject: Subject) -> list[Path]:
    """The subject's pictures as sets; the rendered ones themselves where it learns all of them."""
    if not subject.planted:
        return [work / name for name in SETS]
    for name in SETS:
        data, out = open_dataset(work / name), work / f"{subject.name}-{name}"
        kept = [k for k, row in enumerate(data.rows) if subject.learns(row)]
        card = replace(data.card, n=len(kept), engine={**data.card.engine, "planted": subject.name})
        with DatasetWriter(out, card, f"# planted: {subject.name}\n") as writer:
            for k in kept:
                if data.rows[k]["index"] not in writer.finished:
                    writer.write(encode_sample(data.load(k)))
    return [work / f"{subject.name}-{name}" for name in SETS]


def command(*arguments: object) -> int:
    try:
        cli.main([str(part) for part in arguments])
    except SystemExit as done:
        return int(done.code or 0)
    return 0


def train(work: Path, subjects: Sequence[Subject]) -> None:
    for subject in subjects:
        folder = work / "models" / subject.name
        code = command("classifier", "train", *subsets(work, subject), "--out", folder, "--classes",
                       "MEL,NV", "--size", SIZE_PX, "--steps", subject.steps, "--class-weights", "balanced", "--device",
                       "cpu", "--logit-pairing", LOGIT_PAIRING)
        if code:
            sys.exit(code)
        command("classifier", "export", folder, "--onnx", work / "models" / f"{subject.name}.onnx")


def audit(work: Path, subjects: Sequence[Subject]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for subject in subjects:
        out = work / "reports" / subject.name
        model = work / "models" / f"{subject.name}.onnx"
        code = command("audit", model, "--preprocess", model.with_suffix(".json"), "--positive", "MEL", "--renders",
                       work / "renders", "--out", out, "--overwrite")
        if code not in (0, 3):
            sys.exit(code)
        found[subject.name] = judge(subject, json.loads((out / "results.json").read_text()))
    return found


def judge(subject: Subject, data: dict[str, Any]) -> dict[str, Any]:
    """The figures of one subject: the planted |dp|, and the largest of the causes that are not linked to it."""
    causes = {own["cause"]: own for own in data["causes"]}
    size = {name: own["dp"]["estimate"] for name, own in causes.items()}
    told: dict[str, Any] = {
        "verdict": data["verdict"], "reason": data["reason"],
        "auc": data["unswept"]["auc"],
        "causes": {name: {"dp": own["dp"], "flips": own["flips"]["estimate"], "verdict": own["verdict"],
                          "p": [point["estimate"] for point in own["curve"]], "values": own["values"],
                          "linked": sorted(own["linked"])} for name, own in causes.items()},
    }
    for name in subject.planted:
        others = {other: dp for other, dp in size.items()
                  if other != name and other not in subject.planted and other not in causes[name]["linked"]}
        second = max(others, key=lambda other: others[other])
        told.setdefault("planted", {})[name] = {
            "dp": size[name], "next_not_linked": second, "its_dp": others[second],
            "times": size[name] / max(others[second], 1e-9)}
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=("renders", "training", "train", "audit", "all"), default="all")
    parser.add_argument("--work", type=Path, default=Path("out/audit"))
    parser.add_argument("--only", nargs="*", default=[], help="training sets (a, b) or subjects (ink, light, control)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/audit.json")
    asked = parser.parse_args()
    started = time.monotonic()
    if asked.step in ("training", "all") and not render_training(asked.work, asked.only):
        sys.exit(130)
    if asked.step in ("renders", "all") and not render_sets(asked.work):
        sys.exit(130)
    subjects = [own for own in SUBJECTS if not asked.only or own.name in asked.only]
    if asked.step in ("train", "all"):
        train(asked.work, subjects)
    if asked.step not in ("audit", "all"):
        return
    found = audit(asked.work, subjects)
    result = {"machine": platform.processor() or platform.machine(), "size_px": SIZE_PX, "lesions": LESIONS,
              "unswept": PLAIN, "steps": {own.name: own.steps for own in subjects}, "logit_pairing": LOGIT_PAIRING,
              "training": {"lesions": SET_LESIONS * len(SETS), "skins": SKINS, "ink": [0, 1]},
              "seconds_of_this_call": round(time.monotonic() - started, 1), "subjects": found}
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, told in found.items():
        auc = told["auc"]["estimate"] if told["auc"] else float("nan")
        print(f"{name}: AUC {auc:.3f}, {told['verdict']}")
        for planted, own in told.get("planted", {}).items():
            print(f"  planted {planted}: |dp| {own['dp']:.3f}, {own['times']:.1f} times {own['next_not_linked']} "
                  f"({own['its_dp']:.3f})")
        for cause, own in told["causes"].items():
            print(f"  {cause:14} {own['dp']['estimate']:.3f} {own['verdict']}")


if __name__ == "__main__":
    main()
