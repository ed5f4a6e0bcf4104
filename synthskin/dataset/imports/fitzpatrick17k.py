"""Fitzpatrick17k (Groh et al. 2021): clinical photographs of 114 conditions with Fitzpatrick types rated by people.

-1 means that no type was agreed on. Most labels have no place in the seven classes of ISIC 2018 and stay raw.
"""

from __future__ import annotations

from typing import Final

from synthskin.dataset.imports.common import ImportOptions, Photo, Plan, Source, agreed, allowed

TYPES: Final = {"-1": None, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "6": 6}
#: Labels that are one of the seven classes beyond doubt.
CLASSES: Final = {
    "melanoma": "MEL", "malignant melanoma": "MEL", "superficial spreading melanoma ssm": "MEL",
    "lentigo maligna": "MEL", "basal cell carcinoma": "BCC", "basal cell carcinoma morpheiform": "BCC",
    "solid cystic basal cell carcinoma": "BCC", "actinic keratosis": "AKIEC", "seborrheic keratosis": "BKL",
    "dermatofibroma": "DF", "nevocytic nevus": "NV", "congenital nevus": "NV", "halo nevus": "NV",
    "pyogenic granuloma": "VASC",
}
MALIGNANCY: Final = {"benign": "benign", "malignant": "malignant", "non-neoplastic": None}


def plan(source: Source, options: ImportOptions) -> Plan:
    table = source.table("fitzpatrick17k.csv")
    photos, missing = [], {}
    for line in source.rows(table, ("md5hash", "fitzpatrick_scale", "label", "nine_partition_label",
                                    "three_partition_label")):
        name = line["md5hash"]
        image = source.photo(name)
        if image is None:
            missing[name] = "its picture is missing"
            continue
        where = f"{source.shown}/{table}, {name}"
        rated = allowed(TYPES, line["fitzpatrick_scale"].removesuffix(".0"), f"{where}: fitzpatrick_scale")
        malignancy = allowed(MALIGNANCY, line["three_partition_label"].lower(), f"{where}: three_partition_label")
        diagnosis, malignancy = agreed(CLASSES.get(line["label"].lower()), malignancy)
        photos.append(Photo(name, image, line["label"], diagnosis, source=line, row={
            "modality": "clinical", "diagnosis_status": "clinical", "benign_malignant": malignancy,
            "fitzpatrick_min": rated, "fitzpatrick_max": rated}))
    return Plan("fitzpatrick17k", "Fitzpatrick17k: clinical photographs with Fitzpatrick types", "Fitzpatrick17k label",
                tuple(photos), source,
                ("CC-BY-NC-SA-3.0", "Terms of DermaAmin and Atlas Dermatologico (non-commercial)"),
                ("Fitzpatrick17k: Groh et al., CVPR Workshops 2021, 1820-1828",), missing)
