"""START HERE: units, axes, wavelength grid, colour space and label vocabularies of the whole project.

Units      1 scene unit = 1 mm; wavelengths in nm; coefficients in mm^-1; the unit is part of every name.
Axes       x to the right and y down in the picture, z down into the skin, z = 0 at the skin surface.
           Arrays of tissue are indexed [y, x] or [y, x, z]; pictures [row, column, channel].
Scattering `mu_s` and `mu_s_prime` = mu_s (1 - g) never share a name.
Colour     linear values are CIE XYZ under D65, 2 degree observer, where a perfect white diffuser has Y = 1;
           finished pictures are 8-bit sRGB (IEC 61966-2-1).
"""

from __future__ import annotations

from typing import Final

DIAGNOSES: Final = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")  # ISIC 2018 Task 3
HEALTHY: Final = "healthy"
BENIGN_MALIGNANT: Final = {
    "MEL": "malignant",
    "BCC": "malignant",
    "AKIEC": "indeterminate",
    "NV": "benign",
    "BKL": "benign",
    "DF": "benign",
    "VASC": "benign",
    HEALTHY: "benign",
}
MASK_STATUS: Final = ("exact", "inherited", "predicted", "human", "none")
DIAGNOSIS_STATUS: Final = (
    "by_construction", "requested", "inherited", "histopathology", "clinical", "predicted", "unknown",
)
#: Of a parent that nobody looked at: what was only found or asked for stays so, however often it is handed on.
_STAYS: Final = ("predicted", "requested", "unknown")
GENERATORS: Final = ("physics", "diffusion", "gan", "real")
MODALITIES: Final = ("dermoscopic", "clinical")
DERMOSCOPIC_TYPES: Final = ("contact polarized", "contact non-polarized", "non-contact polarized")

#: Artefacts that can be switched on, each the field `artefacts.<name>` and the folder `artefacts/<name>/`.
ARTEFACTS: Final = (
    "ruler", "ink", "gel_bubble", "dark_corner", "colour_patch", "glare", "blur", "thick_hair", "thin_hair",
)
#: Device profiles, each a file of synthskin/physics/devices.
DEVICE_PROFILES: Final = (
    "colourimetric", "dslr_dermoscope", "phone_dermoscope", "video_dermoscope", "scanned_slide", "led_dermoscope",
)

#: Lower bounds in degrees of ITA classes 1..5; class 6 lies below the last (Chardon 1991; Del Bino 2013).
ITA_CLASS_LOWER_DEG: Final = (55.0, 41.0, 28.0, 10.0, -30.0)


#: Pure melanosome over the junction, in micrometres, from which a skin is dark enough to need more paths.
DARK_MELANIN_UM: Final = 9.0


def default_spp(size_px: int, melanin_um: float | None = None) -> int:
    """Paths a pixel that reach the stated quality (docs/VALIDATION.md): small pictures and dark skins need more.

    melanin_um   melanosome fraction x thickness of the epidermis; without it the number that is enough for any skin,
                 for pictures that are compared with each other.
    """
    dark = melanin_um is None or melanin_um > DARK_MELANIN_UM
    if size_px > 384:
        return 6 if dark else 3
    usual = 15 if dark else 6
    # as many paths as a picture of 256 pixels has, down to 128: what is seen of a lesion is the same number of paths
    smaller = min(max((256 / size_px) ** 2, 1.0), 4.0)
    return int(usual * smaller / 3 + 1e-9) * 3


def ita_class(ita_deg: float) -> int:
    """Class 1 (very light) to 6 (dark) of an individual typology angle in degrees (Del Bino & Bernerd 2013)."""
    for number, lower in enumerate(ITA_CLASS_LOWER_DEG, start=1):
        if ita_deg > lower:
            return number
    return 6


def handed_on(status: str) -> str:
    """mask_status or diagnosis_status of a picture made from one that has `status`."""
    return status if status in _STAYS or status == "none" else "inherited"
