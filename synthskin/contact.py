"""Artefacts that only a dermatoscope on the skin brings: what would draw them in photographs is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from synthskin.preset import Preset

#: {artefact: the part of a dermatoscope that it comes from}; a photograph has none of them, and its own reflections,
#: focus and shading come from `clinical.*`.
NEEDS_CONTACT: Final = {"gel_bubble": "gel", "dark_corner": "aperture", "glare": "plate"}


def contact_fault(preset: Preset, field: str | None = None, values: Sequence[Any] = ()) -> str | None:
    """What is wrong where a photograph of the preset could have such an artefact, and what to do; None: nothing.

    field, values   of a sweep: they take the place of the field's laws
    """
    views = set(values) if field == "camera.view" else preset.options_of("camera.view")
    photographs = sorted(views - {"dermoscopic"})
    if not photographs:
        return None
    found = [name for name in NEEDS_CONTACT
             if (any(values) if field == f"artefacts.{name}" else can_occur(preset, name))]
    if not found:
        return None
    told = ", ".join(f"artefacts.{name} ({NEEDS_CONTACT[name]})" for name in found)
    mend = " ".join(f"--set artefacts.{name}=0" for name in found if field != f"artefacts.{name}")
    against = f" ({mend} against a preset's own)" if mend else ""
    return (f"camera.view = {' or '.join(photographs)}: a photograph has no part of a dermatoscope that makes {told}; "
            f"leave that out{against} or choose camera.view=dermoscopic")


def can_occur(preset: Preset, artefact: str) -> bool:
    """Can the preset draw the artefact?"""
    chances: dict[str, float] = {}
    for confound in preset.met_confounds:
        if confound.artefact == artefact:
            chances = dict(confound.probabilities)
    if any(chances.values()):
        return True
    if set(chances) == {name for name, _ in preset.diagnosis}:
        return False
    limits = [(law, law.limits()) for law in preset.laws_of(f"artefacts.{artefact}")]
    return any(span is not None and span[1] > 0 and law.zero_probability < 1 for law, span in limits)
