"""Renders for an audit: a plain set, and for each cause a set in which it alone moves (synthskin.variation).

Lesion g of every set is sample g of the plain preset: same lesion, hair, vessels, noise. Exposure and white balance are
inputs and stay, unless they are the cause.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

from synthskin.bias.audit_causes import Cause, of_field, of_settings
from synthskin.bias.audit_former import PLAIN, Part
from synthskin.bias.audit_preprocess import Preprocess
from synthskin.contact import NEEDS_CONTACT, contact_fault
from synthskin.conventions import DIAGNOSES
from synthskin.dataset.writer import check_target
from synthskin.draw import draw
from synthskin.laws import one_line
from synthskin.preset import Preset
from synthskin.record import Artefacts, Device, RecordError, SampleRecord
from synthskin.run import (
    EngineFactory,
    EngineLike,
    EngineOptions,
    Progress,
    RunRequest,
    RunResult,
    make_card,
    real_device,
    real_engine,
    render_run,
)
from synthskin.run.request import Plan, check_request
from synthskin.variation import (
    DERIVED,
    VariationError,
    make_counterfactual,
    make_sweep,
    parse_values,
    with_lesions,
    with_value,
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Siblings differ in a factor on the drawn values of `fields`; a plan of a render run."""

    name: str
    fields: tuple[str, ...]
    values: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.values)

    def record(self, preset: Preset, seed: int, index: int) -> SampleRecord:
        group, sibling = divmod(index, len(self.values))
        record = draw(preset, seed, group)
        for key in self.fields:
            part, _, name = key.partition(".")
            record = with_value(record, key, getattr(getattr(record, part), name) * self.values[sibling])
        return record

    def settings(self) -> dict[str, Any]:
        return {"kind": "scale", "name": self.name, "fields": list(self.fields), "values": list(self.values),
                "derived": list(DERIVED)}

    def words(self) -> str:
        return f"{self.name}: {', '.join(self.fields)} times {', '.join(map(str, self.values))}"


@dataclass(frozen=True, slots=True)
class Job:
    """One set of the audit: its folder's name, what to render, how many samples."""

    name: str
    preset: Preset
    plan: Plan | None
    n: int


def own_cause(text: str) -> Cause:
    """A cause from `skin.oxygenation=0.4,0.6,0.8`; raises VariationError."""
    field, equals, values = text.partition("=")
    field = field.strip()
    if not equals:
        raise VariationError(f"--cause {one_line(text)}: write a field and its values, skin.oxygenation=0.4,0.6,0.8")
    plan = make_sweep(field, parse_values(field, values), f"--cause {one_line(text)}")
    return replace(of_field(field), values=plan.values, reference=0)


def diagnoses_of(preprocess: Preprocess) -> str:
    """Weights of --diagnosis for a model: half to its positive diagnoses, half to its negative ones."""
    truth = preprocess.truth()
    named = {name.casefold() for name in preprocess.classes}
    own = [name for name in truth if name.casefold() in named] or [name for name in DIAGNOSES if name in truth]
    counts = {value: sum(truth[name] == value for name in own) for value in (True, False)}
    return ",".join(f"{name}={1 / counts[truth[name]]:.6g}" for name in own)


def act_on(preset: Preset, causes: Sequence[Cause]) -> list[Cause]:
    """Causes without those that only a dermatoscope has, where the preset draws photographs."""
    if preset.options_of("camera.view") == {"dermoscopic"}:
        return list(causes)
    return [cause for cause in causes if cause.name not in NEEDS_CONTACT]


