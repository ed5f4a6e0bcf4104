"""draw(preset, seed, index) -> SampleRecord: with preset.py the only place where parameters are sampled.

Each field has its own uniform number, a hash of (preset name, seed, index, field name). So adding or overriding a
field leaves all other draws as they were, and any sample can be drawn alone, in any order, on any machine.
A variant or a tone changes the law that a number is mapped through, never the number: the same lesion on any skin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from synthskin.preset import Preset
from synthskin.record import GROUPS, SampleRecord

#: Where a structure is absent (its first number is 0), so is what else of it would show; of all others the first
#: number decides alone.
_GOES_WITH: Final = {"structures.acanthosis_keratin_um": "structures.acanthosis_thickness_um"}


def hash_uniform(*parts: str | int) -> float:
    """Uniform number in the open interval (0, 1), 53 bits, from the SHA-256 of the parts."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    bits = int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big") >> 11
    return min((bits + 0.5) / 2.0**53, 1.0 - 2.0**-53)


def draw(preset: Preset, seed: int, index: int) -> SampleRecord:
    """Record of sample `index`.

    preset   resolved preset
    seed     any whole number from 0; 0 is a seed like any other
    index    0, 1, 2 ...
    Raises ValueError on a negative or non-integer seed or index.
    """
    for what, number in (("seed", seed), ("index", index)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ValueError(f"{what}={number!r}: a whole number of 0 or more is needed")
    diagnosis = _pick(preset.diagnosis, hash_uniform(preset.name, seed, index, "diagnosis"))
    forms = [(form, form.weight) for form in preset.reachable if form.diagnosis == diagnosis]
    variant = _pick(forms, hash_uniform(preset.name, seed, index, "variant")) if forms else None
    tones = [(tone, tone.weight) for tone in preset.tones]
    tone = _pick(tones, hash_uniform(preset.name, seed, index, "tone")) if tones else None
    chances = {confound.key: confound.probability(diagnosis) for confound in preset.confounds}
    groups: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
    absent: set[str] = set()
    for key, own in preset.fields.items():
        law = own
        if not own.pinned:
            law = tone.fields.get(key, law) if tone is not None else law
            law = variant.fields.get(key, law) if variant is not None else law
        group, _, name = key.partition(".")
        chance = chances.get(key)
        if chance is not None:
            value: Any = int(hash_uniform(preset.name, seed, index, f"{key}#zero") >= 1.0 - chance)
        elif law.zero_probability > 0 and (
            hash_uniform(preset.name, seed, index, f"{key}#zero") < law.zero_probability
        ):
            value = 0 if law.law == "integer" or isinstance(law.args[0], int) else 0.0
            absent.add(key)
        elif key in _GOES_WITH and _GOES_WITH[key] in absent and not own.pinned:
            value = 0.0
        else:
            value = law.inverse_cdf(hash_uniform(preset.name, seed, index, key))
        groups[group][name] = value
    made: dict[str, Any] = {name: GROUPS[name](**values) for name, values in groups.items()}
    return SampleRecord(
        preset=preset.name,
        set_hash=preset.hash,
        seed=seed,
        index=index,
        diagnosis=diagnosis,
        variant="" if variant is None else variant.name,
        **made,
    )


def _pick(weighted: Sequence[tuple[Any, float]], u: float) -> Any:
    total = 0.0
    for what, weight in weighted:
        total += weight
        if u < total:
            return what
    return weighted[-1][0]
