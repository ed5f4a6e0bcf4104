"""InvarianceLoss: CIRCLe's regulariser, for use with any tone changer."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

DEFAULT_WEIGHT: Final = 0.1  # Pakzad et al. 2022


class InvarianceLoss(nn.Module):
    """weight times the batch mean of || z(x) - z(T(x)) ||^2: features of a picture and of it in another skin tone.

    Pakzad, Abhishek & Hamarneh 2022 (CIRCLe, ECCV Workshops), after Nguyen et al. 2021 (domain-invariant
    representations). Add it to the classification loss on x. Gradients reach both branches. Raises ValueError if the
    two do not fit.
    """

    def __init__(self, weight: float = DEFAULT_WEIGHT) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"weight={weight}: 0 or more is needed")
        self.weight = weight

    def forward(self, features: Tensor, shifted: Tensor) -> Tensor:
        """Scalar of features (n, ...) and (n, ...)."""
        if features.shape != shifted.shape or features.ndim < 2:
            raise ValueError(f"features {tuple(features.shape)} and {tuple(shifted.shape)}: two of (n, ...) are needed")
        return self.weight * (features - shifted).flatten(1).square().sum(1).mean()

    def extra_repr(self) -> str:
        return f"weight={self.weight}"