def make_jobs(preset: Preset, causes: Sequence[Cause], lesions: int, n: int) -> list[Job]:
    """The sets of an audit; raises VariationError where a cause cannot act on the preset."""
    if lesions < 2:
        raise VariationError(f"--lesions {lesions}: 2 or more are needed, 10 for an interval")
    names = [cause.name for cause in causes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise VariationError(f"cause {twice}: is asked for twice; give it once")
    if n < 2:
        raise VariationError(f"--n {n}: 2 or more unswept pictures are needed")
    fault = contact_fault(preset)
    if fault is not None:
        raise VariationError(fault)
    return [Job(PLAIN, preset, None, n), *(_job(preset, cause, lesions) for cause in causes)]


def _job(preset: Preset, cause: Cause, lesions: int) -> Job:
    try:
        held = preset.with_sets(cause.sets) if cause.sets else preset
        if cause.about_the_lesion:
            held = with_lesions(held)
        plan: Any
        if cause.kind == "tones":
            plan = make_counterfactual(held, ",".join(map(str, cause.values)))
        elif cause.kind == "scale":
            plan = Scale(cause.name, cause.fields, tuple(float(value) for value in cause.values))
        else:
            plan = make_sweep(cause.fields[0], cause.values)
        for index in range(len(plan)):
            plan.record(held, 0, index)  # a value outside its bounds shows here and not after an hour
        fault = contact_fault(held, *((plan.field, plan.values) if cause.kind == "field" else ()))
        if fault is not None:
            raise VariationError(fault)
    except (VariationError, RecordError) as error:
        raise VariationError(f"cause {cause.name}: {error}; leave it out with --causes") from None
    noted = replace(held, overrides=(*held.overrides, plan.words()))
    return Job(cause.name, noted, plan, lesions * len(plan))


def parts_of(jobs: Sequence[Job]) -> dict[str, Part]:
    """The sets as they will be there, to compare with a former audit's."""
    return {job.name: Part(() if job.plan is None else of_settings(job.plan.settings()).values, job.n) for job in jobs}


#: Memory for light that is kept, so that pictures which differ after it alone (ink, exposure ...) share one transport.
KEPT_BYTES: Final = 1_000_000_000


class SharedEngine:
    """An engine factory that makes one engine for all sets of this process; worker processes make their own."""

    def __init__(self, factory: EngineFactory) -> None:
        self._factory = factory
        self._made: dict[EngineOptions, EngineLike] = {}

    def __call__(self, options: EngineOptions) -> EngineLike:
        if options not in self._made:
            self._made[options] = reusing(self._factory(options))
        return self._made[options]

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedEngine, (self._factory,)


def before_the_lens(record: SampleRecord) -> SampleRecord:
    """A key of what decides tissue and light transport: the record less the device and artefacts that are no hair."""
    own = record.artefacts
    hairs = Artefacts(thick_hair=own.thick_hair, thick_hair_count=own.thick_hair_count, thin_hair=own.thin_hair,
                      thin_hair_count=own.thin_hair_count)
    return replace(record, set_hash="", artefacts=hairs, device=Device())


def reusing(engine: Any, most_bytes: int = KEPT_BYTES) -> Any:
    """The same engine, which keeps tissue and transported light of the last lesions. Pictures are the same bytes."""
    if not (hasattr(engine, "scene") and hasattr(engine, "linear")):
        return engine
    scene, linear = engine.scene, engine.linear
    kept: OrderedDict[tuple[str, SampleRecord], tuple[Any, int]] = OrderedDict()

    def keep(kind: str, record: SampleRecord, make: Callable[[], Any]) -> Any:
        key = (kind, before_the_lens(record))
        if key not in kept:
            made = make()
            kept[key] = (made, _bytes_of(made))
            while len(kept) > 2 and sum(own for _, own in kept.values()) > most_bytes:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key][0]

    engine.scene = lambda record: keep("scene", record, lambda: scene(record))
    engine.linear = lambda record, tissue: keep("linear", record, lambda: linear(record, tissue))
    return engine


def _bytes_of(made: Any) -> int:
    """Bytes of all arrays in nested dataclasses, lists and mappings."""
    if isinstance(getattr(made, "nbytes", None), int):
        return int(made.nbytes)
    if is_dataclass(made):
        return sum(_bytes_of(getattr(made, own.name)) for own in fields(made))
    if isinstance(made, Mapping):
        return sum(map(_bytes_of, made.values()))
    return sum(map(_bytes_of, made)) if isinstance(made, (list, tuple)) else 0


def render_jobs(
    jobs: Sequence[Job], folder: Path, seed: int, options: EngineOptions, workers: int | None, overwrite: bool,
    progress_of: Callable[[str], Progress], factory: EngineFactory = real_engine,
    resolve_device: Callable[[str], str] = real_device,
) -> Iterator[RunResult]:
    """Render one set after the other into folder/NAME; the same again continues. The caller stops if interrupted.

    Raises what `render_run` does; bad numbers and sets of other settings are refused before anything is rendered.
    """
    shared = SharedEngine(factory)
    requests = [RunRequest(job.preset, job.n, seed, folder / job.name, options, workers, overwrite, plan=job.plan)
                for job in jobs]
    check_requests(requests, resolve_device)
    return (render_run(request, shared, resolve_device,
                       progress_of(f"{request.out.name} ({number}/{len(jobs)}): rendering"))
            for number, request in enumerate(requests, 1))


def check_requests(requests: Sequence[RunRequest], resolve_device: Callable[[str], str]) -> None:
    """Raise RunError or DatasetError where any of the runs would be refused."""
    for request in requests:
        check_request(request)
    device = resolve_device(requests[0].options.device)
    for request in requests:
        check_target(request.out, make_card(request, device), request.overwrite, request.preset.resolved_toml())
