"""The file of a study: TOML to a frozen, checked StudySpec. What is not declared here is not done by the study.

An unknown key is an error that names the file, the key and its nearest neighbour. The table [small] holds the same keys
again with other values: `--small` lays them over the rest, so that one file runs at full scale on someone's photographs
and, in minutes, on renders.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from synthskin.bias.errors import BiasError
from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.laws import nearest, one_line

MAX_BYTES: Final = 1_000_000
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SEGMENTERS: Final = ("residual_unet", "unet", "attention_unet")  # the first is the default
SEGMENTED_PX: Final = 32  # sides of masks are multiples of it: the networks halve them five times
CLASSIFIERS: Final = ("small", "densenet121")
METRICS: Final[dict[str, tuple[str, ...]]] = {
    "segmentation": ("dice", "iou", "sensitivity", "specificity", "brier", "ece"),
    "classification": ("auc", "balanced_accuracy", "accuracy", "sensitivity", "specificity", "brier", "ece"),
}
OF_BOTH: Final = ("auc", "balanced_accuracy")  # need positive and negative cases
LABELS: Final[dict[str, tuple[str, ...]]] = {
    "diagnosis": (*DIAGNOSES, HEALTHY), "benign_malignant": ("benign", "malignant", "indeterminate"),
    "ita_class": ("1", "2", "3", "4", "5", "6"),
}
GROUPINGS: Final = ("tone", "ita", "contrast", "class", "hair", "size", "artefact", "device")
HOOKS: Final = ("tone_shift", "colour_space_shift", "hair", "artefacts")


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Render(Part):
    """What the command renders, or takes up, before the study: `synthskin render` with these options."""

    preset: str = "base"
    n: int = Field(ge=1, le=1_000_000)
    seed: int = Field(default=0, ge=0)
    size_px: int | None = Field(default=None, ge=32, le=4096)
    spp: int | None = Field(default=None, ge=1)
    set: list[str] = []
    diagnosis: str | None = None
    tone: str | None = None
    confound: list[str] = []
    counterfactual: str | None = None  # tones such as "fst1,fst6": each lesion on each; n counts lesions


class Data(Part):
    """A set of the contract: its folder, or how to render it; `needs` says in words what to give where neither is."""

    folder: str | None = None
    render: Render | None = None
    needs: str = ""
    where: dict[str, list[str | int]] = {}

    @model_validator(mode="after")
    def _one(self) -> Data:
        if self.folder is not None and self.render is not None:
            raise ValueError("folder and render: give one of the two")
        return self


class Split(Part):
    """Shares of the groups (patients, lesions) of a set that is tested on; `repeats` different splits, one a seed.
    `given`: a train and test that the rows name themselves is kept, in every repeat, or not looked at."""

    validation: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.3, gt=0, lt=1)
    repeats: int = Field(default=1, ge=1, le=1000)
    seed: int = Field(default=0, ge=0)
    given: Literal["keep", "ignore"] = "keep"

    @model_validator(mode="after")
    def _sum(self) -> Split:
        if self.validation + self.test >= 1:
            raise ValueError("validation + test: under 1 is needed, the rest is for training")
        return self


class Use(Part):
    """Pictures of a set in an arm: `n` of its training part (all if left out), `share` of each batch."""

    data: str
    n: int | None = Field(default=None, ge=1)
    share: float | None = Field(default=None, gt=0, le=1)
    part: Literal["train", "all"] | None = None


class Hook(Part):
    """A transform of synthskin.hooks on training pictures."""

    name: Literal["tone_shift", "colour_space_shift", "hair", "artefacts"]
    prob: float = Field(default=0.5, gt=0, le=1)
    to: list[str] = ["fst1", "fst2", "fst3", "fst4", "fst5", "fst6"]
    names: list[str] = ["ruler", "ink", "gel_bubble"]


class Arm(Part):
    """One way of training. `x` places it on the axis of a trend; `invariance` is the weight of CIRCLe's regulariser."""

    use: list[Use] = Field(min_length=1)
    hooks: list[Hook] = []
    invariance: float = Field(default=0.0, ge=0)
    class_weights: Literal["none", "balanced"] = "none"
    x: float | None = None
    says: str = ""


