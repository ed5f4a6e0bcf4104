"""Oversampling: minority classes filled up with translated majority pictures that passed the gates, and a report."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from synthskin.dataset.card import Card
from synthskin.dataset.encode import encode_sample
from synthskin.dataset.format import Sample
from synthskin.dataset.reader import Progress, iter_rows, open_dataset
from synthskin.dataset.writer import DatasetWriter, check_target
from synthskin.draw import hash_uniform
from synthskin.files import json_bytes, write_whole
from synthskin.gan import GanError
from synthskin.gan.domain import Domain, group_of
from synthskin.gan.translate import (
    BATCH,
    Translator,
    close,
    make_sample,
    refuse_inside,
    refuse_replaced,
    set_card,
    sources_of,
)
from synthskin.gan.where import Where
from synthskin.gates import Candidate, ClassGate, CopyGate, Explainer, Gate, GatePanel, MaskGate, SourceLeakGate

GATES: Final = ("mask", "class", "near-duplicate", "source-leak")
_LEARNT: Final = (None, "train")  # splits that are balanced; validation and test stay as they are


@dataclass(frozen=True, slots=True)
class Need:
    """A minority class: how many it has, how many more are wanted, and its translator, None where no model makes it."""

    diagnosis: str
    have: int
    wanted: int
    translator: Translator | None


@dataclass(frozen=True, slots=True)
class Balanced:
    """Folder of the additions, report, additions by class, what is still missing by class."""

    directory: Path
    report: Path
    added: dict[str, int]
    missing: dict[str, int]
    seconds: float


def parse_goal(text: str, ratio: float | None) -> float:
    """Share of the largest class that every class is to reach: equal is 1, `ratio` takes the number beside it."""
    if text == "equal":
        if ratio is not None:
            raise GanError(f"--to equal --ratio {ratio}: equal is a ratio of 1; leave one of them out")
        return 1.0
    if text != "ratio":
        raise GanError(f"--to {text}: allowed are equal, and ratio with --ratio")
    if ratio is None or not 0 < ratio <= 1:
        raise GanError(f"--to ratio: --ratio {ratio}: a share of the largest class above 0, at most 1, is needed")
    return ratio


def find_needs(rows: Sequence[dict[str, Any]], goal: float, translators: Sequence[Translator]) -> list[Need]:
    """Classes under `goal` times the largest, smallest first. Raises GanError on models that cannot help."""
    by_class: dict[str, Translator] = {}
    for translator in translators:
        diagnosis = translator.model.card.diagnosis
        if translator.change != "class" or diagnosis is None:
            raise GanError(f"a {translator.change} model cannot fill classes; give models of --change class")
        if diagnosis in by_class:
            raise GanError(f"two models make {diagnosis}; give one a class")
        by_class[diagnosis] = translator
    tested = {group_of(row) for row in rows if row["split"] == "test"}  # their siblings are not learnt from either
    counts = Counter(row["diagnosis"] for row in rows if row["split"] in _LEARNT and row["diagnosis"] is not None
                     and group_of(row) not in tested)
    if len(counts) < 2:
        raise GanError(f"DATA has {len(counts)} classes among its training samples; at least 2 are needed to balance")
    most = max(counts.values())
    wanted = round(goal * most)
    needs = [Need(name, count, wanted - count, by_class.get(name)) for name, count in counts.items() if count < wanted]
    if needs and not any(need.translator for need in needs):
        raise GanError(f"no model makes a class that is short ({', '.join(need.diagnosis for need in needs)}); models "
                       f"make {', '.join(by_class) or 'none'}")
    return sorted(needs, key=lambda need: (need.have, need.diagnosis))


def make_panel(
    names: Sequence[str], data: Domain, segmenter: Any, classifier: Any, classes: Sequence[str]
) -> GatePanel:
    """The named gates in order; segmenter and classifier are needed by the gates of masks and classes alone."""
    gates: list[Gate] = []
    for name in names:
        if name == "mask":
            gates.append(MaskGate(segmenter))
        elif name == "class":
            gate = ClassGate(classifier)
            gate.check(classes)
            gates.append(gate)
        elif name == "near-duplicate":
            pictures = [data.picture(k) for k in range(len(data))]
            gates.append(CopyGate.of([p.image for p in pictures], [p.sha256 for p in pictures],
                                     [group_of(p.row, data.directory) for p in pictures]))
        elif name == "source-leak":
            gates.append(SourceLeakGate())
        else:
            raise GanError(f"--gates: {name!r} is not known; allowed are {', '.join(GATES)}")
    return GatePanel(gates)


def balance_set(
    directory: Path, out: Path, needs: Sequence[Need], panel: GatePanel, seed: int = 0, report: Path | None = None,
    progress: Progress | None = None, overwrite: bool = False,
) -> Balanced:
    """Write the accepted translations of all needs into the set `out`, and the report beside it.

    DATA and `out` together are balanced. The same call again judges again (decisions are repeatable) and writes only
    what is not there. Raises GanError and DatasetError before anything is written.
    """
    started = time.monotonic()
    filled = [need for need in needs if need.translator is not None]
    refuse_inside(out, directory)
    folder = report if report is not None else out.with_name(out.name + "-report")
    if folder.resolve() == out.resolve() or out.resolve() in folder.resolve().parents:
        raise GanError(f"--report {folder}: lies inside --out {out}; choose a folder elsewhere")
    plans = [(need, _sources(need, directory, seed)) for need in filled]
    total = sum(need.wanted for need in filled)
    first = plans[0]
    assert first[0].translator is not None
    card, preset = set_card(first[0].translator, first[1], seed, total)
    card = replace(card, preset="gan_balance", description=card.description + " Additions that balance the parent set.",
                   engine={**card.engine, "checkpoint": " ".join(_checkpoint(n) for n in filled),
                           "gates": json.dumps(panel.settings(), sort_keys=True), "size_px": first[1].size_px},
                   licences=list(dict.fromkeys(x for n in filled if n.translator for x in
                                               [*card.licences, *n.translator.model.card.licences])))
    check_target(out, card, overwrite, preset)
    explainer = Explainer(folder / "gates")
    added: Counter[str] = Counter()
    tones: Counter[str] = Counter()
    with DatasetWriter(out, card, preset, overwrite) as writer:
        before = {row["index"]: row for row in iter_rows(out)} if writer.finished else {}
        for row in before.values():
            refuse_replaced(out, row, first[1], next((p["file_name"] for p in row["parents"]), None))
        if progress is not None:
            progress.start(total, 0)
        try:
            for need, sample in _accepted(plans, panel, explainer, card):
                index = sample.row["index"]
                if index in before and before[index]["parents"] != sample.row["parents"]:
                    raise GanError(f"{out}: {before[index]['file_name']} was made from another picture than {directory}"
                                   f" now gives in its place ({sample.row['parents'][0]['file_name']}); choose another "
                                   "--out, or --overwrite")
                if index not in writer.finished:
                    writer.write(encode_sample(sample))
                added[need.diagnosis] += 1
                tones[_cell(sample.row)] += 1
                if progress is not None:
                    progress.step(sum(added.values()))
        finally:
            if progress is not None:
                progress.stop()
        if writer.finished:
            close(writer, time.monotonic() - started)
    missing = {need.diagnosis: need.wanted - added[need.diagnosis] for need in needs
               if added[need.diagnosis] < need.wanted}
    explainer.finish(panel.tally, panel.settings(), f"Translations refused while balancing {directory.name}.")
    _write_report(folder, directory, needs, added, tones, missing, panel, plans)
    return Balanced(out, folder / "balance.json", dict(added), missing, time.monotonic() - started)


def _checkpoint(need: Need) -> str:
    return "" if need.translator is None else need.translator.model.card.sha256


def _sources(need: Need, directory: Path, seed: int) -> Domain:
    """Training samples the model may start from: tones in turn, within a tone in an order keyed by the seed.

    A group that has a test row gives none: the additions are of its groups.
    """
    assert need.translator is not None
    domain, _ = sources_of(need.translator, directory, None)
    by_tone: dict[Any, list[int]] = {}
    for k in range(len(domain)):
        if domain.rows[k]["split"] in _LEARNT and group_of(domain.rows[k], domain.directory) not in domain.tested:
            by_tone.setdefault(domain.rows[k]["ita_class"], []).append(k)
    for ks in by_tone.values():
        ks.sort(key=lambda k: hash_uniform("balance", seed, need.diagnosis, domain.rows[k]["file_name"]))
    order: list[int] = []
    columns = [by_tone[tone] for tone in sorted(by_tone, key=str)]
    for rank in range(max((len(ks) for ks in columns), default=0)):
        order += [ks[rank] for ks in columns if rank < len(ks)]
    if not order:
        raise GanError(f"DATA {directory}: no training samples of '{domain.where}' to make {need.diagnosis} from")
    return domain.subset(order)


def _accepted(
    plans: Sequence[tuple[Need, Domain]], panel: GatePanel, explainer: Explainer, card: Card
) -> Iterator[tuple[Need, Sample]]:
    """(need, sample) of every translation that is kept, until each need is met or its sources are used up."""
    index = 0
    for need, domain in plans:
        assert need.translator is not None
        open_ = need.wanted
        for start in range(0, len(domain), BATCH):
            if open_ <= 0:
                break
            some = [domain.picture(k) for k in range(start, min(start + BATCH, len(domain)))]
            made = need.translator(some)
            candidates = [Candidate(f"{need.diagnosis}-{start + k:06d}", one.image, one.source.mask, need.diagnosis,
                                    source=one.source.image, exempt=frozenset({one.source.sha256}))
                          for k, one in enumerate(made)]
            for one, decision in zip(made, panel.judge(candidates), strict=True):
                explainer.add(decision)
                if decision.kept and open_ > 0:
                    yield need, make_sample(one, index, need.translator, card, domain, {"gates": decision.scores()})
                    index += 1
                    open_ -= 1


def _cell(row: dict[str, Any]) -> str:
    return f"{row['diagnosis']}/{'unknown' if row['ita_class'] is None else row['ita_class']}"


def _write_report(
    folder: Path, directory: Path, needs: Sequence[Need], added: Counter[str], tones: Counter[str],
    missing: dict[str, int], panel: GatePanel, plans: Sequence[tuple[Need, Domain]],
) -> None:
    """balance.json: counts before and after by class and tone, what was refused and why, what is missing."""
    rows = [row for row in open_dataset(directory).rows if row["split"] in _LEARNT and row["diagnosis"] is not None]
    before, cells = Counter(row["diagnosis"] for row in rows), Counter(_cell(row) for row in rows)
    tally = panel.tally.to_json()
    told = {
        "before": dict(sorted(before.items())), "after": dict(sorted((before + added).items())),
        "before_by_class_and_tone": dict(sorted(cells.items())),
        "after_by_class_and_tone": dict(sorted((cells + tones).items())),
        "added": dict(sorted(added.items())), "missing": missing,
        "without_model": sorted(need.diagnosis for need in needs if need.translator is None),
        "sources": {need.diagnosis: len(domain) for need, domain in plans},
        "left_out": {need.diagnosis: sources_of(need.translator, directory, None)[1] for need, _ in plans
                     if need.translator is not None},
        "judged": tally["judged"], "passed": tally["kept"], "refused": tally["refused"],
        "refused_by_class": tally["by_class"], "gates": panel.settings(),
    }
    write_whole(folder / "balance.json", json_bytes(told), GanError)


@dataclass(frozen=True)
class BalanceRequest:
    """What `synthskin gan balance` was asked for; `run` loads models and gates and does it."""

    directory: Path
    out: Path
    models: Sequence[Translator]
    goal: float
    gates: Sequence[str] = GATES
    classifier: Path | None = None
    seed: int = 0
    report: Path | None = None
    overwrite: bool = False
    segmenter: Any = field(default=None)

    def run(self, progress: Progress | None = None) -> Balanced | None:
        """None where nothing is short. Raises GanError where a gate cannot be set up."""
        from synthskin.gan.domain import load_domain

        rows = open_dataset(self.directory).rows
        needs = find_needs(rows, self.goal, self.models)
        if not needs:
            return None
        for name in self.gates:
            if name not in GATES:
                raise GanError(f"--gates: {name!r} is not known; allowed are {', '.join(GATES)}")
        classifier = segmenter = None
        if "class" in self.gates:
            if self.classifier is None:
                raise GanError("the class gate needs --classifier, the folder of an independent classifier (`synthskin "
                               "classifier train`); or leave it out: --gates mask,near-duplicate,source-leak")
            from synthskin.classify import load_classifier

            classifier = load_classifier(self.classifier)
        if "mask" in self.gates:
            segmenter = self.segmenter
            if segmenter is None:
                from synthskin.segment import load_segmenter

                segmenter = load_segmenter()
        size = self.models[0].model.card.options.size_px
        for model in self.models:
            if model.model.card.options.size_px != size:
                raise GanError(f"models of {size} and {model.model.card.options.size_px} pixels: one size is needed, "
                               "a set has one")
        everything = load_domain(self.directory, Where(), size, "DATA")
        panel = make_panel(self.gates, everything, segmenter, classifier,
                           [need.diagnosis for need in needs if need.translator is not None])
        return balance_set(self.directory, self.out, needs, panel, self.seed, self.report, progress, self.overwrite)

