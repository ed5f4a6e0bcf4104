"""The causes an audit moves, one at a time: which field, which values, and which of them are linked by physics.

A cause is data; synthskin.audit renders it. `nuisance` causes should not move a diagnosis; `sign` causes are part of
what the lesion looks like, and a model may use them. Two causes are linked where one cannot be moved without moving
what the other moves: then a model that follows either shows on both, and the audit names the link.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from synthskin.bias.errors import BiasError

_SWITCH: Final = (0, 1)
KINDS: Final = ("field", "tones", "scale")
ROLES: Final = ("nuisance", "sign")


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause and its values.

    name, label   short name, and words for people
    unit          of the values; "" where they have none
    kind          field: `fields[0]` takes the values; tones: all of the skin follows the tone; scale: the drawn values
                  of all `fields` are multiplied by the values
    reference     position of the value that decisions are compared with
    sets          key=value held in all siblings, so that the cause has something to act on
    """

    name: str
    label: str
    fields: tuple[str, ...]
    values: tuple[Any, ...]
    unit: str = ""
    kind: str = "field"
    role: str = "nuisance"
    reference: int = 0
    sets: tuple[str, ...] = ()

    @property
    def about_the_lesion(self) -> bool:
        """Healthy skin has nothing that could move."""
        return self.role == "sign"

    def said(self, value: Any) -> str:
        """A value in words."""
        if self.fields[0].startswith("artefacts.") and self.values == _SWITCH:
            return "with" if value else "without"
        return f"{value:g}" if isinstance(value, float) else str(value)


_MELANIN: Final = ("lesion.epidermal_melanin", "lesion.junctional_melanin", "lesion.dermal_melanin")

#: Values: those of S-SYNTH (Kim et al. 2024) where it has them, the tones of the presets, the rest by design within the
#: bounds and sources of `synthskin presets fields`.
CAUSES: Final = (
    Cause("tone", "skin tone", ("skin",), ("fst1", "fst2", "fst3", "fst4", "fst5", "fst6"), kind="tones"),
    Cause("melanin", "melanin of the skin", ("skin.melanosome_fraction",), (0.01, 0.11, 0.21, 0.31, 0.41),
          "melanosome fraction"),
    Cause("blood", "blood of the skin", ("skin.blood_fraction",), (0.002, 0.005, 0.02, 0.05), "blood fraction"),
    Cause("pheomelanin", "pheomelanin", ("skin.pheomelanin_share",), (0.0, 0.35, 0.7), "share of the melanin"),
    Cause("dryness", "dry skin", ("skin.dryness",), (0.0, 0.5, 1.0)),
    Cause("hair", "hair", ("hair.count",), (0, 10, 30), "hairs"),
    Cause("ruler", "ruler", ("artefacts.ruler",), _SWITCH),
    Cause("ink", "ink", ("artefacts.ink",), _SWITCH),
    Cause("gel_bubble", "gel bubbles", ("artefacts.gel_bubble",), _SWITCH),
    Cause("dark_corner", "dark corners", ("artefacts.dark_corner",), _SWITCH),
    Cause("colour_patch", "colour patch", ("artefacts.colour_patch",), _SWITCH),
    Cause("glare", "glare", ("artefacts.glare",), _SWITCH),
    Cause("blur", "blur", ("artefacts.blur_um",), (5.0, 40.0, 80.0, 160.0), "um", sets=("artefacts.blur=1",)),
    Cause("exposure", "exposure", ("device.exposure_ev",), (-0.6, -0.3, 0.0, 0.3, 0.6), "stops", reference=2),
    Cause("white_balance", "white balance", ("device.white_balance_mired",), (-60.0, -30.0, 0.0, 30.0, 60.0), "mired",
          reference=2),
    Cause("light", "fall-off of the light", ("camera.light_falloff",), (0.0, 0.25, 0.5), "share lost at the corner"),
    Cause("polarisation", "polarisation", ("camera.dermoscopic_type",),
          ("contact polarized", "contact non-polarized")),
    Cause("device", "device", ("device.profile",),
          ("colourimetric", "dslr_dermoscope", "phone_dermoscope", "video_dermoscope", "scanned_slide",
           "led_dermoscope")),
    Cause("contrast", "contrast of the lesion", _MELANIN, (1.0, 0.75, 0.5, 0.25), "of the lesion's melanin",
          kind="scale", role="sign"),
    Cause("depth", "depth of the lesion's melanin", ("lesion.dermal_depth_um",), (40.0, 80.0, 160.0, 320.0), "um",
          role="sign", sets=("lesion.dermal_melanin=0.1",)),
    Cause("size", "size of the lesion", ("lesion.diameter_mm",), (3.0, 5.0, 7.0), "mm", role="sign", reference=1),
    Cause("regularity", "regularity of the lesion", ("lesion.regularity",), (0.95, 0.5, 0.05), role="sign"),
    Cause("redness", "redness around the lesion", ("lesion.erythema",), (0.0, 0.6, 1.2), role="sign"),
)
BY_NAME: Final[Mapping[str, Cause]] = {cause.name: cause for cause in CAUSES}

