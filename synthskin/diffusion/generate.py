"""`generate`: a set written by a LoRA, from renders, from masks, or from text alone, through the gates.

Slots are worked on in blocks of `batch`. Which candidates a block makes follows from (set hash, slot, try) and from the
blocks before it alone; so a run that was killed goes on to the same set, redoing at most the block it was in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synthskin.conventions import handed_on
from synthskin.dataset.card import Card
from synthskin.dataset.encode import encode_sample
from synthskin.dataset.preview import preview_png
from synthskin.dataset.reader import iter_rows
from synthskin.dataset.writer import DatasetWriter, check_target
from synthskin.diffusion.base import BASE_CARD, Base, load_base
from synthskin.diffusion.devices import keyed, pick_device, told_of_memory
from synthskin.diffusion.drawn import draw_mask
from synthskin.diffusion.errors import DiffusionError
from synthskin.diffusion.judge import classifier_sha256, load_panel, measured_tone
from synthskin.diffusion.lora import CARD, MaskInput, load_lora, read_lora_card
from synthskin.diffusion.pipeline import (
    image_pipeline,
    inpaint_pipeline,
    make_pictures,
    quiet_diffusers,
    settle,
    text_pipeline,
)
from synthskin.diffusion.plan import Slot, plan_slots
from synthskin.diffusion.prompts import NEGATIVE_PROMPT, prompt
from synthskin.diffusion.quickstart import Progress
from synthskin.diffusion.request import GIVE_UP_AFTER, GenerateRequest, GenerateResult, identity_hash
from synthskin.diffusion.rows import PRESET, make_sample
from synthskin.diffusion.source import keep_outside, open_source, read_picture, region
from synthskin.files import read_json
from synthskin.gates import Candidate, Decision, Explainer, Tally

FLAGS = "a smaller --batch or --size, --offload, --precision fp16"


@dataclass
class _Open:
    """A slot under way: the tries that were refused, as they go into its row."""

    slot: Slot
    refused: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Try:
    """One candidate before it is a picture."""

    slot: Slot
    attempt: int
    seed: int
    prompt: str
    parent: int | None
    image: NDArray[np.uint8] | None
    mask: NDArray[np.uint8] | None


def generate_set(request: GenerateRequest, progress: Any = None,
             stop_after: Callable[[int], bool] | None = None) -> GenerateResult:
    """Write the set. The same request again continues, a larger n extends. Raises DiffusionError, DatasetError.

    Fewer pictures than asked for are no error here: `shortfall` says so, and which gate refused.
    """
    with quiet_diffusers(), told_of_memory(FLAGS):
        return _Run(request).go(progress if progress is not None else Progress(), stop_after)


class _Run:
    def __init__(self, request: GenerateRequest) -> None:
        self.start = time.monotonic()
        self.request = request
        self.device = pick_device(request.device)
        self.source = open_source(request)
        self.remarks: list[str] = []
        self.base, self.mask_input, told = self._model()
        self.size_px = request.size_px or told["size_px"]
        self.base.check_size(self.size_px)
        self._check_way()
        if self.source is not None and request.needs_lesion:
            self.source = self.source.with_lesion(self.size_px)
        classes = {name: 1.0 for name in told.get("classes", {}) if name != "None"}
        self.slots = plan_slots(request.n, request.diagnosis, request.tone,
                                None if self.source is None else self.source.rows, request.seed,
                                default_classes={k: v / len(classes) for k, v in classes.items()},
                                rows_name=str(request.from_set or request.mask_from))
        self.checkpoint = str(told["weights_sha256"])
        identity = request.identity(
            checkpoint=self.checkpoint, base=self.base.fingerprint, size=self.size_px,
            source=None if self.source is None else self.source.content(), classifier=classifier_sha256(request))
        self.set_hash = identity_hash(identity)
        self.card = self._card(told, identity)
        self.preset_toml = self._preset_toml(identity)
        check_target(request.out, self.card, request.overwrite, self.preset_toml)
        self.panel, self.segmenter = load_panel(request, self.size_px, told,
                                                sorted({s.diagnosis for s in self.slots if s.diagnosis is not None}),
                                                self.remarks.append)
        self.card.engine.update({f"gate {name}": value for name, value in json.loads(
            json.dumps(self.panel.settings())).items()})
        self.explain = None if request.explain is None else Explainer(request.explain)
        self.pipe = self._pipe()
        self.tones: dict[int, float | None] = {}

    # ---- setting up

    def _model(self) -> tuple[Base, MaskInput | None, dict[str, Any]]:
        """Base and LoRA; a folder with model_index.json is a base by itself."""
        request = self.request
        half = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        if request.precision not in half:
            raise DiffusionError(f"--precision {request.precision}: allowed are {', '.join(half)}")
        dtype = half[request.precision] if self.device.type == "cuda" else torch.float32
        if (request.model / "model_index.json").is_file() and not (request.model / CARD).is_file():
            base = load_base(str(request.model))
            base.to(self.device, dtype)
            own = request.model / BASE_CARD
            told: dict[str, Any] = {"classes": {}, "data_hash": None}
            told |= read_json(own, DiffusionError) if own.is_file() else {}
            return base, None, told | {"weights_sha256": base.fingerprint, "size_px": base.native_size_px,
                                       "licences": base.licences, "attribution": base.attribution}
        card = read_lora_card(request.model)
        base = load_base(request.base or card["base"])
        base.to(self.device, dtype)
        if base.fingerprint != card["fingerprint"]:
            self.remarks.append(f"{base.name} is not the base this LoRA was trained on ({card['base']})")
        mask = load_lora(base, request.model, request.lora_scale)
        licences = list(dict.fromkeys([*card["licences"], *base.licences]))
        return base, mask, card | {"licences": licences}

    def _check_way(self) -> None:
        request = self.request
        if request.way == "mask" and self.mask_input is None:
            raise DiffusionError(f"{request.model}: takes no mask; train a LoRA with --mask-input, or start from "
                                 "renders with --from physics-set")
        if self.base.inpainting and (request.way != "physics-set" or request.redo == "whole"):
            raise DiffusionError(f"{self.base.name}: is an inpainting base; give --from physics-set with --redo lesion "
                                 "or --redo skin")

    def _card(self, told: dict[str, Any], identity: dict[str, Any]) -> Card:
        source = self.source
        licences, attribution = list(told["licences"]), list(told["attribution"])
        if source is not None:
            licences += [name for name in source.card.licences if name not in licences]
            attribution += [name for name in source.card.attribution if name not in attribution]
        patients = " Its training pictures are photographs of patients." if told.get("patients") else ""
        engine = {"maps": False, "way": self.request.way, **{
            key: identity[key] for key in ("strength", "steps", "guidance", "lora_scale", "redo", "batch", "tries")}}
        view = source.card.field_of_view_mm if source is not None and self.request.way == "physics-set" else None
        return Card("diffusion", PRESET, self.set_hash, self.request.seed, self.request.n, self.size_px, view, engine,
                    licences, attribution,
                    f"Pictures written by a diffusion model ({self.request.way}); gates and their thresholds stand in "
                    f"dataset.json.{patients}")

    def _pipe(self) -> Any:
        request = self.request
        make = text_pipeline if request.way != "physics-set" else (
            image_pipeline if request.redo == "whole" else inpaint_pipeline)
        return settle(make(self.base), self.device, request.offload)

    def _preset_toml(self, identity: dict[str, Any]) -> str:
        lines = ["# What this set was asked for; the same command continues it.", f'name = "{PRESET}"',
                 'generator = "diffusion"', f'set_hash = "{self.set_hash}"', f"seed = {self.request.seed}",
                 f'way = "{self.request.way}"', f'checkpoint = "{self.checkpoint}"', f"size_px = {self.size_px}"]
        lines += [f'{key}_sha256 = "{identity[key]}"' for key in ("source", "classifier") if identity[key] is not None]
        for key in ("diagnosis", "tone", "strength", "steps", "guidance", "lora_scale", "redo", "batch", "tries"):
            value = getattr(self.request, key)
            if value is not None:
                lines.append(f"{key} = {json.dumps(value)}")
        return "\n".join(lines) + "\n"

    # ---- the work

    def go(self, progress: Any, stop_after: Callable[[int], bool] | None) -> GenerateResult:
        request = self.request
        tally, made, interrupted = Tally(), 0, False
        given_up: dict[str | None, Tally] = {}
        with DatasetWriter(request.out, self.card, self.preset_toml, request.overwrite) as writer:
            before = len(writer.finished)
            progress.start(request.n, before)
            rows = {row["index"]: row for row in iter_rows(request.out)} if before else {}
            if self.source is not None:
                self.source.refuse_replaced(list(rows.values()), request.out)
            try:
                for first in range(0, request.n, request.batch):
                    block = self.slots[first:first + request.batch]
                    if all(slot.index in writer.finished for slot in block):
                        for slot in block:
                            self._take_over(rows[slot.index], tally, given_up)
                        continue
                    for one in self._block(block, tally, given_up):
                        if one.row["index"] not in writer.finished:
                            writer.write(encode_sample(one))
                            made += 1
                            progress.step(before + made)
                    if stop_after is not None and stop_after(made):
                        break
            except KeyboardInterrupt:
                interrupted = True
            finally:
                progress.stop()
            kept = len([index for index in writer.finished if index < request.n])
            counts = tally.to_json()
            shortfall = "" if interrupted else self._shortfall(kept, tally, given_up)
            writer.run["gates"] = counts
            writer.run["shortfall"] = shortfall
            writer.run["seconds"] = round(time.monotonic() - self.start, 3)
            if writer.finished:
                writer.finish()
                writer.put_extra("preview.png", preview_png(request.out))
        page = None
        if self.explain is not None:
            page = self.explain.finish(tally, self.panel.settings(), f"{kept} of {request.n} pictures kept; "
                                       "earlier runs into the same set are in the counts, not among the thumbnails")
        return GenerateResult(request.out, request.n, kept, made, counts, shortfall, page, interrupted,
                              time.monotonic() - self.start, tuple(self.remarks),
                              {} if self.source is None else self.source.left_out)

    def _take_over(self, row: dict[str, Any], tally: Tally, given_up: dict[str | None, Tally]) -> None:
        """A sample of an earlier run: into the counts, and known to the near-duplicate gate."""
        params = json.loads(row["params"])
        asked = params["asked"]
        for count in (tally, given_up.setdefault(asked["diagnosis"], Tally())):
            for refused in params["refused"]:
                count.add(refused["gate"], asked["diagnosis"], asked["ita_class"])
            count.add(None, asked["diagnosis"], asked["ita_class"])
        image = read_picture(self.request.out, row["file_name"])
        self.panel.tell(Candidate(f"{row['index']:06d}", image))

    def _block(self, block: Sequence[Slot], tally: Tally, given_up: dict[str | None, Tally]) -> Any:
        """Samples of the block as they are kept, try after try; a class nothing of which is ever kept is given up."""
        waiting = {slot.index: _Open(slot) for slot in block}
        for attempt in range(self.request.tries):
            todo = [one for one in waiting.values() if not self._hopeless(one.slot.diagnosis, given_up)]
            if not todo:
                return
            tries = [self._try(one.slot, attempt) for one in todo]
            pictures = self._pictures(tries)
            candidates = [self._candidate(t, picture) for t, picture in zip(tries, pictures, strict=True)]
            for t, decision in zip(tries, self.panel.judge(candidates), strict=True):
                slot = t.slot
                own = given_up.setdefault(slot.diagnosis, Tally())
                for count in (tally, own):
                    count.add(decision.refused_by, slot.diagnosis, slot.ita_class)
                if self.explain is not None:
                    self.explain.add(decision)
                if decision.kept:
                    yield self._sample(t, decision, waiting.pop(slot.index).refused)
                else:
                    verdict = decision.verdict(str(decision.refused_by))
                    assert verdict is not None
                    waiting[slot.index].refused.append({"try": attempt, "gate": verdict.gate,
                                                        "value": verdict.to_json()["value"]})
            if self.segmenter is not None:
                self.segmenter.forget()

    @staticmethod
    def _hopeless(diagnosis: str | None, given_up: dict[str | None, Tally]) -> bool:
        own = given_up.get(diagnosis)
        return own is not None and own.kept == 0 and own.judged >= GIVE_UP_AFTER

    def _try(self, slot: Slot, attempt: int) -> _Try:
        request, source = self.request, self.source
        parent = slot.parent(attempt)
        image = mask = None
        row: dict[str, Any] | None = None
        if source is not None and parent is not None:
            row = source.rows[parent]
            mask = source.mask(parent, self.size_px)
            if request.way == "physics-set":
                image = source.picture(parent, self.size_px)
        elif request.way == "mask":
            mask = draw_mask(self.size_px, self.set_hash, request.seed, slot.index, attempt // 2)
        physics = row is not None and request.way == "physics-set"
        words = prompt(slot.diagnosis, slot.ita_class, row["modality"] if physics and row else request.modality,
                       row["dermoscopic_type"] if physics and row else None,
                       row["anatom_site"] if physics and row else None)
        return _Try(slot, attempt, keyed(self.set_hash, request.seed, slot.index, attempt), words, parent, image, mask)

    def _pictures(self, tries: Sequence[_Try]) -> NDArray[np.uint8]:
        request = self.request
        if self.mask_input is not None:
            self.mask_input.show([t.mask for t in tries], self.size_px // self.base.vae_scale)
        images = [t.image for t in tries if t.image is not None]
        masks = None
        if request.redo != "whole":
            masks = [region(t.mask, request.redo) for t in tries if t.mask is not None]
        made = make_pictures(self.pipe, [t.prompt for t in tries], [t.seed for t in tries], self.size_px,
                             steps=request.steps, guidance=request.guidance, negative=NEGATIVE_PROMPT,
                             images=images or None, masks=masks, strength=request.strength)
        if masks is not None:  # outside, the autoencoder's copy gives way to the render itself
            for picture, image, where in zip(made, images, masks, strict=True):
                keep_outside(picture, image, where)
        return made

    def _candidate(self, t: _Try, picture: NDArray[np.uint8]) -> Candidate:
        slot, exempt, asked_deg = t.slot, frozenset[str](), None
        if t.image is not None and t.parent is not None and self.source is not None:
            exempt = frozenset({self.source.files[t.parent][0]})
            if t.parent not in self.tones:
                self.tones[t.parent] = measured_tone(t.image, t.mask)
            asked_deg = self.tones[t.parent]
        found = None
        if t.mask is None and self.segmenter is not None:
            found = self.segmenter.predict([picture])[0].mask
        return Candidate(f"{slot.index:06d}-t{t.attempt}", picture, t.mask, slot.diagnosis,
                         slot.ita_class if self.request.tone is not None or asked_deg is not None else None,
                         asked_deg, t.image, found, exempt)

    def _sample(self, t: _Try, decision: Decision, refused: list[dict[str, Any]]) -> Any:
        request, source = self.request, self.source
        image = decision.candidate.image
        row = None if source is None or t.parent is None else source.rows[t.parent]
        mask, status = t.mask, "inherited"
        if row is not None and request.way == "physics-set":  # a picture made from a mask fits it, whoever drew it
            status = handed_on(row["mask_status"])
        params: dict[str, Any] = {
            "index": t.slot.index, "way": request.way, "prompt": t.prompt, "negative_prompt": NEGATIVE_PROMPT,
            "seed": t.seed, "try": t.attempt, "steps": request.steps, "guidance": request.guidance,
            "strength": request.strength if request.way == "physics-set" else None, "redo": request.redo,
            "asked": {"diagnosis": t.slot.diagnosis, "ita_class": t.slot.ita_class,
                      "ita_image_deg": decision.candidate.ita_deg},
            "gates": decision.scores(), "refused": refused,
        }
        if mask is None:
            assert self.segmenter is not None
            found = self.segmenter.predict([image])[0]
            mask = np.where(np.asarray(found.mask) > 0, np.uint8(255), np.uint8(0))
            status = "predicted"
            params["mask_confidence"] = round(float(found.confidence), 4)
        return make_sample(
            t.slot.index, request.seed, self.set_hash, image, mask, status, t.slot.diagnosis, t.prompt,
            measured_tone(image, mask), self.checkpoint, params, row,
            None if source is None or t.parent is None else source.reference(t.parent), request.modality)

    def _shortfall(self, kept: int, tally: Tally, by_class: dict[str | None, Tally]) -> str:
        """"" or one line: how many are missing, of which class, refused by which gate."""
        missing = self.request.n - kept
        if missing <= 0:
            return ""
        parts = []
        for diagnosis, own in sorted(by_class.items(), key=lambda item: str(item[0])):
            if own.refused and own.kept < sum(1 for slot in self.slots if slot.diagnosis == diagnosis):
                gate, count = own.refused.most_common(1)[0]
                parts.append(f"{diagnosis or 'pictures'}: {own.kept} kept of {own.judged}, gate '{gate}' refused "
                             f"{count}")
        return (f"{kept} of {self.request.n} pictures passed the gates, {missing} are missing ({'; '.join(parts)}); "
                "look at --explain, change what is asked, or loosen the gate by its option")
