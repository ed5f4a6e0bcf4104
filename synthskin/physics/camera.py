"""From light to picture: vignette, glare, sRGB, and what is measured on the finished picture.

By default the device is colourimetric: exposure is set so that a 99 % Lambertian white tile in the middle of the same
optics has Y = 0.99; there is no tone curve and no white balance beyond D65. Other devices are in `devices/`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from synthskin.physics import devices, spectral
from synthskin.record import Camera, SampleRecord

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


def radial(size: int) -> F32:
    """Distance from the middle, 0 there and 1 in the corners; size x size."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    return (np.hypot(axis, axis[:, None]) / np.sqrt(2.0)).astype(np.float32)


def lens_gain(camera: Camera, size: int) -> F32:
    """Relative transmission of the lens: 1 in the middle, 1 - vignette in the corners (smooth, quartic)."""
    return (1.0 - camera.vignette * radial(size) ** 4).astype(np.float32)


def light_gain(camera: Camera, size: int) -> F32:
    """Relative illumination of the ring light: 1 in the middle, 1 - light_falloff in the corners."""
    return (1.0 - camera.light_falloff * radial(size) ** 2).astype(np.float32)


def finish(xyz: F32, camera: Camera) -> F32:
    """Linear sRGB (size, size, 3), before the 8 bits, of XYZ from the walk: glare, then the lens."""
    linear = spectral.xyz_to_linear_srgb(xyz).astype(np.float32)
    if camera.dermoscopic_type == "contact non-polarized":
        linear = linear + np.float32(camera.glare)
    return linear * lens_gain(camera, xyz.shape[0])[..., None]


def encode(linear: F32) -> U8:
    """8-bit sRGB (IEC 61966-2-1); out-of-gamut values saturate, as in a camera."""
    x = np.clip(linear, 0.0, 1.0)
    return (np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-8) ** (1 / 2.4) - 0.055) * 255 + 0.5).astype(
        np.uint8
    )


def develop(linear: F32, record: SampleRecord) -> U8:
    """The finished 8-bit picture of the record's device; the colourimetric one is `encode` and nothing else."""
    if devices.is_colourimetric(record.device):
        return encode(linear)
    encoded = devices.develop(linear, record)
    return devices.compress((encoded * 255 + 0.5).astype(np.uint8), record)


def decode(image: U8) -> F32:
    """Linear sRGB of an 8-bit picture."""
    x = image.astype(np.float32) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


def mean_lab(image: U8, where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """L*a*b* of the mean linear colour of the chosen pixels."""
    rgb = decode(image)[where].mean(0).astype(np.float64)
    return spectral.xyz_to_lab(np.linalg.inv(spectral.XYZ_TO_LINEAR_SRGB) @ rgb)


def measure(
    image: U8, mask: U8, hair: U8, camera: Camera, hidden: NDArray[np.bool_] | None = None
) -> tuple[float | None, float | None]:
    """(ita_image_deg, contrast): ITA of the visible skin and CIEDE2000 of lesion against skin, or None.

    Skin is what lies outside the dilated lesion and hair and where light and lens lose under 4 %; `hidden` (size, size)
    are pixels where an artefact stands before skin or lesion.
    """
    size = image.shape[0]
    margin = max(size // 40, 2)
    lesion, strands = mask > 0, hair > 0
    bright = lens_gain(camera, size) * light_gain(camera, size) > 0.96
    free = ~binary_dilation(lesion, iterations=margin) & ~binary_dilation(strands, iterations=2)
    inside = lesion & ~binary_dilation(strands, iterations=1)
    if hidden is not None:
        free &= ~binary_dilation(hidden, iterations=2)
        inside &= ~hidden
    skin = free & bright
    if skin.sum() < 100:
        skin = free
    if skin.sum() < 20:
        return None, None
    lab = mean_lab(image, skin)
    ita = float(spectral.ita_deg(lab))
    contrast = float(spectral.ciede2000(mean_lab(image, inside), lab)) if inside.sum() >= 20 else None
    return ita, contrast
