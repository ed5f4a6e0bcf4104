"""TrainOptions: all that decides the weights besides the pictures; stands in the card, is compared on resume."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from synthskin.classify.errors import ClassifyError

NETWORKS: Final = ("densenet121", "small")
LOSSES: Final = ("cross_entropy", "focal")
WEIGHTINGS: Final = ("none", "balanced")
LABELS: Final = ("diagnosis", "benign_malignant", "ita_class")
DEVICES: Final = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Raises ClassifyError on a value that is not allowed.

    network           densenet121 (MONAI's, 7.0 million weights, no pretrained ones), or small (MONAI's residual
                      network of four blocks, 0.7 million, for processors)
    size_px           side of the square the pictures are brought to
    steps, batch      optimiser steps, pictures a step
    learning_rate     its highest value: linear rise over `warmup_share` of the steps, then a cosine to 0 (Loshchilov
                      2017)
    weight_decay      decoupled (AdamW; Loshchilov 2019), not on norms and biases
    label_smoothing   share of the target spread over all classes (Szegedy 2016)
    loss, focal_gamma cross_entropy, or focal (Lin 2017) with this exponent
    class_weights     none, or balanced: the loss of a class times n / (k n_class)
    logit_pairing     weight of the mean squared difference of the logits of siblings (rows of one group and label, as
                      sweeps and counterfactuals write them); half of a batch are then siblings of the other half
                      (counterfactual logit pairing, Garg 2019)
    ema_decay         of the averaged weights, which are those that are kept; lower in the first steps
    augment           flips, rotations, crops, mild colour
    label, classes    key of a row that is learned, and its values in order; () takes those that occur
    validation_share  share of the groups of each class kept for validation and temperature, where the set has no
                      rows with split=val
    seed              of weights, order, augmentation and the validation split
    save_every        steps between states that a resumed run starts from
    device            auto (cuda where there is one), cpu or cuda
    """

    network: str = "small"
    size_px: int = 128
    steps: int = 1500
    batch: int = 32
    learning_rate: float = 2e-3
    warmup_share: float = 0.05
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    loss: str = "cross_entropy"
    focal_gamma: float = 2.0
    class_weights: str = "none"
    logit_pairing: float = 0.0
    ema_decay: float = 0.995
    augment: bool = True
    label: str = "diagnosis"
    classes: tuple[str, ...] = ()
    validation_share: float = 0.15
    seed: int = 0
    save_every: int = 100
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, allowed in (("network", NETWORKS), ("loss", LOSSES), ("class_weights", WEIGHTINGS),
                              ("label", LABELS), ("device", DEVICES)):
            if getattr(self, name) not in allowed:
                raise ClassifyError(f"{name}={getattr(self, name)!r}: allowed are {', '.join(allowed)}")
        for name, low, high in (("size_px", 32, 1024), ("steps", 1, 10_000_000), ("batch", 2, 4096),
                                ("seed", 0, 2**63 - 1), ("save_every", 1, 10_000_000)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ClassifyError(f"{name}={value!r}: a whole number from {low} to {high} is needed")
        for name, least, most in (("learning_rate", 1e-8, 1.0), ("warmup_share", 0.0, 0.9),
                                  ("weight_decay", 0.0, 1.0), ("label_smoothing", 0.0, 0.5),
                                  ("focal_gamma", 0.0, 10.0), ("ema_decay", 0.0, 0.99999),
                                  ("logit_pairing", 0.0, 100.0), ("validation_share", 0.02, 0.5)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or not least <= value <= most:
                raise ClassifyError(f"{name}={value!r}: a number from {least:g} to {most:g} is needed")
        if self.logit_pairing and self.batch % 2:
            raise ClassifyError(f"batch={self.batch}: half are siblings (logit_pairing); an even number is needed")
        if len(set(self.classes)) != len(self.classes) or len(self.classes) == 1:
            raise ClassifyError(f"classes={','.join(self.classes)}: two or more, each once, are needed")

    def to_dict(self) -> dict[str, Any]:
        """JSON form; tuples as lists."""
        return asdict(self) | {"classes": list(self.classes)}

    def identity(self) -> dict[str, Any]:
        """What must match when a run is continued: all but how often its state is saved.

        `logit_pairing` only where there is some: models from before it existed are the same as those without it.
        """
        left_out = {"save_every"} if self.logit_pairing else {"save_every", "logit_pairing"}
        return {key: value for key, value in self.to_dict().items() if key not in left_out}