#: (cause, cause): why moving one moves what the other moves.
LINKS: Final[Mapping[tuple[str, str], str]] = {
    ("tone", "melanin"): "skin tone is mostly melanin",
    ("tone", "contrast"): "darker skin stands out less from a pigmented lesion",
    ("melanin", "contrast"): "darker skin stands out less from a pigmented lesion",
    ("tone", "blood"): "blood darkens the skin too",
    ("melanin", "blood"): "blood darkens the skin too",
    ("tone", "exposure"): "a picture cannot tell dark skin from little light",
    ("melanin", "exposure"): "a picture cannot tell dark skin from little light",
    ("tone", "light"): "a picture cannot tell dark skin from little light",
    ("melanin", "light"): "a picture cannot tell dark skin from little light",
    ("exposure", "light"): "both are the amount of light",
    ("exposure", "device"): "each device has its own exposure and tone curve",
    ("pheomelanin", "white_balance"): "both make the picture yellower or bluer",
    ("pheomelanin", "device"): "each device has its own colours",
    ("white_balance", "device"): "each device has its own colours",
    ("contrast", "depth"): "melanin seen through more tissue is paler and bluer",
    ("contrast", "polarisation"): "light off the surface lies over the lesion",
    ("glare", "polarisation"): "light off the surface lies over the picture",
    ("blur", "depth"): "melanin seen through more tissue is blurred",
}


def linked(name: str) -> dict[str, str]:
    """{other cause: why} of the causes that are physically linked to `name`."""
    return {(b if a == name else a): why for (a, b), why in LINKS.items() if name in (a, b)}


def pick(names: str | None) -> tuple[Cause, ...]:
    """Causes from `melanin,ink`; all if None. Raises BiasError."""
    if names is None:
        return CAUSES
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in BY_NAME:
            raise BiasError(f"--causes {names[:80]}: unknown cause '{name[:40]}'; allowed are {', '.join(BY_NAME)}")
    if len(set(wanted)) != len(wanted):
        raise BiasError(f"--causes {names[:80]}: a cause comes twice")
    return tuple(BY_NAME[name] for name in wanted)


def of_field(field: str) -> Cause:
    """The known cause of a field, or one of its own without values; never under the name of another."""
    known = next((own for own in CAUSES if own.kind == "field" and own.fields == (field,)), None)
    if known is not None:
        return known
    part, _, name = field.partition(".")
    name = re.sub(r"\W", "_", name or part)
    return Cause(f"{part}_{name}" if name in BY_NAME else name, field, (field,), (),
                 role="sign" if part in ("lesion", "structures") else "nuisance")


def of_settings(settings: Mapping[str, Any]) -> Cause:
    """The cause that a set's card tells in `engine.variation`; raises BiasError if it is none of a known kind."""
    kind = settings.get("kind")
    cause: Cause | None
    values: Any
    if kind == "counterfactual":
        cause, values = BY_NAME["tone"], settings.get("tones")
    elif kind == "scale":
        cause, values = BY_NAME.get(str(settings.get("name"))), settings.get("values")
    elif kind in ("sweep", "followup"):
        cause, values = of_field(str(settings.get("field"))), settings.get("values")
    else:
        cause, values = None, None
    if cause is None or not isinstance(values, list) or len(values) < 2:
        raise BiasError(f"variation of kind {str(kind)[:40]!r}: an audit reads sweeps, follow-ups, counterfactuals and "
                        "its own sets")
    return cause if list(cause.values) == values else replace(cause, values=tuple(values), reference=0)
