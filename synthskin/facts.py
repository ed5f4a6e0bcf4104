"""What is known of a picture, for captions and questions: from its row and masks, never from a wish.

What lies behind a sticker, a scale of paper or the black surround of the view is neither said to be there nor denied.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthskin.conventions import BENIGN_MALIGNANT, HEALTHY
from synthskin.dataset.format import Sample
from synthskin.dataset.reader import longest_px

#: Lesions are counted where none covers less of the picture, and SHOWN_SHARE of all but the largest shows at the least.
#: Of 240 regions on six tones 45 have a lesion that is barely visible: 2 of them are counted, and 173 of the others.
LEAST_LESION_SHARE: Final = 5e-5
SHOWN_SHARE: Final = 0.7
#: Structures that differ from the lesion without them by less (CIEDE2000, `attributes_delta_e`) are not spoken of.
BARELY_SEEN_DELTA_E: Final = 1.0
#: Hair is seen where it differs from the skin beside it by this much of the sRGB range.
SEEN_HAIR: Final = 0.04
#: It is said to be there where it is seen on this share of the picture, and on as much it differs by so many standard
#: deviations of the skin beside, whose own colours (ink, structures, borders) pass for hair else.
LEAST_HAIR_SHARE: Final = 0.0005
OUTSTANDING: Final = 2.0
#: Diagnoses of this status are a wish or a guess, not known of the picture, and are not spoken of.
NOT_KNOWN: Final = ("requested", "predicted")
#: Artefacts through which nothing is seen, from the skin to the eye; what comes later hides them too.
OPAQUE: Final = ("colour_patch", "ruler", "dark_corner")
_ABOVE: Final = ("glare", "blur")  # seen on the surround as well, or all over the picture
#: Share of a mask that must be in view for a structure, a lesion of several, an artefact to be spoken of. By design.
IN_VIEW: Final = {"structure": 0.25, "lesion": 0.5, "artefact": 0.1}
#: Less of a lone lesion than this is none to speak of; a lesion of which more than this is covered is partly hidden.
TRACE_SHARE: Final = 0.02
COVERED_SHARE: Final = 0.05
#: A size is told where what is in view is as long as this share of the mask.
WHOLE_LENGTH: Final = 0.97
_INK_WORDS: Final = {"gentian violet": "violet ", "methylene blue": "blue ", "black": "black "}

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a picture.

    key           str            seeds the choice of words
    healthy       bool           known to be healthy skin
    diagnosis     str / None     as in the row; None where it was requested or predicted, or is not of a lesion seen
    visible       float / None   share of the mask that shows on the actual skin
    has_mask      bool           the masks of lesion and structures are known, so that absence is a fact
    lesion_seen   bool           some of a lesion's mask is in view
    across_mm     float / None   longest diameter of the lesion; None without a lesion or a scale, or where it is hidden
    cut           bool           what is in view of the lesion reaches the edge of the picture
    covered       bool           part of the lesion is hidden by what lies over it
    hair_share    float / None   share of the picture where hair is seen; 0 too where it stands out nowhere, None where
                                 that is not known
    hairless      bool           there is no hair at all
    lesions       int            lesions that are told apart, of which something is in view
    counted       bool           each of them is likely to show, so that their number may be told
    perhaps_none  bool           neither a lesion nor its absence is known: healthy skin was requested or predicted, or
                                 next to nothing of the lesion is in view
    coarse        bool           pixels are larger than structures: of none is anything said
    unsaid        (str, ...)     structures and artefacts of which neither is said: that they are seen, or that not
    """

    key: str
    view: str
    healthy: bool
    diagnosis: str | None
    benign_malignant: str | None
    tone: int | None
    visible: float | None
    has_mask: bool
    lesion_seen: bool
    across_mm: float | None
    cut: bool
    structures: tuple[str, ...]
    artefacts: tuple[str, ...]
    ink: str
    hair_share: float | None
    hairless: bool = False
    lesions: int = 1
    counted: bool = True
    unsaid: tuple[str, ...] = ()
    perhaps_none: bool = False
    covered: bool = False
    coarse: bool = False

    @staticmethod
    def of(sample: Sample) -> Facts:
        """Facts of a sample: its row but the caption, and its masks; without one of hair that is not spoken of."""
        row, mask, hair = sample.row, sample.mask, sample.hair
        params = json.loads(row["params"])
        camera, drawn = params.get("camera", {}), params.get("artefacts", {})
        own = params.get("index")
        kind = row["dermoscopic_type"]
        dermoscopy = row["modality"] == "dermoscopic"
        open_view = ~_covered(sample, OPAQUE)
        lesion = _lesion(sample, open_view, camera.get("field_of_view_mm") if isinstance(camera, dict) else None)
        shown = tuple(name for name in _seen(row["attributes"], kind, row["attributes_delta_e"])
                      if _in_view(sample.attributes.get(name), open_view) >= IN_VIEW["structure"])
        hidden = tuple(name for name in row["attributes"] if name not in shown)
        artefacts = tuple(name for name in row["artefacts"] if name in _ABOVE or _in_view(
            sample.artefacts.get(name), ~_covered(sample, _over(name))) >= IN_VIEW["artefact"])
        known = row["diagnosis_status"] not in NOT_KNOWN
        diagnosis, benign = (row["diagnosis"], row["benign_malignant"]) if known else (None, None)
        seen, lesions = _in_view_lesions(sample, open_view)
        region = isinstance(camera, dict) and camera.get("view") == "region"
        if row["bbox"] and not lesion.seen:
            diagnosis, benign = None, None
        if region:  # its pixels are larger than structures
            shown = ()
        if diagnosis not in (None, HEALTHY, *seen) and (len(row["lesions"]) > 1 or (region and seen)):
            diagnosis = seen[0] if len(seen) == 1 else None  # the lesion of the row is none of those that are seen
            benign = None if diagnosis is None else BENIGN_MALIGNANT[diagnosis]
        return Facts(
            key=f"{row['preset']}|{row['seed']}|{own if isinstance(own, int) else row['index']}",
            view=(kind or "dermoscopic") if dermoscopy else row["modality"] or "",
            healthy=diagnosis == HEALTHY,
            diagnosis=diagnosis,
            benign_malignant=benign,
            tone=row["ita_class"],
            visible=row["visible_delta_e"],
            has_mask=row["mask_status"] == "exact",
            lesion_seen=lesion.seen,
            across_mm=lesion.across_mm,
            cut=lesion.cut,
            covered=lesion.covered,
            structures=shown,
            coarse=region,
            unsaid=(*hidden, *(name for name in row["artefacts"] if name not in artefacts)),
            artefacts=artefacts,
            ink=_INK_WORDS.get(str(drawn.get("ink_colour")), "") if isinstance(drawn, dict) else "",
            hair_share=None if hair is None else seen_hair(sample.image, hair, ~open_view),
            hairless=hair is not None and not hair.any(),
            lesions=lesions,
            counted=mask is None or (len(seen) == len(row["lesions"])
                                     and _all_show(row["boxes"], row["visible_delta_e"], mask.size)),
            perhaps_none=(not known and row["diagnosis"] == HEALTHY) or (bool(row["bbox"]) and not lesion.seen),
        )


