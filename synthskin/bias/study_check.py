"""What the types of a study's file cannot say: names that must be there, shares that sum to 1, one primary endpoint."""

from __future__ import annotations

from typing import Any

from synthskin.bias.errors import BiasError
from synthskin.bias.groups import NUMBERS, check_by, fixed_names
from synthskin.bias.metrics import choose_threshold
from synthskin.bias.study_file import (
    CLASSIFIERS,
    LABELS,
    METRICS,
    NAME,
    OF_BOTH,
    SEGMENTED_PX,
    SEGMENTERS,
    Group,
    StudySpec,
)
from synthskin.conventions import ARTEFACTS
from synthskin.dataset.format import ROW_KEYS
from synthskin.laws import nearest, one_line


def check_study(spec: StudySpec, where: str) -> None:
    """Raise BiasError where what one key says does not fit what another says."""

    def known(name: str, among: Any, what: str) -> None:
        if name not in among:
            raise BiasError(f"{where}: {what} '{one_line(str(name))}' is not there{nearest(str(name), among)}; "
                            f"allowed are {', '.join(map(str, among))}")

    for kind in ("data", "arms", "tests", "groups"):
        for name in getattr(spec, kind):
            if not NAME.fullmatch(name):
                raise BiasError(f"{where}: [{kind}.{one_line(name)}]: a name of letters, digits, '_', '-' and '.' "
                                "is needed")
    for name, arm in spec.arms.items():
        for use in arm.use:
            known(use.data, spec.data, f"[arms.{name}] data")
        shares = [use.share for use in arm.use if use.share is not None]
        if shares and (len(shares) < len(arm.use) or abs(sum(shares) - 1) > 1e-6):
            raise BiasError(f"{where}: [arms.{name}]: the shares of all its sets are needed and sum to 1, "
                            f"{', '.join(map(str, shares))} came")
        for hook in arm.hooks:
            for each in hook.names if hook.name == "artefacts" else []:
                known(each, ARTEFACTS, f"[arms.{name}] artefact")
            for each in hook.to if hook.name.endswith("shift") else []:
                known(each, [f"fst{k}" for k in range(1, 7)], f"[arms.{name}] tone")
        if arm.invariance and spec.task != "classification":
            raise BiasError(f"{where}: [arms.{name}] invariance: only a classifier has it")
    for name, test in spec.tests.items():
        known(test.data, spec.data, f"[tests.{name}] data")
    if spec.validation is not None:
        known(spec.validation, spec.data, "validation")
    networks = SEGMENTERS if spec.task == "segmentation" else CLASSIFIERS
    known(spec.training.network or networks[0], networks, "[training] network")
    for metric in (*spec.main_metrics, spec.primary.metric):
        known(metric, METRICS[spec.task], "metric")
    if len(set(spec.seeds)) < len(spec.seeds) or min(spec.seeds) < 0:
        raise BiasError(f"{where}: seeds = {spec.seeds}: different numbers from 0 are needed")
    if spec.task == "classification":
        _check_classes(spec, where, known)
    elif spec.threshold not in ("half", "dice") and not isinstance(spec.threshold, float):
        raise BiasError(f"{where}: threshold = {one_line(repr(spec.threshold))}: allowed for masks are half, dice (the "
                        "best mean Dice on validation) or a number such as 0.4")
    if spec.task == "segmentation" and spec.size_px % SEGMENTED_PX:
        raise BiasError(f"{where}: size_px = {spec.size_px}: a multiple of {SEGMENTED_PX} is needed for segmentation")
    for name, data in spec.data.items():
        for key in data.where:
            if not key.startswith("params:"):
                known(key, ROW_KEYS, f"[data.{name}] where")
    for name, group in spec.groups.items():
        try:
            check_by(group.by)
        except BiasError as error:
            raise BiasError(f"{where}: [groups.{name}] {error}") from None
        if sum((bool(group.bins), bool(group.edges), group.quantiles is not None)) > 1:
            raise BiasError(f"{where}: [groups.{name}]: give bins, edges or quantiles, not several")
        if group.pair and len(set(group.pair)) != 2:
            raise BiasError(f"{where}: [groups.{name}] pair = {group.pair}: two different groups are needed")
        if group.edges and (len(group.names) not in (0, len(group.edges) + 1) or group.edges != sorted(group.edges)):
            raise BiasError(f"{where}: [groups.{name}]: edges rise, and names are one more than edges")
        cut = group.quantiles or 3  # without bins and edges
        if group.names and not group.edges and (group.quantiles or (group.by in NUMBERS and not group.bins)) and (
                len(group.names) != cut):
            raise BiasError(f"{where}: [groups.{name}] names: {len(group.names)} came, {cut} are needed, one for each "
                            f"of the {cut} parts")
        for only in group.tests:
            known(only, spec.tests, f"[groups.{name}] tests")
        for side in group.pair if _names(group) else []:
            known(side, _names(group), f"[groups.{name}] pair")
    _check_primary(spec, where, known)


def _check_classes(spec: StudySpec, where: str, known: Any) -> None:
    if len(set(spec.classes)) < 2 or len(set(spec.classes)) != len(spec.classes):
        raise BiasError(f"{where}: classes = {spec.classes}: two or more different ones of {spec.label} are needed")
    for name in spec.classes:
        known(name, LABELS[spec.label], "class")
    for name in spec.positive:
        known(name, spec.classes, "positive class")
    if not 0 < len(set(spec.positive)) < len(spec.classes):
        raise BiasError(f"{where}: positive = {spec.positive}: some of the classes, not all, are needed; sensitivity, "
                        "AUC and the threshold are of these against the rest")
    try:
        choose_threshold([0, 1], [0.1, 0.9], spec.threshold)
    except BiasError as error:
        raise BiasError(f"{where}: {error}") from None


def _check_primary(spec: StudySpec, where: str, known: Any) -> None:
    p = spec.primary
    known(p.test, spec.tests, "[primary] test")
    for name in (*p.arms, *([p.arm] if p.arm is not None else [])):
        known(name, spec.arms, "[primary] arm")
    if p.of is not None:
        known(p.of, spec.groups_of(p.test), "[primary] of")
    by_arms, by_groups = len(p.arms) == 2 and p.arms[0] != p.arms[1], len(p.groups) == 2 and p.of is not None
    one_group = len(p.groups) == 1 and p.of is not None
    good = (by_arms and (not p.groups or by_groups or one_group) and p.arm is None) or (
        not p.arms and by_groups and p.arm is not None)
    if not good:
        raise BiasError(f"{where}: [primary]: give arms = [a, b] (their difference; with `of` and one of `groups` in "
                        "that group, with two the change of their gap), or arm with `of` and groups = [a, b]")
    group = spec.groups.get(p.of) if p.of is not None else None
    if group is not None and p.metric in OF_BOTH and not group.bins and spec.label == (
            "diagnosis" if group.by == "class" else group.by):
        raise BiasError(f"{where}: [primary] metric = \"{p.metric}\" by {group.by}: such a group holds one class, and "
                        f"{p.metric} needs two; give accuracy, bins of several classes, or another grouping")
    if group is not None and _names(group):
        for name in p.groups:
            known(name, _names(group), "[primary] group")


def _names(group: Group) -> tuple[str, ...]:
    return fixed_names(group.by, group.bins, group.edges, group.quantiles, group.names)
