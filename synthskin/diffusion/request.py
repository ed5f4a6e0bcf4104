"""What is asked of `generate`, checked once; and what came of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from synthskin.diffusion.errors import DiffusionError
from synthskin.gates.label import MIN_PROBABILITY
from synthskin.gates.mask import MIN_CONFIDENCE, MIN_IOU
from synthskin.gates.tone import MAX_ERROR_DEG

#: Strength of image-to-image, chosen from a sweep: up to here the inherited mask holds (docs/diffusion.md).
STRENGTH: Final = 0.2
GATES: Final = ("blur", "mask", "tone", "class", "near-duplicate")
REDO: Final = ("whole", "lesion", "skin")
#: Candidates of one class without a single one kept, after which the class is given up.
GIVE_UP_AFTER: Final = 32


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A set to be written.

    model           folder of a LoRA, or of a base (quickstart's)
    from_set        renders to start from (way `physics-set`), the masks inherited
    mask_from       set whose masks are given to the model, or `drawn` (way `mask`)
    neither         free text (way `text`): the mask is predicted
    redo            physics-set: whole picture, or by inpainting the `lesion` or the `skin` alone
    lora_scale      how much of the LoRA counts
    tries           candidates a sample before it is given up
    train_data      sets for the near-duplicate gate; () takes those the LoRA was trained on
    skip_gates      names of gates that are left out
    """

    model: Path
    out: Path
    n: int
    diagnosis: str | None = None
    tone: str | None = None
    from_set: Path | None = None
    mask_from: str | None = None
    base: str | None = None
    redo: str = "whole"
    strength: float = STRENGTH
    steps: int = 25
    guidance: float = 5.0
    lora_scale: float = 1.0
    size_px: int | None = None
    batch: int = 8
    seed: int = 0
    tries: int = 8
    min_iou: float = MIN_IOU
    min_confidence: float = MIN_CONFIDENCE
    max_tone_error_deg: float = MAX_ERROR_DEG
    min_probability: float = MIN_PROBABILITY
    classifier: Path | None = None
    segmenter: Path | None = None
    train_data: tuple[Path, ...] = ()
    skip_gates: tuple[str, ...] = ()
    explain: Path | None = None
    modality: str = "dermoscopic"
    precision: str = "no"
    offload: bool = False
    device: str = "auto"
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.from_set is not None and self.mask_from is not None:
            raise DiffusionError("--from physics-set and --mask-from: give one of the two")
        for option, value, least, most in (
            ("--n", self.n, 1, 10_000_000), ("--strength", self.strength, 0.02, 1.0), ("--steps", self.steps, 1, 1000),
            ("--batch", self.batch, 1, 4096), ("--tries", self.tries, 1, 1000), ("--seed", self.seed, 0, 2**62),
            ("--guidance", self.guidance, 0, 50), ("--lora-scale", self.lora_scale, 0, 4),
        ):
            if not least <= value <= most:
                raise DiffusionError(f"{option} {value:g}: allowed is {least:g} to {most:g}")
        if self.redo not in REDO:
            raise DiffusionError(f"--redo {self.redo}: allowed are {', '.join(REDO)}")
        if self.redo != "whole" and self.from_set is None:
            raise DiffusionError(f"--redo {self.redo}: needs --from physics-set and a set of renders")
        unknown = [name for name in self.skip_gates if name not in GATES]
        if unknown:
            raise DiffusionError(f"--skip-gate {unknown[0]}: allowed are {', '.join(GATES)}")
        if self.steps * self.strength < 1 and self.from_set is not None:
            raise DiffusionError(f"--strength {self.strength:g} of --steps {self.steps}: less than one step; raise one")

        self._refuse_inside()

    def _refuse_inside(self) -> None:
        """A set keeps its folder to itself: nothing else is written into --out, nor anything into a set that is read.
        """
        mask_from = None if self.mask_from in (None, "drawn") else Path(str(self.mask_from))
        read = [("--from", self.from_set), ("--mask-from", mask_from), *(("--train-data", s) for s in self.train_data)]
        for option, folder, sets in (("--out", self.out, read),
                                     ("--explain", self.explain, [*read, ("--out", self.out)])):
            if folder is None:
                continue
            above = (folder.resolve(), *folder.resolve().parents)
            for name, taken in sets:
                if taken is not None and taken.resolve() in above:
                    raise DiffusionError(f"{option} {folder}: lies inside {name} {taken}; choose a folder elsewhere")

    @property
    def needs_lesion(self) -> bool:
        """Is a render or mask without a lesion of no use? Inpainting it would hand back the render unchanged."""
        return self.way == "mask" or self.redo == "lesion"

    @property
    def way(self) -> str:
        return "physics-set" if self.from_set is not None else "mask" if self.mask_from is not None else "text"

    def identity(self, **told: Any) -> dict[str, Any]:
        """What decides the pixels and the choice among them; paths are left out, hashes (`told`) stand for them."""
        names = ("diagnosis", "tone", "redo", "strength", "steps", "guidance", "lora_scale", "seed", "tries", "min_iou",
                 "min_confidence", "max_tone_error_deg", "min_probability", "modality", "precision", "batch")
        return {"way": self.way, **{name: getattr(self, name) for name in names},
                "skip_gates": sorted(self.skip_gates), **told}


def identity_hash(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """`counts` is the gates' tally; `shortfall` is empty where n asked is n kept; `left_out` are rows of the source by
    reason."""

    out: Path
    n: int
    kept: int
    made: int
    counts: dict[str, Any]
    shortfall: str
    page: Path | None
    interrupted: bool
    seconds: float
    remarks: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
