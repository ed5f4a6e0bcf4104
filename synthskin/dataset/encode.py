"""Arrays to file bytes and back: PNG with its IPTC DigitalSourceType, NPZ without pickles. Same arrays, same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from synthskin.dataset.format import MAX_SIDE_PX, DatasetError, Sample, encode_row, media_paths

#: zlib level of PNGs: 3 writes twice as fast as the usual 6 for 3 % more bytes.
PNG_LEVEL: Final = 3
_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"
_IPTC: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
#: IPTC newscodes by generator; a photograph keeps none.
SOURCE_TYPES: Final[dict[str, str | None]] = {
    "physics": _IPTC + "algorithmicMedia",
    "diffusion": _IPTC + "trainedAlgorithmicMedia",
    "gan": _IPTC + "compositeWithTrainedAlgorithmicMedia",
    "real": None,
}
_XMP: Final = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    "<Iptc4xmpExt:DigitalSourceType>{}</Iptc4xmpExt:DigitalSourceType>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """A sample ready to be written: its index, the line of metadata.jsonl, and {relative path: bytes}."""

    index: int
    line: str
    files: dict[str, bytes]


def encode_sample(sample: Sample) -> EncodedSample:
    """Check and encode a sample; raises DatasetError if arrays and row do not fit each other."""
    row = sample.row
    line = encode_row(row)
    side = sample.image.shape[:2]
    if sample.image.ndim != 3 or sample.image.shape[2] != 3 or sample.image.dtype != np.uint8:
        raise DatasetError(f"image: (h, w, 3) uint8 is needed, {sample.image.shape} {sample.image.dtype} came")
    arrays: dict[str, NDArray[Any] | None] = {"image": sample.image, "mask": sample.mask, "hair": sample.hair,
                                               "instances": sample.instances}
    arrays |= {f"attributes/{name}": array for name, array in sample.attributes.items()}
    arrays |= {f"artefacts/{name}": array for name, array in sample.artefacts.items()}
    paths = media_paths(row, maps=bool(sample.maps))
    given = {role for role, array in arrays.items() if array is not None}
    if given != set(paths) - {"maps"}:
        raise DatasetError(f"row {row['index']}: the row and the arrays differ in "
                           f"{', '.join(sorted(given ^ (set(paths) - {'maps'})))}")
    files = {}
    for role, path in paths.items():
        if role == "maps":
            files[path] = npz_bytes(sample.maps)
            continue
        array = arrays[role]
        assert array is not None
        if array.shape[:2] != side:
            raise DatasetError(f"{path}: {array.shape[:2]} pixels, the image has {side}")
        if role not in ("image", "instances") and not _is_mask(array):
            raise DatasetError(f"{path}: one 8-bit channel of 0 and 255 is needed")
        files[path] = png_bytes(array, SOURCE_TYPES[row["generator"]])
    return EncodedSample(row["index"], line, files)


def png_bytes(array: NDArray[Any], source_type: str | None = None) -> bytes:
    """PNG of (h, w) or (h, w, 3) uint8, or (h, w) uint16."""
    info = PngImagePlugin.PngInfo()
    if source_type is not None:
        info.add_text("DigitalSourceType", source_type)
        info.add_itxt("XML:com.adobe.xmp", _XMP.format(source_type))
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(out, "PNG", compress_level=PNG_LEVEL, pnginfo=info)
    return out.getvalue()


def npz_bytes(maps: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Compressed NPZ of float32 arrays; raises DatasetError on a number that is not finite."""
    for name, array in maps.items():
        if not np.isfinite(array).all():
            raise DatasetError(f"map {name}: holds numbers that are not finite")
    out = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(array, np.float32) for name, array in sorted(maps.items())}
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def read_png(path: Path) -> NDArray[Any]:
    """Decode a PNG wholly, checksums included; raises DatasetError if it is damaged, no PNG, or too large."""
    try:
        with open(path, "rb") as handle:  # Pillow does not miss the last bytes of a file that is cut there
            handle.seek(max(0, handle.seek(0, io.SEEK_END) - len(_PNG_END)))
            cut = handle.read() != _PNG_END
        with Image.open(path, formats=("PNG",)) as image:
            if max(image.size) > MAX_SIDE_PX:
                raise DatasetError(f"larger than {MAX_SIDE_PX} pixels a side")
            if cut:
                raise DatasetError("is damaged: its end is missing, or something follows it")
            image.verify()
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            if image.mode not in ("L", "RGB", "I;16"):
                raise DatasetError(f"mode {image.mode}; 8-bit grey or RGB is needed")
            return np.asarray(image)
    except DatasetError:
        raise
    except FileNotFoundError:
        raise DatasetError("is missing") from None
    except Image.DecompressionBombError:  # raised by its header alone
        raise DatasetError(f"larger than {MAX_SIDE_PX} pixels a side or {2 * (Image.MAX_IMAGE_PIXELS or 0)} in all") \
            from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DatasetError(f"is damaged: {error}") from None


def read_npz(path: Path, most_bytes: int = 4 * MAX_SIDE_PX**2) -> dict[str, NDArray[Any]]:
    """Read an NPZ of at most `most_bytes` wholly, never unpickling; raises DatasetError."""
    try:
        with np.load(path, allow_pickle=False) as data:
            if sum(info.file_size for info in data.zip.infolist()) > most_bytes:
                raise DatasetError(f"is too large: unpacks to more than {most_bytes} bytes")
            return {name: data[name] for name in data.files}
    except DatasetError:
        raise
    except FileNotFoundError:
        raise DatasetError("is missing") from None
    except Exception as error:  # zipfile and numpy raise many kinds on damaged input
        raise DatasetError(f"is damaged: {error}") from None


def _is_mask(array: NDArray[Any]) -> bool:
    return array.ndim == 2 and array.dtype == np.uint8 and bool(((array == 0) | (array == 255)).all())