@dataclass(frozen=True, slots=True)
class _Lesion:
    seen: bool
    across_mm: float | None = None
    cut: bool = False
    covered: bool = False


def _lesion(sample: Sample, open_view: Mask, view_mm: object) -> _Lesion:
    """What is in view of all lesions; `view_mm` is the picture's width. A photograph has no one scale."""
    row, mask = sample.row, sample.mask
    if not row["bbox"] or mask is None:
        return _Lesion(bool(row["bbox"]))
    whole = mask > 0
    if sample.instances is not None and len(row["lesions"]) > 1:  # one that is hidden cuts or covers no other
        shown = np.flatnonzero(np.insert(_shares_in_view(sample, open_view) >= TRACE_SHARE, 0, False))
        whole &= np.isin(sample.instances, shown)
    part = whole & open_view
    share = float(part.sum() / max(int(whole.sum()), 1))
    if share < TRACE_SHARE:
        return _Lesion(False)
    cut, outside = _at_edge(part), _at_edge(whole)
    across = None
    length = longest_px(whole)
    told = not (outside and not cut) and (share == 1 or longest_px(part) >= WHOLE_LENGTH * length)
    if told and isinstance(view_mm, (int, float)) and row["modality"] == "dermoscopic":
        across = length * float(view_mm) / mask.shape[1]
    return _Lesion(True, across, cut, not told or share < 1 - COVERED_SHARE)


def _at_edge(mask: Mask) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _covered(sample: Sample, names: Sequence[str]) -> Mask:
    """Pixels (h, w) that the artefacts of `names` hide."""
    found = np.zeros(sample.image.shape[:2], np.bool_)
    for name in names:
        if name in sample.artefacts:
            found |= sample.artefacts[name] > 0
    return found


def _over(name: str) -> tuple[str, ...]:
    """What may hide an artefact."""
    return OPAQUE[OPAQUE.index(name) + 1:] if name in OPAQUE else OPAQUE