class Test(Part):
    """Pictures to test on, as they are or made worse: noise (standard deviation of sRGB values) or blur (sigma, share
    of the side)."""

    data: str
    part: Literal["test", "all"] | None = None
    noise: float = Field(default=0.0, ge=0, le=1)
    blur: float = Field(default=0.0, ge=0, le=0.2)
    says: str = ""


class Group(Part):
    """How the cases are grouped: `by` one of the known kinds or any key of a row; numbers by `edges` or `quantiles`,
    values by `bins`. `pair` = [a, b] tests a - b; without it each group is tested against the rest. `tests`: on these
    test sets alone."""

    by: str
    bins: dict[str, list[str | int]] = {}
    edges: list[float] = []
    quantiles: int | None = Field(default=None, ge=2, le=10)
    names: list[str] = []
    pair: list[str] = []
    tests: list[str] = []


class Training(Part):
    """The same for all arms: network, budget in steps, pictures a step."""

    network: str = ""
    steps: int = Field(default=500, ge=1, le=10_000_000)
    batch: int = Field(default=8, ge=2, le=4096)
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    augment: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=1, ge=1, le=256)


class Primary(Part):
    """The one endpoint that is tested without correction.

    arms [a, b]                   a - b of `metric` on `test`, of one `group` (kind:name) or all
    groups [a, b] of kind `of`    a - b within arm `arm`
    both                          change of the gap: (gap in arm a) - (gap in arm b)
    """

    metric: str
    test: str
    arms: list[str] = []
    arm: str | None = None
    of: str | None = None
    groups: list[str] = []


class StudySpec(Part):
    """A declared experiment."""

    name: str
    description: str = ""
    source: str = ""
    task: Literal["segmentation", "classification"]
    size_px: int = Field(default=128, ge=32, le=1024)
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1, max_length=1000)
    label: Literal["diagnosis", "benign_malignant", "ita_class"] = "diagnosis"
    classes: list[str] = []
    positive: list[str] = []
    threshold: str | float = "half"
    metrics: list[str] = []
    validation: str | None = None
    x_axis: str = ""
    bootstrap: int = Field(default=2000, ge=200, le=100_000)
    least: int = Field(default=10, ge=5, le=1000)
    data: dict[str, Data] = Field(min_length=1)
    split: Split = Split()
    arms: dict[str, Arm] = Field(min_length=1)
    tests: dict[str, Test] = Field(min_length=1)
    groups: dict[str, Group] = {}
    training: Training = Training()
    primary: Primary
    small: dict[str, Any] = {}

    @property
    def main_metrics(self) -> tuple[str, ...]:
        """Metrics that are compared and corrected for; the others are reported without a test."""
        return tuple(self.metrics) or (("dice",) if self.task == "segmentation" else ("auc", "balanced_accuracy"))

    def groups_of(self, test: str) -> list[str]:
        """Groupings that hold on a test set."""
        return [name for name, group in self.groups.items() if not group.tests or test in group.tests]

    def parts_of(self, name: str) -> bool:
        """Is this set cut into training, validation and test?"""
        tested = any(t.data == name and t.part != "all" for t in self.tests.values())
        trained = any(u.data == name and u.part != "all" for a in self.arms.values() for u in a.use)
        return (tested and trained) or self.validation_data == name or any(
            t.data == name and t.part == "test" for t in self.tests.values())

    @property
    def threshold_is_chosen(self) -> bool:
        """On validation pictures, else it is fixed in the file."""
        return isinstance(self.threshold, str) and self.threshold != "half"

    @property
    def validation_data(self) -> str:
        return self.validation or next(iter(self.arms.values())).use[0].data


def load_study(name_or_path: str, small: bool = False, sets: tuple[str, ...] = (),
               folders: Mapping[str, str] | None = None) -> StudySpec:
    """Read a study by the name of one that ships or by its path; raises BiasError.

    sets      "training.steps=200", laid over the file (values as in TOML)
    folders   {name of a data set: folder}, in the place of what the file says
    """
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.is_file():
        found = next((p for p in shipped() if p.stem == name_or_path), None)
        if found is None:
            names = [p.stem for p in shipped()]
            raise BiasError(f"study '{one_line(name_or_path)}' is not there{nearest(name_or_path, names)}; give a TOML "
                            f"file or one of {', '.join(names)}")
        path = found
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BiasError(f"{path}: larger than {MAX_BYTES} bytes; this is not a study")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BiasError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise BiasError(f"{path}: is not UTF-8 text: {one_line(str(error))}") from None
    return parse_study(text, str(path), small, sets, folders or {})


