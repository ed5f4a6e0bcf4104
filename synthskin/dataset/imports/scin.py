"""SCIN, Skin Condition Image Network (Ward et al. 2024): photographs by lay people, up to three a case.

The label is the condition of the largest weight among the dermatologists' answers. Fitzpatrick types are the range of
the dermatologists' ratings, the self-reported type where there is none; the Monk tone is the US panel's, else India's.
"""

from __future__ import annotations

import re
from typing import Any, Final

from synthskin.dataset.format import DatasetError, short
from synthskin.dataset.imports.common import ImportOptions, Photo, Plan, Source, known, sex

#: Conditions that are one of the seven classes beyond doubt, by SCIN's names.
CLASSES: Final = {
    "melanoma": "MEL", "melanocytic nevus": "NV", "basal cell carcinoma": "BCC", "actinic keratosis": "AKIEC",
    "sk/isk": "BKL", "seborrheic keratosis": "BKL", "dermatofibroma": "DF", "hemangioma": "VASC",
    "pyogenic granuloma": "VASC",
}
AGES: Final = {"AGE_18_TO_29": 25, "AGE_30_TO_39": 35, "AGE_40_TO_49": 45, "AGE_50_TO_59": 55, "AGE_60_TO_69": 65,
               "AGE_70_TO_79": 75, "AGE_80_OR_ABOVE": 85}
SITES: Final = {
    "head_or_neck": "head/neck", "arm": "upper extremity", "back_of_hand": "upper extremity", "palm": "palms/soles",
    "foot_sole": "palms/soles", "foot_top_or_side": "lower extremity", "leg": "lower extremity",
    "torso_front": "anterior torso", "torso_back": "posterior torso", "genitalia_or_groin": "oral/genital",
}
_COLUMN: Final = "weighted_skin_condition_label"
_ENTRY: Final = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)")\s*:\s*(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*""")


def plan(source: Source, options: ImportOptions) -> Plan:
    cases = source.table("scin_cases.csv", "dataset_scin_cases.csv")
    table = source.table("scin_labels.csv", "dataset_scin_labels.csv")
    labels = {line["case_id"]: line for line in source.rows(table, ("case_id", "weighted_skin_condition_label"))}
    photos, missing = [], {}
    for number, line in enumerate(source.rows(cases, ("case_id", "image_1_path")), start=1):
        case = line["case_id"]
        answer = labels.get(case, {}) if known(case) else {}
        label = top_label(answer.get("weighted_skin_condition_label", ""), f"{source.shown}/{table}, {case}")
        low, high = _types(line, answer)
        row: dict[str, Any] = {
            "modality": "clinical", "diagnosis_status": "clinical" if label else "unknown", "fitzpatrick_min": low,
            "fitzpatrick_max": high, "monk": _monk(answer), "age_approx": AGES.get(line.get("age_group", "")),
            "sex": sex(line.get("sex_at_birth", "")), "anatom_site": _site(line)}
        for k in (1, 2, 3):
            path = line.get(f"image_{k}_path", "")
            if not path:
                continue
            name = path.rsplit("/", 1)[-1]
            image = source.named(name)
            if image is None:
                missing[name] = "its picture is missing"
                continue
            kept = {key: value for key, value in (line | answer).items() if value}
            photos.append(Photo(name.rsplit(".", 1)[0], image, label, CLASSES.get((label or "").lower()), row,
                                f"case-{case}" if known(case) else f"line-{number}", kept))
    return Plan("scin", "SCIN: photographs of skin conditions by lay people", "SCIN condition", tuple(photos), source,
                ("SCIN Data Use License: no attempt to identify anyone",),
                ("SCIN: Ward et al., JAMA Network Open 7(11), e2446615 (2024), Google LLC",), missing)


def top_label(text: str, where: str) -> str | None:
    """Condition of the largest weight in a cell such as "{'Eczema': 0.6, 'Acne': 0.4}"; None where there is none.

    Read by a pattern, never evaluated; raises DatasetError on a cell of another form.
    """
    inner = text.strip()
    if inner in ("", "{}"):
        return None
    if not (inner.startswith("{") and inner.endswith("}")):
        raise DatasetError(f"{where}: {_COLUMN} {short(text)}: {{'condition': weight}} is needed")
    weights: dict[str, float] = {}
    at, inner = 0, inner[1:-1]
    while at < len(inner):
        found = _ENTRY.match(inner, at)
        if found is None or (found.end() < len(inner) and inner[found.end()] != ","):
            raise DatasetError(f"{where}: {_COLUMN} {short(text)}: {{'condition': weight}} is needed")
        weights[found[1] if found[1] is not None else found[2]] = float(found[3])
        at = found.end() + 1
    return max(weights, key=weights.__getitem__)


def _types(case: dict[str, str], answer: dict[str, str]) -> tuple[int | None, int | None]:
    rated = [answer.get(f"dermatologist_fitzpatrick_skin_type_label_{k}", "") for k in (1, 2, 3)]
    found = [int(text[3]) for text in rated if re.fullmatch(r"FST[1-6]", text)]
    if not found and re.fullmatch(r"FST[1-6]", case.get("fitzpatrick_skin_type", "")):
        found = [int(case["fitzpatrick_skin_type"][3])]
    return (min(found), max(found)) if found else (None, None)


def _monk(answer: dict[str, str]) -> int | None:
    for key in ("monk_skin_tone_label_us", "monk_skin_tone_label_india"):
        text = known(answer.get(key, ""))
        if text is not None and re.fullmatch(r"(?:[1-9]|10)(?:\.0)?", text):
            return int(float(text))
    return None


def _site(case: dict[str, str]) -> str | None:
    """The site, where the case names exactly one part of the body."""
    named = [key.removeprefix("body_parts_") for key, value in case.items()
             if key.startswith("body_parts_") and value.upper() == "YES"]
    return SITES.get(named[0]) if len(named) == 1 else None
