"""PH2 (Mendonca et al. 2013): 200 dermoscopic photographs with masks; PH2_dataset.txt has its cells between bars."""

from __future__ import annotations

from typing import Final

from synthskin.dataset.format import DatasetError
from synthskin.dataset.imports.common import MAX_TABLE_BYTES, ImportOptions, Photo, Plan, Source, allowed

#: Codes of the column "Clinical Diagnosis".
CODES: Final = {"0": ("common nevus", "NV"), "1": ("atypical nevus", "NV"), "2": ("melanoma", "MEL")}
_CRITERIA: Final = ("asymmetry", "pigment_network", "dots_globules", "streaks", "regression_areas", "blue_whitish_veil")


def plan(source: Source, options: ImportOptions) -> Plan:
    table = source.table("PH2_dataset.txt")
    path = source.root / table
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise DatasetError(f"{source.shown}/{table}: larger than {MAX_TABLE_BYTES} bytes")
    photos, missing = [], {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        cells = [cell.strip() for cell in line.split("||")]
        if len(cells) < 6 or not cells[1].upper().startswith("IMD"):
            continue  # title, header and legend
        name, histology, code = cells[1], cells[2], cells[3]
        label, diagnosis = allowed(CODES, code, f"{source.shown}/{table}, line {number}: Clinical Diagnosis")
        image = source.photo(name)
        if image is None:
            missing[name] = "its picture is missing"
            continue
        criteria = [cell.strip() for cell in cells[4].split("|")]
        photos.append(Photo(
            name, image, label, diagnosis, mask=source.photo(f"{name}_lesion"),
            row={"modality": "dermoscopic", "diagnosis_status": "histopathology" if histology else "clinical"},
            source={"histological_diagnosis": histology, "clinical_diagnosis": code, "colours": cells[5],
                    **dict(zip(_CRITERIA, criteria, strict=False))}))
    return Plan("ph2", "PH2: dermoscopic photographs of melanocytic lesions", "PH2 clinical diagnosis", tuple(photos),
                source, ("PH2 terms: research and education only, no redistribution",),
                ("PH2: Mendonca, Ferreira, Marques, Marcal, Rozeira, IEEE EMBC 2013, 5437-5440",), missing)
