"""Small sources in the layouts of published sets, drawn by the tests: pictures are noise, tables are made up."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image


def photo(path: Path, key: int, side: tuple[int, int] = (24, 36)) -> Path:
    """A blocky picture that no other key resembles; (height, width) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.Generator(np.random.Philox(key=key))
    blocks = rng.integers(0, 256, (side[0] // 4, side[1] // 4, 3), dtype=np.uint8)
    image = Image.fromarray(np.kron(blocks, np.ones((4, 4, 1), np.uint8)))
    image.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return path


def mask(path: Path, box: tuple[int, int, int, int] | None, side: tuple[int, int] = (24, 36)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros(side, np.uint8)
    if box:
        x, y, w, h = box
        array[y:y + h, x:x + w] = 255
    image = Image.fromarray(array)
    (image.convert("1") if path.suffix == ".bmp" else image).save(path)
    return path


def table(path: Path, *rows: dict[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def ham10000(root: Path) -> Path:
    def line(image, lesion, dx, dx_type="histo", age="45.0", sex="male", place="back"):
        return {"lesion_id": lesion, "image_id": image, "dx": dx, "dx_type": dx_type, "age": age, "sex": sex,
                "localization": place, "dataset": "vidir_modern"}

    table(root / "HAM10000_metadata.csv", line("ISIC_0027419", "HAM_0000118", "bkl"),
          line("ISIC_0025030", "HAM_0000118", "bkl"), line("ISIC_0026769", "HAM_0002730", "mel", "consensus"),
          line("ISIC_0031633", "HAM_0001466", "nv", "follow_up", "", "unknown", "unknown"),
          line("ISIC_0029176", "HAM_0001234", "akiec", "confocal", "80.0", "female", "face"))
    for k, name in enumerate(("ISIC_0027419", "ISIC_0025030")):
        photo(root / "HAM10000_images_part_1" / f"{name}.jpg", k)
    for k, name in enumerate(("ISIC_0026769", "ISIC_0031633", "ISIC_0029176"), start=2):
        photo(root / "HAM10000_images_part_2" / f"{name}.jpg", k)
    mask(root / "HAM10000_segmentations_lesion_tschandl/ISIC_0026769_segmentation.png", (5, 6, 10, 8))
    return root


def isic2017(root: Path) -> Path:
    for k, name in enumerate(("ISIC_0000000", "ISIC_0000001", "ISIC_0000002")):
        photo(root / "ISIC-2017_Training_Data" / f"{name}.jpg", 10 + k)
        mask(root / "ISIC-2017_Training_Part1_GroundTruth" / f"{name}_segmentation.png", (2 + k, 3, 9, 7))
    photo(root / "ISIC-2017_Training_Data/ISIC_0000000_superpixels.png", 99)
    photo(root / "ISIC-2017_Test_v2_Data/ISIC_0012086.jpg", 14)
    table(root / "ISIC-2017_Training_Part3_GroundTruth.csv",
          {"image_id": "ISIC_0000000", "melanoma": "0.0", "seborrheic_keratosis": "0.0"},
          {"image_id": "ISIC_0000001", "melanoma": "1.0", "seborrheic_keratosis": "0.0"},
          {"image_id": "ISIC_0000002", "melanoma": "0.0", "seborrheic_keratosis": "1.0"})
    table(root / "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv",
          {"image_id": "ISIC_0000000", "age_approximate": "55", "sex": "female"},
          {"image_id": "ISIC_0000001", "age_approximate": "unknown", "sex": "unknown"})
    return root


def isic2018(root: Path) -> Path:
    classes = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    for k, name in enumerate(("ISIC_0000000", "ISIC_0000003")):
        photo(root / "ISIC2018_Task1-2_Training_Input" / f"{name}.jpg", 20 + k)
        mask(root / "ISIC2018_Task1_Training_GroundTruth" / f"{name}_segmentation.png", (4, 4 + k, 12, 6))
        for attribute in ("globules", "milia_like_cyst", "negative_network", "pigment_network", "streaks"):
            box = (5, 5, 3, 3) if (attribute, k) == ("pigment_network", 1) else None
            mask(root / "ISIC2018_Task2_Training_GroundTruth_v3" / f"{name}_attribute_{attribute}.png", box)
    for k, name in enumerate(("ISIC_0024306", "ISIC_0024307", "ISIC_0024308")):
        photo(root / "ISIC2018_Task3_Training_Input" / f"{name}.jpg", 25 + k)
    table(root / "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv",
          *({"image": name, **{c: float(c == dx) for c in classes}}
            for name, dx in (("ISIC_0024306", "NV"), ("ISIC_0024307", "VASC"), ("ISIC_0024308", "MEL"))))
    table(root / "ISIC2018_Task3_Training_LesionGroupings.csv",
          {"image": "ISIC_0024306", "lesion_id": "HAM_1", "diagnosis_confirm_type": "histopathology"},
          {"image": "ISIC_0024307", "lesion_id": "HAM_1", "diagnosis_confirm_type": "serial imaging"})
    return root


def ph2(root: Path) -> Path:
    lines = ["|| Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Pigment Network ||  Colors ||"]
    for k, (name, histology, code) in enumerate((("IMD002", "", 0), ("IMD004", "", 1), ("IMD058", "Melanoma", 2))):
        where = root / "PH2 Dataset images" / name
        photo(where / f"{name}_Dermoscopic_Image" / f"{name}.bmp", 30 + k)
        mask(where / f"{name}_lesion" / f"{name}_lesion.bmp", (6, 5, 10, 9))
        mask(where / f"{name}_roi" / f"{name}_Label_1.bmp", (6, 5, 2, 2))
        lines.append(f"|| {name} ||   {histology} ||   {code} || 0 | T | A | A | A | A || 3  4 ||")
    (root / "PH2_dataset.txt").write_text("\n".join([*lines, "", "Legends", " Clinical Diagnosis:", "   0 - Common"]))
    return root


def fitzpatrick17k(root: Path) -> Path:
    def line(k, scale, label, three):
        return {"md5hash": f"{k:032x}", "fitzpatrick_scale": scale, "fitzpatrick_centaur": scale, "label": label,
                "nine_partition_label": "x", "three_partition_label": three, "qc": "",
                "url": "http://x", "url_alphanum": "x"}

    table(root / "fitzpatrick17k.csv", line(1, 3, "drug induced pigmentary changes", "non-neoplastic"),
          line(2, -1, "malignant melanoma", "malignant"), line(3, 6, "seborrheic keratosis", "benign"))
    for k in (1, 2, 3):
        photo(root / "images" / f"{k:032x}.jpg", 40 + k)
    return root


def ddi(root: Path) -> Path:
    def line(k, tone, malignant, disease):
        return {"": k, "DDI_ID": k, "DDI_file": f"{k:06d}.png", "skin_tone": tone, "malignant": malignant,
                "disease": disease}

    table(root / "ddi_metadata.csv", line(1, 56, "True", "melanoma-in-situ"),
          line(2, 12, "False", "mycosis-fungoides"), line(3, 34, "False", "seborrheic-keratosis-irritated"))
    for k in (1, 2, 3):
        photo(root / f"{k:06d}.png", 50 + k)
    return root


def scin(root: Path) -> Path:
    def case(number, age, sex, fst, images, **parts):
        return {"case_id": number, "age_group": age, "sex_at_birth": sex, "fitzpatrick_skin_type": fst,
                "body_parts_arm": parts.get("arm", ""), "body_parts_palm": parts.get("palm", ""),
                **{f"image_{k}_path": (f"dataset/images/{images[k - 1]}.png" if len(images) >= k else "")
                   for k in (1, 2, 3)}}

    table(root / "dataset/scin_cases.csv", case(1, "AGE_30_TO_39", "FEMALE", "FST2", ("-1001", "-1002"), arm="YES"),
          case(2, "AGE_UNKNOWN", "OTHER_OR_UNSPECIFIED", "FST4", ("2001",), arm="YES", palm="YES"))
    table(root / "dataset/scin_labels.csv",
          {"case_id": 1, "weighted_skin_condition_label": "{'Eczema': 0.41, \"Grover's disease\": 0.59}",
           "dermatologist_fitzpatrick_skin_type_label_1": "FST3", "dermatologist_fitzpatrick_skin_type_label_2": "FST5",
           "monk_skin_tone_label_us": "4.0"},
          {"case_id": 2, "weighted_skin_condition_label": "{}", "dermatologist_fitzpatrick_skin_type_label_1": "",
           "dermatologist_fitzpatrick_skin_type_label_2": "", "monk_skin_tone_label_us": ""})
    for k, name in enumerate(("-1001", "-1002", "2001")):
        photo(root / "dataset/images" / f"{name}.png", 60 + k)
    return root


def itobos(root: Path) -> Path:
    for k, name in enumerate(("a1", "a2")):
        photo(root / "train/images" / f"{name}.png", 70 + k)
    photo(root / "test/images/a1.png", 75)
    (root / "train/labels").mkdir(parents=True)
    (root / "train/labels/a1.txt").write_text("0 0.5 0.25 0.25 0.25\n0 0.1 0.1 0.1 0.1\n")
    (root / "train/labels/a2.txt").write_text("")
    return root


def folder(root: Path) -> Path:
    names = ("train/melanoma/a.jpg", "train/NV/a.jpg", "val/melanoma/b.png", "test/wart, other/x.webp")
    for k, name in enumerate(names):
        photo(root / name, 80 + k)
    return root


SETS = {"ham10000": ham10000, "isic2017": isic2017, "isic2018": isic2018, "ph2": ph2, "ddi": ddi,
        "fitzpatrick17k": fitzpatrick17k, "scin": scin, "itobos": itobos, "folder": folder}
