"""Photographs from elsewhere as arrays: bounded before they are decoded, upright, in sRGB, without their EXIF."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from synthskin.dataset.format import MAX_SIDE_PX, DatasetError

FORMATS: Final = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
ENDINGS: Final = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS: Final = 100_000_000
#: Pillow's modes of 16-bit grey, and of 32-bit whole and floating point grey.
_DEEP: Final = ("I;16", "I;16L", "I;16B", "I;16N")
_DEEPER: Final = ("I", "F")
_DEEPER_REFUSED: Final = "32 bits a pixel (mode {}), whose white is not known; save it with 8 or 16 bits"
_EIGHT_OF_16: Final = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)
_ORIENTATION: Final = 0x0112
#: What the last bytes of a whole file hold; a few writers put some of their own behind it.
_END_MARKS: Final = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_END_BYTES: Final = 4096


def open_bounded(path: Path) -> Image.Image:
    """Open without decoding; raises DatasetError if it is no picture or too large."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is stricter
            image = Image.open(path, formats=FORMATS)
    except FileNotFoundError:
        raise DatasetError("is missing") from None
    except Image.DecompressionBombError:
        raise DatasetError(f"has more than {MAX_PIXELS} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DatasetError(f"is no picture ({', '.join(FORMATS)}), or damaged: {_line(error)}") from None
    width, height = image.size
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PIXELS:
        image.close()
        raise DatasetError(f"{width} x {height} pixels; allowed are {MAX_SIDE_PX} a side and {MAX_PIXELS} in all")
    return image


def check_photo(path: Path, least_px: int = 1) -> None:
    """What can be told of a file without decoding it; raises DatasetError, as `load_photo` would.

    That it is a picture of an allowed size and depth, and does not break off. A JPEG or PNG without its end mark is
    decoded to see, for some are good all the same; other damage shows in `load_photo` alone.

    least_px   width and height it must have
    """
    with open_bounded(path) as image:
        check_side(image.width, image.height, least_px)
        if image.mode in _DEEPER:
            raise DatasetError(_DEEPER_REFUSED.format(image.mode))
        mark = _END_MARKS.get(image.format or "")
    if mark is not None and mark not in _last_bytes(path):
        load_photo(path)


def check_side(width: int, height: int, least_px: int) -> None:
    """Raises DatasetError unless both are `least_px` or more."""
    if min(width, height) < least_px:
        raise DatasetError(f"{width} x {height} pixels; at least {least_px} x {least_px} are needed")


def _last_bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as handle:
            handle.seek(max(handle.seek(0, 2) - _END_BYTES, 0))
            return handle.read(_END_BYTES)
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror or error}") from None


def load_photo(path: Path, upright: bool = True) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 sRGB; raises DatasetError saying what is wrong with the file.

    16 bits a channel are scaled to 8. 32-bit grey and floating point are refused, for their white is not known.

    upright   turn by EXIF orientation; without it (a mask or boxes lie over the picture) one that is turned is refused
    """
    with open_bounded(path) as image:
        try:
            turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1, None)
            if turned and not upright:
                raise DatasetError("its EXIF orientation turns it, and it has a mask or boxes; save it upright")
            profile = image.info.get("icc_profile")
            image.load()
            plain = _eight_bit(image)
            plain = plain if plain.mode == "RGB" else plain.convert("RGB")
            if profile and image.mode in ("RGB", "RGBA"):
                plain = _to_srgb(plain, profile)
            if turned:
                plain = ImageOps.exif_transpose(plain)
            return np.array(plain, dtype=np.uint8)
        except DatasetError:
            raise
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise DatasetError(f"is damaged: {_line(error)}") from None


def load_mask(path: Path, side: tuple[int, int]) -> NDArray[np.uint8]:
    """(h, w) uint8 of 0 and 255 from a two-valued picture; raises DatasetError on other values or another size."""
    with open_bounded(path) as image:
        try:
            array = np.array(image if image.mode in _DEEP or image.mode in _DEEPER else image.convert("L"))
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise DatasetError(f"is damaged: {_line(error)}") from None
    values = np.unique(array)
    if not any(set(values.tolist()) <= {0, white} for white in (255, 1, 65535)):
        raise DatasetError(f"{values.size} grey values; a mask of two, 0 and 255 (or 1), is needed")
    if array.shape != side:
        raise DatasetError(f"{array.shape[1]} x {array.shape[0]} pixels, the picture has {side[1]} x {side[0]}")
    return np.where(array > 0, np.uint8(255), np.uint8(0))


def difference_hash(path: Path) -> NDArray[np.uint64]:
    """(2,) uint64: signs of the horizontal and vertical differences of an 8 x 8 grey thumbnail (Krawetz 2013)."""
    with open_bounded(path) as image:
        try:
            image.draft("L", (64, 64))  # a JPEG decodes small
            upright = ImageOps.exif_transpose(image)
            grey = np.asarray(_eight_bit(upright).convert("L").resize((9, 9), Image.Resampling.BOX), dtype=np.int16)
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise DatasetError(f"is damaged: {_line(error)}") from None
    across = np.packbits(grey[:8, 1:] > grey[:8, :-1])
    down = np.packbits(grey[1:, :8] > grey[:-1, :8])
    return np.frombuffer(across.tobytes() + down.tobytes(), np.uint64)


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey, for `convert` would clip it; any other as it is, 16-bit colour being 8-bit in Pillow.

    Raises DatasetError on 32-bit grey.
    """
    if image.mode in _DEEPER:
        raise DatasetError(_DEEPER_REFUSED.format(image.mode))
    if image.mode not in _DEEP:
        return image
    return Image.fromarray(_EIGHT_OF_16[np.asarray(image)])


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Through the embedded profile; a profile that cannot be read is left alone, as viewers do."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return made if made is not None else image


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