def _in_view(mask: NDArray[np.uint8] | None, open_view: Mask) -> float:
    """Share of a mask that nothing hides; 1 where there is no mask to tell."""
    if mask is None or not mask.any():
        return 1.0
    return float((mask[open_view] > 0).sum() / (mask > 0).sum())


def _shares_in_view(sample: Sample, open_view: Mask) -> NDArray[np.float64]:
    """Share of each lesion that is in view; 1 of one that has no pixel."""
    assert sample.instances is not None
    least = len(sample.row["lesions"]) + 1
    whole, part = (np.bincount(labels.ravel(), minlength=least)[1:least]
                   for labels in (sample.instances, sample.instances[open_view]))
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


def _in_view_lesions(sample: Sample, open_view: Mask) -> tuple[list[str], int]:
    """Diagnoses of the lesions that are in view, and how many lesions there are of which something is."""
    kinds: list[str] = sample.row["lesions"]
    if sample.instances is None or len(kinds) < 2:
        return kinds, len(kinds)
    shares = _shares_in_view(sample, open_view)
    found = [kind for kind, share in zip(kinds, shares, strict=True) if share >= IN_VIEW["lesion"]]
    return found, int((shares >= TRACE_SHARE).sum())


def _all_show(boxes: Sequence[Sequence[float]], visible: float | None, picture_px: int) -> bool:
    """Whether each lesion is likely to show on BARELY_VISIBLE_SHARE of its mask.

    Rows hold that share of all lesions alone, `visible`: what does not show is taken to be of the smaller ones.
    """
    if visible is None or len(boxes) < 2:
        return True
    areas = sorted(np.pi / 4 * width * height for _, _, width, height in boxes)
    return bool((1 - visible) * sum(areas) <= (1 - SHOWN_SHARE) * sum(areas[:-1])
                and areas[0] >= LEAST_LESION_SHARE * picture_px)


def seen_hair(image: NDArray[np.uint8], hair: NDArray[np.uint8], hidden: Mask | None = None) -> float | None:
    """Share of the picture (h, w, 3) where hair (h, w) stands out from the skin beside it; None where nobody can say.

    Vellus and blond hair on light skin and black hair on dark skin have a mask and are not seen. Where no skin is left
    to compare with, hair counts as seen. The skin beside is a mean of blocks, blurred by 2 % of the side; pixels that
    are `hidden` (h, w) belong neither to it nor to the hair. None: some differs, but no more than that skin itself
    does (benchmarks/seen_hair.py).
    """
    bare, strands = hair == 0, hair > 0
    if hidden is not None:
        bare, strands = bare & ~hidden, strands & ~hidden
    if not strands.any():
        return 0.0
    height, width = hair.shape
    block = max(1, height // 64)
    rgb = image.astype(np.float32) / 255
    skin = np.dstack([rgb, (rgb**2).sum(axis=2), np.ones_like(hair, np.float32)]) * bare[..., None]
    skin = np.pad(skin, ((0, -height % block), (0, -width % block), (0, 0)))
    blocks = skin.reshape(skin.shape[0] // block, block, skin.shape[1] // block, block, 5).mean(axis=(1, 3))
    sigma = max(1.5, 0.02 * height) / block
    blocks = gaussian_filter(blocks, (sigma, sigma, 0))
    y, x = np.nonzero(strands)
    near = blocks[y // block, x // block]
    mean, squares = np.split(near[:, :4] / np.maximum(near[:, 4:], 1e-3), [3], axis=1)
    scatter = np.sqrt(np.maximum(squares[:, 0] - (mean**2).sum(axis=1), 0))
    apart = np.linalg.norm(rgb[y, x] - mean, axis=1)
    alone = near[:, 4] < 1e-3
    seen = (apart >= SEEN_HAIR) | alone
    share = float(seen.sum() / hair.size)
    outstanding = seen & ((apart >= OUTSTANDING * scatter) | alone)
    return share if share < LEAST_HAIR_SHARE or outstanding.sum() >= LEAST_HAIR_SHARE * hair.size else None


def _seen(
    names: Sequence[str], dermoscopic_type: str | None, delta_e: Sequence[float] = ()
) -> tuple[str, ...]:
    """Structures to speak of: an atypical network is not told twice, white streaks show between polarisers alone.

    What differs from the lesion without it by less than a CIEDE2000 of 1 is there, but nobody sees it on this skin.
    """
    hidden = {"pigment_network"} if "atypical_pigment_network" in names else set()
    hidden |= {name for name, value in zip(names, delta_e, strict=False) if value < BARELY_SEEN_DELTA_E}
    if dermoscopic_type != "contact polarized":
        hidden.add("shiny_white_streaks")
    return tuple(name for name in names if name not in hidden)
