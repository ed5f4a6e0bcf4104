"""One sentence, and questions with answers, that are true of a picture: from its row and masks, never from a wish.

Words are sampled by hash from synonyms, so that the same sample always reads the same; siblings of a sweep or a
counterfactual share their words and differ in the facts alone. What is not known is not said.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from synthskin.conventions import ARTEFACTS
from synthskin.draw import hash_uniform
from synthskin.facts import LEAST_HAIR_SHARE, Facts
from synthskin.files import write_whole

#: Words for ITA classes 1..6 (Chardon 1991; Del Bino & Bernerd 2013).
TONE_WORDS: Final = ("very light", "light", "intermediate", "tan", "brown", "dark")
#: Below this share of the mask that shows on the actual skin the caption calls the lesion barely visible.
BARELY_VISIBLE_SHARE: Final = 0.25
#: Question of the ABCDE rule: larger than 6 mm (Abbasi et al. 2004).
LARGE_MM: Final = 6.0

LESIONS: Final = {
    "MEL": ("melanoma", "malignant melanoma", "cutaneous melanoma"),
    "NV": ("melanocytic nevus", "nevus", "benign mole", "melanocytic naevus"),
    "BCC": ("basal cell carcinoma", "BCC"),
    "AKIEC": ("actinic keratosis or intraepithelial carcinoma", "actinic keratosis or Bowen's disease"),
    "BKL": ("benign keratosis", "benign keratosis-like lesion"),
    "DF": ("dermatofibroma", "benign fibrous histiocytoma"),
    "VASC": ("vascular lesion", "benign vascular lesion"),
    None: ("skin lesion", "lesion"),
}
#: Names of structures in words; one that is not here is its name with blanks.
STRUCTURES: Final = {
    "pigment_network": ("a pigment network", "network-like pigmentation"),
    "atypical_pigment_network": ("an atypical pigment network", "an irregular pigment network"),
    "negative_network": ("a negative network", "an inverse network"),
    "globules": ("globules", "round globules"),
    "dots": ("dots", "small dots"),
    "parallel_ridge_pattern": ("a parallel ridge pattern",),
    "parallel_furrow_pattern": ("a parallel furrow pattern",),
    "follicular_pigment": ("pigment around the follicles", "follicular pigmentation"),
    "streaks": ("streaks", "radial streaks"),
    "pseudopods": ("pseudopods",),
    "blue_white_veil": ("a blue-white veil", "a bluish-white veil"),
    "regression": ("regression", "areas of regression"),
    "peppering": ("peppering", "grey peppering"),
    "milia_like_cyst": ("milia-like cysts",),
    "comedo_like_opening": ("comedo-like openings",),
    "fissures": ("fissures", "fissures and ridges"),
    "blotch": ("a blotch", "a structureless dark blotch"),
    "arborizing_vessels": ("arborizing vessels", "branching vessels"),
    "dotted_vessels": ("dotted vessels",),
    "curved_vessels": ("curved vessels",),
    "red_lacunae": ("red lacunae", "vascular lacunae"),
    "red_pseudonetwork": ("a red pseudonetwork",),
    "ulceration": ("ulceration", "an ulcer"),
    "scale": ("scale", "surface scale"),
    "central_white_patch": ("a central white patch", "a scar-like centre"),
    "leaf_like_area": ("leaf-like areas",),
    "blue_grey_ovoid_nest": ("blue-grey ovoid nests",),
    "shiny_white_streaks": ("shiny white streaks", "chrysalis structures"),
}
ARTEFACT_WORDS: Final = {
    "ruler": ("a ruler", "a millimetre scale"),
    "ink": ("{ink}ink marks", "{ink}marker on the skin"),
    "gel_bubble": ("air bubbles in the gel", "gel bubbles"),
    "dark_corner": ("dark corners", "a black surround"),
    "colour_patch": ("a colour patch", "a coloured sticker"),
    "glare": ("glare", "a bright reflection"),
    "blur": ("blurred focus", "soft focus"),
    "thick_hair": ("thick hairs", "coarse hairs"),
    "thin_hair": ("thin hairs", "fine hairs"),
}

class _Words:
    """Choice among synonyms by hash; `varied` False takes the first."""

    def __init__(self, facts: Facts, varied: bool) -> None:
        self.facts, self.varied = facts, varied

    def __call__(self, slot: str, options: Sequence[str]) -> str:
        if not self.varied:
            return options[0]
        return options[int(hash_uniform(self.facts.key, "words", slot) * len(options))]


def caption(facts: Facts, varied: bool = True) -> str:
    """One English sentence that says only what the masks and the record bear out."""
    choose = _Words(facts, varied)
    views = {
        "contact polarized": ("Polarized contact dermoscopy of", "Contact dermoscopy in polarized light of",
                              "Dermoscopic picture, contact and polarized, of"),
        "contact non-polarized": ("Non-polarized contact dermoscopy of", "Contact dermoscopy in non-polarized light of",
                                  "Dermoscopic picture, contact and non-polarized, of"),
        "non-contact polarized": ("Non-contact polarized dermoscopy of",),
        "dermoscopic": ("Dermoscopy of", "Dermoscopic picture of"),
        "clinical": ("Clinical photograph of", "Close-up photograph of"),
    }
    parts = [f"{choose('view', views.get(facts.view, ('Picture of', 'Photograph of')))} {_subject(facts, choose)}"]
    if facts.hair_share is not None:
        parts.append(_hair_words(facts.hair_share, facts.hairless, choose))
    shown = [choose(f"artefact {name}", ARTEFACT_WORDS.get(name, (name.replace("_", " "),))).format(ink=facts.ink)
             for name in facts.artefacts]
    if shown:
        parts.append(f"{choose('shown', ('with', 'showing'))} {_listed(shown)}")
    return ", ".join(parts) + "."


def _subject(facts: Facts, choose: _Words) -> str:
    tone = "" if facts.tone is None else TONE_WORDS[facts.tone - 1] + " "
    if facts.healthy:
        return f"{choose('healthy', ('healthy', 'normal'))} {tone}skin"
    if facts.perhaps_none and not facts.lesion_seen:
        return f"{tone}skin"
    if facts.has_mask and not facts.lesion_seen:
        return f"{tone}skin without a visible lesion"
    if facts.lesions > 1:
        first, second = "", ""
        if facts.diagnosis is not None:
            noun = LESIONS[facts.diagnosis][0]
            among = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun},"
            first, second = f", among them {among}", f", one of them {among}"
        many = f"{facts.lesions} lesions" if facts.counted else "lesions"
        text = choose("many", (f"{many}{first}", f"a region of skin with {many}{second}"))
        return text + (f" on {tone}skin" if tone else " on skin")
    noun = choose("lesion", LESIONS.get(facts.diagnosis, LESIONS[None]))
    if facts.visible is not None and facts.visible < BARELY_VISIBLE_SHARE:
        noun = f"{choose('faint', ('barely visible', 'hardly visible'))} {noun}"
    text = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    if facts.cut:
        text += " " + choose("cut", (
            "that reaches the edge of the picture", "that is cut by the edge of the picture"))
    elif facts.across_mm is not None:
        size = f"{facts.across_mm:.1f} mm"
        text += " " + choose("size", (f"about {size} across", f"roughly {size} in diameter", f"some {size} wide"))
    if facts.covered:
        text += " and is partly hidden" if facts.cut else " " + choose("covered", ("that is partly hidden",
                                                                                  "partly hidden from view"))
    if facts.structures:
        words = [choose(f"structure {name}", STRUCTURES.get(name, (name.replace("_", " "),)))
                 for name in facts.structures]
        text += f" {choose('having', ('with', 'showing'))} {_listed(words)}"
    return text + (f" on {tone}skin" if tone else "")


def _hair_words(share: float, hairless: bool, choose: _Words) -> str:
    if share < LEAST_HAIR_SHARE:
        return choose("no hair", ("without hair", "no hair in view") if hairless else
                      ("no hair in view", "without visible hair"))
    if share < 0.01:
        return choose("little hair", ("with a little hair", "with few hairs"))
    return choose("hair", ("with some hair", "partly covered by hair") if share < 0.05 else
                  ("with much hair", "under dense hair"))


def questions(facts: Facts, varied: bool = True) -> list[dict[str, str]]:
    """[{"question":, "answer":}], each answer a fact; as many absent structures as present ones are asked for."""
    choose = _Words(facts, varied)
    made: list[dict[str, str]] = []

    def ask(slot: str, options: Sequence[str], answer: str | bool) -> None:
        text = answer if isinstance(answer, str) else "yes" if answer else "no"
        made.append({"question": choose(f"ask {slot}", options), "answer": text})

    if facts.has_mask and not facts.perhaps_none:
        ask("lesion", ("Is there a lesion in the picture?", "Does the picture show a lesion?"), facts.lesion_seen)
    if facts.lesions > 1:
        if facts.counted:
            ask("count", ("How many lesions does the picture show?", "How many lesions are there?"), str(facts.lesions))
    elif facts.diagnosis is not None and not facts.healthy and (facts.lesion_seen or not facts.has_mask):
        ask("diagnosis", ("What is the diagnosis?", "Which kind of lesion is this?"), LESIONS[facts.diagnosis][0])
        if facts.benign_malignant in ("benign", "malignant"):
            ask("malignant", ("Is the lesion malignant?",), facts.benign_malignant == "malignant")
    if facts.tone is not None:
        ask("tone", ("Which tone has the skin around?", "What is the skin tone?"),
            f"{TONE_WORDS[facts.tone - 1]} (ITA class {facts.tone})")
    if facts.lesion_seen and facts.has_mask:
        one = facts.lesions <= 1
        if one and (facts.cut or not facts.covered):
            ask("edge", ("Does the lesion reach the edge of the picture?", "Is the lesion cut by the frame?"),
                facts.cut)
        if one and facts.across_mm is not None and (not facts.cut or facts.across_mm > LARGE_MM):
            ask("large", (f"Is the lesion larger than {LARGE_MM:g} mm?",
                          f"Does the lesion measure more than {LARGE_MM:g} mm across?"), facts.across_mm > LARGE_MM)
        if one and facts.across_mm is not None and not facts.cut:
            ask("size", ("How large is the lesion?", "What is the lesion's diameter?"), f"{facts.across_mm:.1f} mm")
        for name, present in _balanced(facts, facts.structures, tuple(STRUCTURES)) if one and not facts.coarse else ():
            words = STRUCTURES.get(name, (name.replace("_", " "),))[0]
            ask(name, (f"Does the lesion show {words}?", f"Can {words} be seen?"), present)
    if facts.has_mask:
        # ordinary hair can be as thick, or as thin: where there is any, neither is said to be absent
        known = tuple(name for name in ARTEFACTS if facts.hairless or name not in ("thick_hair", "thin_hair"))
        for name, present in _balanced(facts, facts.artefacts, known, least=1):
            words = ARTEFACT_WORDS.get(name, (name.replace("_", " "),))[0].format(ink="")
            ask(name, (f"Does the picture contain {words}?", f"Can one see {words} in the picture?"), present)
    if facts.hair_share is not None and (facts.hairless or facts.hair_share >= LEAST_HAIR_SHARE):
        ask("hair", ("Is there hair in the picture?", "Does hair cover any of the picture?"), not facts.hairless)
    if facts.view.startswith("contact"):
        ask("polarized", ("Was it taken in polarized light?",), facts.view == "contact polarized")
    return made


def write_questions(directory: Path, out: Path, varied: bool = True) -> tuple[int, int]:
    """Write file_name, caption and questions of every sample of a set, one JSON object a line; (samples, questions).

    Raises DatasetError where the set cannot be read or `out` cannot be written; then nothing is left behind.
    """
    from synthskin.dataset.format import DatasetError
    from synthskin.dataset.reader import open_dataset

    data = open_dataset(directory)
    lines, asked = [], 0
    for sample in data:
        facts = Facts.of(sample)
        made = questions(facts, varied)
        asked += len(made)
        entry = {"file_name": sample.row["file_name"], "caption": caption(facts, varied), "questions": made}
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    write_whole(out, "".join(lines).encode(), DatasetError, "choose another --out")
    return len(lines), asked


def _balanced(
    facts: Facts, present: Sequence[str], known: Sequence[str], least: int = 2
) -> list[tuple[str, bool]]:
    """All that is present, and as many (at least `least`) that is absent, chosen by hash, in the order of names."""
    unasked = {*present, *facts.unsaid, *(("pigment_network",) if "atypical_pigment_network" in present else ())}
    if facts.view != "contact polarized":
        unasked.add("shiny_white_streaks")
    absent = sorted((name for name in known if name not in unasked),
                    key=lambda name: hash_uniform(facts.key, "absent", name))
    return sorted([(name, True) for name in present] + [(name, False) for name in absent[: max(least, len(present))]])


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
