"""HAM10000 (Tschandl, Rosendahl, Kittler 2018): 10 015 dermoscopic photographs, several a lesion."""

from __future__ import annotations

from typing import Final

from synthskin.dataset.imports.common import ImportOptions, Photo, Plan, Source, age, allowed, known, sex

DX: Final = {"nv": "NV", "mel": "MEL", "bkl": "BKL", "bcc": "BCC", "akiec": "AKIEC", "vasc": "VASC", "df": "DF"}
DX_TYPE: Final = {"histo": "histopathology", "follow_up": "clinical", "consensus": "clinical", "confocal": "clinical"}
#: Places that have one counterpart in the ISIC vocabulary; `trunk` may be either side and has none.
SITES: Final = {
    "abdomen": "anterior torso", "chest": "anterior torso", "back": "posterior torso", "face": "head/neck",
    "scalp": "head/neck", "ear": "head/neck", "neck": "head/neck", "upper extremity": "upper extremity",
    "lower extremity": "lower extremity", "hand": "upper extremity", "foot": "lower extremity",
    "acral": "palms/soles", "genital": "oral/genital",
}


def plan(source: Source, options: ImportOptions) -> Plan:
    table = source.table("HAM10000_metadata.csv", "HAM10000_metadata")
    photos, missing = [], {}
    for line in source.rows(table, ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")):
        name = line["image_id"]
        image = source.photo(name)
        if image is None:
            missing[name] = "its picture is missing"
            continue
        where = f"{source.shown}/{table}, {name}"
        photos.append(Photo(
            name, image, line["dx"], allowed(DX, line["dx"], f"{where}: dx"), group=known(line["lesion_id"]),
            source=line, mask=source.named(f"{name}_segmentation.png"),
            row={"diagnosis_status": allowed(DX_TYPE, line["dx_type"], f"{where}: dx_type"), "modality": "dermoscopic",
                 "age_approx": age(line["age"]), "sex": sex(line["sex"]), "lesion_id": known(line["lesion_id"]),
                 "anatom_site": SITES.get(line["localization"].lower())}))
    return Plan("ham10000", "HAM10000: dermoscopic photographs of pigmented lesions", "HAM10000 dx", tuple(photos),
                source, ("CC-BY-NC-4.0",),
                ("HAM10000: Tschandl, Rosendahl, Kittler, Scientific Data 5, 180161 (2018), doi 10.7910/DVN/DBW86T",),
                missing)
