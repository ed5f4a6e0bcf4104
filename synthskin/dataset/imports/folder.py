"""A plain folder per class: SRC/<class>/picture.jpg, or SRC/train/<class>/picture.jpg with train, val, test.

A class named as one of ours (MEL ... healthy, or a common name of it) is taken for it; any other stays raw. Folders
above the classes, as archives have them (SRC/top/<class>/picture.jpg), are passed through.
"""

from __future__ import annotations

from typing import Final

from synthskin.conventions import DIAGNOSES, HEALTHY
from synthskin.dataset.format import DatasetError, short
from synthskin.dataset.imports.common import ImportOptions, Photo, Plan, Source
from synthskin.dataset.imports.splits import SPLITS

#: Names that are one of the seven classes beyond doubt: those of HAM10000, of the ISIC Archive, and their plurals.
_COMMON: Final = {
    "MEL": "melanoma, melanomas, malignant melanoma, malignant melanomas, melanoma in situ",
    "NV": "nevus, nevi, naevus, naevi, melanocytic nevus, melanocytic nevi, melanocytic naevus, melanocytic naevi",
    "BCC": "basal cell carcinoma, basal cell carcinomas",
    "AKIEC": "actinic keratosis, actinic keratoses, solar keratosis, solar keratoses, bowen's disease, bowens disease, "
             "intraepithelial carcinoma, intraepithelial carcinomas, "
             "actinic keratoses and intraepithelial carcinoma, actinic keratoses and intraepithelial carcinomas",
    "BKL": "benign keratosis, benign keratoses, benign keratosis like lesion, benign keratosis like lesions, "
           "pigmented benign keratosis, pigmented benign keratoses, seborrheic keratosis, seborrheic keratoses, "
           "seborrhoeic keratosis, seborrhoeic keratoses, solar lentigo, solar lentigines, "
           "lichen planus like keratosis, lichen planus like keratoses",
    "DF": "dermatofibroma, dermatofibromas",
    "VASC": "vascular lesion, vascular lesions, angioma, angiomas, hemangioma, hemangiomas, haemangioma, haemangiomas, "
            "angiokeratoma, angiokeratomas, pyogenic granuloma, pyogenic granulomas",
    HEALTHY: "healthy skin",
}
NAMES: Final = {name.lower(): name for name in (*DIAGNOSES, HEALTHY)} | {
    text: name for name, texts in _COMMON.items() for text in texts.split(", ")}


def class_of(name: str) -> str | None:
    """The diagnosis that a folder's name stands for; case, `_`, `-` and double spaces aside."""
    return NAMES.get(" ".join(name.lower().replace("_", " ").replace("-", " ").split()))


def plan(source: Source, options: ImportOptions) -> Plan:
    photos = []
    pictures = source.photos_in(lambda path: True)
    top = above_classes(pictures)
    for image in pictures:
        parts = image.removeprefix(top).split("/")
        split = SPLITS.get(parts[0].lower()) if len(parts) > 2 else None
        folders = parts[1 if split else 0:-1]
        if not folders:
            raise DatasetError(f"{source.shown}/{image}: lies in no folder of a class; SRC/<class>/{image} is needed")
        label = folders[0]
        photos.append(Photo(image.rsplit(".", 1)[0], image, label, class_of(label),
                            {"modality": options.modality, "split": split}))
    told = (f"all pictures lie in {short(top)}; the classes are the folders in it",) if top else ()
    return Plan("folder", "Photographs in a folder per class", "folder name", tuple(photos), source,
                (), (), remarks=told, tell_classes=True)


def above_classes(pictures: list[str]) -> str:
    """The folders above the classes, as `top/` or ''.

    A folder that alone holds all pictures is passed through, unless it is named as a class or a split, or nothing
    below it looks like classes: several folders side by side, a class, or a split.
    """
    top = ""
    while True:
        rest = [path.removeprefix(top).split("/") for path in pictures]
        first = {parts[0] for parts in rest}
        known = any(class_of(name) or name.lower() in SPLITS for name in first)
        if known or len(first) != 1 or any(len(parts) < 3 for parts in rest):
            return top if known or len(first) > 1 else ""
        top += f"{first.pop()}/"
