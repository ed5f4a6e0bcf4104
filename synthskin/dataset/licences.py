"""Licences and attributions: known names with their address, several joined into one statement, none ever dropped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from synthskin.dataset.card import Card

RENDER_LICENCE: Final = "CC0-1.0"

#: SPDX identifier or our own name: (address, identifier of Hugging Face's cards).
KNOWN: Final[dict[str, tuple[str, str]]] = {
    "CC0-1.0": ("https://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
    "CC-BY-4.0": ("https://creativecommons.org/licenses/by/4.0/", "cc-by-4.0"),
    "CC-BY-NC-4.0": ("https://creativecommons.org/licenses/by-nc/4.0/", "cc-by-nc-4.0"),
    "CC-BY-NC-SA-4.0": ("https://creativecommons.org/licenses/by-nc-sa/4.0/", "cc-by-nc-sa-4.0"),
    "CC-BY-NC-SA-3.0": ("https://creativecommons.org/licenses/by-nc-sa/3.0/", "cc-by-nc-sa-3.0"),
    "CC-BY-SA-4.0": ("https://creativecommons.org/licenses/by-sa/4.0/", "cc-by-sa-4.0"),
    "Apache-2.0": ("https://www.apache.org/licenses/LICENSE-2.0", "apache-2.0"),
    "MIT": ("https://opensource.org/license/mit", "mit"),
}
#: Names in the ISIC Archive's column copyright_license.
ISIC_NAMES: Final = {"CC0-1.0": "CC-0", "CC-BY-4.0": "CC-BY", "CC-BY-NC-4.0": "CC-BY-NC"}


def joined(licences: Iterable[str]) -> str:
    """All of them bind: 'A AND B'."""
    return " AND ".join(licences)


def url(licence: str) -> str | None:
    """Address of a known licence."""
    return KNOWN[licence][0] if licence in KNOWN else None


def hugging_face_name(licences: list[str]) -> str:
    """Identifier for the head of a data card: that of a single known licence, else `other`."""
    return KNOWN[licences[0]][1] if len(licences) == 1 and licences[0] in KNOWN else "other"


def licence_text(card: Card) -> str:
    """LICENCE.txt of an export."""
    lines = ["All of these licences bind whoever uses these files:"]
    lines += [f"- {name}" + (f" ({url(name)})" if url(name) else "") for name in card.licences]
    lines += ["", "Attribution:", *(f"- {name}" for name in card.attribution)]
    if card.generator == "real":
        lines += ["", "These are photographs of patients. They are not anonymous."]
    elif list(card.licences) != [RENDER_LICENCE]:
        lines += ["", "Pictures made from a patient's photograph are not anonymous."]
    return "\n".join(lines) + "\n"
