"""Prompts from metadata: class and tone first, because CLIP cuts at 77 tokens; then modality and site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from synthskin.captions import LESIONS, TONE_WORDS
from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.diffusion.errors import DiffusionError

#: What is steered away from, where guidance is used; no word of it may be a feature of skin.
NEGATIVE_PROMPT: Final = "drawing, text, watermark"
_VIEWS: Final = {
    "contact polarized": "polarized contact dermoscopy",
    "contact non-polarized": "non-polarized contact dermoscopy",
    "non-contact polarized": "polarized dermoscopy",
}
_MODALITIES: Final = {"dermoscopic": "dermoscopy", "clinical": "clinical photograph"}


def prompt(diagnosis: str | None, ita_class: int | None, modality: str | None = None,
           dermoscopic_type: str | None = None, site: str | None = None, raw: str | None = None) -> str:
    """One line such as "melanoma on brown skin, polarized contact dermoscopy, upper extremity".

    `raw` is the source's own label, used where the diagnosis is none of the seven classes.
    """
    skin = "skin" if ita_class is None else f"{TONE_WORDS[ita_class - 1]} skin"
    if diagnosis == HEALTHY:
        head = f"healthy {skin}"
    else:
        named = " ".join(raw.split())[:60] if diagnosis is None and raw else None
        noun = named or LESIONS[diagnosis][0]
        head = noun if ita_class is None else f"{noun} on {skin}"
    view = _VIEWS.get(dermoscopic_type or "") or _MODALITIES.get(modality or "")
    return ", ".join(part for part in (head, view, site) if part)


def prompt_of_row(row: Mapping[str, Any]) -> str | None:
    """Prompt of a row of metadata.jsonl; None where it says neither diagnosis nor tone."""
    if row["diagnosis"] is None and row["diagnosis_raw"] is None and row["ita_class"] is None:
        return None
    return prompt(row["diagnosis"], row["ita_class"], row["modality"], row["dermoscopic_type"], row["anatom_site"],
                  row["diagnosis_raw"])


def every_prompt() -> list[str]:
    """A prompt of each class and tone with each view: the words a tokenizer of our own must know."""
    made = []
    for diagnosis in (*DIAGNOSES, HEALTHY, None):
        for tone in (None, 1, 2, 3, 4, 5, 6):
            for modality, kind in (("dermoscopic", None), ("clinical", None), *(("dermoscopic", k) for k in _VIEWS)):
                made.append(prompt(diagnosis, tone, modality, kind))
    return made


def parse_weights(text: str, allowed: Mapping[str, Any] | list[str], option: str) -> dict[str, float]:
    """{name: share} of "MEL=1,NV=3", normalised; raises DiffusionError naming the option."""
    found: dict[str, float] = {}
    names = list(allowed)
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name not in names:
            raise DiffusionError(f"{option} {name!r}: allowed are {', '.join(names)}")
        if name in found:
            raise DiffusionError(f"{option}: {name} comes twice")
        try:
            weight = float(number or 1.0)
        except ValueError:
            raise DiffusionError(f"{option} {name}={number!r}: a number is needed, such as {name}=1") from None
        if not 0 <= weight < 1e9:
            raise DiffusionError(f"{option} {name}={number}: a weight of 0 or more is needed")
        found[name] = weight
    total = sum(found.values())
    if total <= 0:
        raise DiffusionError(f"{option} {text!r}: at least one weight above 0 is needed")
    return {name: weight / total for name, weight in found.items() if weight > 0}