def shipped() -> list[Path]:
    """Files of the studies that ship with synthskin."""
    here = Path(__file__).resolve().parents[1]
    folder = next((f for f in (here / "studies", here.parent / "studies") if f.is_dir()), None)
    return sorted(folder.glob("*.toml")) if folder else []


def parse_study(text: str, where: str, small: bool = False, sets: tuple[str, ...] = (),
                folders: Mapping[str, str] | None = None) -> StudySpec:
    """Check the text of a study; raises BiasError naming the file, the key and what is allowed."""
    body = _toml(text, where)
    if small:
        if not isinstance(body.get("small"), dict) or not body["small"]:
            raise BiasError(f"{where}: --small: the study has no table [small]; leave --small out")
        body = _laid_over(body, body["small"], 1)
    body.pop("small", None)
    for item in sets:
        key, sign, _ = item.partition("=")
        if not sign or not key.strip():
            raise BiasError(f"--set {one_line(item)}: key=value is needed, such as training.steps=200")
        body = _laid_over(body, _toml(item if _is_toml(item) else f'{key}="{item[len(key) + 1:]}"', f"--set {item}"), 9)
    for name, folder in (folders or {}).items():
        data = body.get("data")
        if not isinstance(data, dict) or name not in data:
            names = list(data) if isinstance(data, dict) else []
            raise BiasError(f"--data {one_line(name)}={one_line(folder)}: {where} has no data set "
                            f"'{one_line(name)}'{nearest(name, names)}; it has {', '.join(names) or 'none'}")
        if isinstance(data[name], dict):
            data[name] = {k: v for k, v in data[name].items() if k != "render"} | {"folder": folder}
    try:
        spec = StudySpec.model_validate(body)
    except ValidationError as error:
        raise BiasError(f"{where}: {_first(error, body)}") from None
    from synthskin.bias.study_check import check_study

    check_study(spec, where)
    return spec


def _toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BiasError(f"{where}: is not valid TOML: {one_line(str(error))}") from None


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return False
    return True


def _laid_over(below: dict[str, Any], above: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """`above` over `below`; down to `depth` tables are merged, so that [small.data.real] replaces [data.real]."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(value, dict) and value and isinstance(old, dict) and depth > 0:  # {} takes all away
            result[key] = _laid_over(old, value, depth - 1)
        else:
            result[key] = value
    return result


def _first(error: ValidationError, body: Mapping[str, Any]) -> str:
    """The first fault in words; unknown keys go before what else is wrong, as they are mostly its cause."""
    faults = error.errors(include_url=False, include_context=False)
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    place = [str(part) for part in fault["loc"]]
    where = one_line(".".join(place[:-1]))
    if fault["type"] == "extra_forbidden":
        allowed = _keys(fault["loc"][:-1])
        return (f"{f'[{where}] ' if where else ''}unknown key '{one_line(place[-1])}'{nearest(place[-1], allowed)}; "
                f"allowed are {', '.join(allowed)}")
    if fault["type"] == "missing":
        return f"{f'[{where}] ' if where else ''}the key '{one_line(place[-1])}' is missing"
    message = fault["msg"].removeprefix("Value error, ")
    came = "" if isinstance(fault["input"], dict) else f" = {one_line(repr(fault['input']), 60)}"
    return f"{one_line('.'.join(place))}{came}: {one_line(message[:1].lower() + message[1:], 200)}"


def _keys(loc: tuple[int | str, ...]) -> list[str]:
    """Keys that are allowed at a place of the file."""
    models: dict[str, Any] = {"data": Data, "split": Split, "arms": Arm, "tests": Test, "groups": Group,
                              "training": Training, "primary": Primary, "render": Render, "use": Use, "hooks": Hook}
    names = [part for part in loc if isinstance(part, str) and part in models]
    model = models[names[-1]] if names else StudySpec
    return list(model.model_fields)
