"""DDI, Diverse Dermatology Images (Daneshjou et al. 2022): clinical photographs, diagnoses by histopathology.

Its skin tone 12, 34, 56 is a range of two Fitzpatrick types. DDI may not be passed on; the licence says so.
"""

from __future__ import annotations

from typing import Final

from synthskin.dataset.imports.common import ImportOptions, Photo, Plan, Source, agreed, allowed

TONES: Final = {"12": (1, 2), "34": (3, 4), "56": (5, 6)}
FLAGS: Final = {"true": "malignant", "1": "malignant", "false": "benign", "0": "benign"}
#: Diseases that are one of the seven classes beyond doubt; ending `*` stands for any ending.
CLASSES: Final = {
    "melanoma*": "MEL", "nodular-melanoma*": "MEL", "acral-lentiginous-melanoma*": "MEL", "melanocytic-nevi*": "NV",
    "dysplastic-nevus*": "NV", "acral-melanotic-nevus*": "NV", "blue-nevus*": "NV", "basal-cell-carcinoma*": "BCC",
    "actinic-keratosis*": "AKIEC", "squamous-cell-carcinoma-in-situ*": "AKIEC", "seborrheic-keratosis*": "BKL",
    "benign-keratosis*": "BKL", "dermatofibroma*": "DF", "angioma*": "VASC", "pyogenic-granuloma*": "VASC",
    "angiokeratoma*": "VASC",
}


def class_of(disease: str) -> str | None:
    low = disease.lower()
    return next((name for key, name in CLASSES.items() if low.startswith(key.removesuffix("*"))), None)


def plan(source: Source, options: ImportOptions) -> Plan:
    table = source.table("ddi_metadata.csv")
    photos, missing = [], {}
    for line in source.rows(table, ("DDI_ID", "DDI_file", "skin_tone", "malignant", "disease")):
        image = source.named(line["DDI_file"])
        if image is None:
            missing[line["DDI_file"]] = "its picture is missing"
            continue
        where = f"{source.shown}/{table}, {line['DDI_ID']}"
        low, high = allowed(TONES, line["skin_tone"], f"{where}: skin_tone")
        diagnosis, malignancy = agreed(class_of(line["disease"]),
                                       allowed(FLAGS, line["malignant"].lower(), f"{where}: malignant"))
        photos.append(Photo(line["DDI_ID"], image, line["disease"], diagnosis, source=line, row={
            "modality": "clinical", "diagnosis_status": "histopathology", "benign_malignant": malignancy,
            "fitzpatrick_min": low, "fitzpatrick_max": high}))
    return Plan("ddi", "DDI: clinical photographs with diagnoses by histopathology", "DDI disease", tuple(photos),
                source, ("Stanford DDI research use agreement: may not be passed on",),
                ("DDI: Daneshjou et al., Science Advances 8, eabq6147 (2022)",), missing)
