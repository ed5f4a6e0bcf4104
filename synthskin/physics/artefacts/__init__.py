"""Artefacts as controlled confounders: what lies between a lesion and a clean picture, each with its exact mask.

They act on the linear picture, in the order in which light meets them: ink on the skin, bubbles in the gel, scale and
sticker on the plate, defocus, the aperture, glare. Thick and thin hairs are strands of the scene itself (hair.py) and
go through the light transport. All that is random in them is keyed by (preset, seed, index, name): they change neither
the lesion nor any other draw. They never move a pixel of a mask, bubbles excepted, which are on the picture alone. The
record says what was asked for; masks, and what is told from them, what can be seen in pixels of this width (`told`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthskin.physics import camera, clinical
from synthskin.physics.artefacts import ink, optics, plate
from synthskin.physics.artefacts.frame import F32, Frame
from synthskin.physics.hair import hair_mask
from synthskin.physics.scene import HairStrand
from synthskin.record import SampleRecord

U8 = NDArray[np.uint8]
STRANDS = ("thick_hair", "thin_hair")
SEEN_PX = 4  # of a mask; fewer have no shape and pass for noise. By design


def apply(
    linear: F32, record: SampleRecord, relief: F32, strands: tuple[HairStrand, ...] = ()
) -> tuple[F32, dict[str, U8]]:
    """`on_skin`, then `in_lens`: what a dermatoscope sees."""
    linear, near = on_skin(linear, record, relief, strands)
    linear, far = in_lens(linear, record)
    return linear, told(near | far)


def told(masks: dict[str, U8]) -> dict[str, U8]:
    """The masks of the artefacts that a picture is said to show, by name: those of SEEN_PX pixels or more."""
    return {name: mask for name, mask in sorted(masks.items()) if np.count_nonzero(mask) >= SEEN_PX}


def on_skin(
    linear: F32, record: SampleRecord, relief: F32, strands: tuple[HairStrand, ...] = ()
) -> tuple[F32, dict[str, U8]]:
    """(picture, {name: mask 0 or 255}) with what lies on the skin; nothing switched on: the same array.

    linear   (size, size, 3)   linear sRGB after glare and lens, where a white tile in the middle is 0.99
    relief   (size, size)      furrows of the skin, 0 plateau ... 1 bottom
    strands  of the scene; those of thick and thin hair give their masks
    """
    a = record.artefacts
    frame = Frame(linear.shape[0], record.camera.field_of_view_mm)
    lens = camera.lens_gain(record.camera, frame.size_px)
    light = lens * camera.light_gain(record.camera, frame.size_px)
    found: dict[str, NDArray[np.bool_]] = {}
    for name in STRANDS:
        if getattr(a, name):
            own = tuple(strand for strand in strands if strand.kind == name)
            found[name] = hair_mask(own, frame.size_px, frame.field_of_view_mm)
    if a.ink:
        linear, found["ink"] = ink.draw_ink(linear, record, frame, relief)
    if a.gel_bubble:
        linear, found["gel_bubble"] = plate.draw_bubbles(linear, record, frame, light)
    if a.colour_patch:
        linear, found["colour_patch"] = plate.draw_patch(linear, record, frame, light)
    if a.ruler:
        linear, found["ruler"] = plate.draw_ruler(linear, record, frame, light)
    return np.asarray(linear, np.float32), _masks(found)


def in_lens(linear: F32, record: SampleRecord) -> tuple[F32, dict[str, U8]]:
    """(picture, {name: mask 0 or 255}) with what the lens and the room do; nothing switched on: the same array.

    Pixels of a photograph are narrower on the skin than those it is made of: the blur takes their width in the middle.
    """
    a = record.artefacts
    frame = Frame(linear.shape[0], record.camera.field_of_view_mm)
    found: dict[str, NDArray[np.bool_]] = {}
    if a.blur:
        photographed = record.camera.view != "dermoscopic"
        wide_mm = clinical.view_of(record, 1).pixel_mm if photographed else frame.field_of_view_mm
        linear, found["blur"] = optics.blur(linear, record, Frame(frame.size_px, wide_mm))
    if a.dark_corner:
        linear, found["dark_corner"] = optics.dark_corner(linear, record, frame)
    if a.glare:
        linear, found["glare"] = optics.glare(linear, record, frame, camera.lens_gain(record.camera, frame.size_px))
    return np.asarray(linear, np.float32), _masks(found)


def _masks(found: dict[str, NDArray[np.bool_]]) -> dict[str, U8]:
    return {name: np.where(where, 255, 0).astype(np.uint8) for name, where in sorted(found.items()) if where.any()}


def hides_skin(masks: dict[str, U8], size: int) -> NDArray[np.bool_]:
    """Pixels at which an artefact stands between camera and skin; blur is left out, it hides nothing."""
    hidden = np.zeros((size, size), np.bool_)
    for name, mask in masks.items():
        if name != "blur":
            hidden |= mask > 0
    return hidden
