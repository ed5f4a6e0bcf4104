"""Pictures of more than 8 bits: scaled, or refused in one line."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from synthskin.dataset.format import DatasetError
from synthskin.dataset.imports import ImportOptions, import_set
from synthskin.dataset.photo import difference_hash, load_mask, load_photo
from synthskin.dataset.reader import open_dataset

RAMP = np.linspace(0, 65535, 64 * 48).reshape(48, 64).round().astype(np.uint16)


def png_16_bit(path, array):
    """A 16-bit PNG of (h, w) or (h, w, 3), written by hand, for Pillow writes no such colour."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = array.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in array)
    head = struct.pack(">IIBBBBB", width, height, 16, 2 if array.ndim == 3 else 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines))
                     + chunk(b"IEND", b""))
    return path


def saved(path, array):
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize("make", [
    lambda folder: png_16_bit(folder / "a.png", RAMP), lambda folder: saved(folder / "a.tif", RAMP),
    lambda folder: saved(folder / "b.tif", RAMP.astype(">u2")),
    lambda folder: png_16_bit(folder / "c.png", np.stack([RAMP] * 3, axis=2)),
], ids=["png", "tiff", "big-endian tiff", "colour"])
def test_16_bits_are_scaled_to_8(make, tmp_path):
    array = load_photo(make(tmp_path))
    assert array.shape == (48, 64, 3) and array.dtype == np.uint8
    assert np.abs(array - RAMP[..., None] * (255 / 65535)).max() <= 1.0
    assert array.min() == 0 and array.max() == 255 and np.unique(array).size == 256


def test_16_bit_pictures_are_no_copies_of_each_other(tmp_path):
    first, second = (png_16_bit(tmp_path / f"{k}.png", np.random.Generator(np.random.Philox(key=k)).integers(
        20_000, 60_000, (9, 9), np.uint16).repeat(4, 0).repeat(4, 1)) for k in range(2))
    assert int(np.bitwise_count(difference_hash(first) ^ difference_hash(second)).sum()) > 20
    eight = saved(tmp_path / "eight.png", load_photo(first))
    assert (difference_hash(first) == difference_hash(eight)).all()


@pytest.mark.parametrize(("kind", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_32_bits_are_refused(kind, mode, tmp_path):
    folder = tmp_path / "src/NV"
    folder.mkdir(parents=True)
    path = saved(folder / "a.tif", RAMP.astype(kind))
    for look in (load_photo, difference_hash):
        with pytest.raises(DatasetError, match=rf"32 bits a pixel \(mode {mode}\).*save it with 8 or 16 bits"):
            look(path)
    with pytest.raises(DatasetError, match="NV/a: 32 bits") as caught:
        import_set("folder", tmp_path / "src", tmp_path / "out", ImportOptions(("CC0-1.0",), ("me",)))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_16_bit_picture_is_taken_over_scaled(tmp_path):
    (tmp_path / "src/NV").mkdir(parents=True)
    png_16_bit(tmp_path / "src/NV/a.png", RAMP)
    import_set("folder", tmp_path / "src", tmp_path / "out", ImportOptions(("CC0-1.0",), ("me",)))
    assert (open_dataset(tmp_path / "out").load(0).image == load_photo(tmp_path / "src/NV/a.png")).all()


@pytest.mark.parametrize("white", [1, 255, 65535])
def test_a_mask_of_16_bits_has_two_values(white, tmp_path):
    mask = np.zeros((48, 64), np.uint16)
    mask[10:20, 5:30] = white
    found = load_mask(png_16_bit(tmp_path / "a.png", mask), (48, 64))
    assert found.dtype == np.uint8 and ((found == 255) == (mask > 0)).all() and set(np.unique(found)) == {0, 255}
    mask[30] = 300
    with pytest.raises(DatasetError, match="a mask of two"):
        load_mask(png_16_bit(tmp_path / "b.png", mask), (48, 64))
