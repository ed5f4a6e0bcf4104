"""Data sets and archives from elsewhere: nothing is written outside, nothing is run, nothing huge is decoded."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standin import FakeEngine, device

from synthskin.dataset import archive
from synthskin.dataset.archive import safe_member, unpack
from synthskin.dataset.encode import read_png
from synthskin.dataset.exports import FORMS, export_set
from synthskin.dataset.format import DatasetError
from synthskin.dataset.imports import ImportOptions, import_set
from synthskin.dataset.merge import merge_sets
from synthskin.dataset.photo import load_photo
from synthskin.dataset.preview import write_preview
from synthskin.dataset.reader import validate
from synthskin.preset import load_preset
from synthskin.run import EngineOptions, RunRequest, render_run

ROOT = Path(__file__).resolve().parent.parent
OWN = ImportOptions(("CC-BY-4.0",), ("The clinic",))


def request(out, n=3):
    return RunRequest(load_preset("fst6"), n, 0, out, EngineOptions(32, 2, maps=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("set") / "a"
    render_run(request(out), FakeEngine, device)
    return out


@pytest.fixture
def box(tmp_path):
    """A folder with a victim outside of where things are unpacked to."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/secret.txt").write_text("mine")
    (tmp_path / "in").mkdir()
    return tmp_path


def untouched(box):
    return [p.name for p in (box / "victim").iterdir()] == ["secret.txt"] and (
        box / "victim/secret.txt").read_text() == "mine"


NAMES = ["../victim/secret.txt", "a/../../victim/x", "/tmp/x", "//x", "..", "a/..", "C:/x", "a\\..\\b", "a\nb", "a\0b",
         "x" * 2000, "", "./../x"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(DatasetError, match="member") as caught:
        safe_member(name)
    assert str(caught.value).isprintable()


@given(st.text(alphabet="ab./\\\0~C: \n", max_size=12))
def test_any_member_name_stays_inside_or_is_refused(name):
    try:
        safe = safe_member(name)
    except DatasetError:
        return
    assert not safe.startswith("/") and ".." not in safe.split("/")
    inside = os.path.normpath(os.path.join("/folder", safe))
    assert inside == "/folder" or inside.startswith("/folder/")


def tar_of(path, *members):
    """members: (name, bytes) or a TarInfo."""
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_of(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in members:
            out.writestr(name, data)
    return path


def hostile_zip_link(path):
    info = zipfile.ZipInfo("NV/a")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as out:
        out.writestr(info, "/etc/passwd")
    return path


HOSTILE = {
    "tar climbs": lambda p: tar_of(p / "a.tar", ("NV/ok.png", b"x"), ("../victim/secret.txt", b"yours")),
    "tar absolute": lambda p: tar_of(p / "a.tar", (str(p / "victim/secret.txt"), b"yours")),
    "tar link": lambda p: tar_of(p / "a.tar", link("NV/a.png", "../../victim/secret.txt")),
    "tar link then file": lambda p: tar_of(p / "a.tar", link("NV", str(p / "victim")), ("NV/secret.txt", b"yours")),
    "tar hard link": lambda p: tar_of(p / "a.tar", link("NV/a.png", str(p / "victim/secret.txt"), tarfile.LNKTYPE)),
    "tar device": lambda p: tar_of(p / "a.tar", link("NV/a.png", "", tarfile.CHRTYPE)),
    "tar fifo": lambda p: tar_of(p / "a.tar", link("NV/a.png", "", tarfile.FIFOTYPE)),
    "tar twice": lambda p: tar_of(p / "a.tar", ("NV/a.png", b"x"), ("NV/./a.png", b"y")),
    "tar file as folder": lambda p: tar_of(p / "a.tar", ("NV", b"x"), ("NV/a.png", b"y")),
    "tar damaged": lambda p: (p / "a.tar").write_bytes(b"\1" * 3000) and p / "a.tar",
    "zip climbs": lambda p: zip_of(p / "a.zip", ("NV/ok.png", b"x"), ("../victim/secret.txt", b"yours")),
    "zip absolute": lambda p: zip_of(p / "a.zip", (str(p / "victim/secret.txt"), b"yours")),
    "zip link": lambda p: hostile_zip_link(p / "a.zip"),
    "zip damaged": lambda p: (p / "a.zip").write_bytes(b"PK\3\4" + b"\0" * 300) and p / "a.zip",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_write_nothing_anywhere(name, box):
    path = HOSTILE[name](box)
    with pytest.raises(DatasetError) as caught:
        unpack(path, box / "in")
    assert path.name in str(caught.value) and "\n" not in str(caught.value)
    assert untouched(box) and list((box / "in").iterdir()) == []
    with pytest.raises(DatasetError):
        import_set("folder", path, box / "out", OWN)
    assert untouched(box) and sorted(p.name for p in box.iterdir()) == sorted(["victim", "in", path.name])


def test_a_bomb_is_refused_before_it_is_unpacked(box, monkeypatch):
    monkeypatch.setattr(archive, "FREE_BYTES", 1_000_000)
    path = zip_of(box / "bomb.zip", *((f"NV/{k}.png", bytes(400_000)) for k in range(5)))
    assert path.stat().st_size * archive.SWELL < 2_000_000
    with pytest.raises(DatasetError, match="unpacks to more than"):
        unpack(path, box / "in")
    assert list((box / "in").iterdir()) == []
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    with pytest.raises(DatasetError, match="more than 3 members"):
        unpack(zip_of(box / "many.zip", *((f"{k}", b"") for k in range(5))), box / "in")


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_header_that_claims_a_gigabyte_is_refused_unread(box, ending):
    """A long name of 1 GB, a few kB when compressed: tarfile alone would take it into memory."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1_000_000_000
    opener = {"tar": open, "tar.gz": gzip.open, "tar.bz2": bz2.open, "tar.xz": lzma.open}[ending]
    with opener(box / f"a.{ending}", "wb") as out:
        out.write(info.tobuf(tarfile.GNU_FORMAT))
        out.write(bytes(2_000_000))
    with pytest.raises(DatasetError, match="one of its headers is longer"):
        unpack(box / f"a.{ending}", box / "in")
    assert list((box / "in").iterdir()) == []


def test_maps_are_bounded_by_the_picture(made, box):
    folder = shutil.copytree(made, box / "set")
    np.savez_compressed(folder / "maps/000001.npz", a=np.zeros((1000, 1000), np.float32))
    assert any("maps/000001.npz: is too large" in fault for fault in validate(folder))


def test_a_member_longer_than_it_says_is_refused(box):
    path = zip_of(box / "a.zip", ("NV/a.png", b"x" * 100))
    data = path.read_bytes()
    at = data.rindex(b"PK\1\2") + 24  # uncompressed size in the central directory
    path.write_bytes(data[:at] + struct.pack("<I", 50) + data[at + 4:])
    with pytest.raises(DatasetError):
        unpack(path, box / "in")


@given(st.binary(max_size=600), st.sampled_from(["a.tar", "a.zip", "a.tgz"]))
def test_any_bytes_as_archive_are_unpacked_inside_or_one_error(tmp_path_factory, data, name):
    base = tmp_path_factory.mktemp("x")
    (base / "in").mkdir()
    (base / name).write_bytes(data)
    try:
        unpack(base / name, base / "in")
    except DatasetError as error:
        assert "\n" not in str(error)
    assert sorted(p.name for p in base.iterdir()) == sorted(["in", name])


SHARDS = {
    "climbs": ("../000000.image.png", "relative|leads out"),
    "absolute": ("/tmp/000000.image.png", "relative"),
    "folder": ("images/000000.image.png", "does not belong"),
    "role climbs": ("000000.attribute_../../x.png", "leads out|does not belong"),
    "stranger": ("000000.pickle", "does not belong"),
    "code": ("000000.pth", "does not belong"),
}


@pytest.mark.parametrize("name", SHARDS)
def test_hostile_shards(name, made, box):
    export_set(made, "webdataset", box / "w")
    member, part = SHARDS[name]
    tar_of(box / "w/zz.tar", (member, b"x"))
    with pytest.raises(DatasetError, match=part):
        import_set("webdataset", box / "w", box / "out")
    assert untouched(box) and sorted(p.name for p in box.iterdir()) == ["in", "victim", "w"]


@pytest.mark.parametrize(("change", "part"), [
    ({"file_name": "../../x.png"}, "file_name"), ({"attributes": ["../x"]}, "attributes"),
    ({"index": 7}, "index 7|file_name"), ({"extra": 1}, "unknown key"), ({"attributes": ["globules"]}, "differ in"),
])
def test_rows_in_shards_cannot_lead_elsewhere(made, box, change, part):
    export_set(made, "webdataset", box / "w")
    shard = next((box / "w").glob("*.tar"))
    with tarfile.open(shard) as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar]
    row = json.loads(members[-1][1]) | change
    tar_of(shard, *members[:-1], (members[-1][0], json.dumps(row).encode()))
    with pytest.raises(DatasetError, match=part):
        import_set("webdataset", box / "w", box / "out")
    assert not (box / "out").exists() and untouched(box)


LINKS = ["images", "masks", "attributes", "attributes/network", "metadata.jsonl", "dataset.json", "preset.toml",
         "README.md", "preview.png", ".synthskin-tmp", ".synthskin.lock", "images/000001.png", "maps"]


@pytest.mark.parametrize("name", LINKS)
def test_a_set_with_links_is_neither_written_through_nor_read_through(name, made, box):
    folder = shutil.copytree(made, box / "set")
    target = folder / name
    if target.exists():
        shutil.move(target, box / "victim/taken")
    else:
        (box / "victim/taken").mkdir() if "tmp" in name else (box / "victim/taken").write_text("mine")
    target.symlink_to(box / "victim/taken")
    before = {p: p.read_bytes() for p in (box / "victim").rglob("*") if p.is_file()}

    def unchanged():
        return {p: p.read_bytes() for p in (box / "victim").rglob("*") if p.is_file()} == before

    if not name.startswith(".") and name not in ("preview.png", "README.md"):
        for form in FORMS:
            if name != "preset.toml" or form in ("webdataset", "croissant"):
                with pytest.raises(DatasetError, match="symbolic link"):
                    export_set(folder, form, box / f"x-{form}")
        with pytest.raises(DatasetError, match="symbolic link"):
            merge_sets([folder], box / "merged")
    with pytest.raises(DatasetError, match=r"symbolic link|Too many levels"):
        render_run(request(folder, 5), FakeEngine, device)
    assert unchanged()


def test_preview_follows_no_link_laid_out_for_it(made, box):
    folder = shutil.copytree(made, box / "set")
    for name in ("preview.png.tmp", "preview.tmp"):
        (folder / name).symlink_to(box / "victim/secret.txt")
    write_preview(folder)
    assert untouched(box)
    (folder / "preview.png").unlink()
    (folder / "preview.png").symlink_to(box / "victim/secret.txt")
    with pytest.raises(DatasetError, match="symbolic link"):
        write_preview(folder)
    assert untouched(box)


class Bomb:
    def __reduce__(self):
        return (os.mkdir, (os.environ["SYNTHSKIN_BOMB"],))


def test_pickles_are_never_loaded(made, box, monkeypatch):
    monkeypatch.setenv("SYNTHSKIN_BOMB", str(box / "boom"))
    payload = pickle.dumps(Bomb())
    folder = shutil.copytree(made, box / "set")
    np.savez(folder / "maps/000001.npz", melanin_column_mm=np.array([Bomb()], dtype=object))
    assert any("maps/000001.npz" in fault for fault in validate(folder))
    (folder / "maps/000001.npz").write_bytes(payload)
    (folder / "images/000000.png").write_bytes(payload)
    assert len([fault for fault in validate(folder) if "is damaged" in fault]) == 2
    render_run(request(folder), FakeEngine, device)
    assert validate(folder) == [] and not (box / "boom").exists()


def png_header_only(width, height):
    """A PNG that claims a size, with one row of data: valid as far as anyone reads without decoding."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    body = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(bytes(1 + 3 * width))) + chunk(b"IEND", b"")


def huge_png(path, side=50_000):
    """A whole, valid grey PNG of side x side zeros: 2.5 GB of pixels in a few MB."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    hundred = packer.compress(bytes(100 * (side + 1))) + packer.flush(zlib.Z_FULL_FLUSH)
    total = side * (side + 1)
    data = b"\x78\x01" + hundred * (side // 100) + b"\x03\x00" + struct.pack(">I", (total % 65521) << 16 | 1)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
                     + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def test_the_huge_png_is_a_real_one(tmp_path):
    huge_png(tmp_path / "a.png", 200)
    assert read_png(tmp_path / "a.png").shape == (200, 200)


def test_a_huge_png_is_refused_and_not_decoded(made, box):
    """In a process that could not hold it: 2.5 GB of pixels, 1 GB of memory to grow into."""
    folder = shutil.copytree(made, box / "set")
    huge_png(folder / "images/000001.png")
    (box / "photos/NV").mkdir(parents=True)
    shutil.copy(folder / "images/000001.png", box / "photos/NV/a.png")
    code = f"""
import resource, time
from pathlib import Path
from synthskin.dataset.encode import read_png
from synthskin.dataset.photo import difference_hash, load_photo
from synthskin.dataset.reader import validate
from synthskin.dataset.format import DatasetError
here = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (here + 10**9, here + 10**9))
started = time.process_time()
print(validate({str(folder)!r}))
for look in (read_png, load_photo, difference_hash):
    try:
        look(Path({str(box / 'photos/NV/a.png')!r}))
    except DatasetError as error:
        print(error)
print(time.process_time() - started < 2.0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                               "MALLOC_ARENA_MAX": "1"})  # else each core's thread reserves 64 MB of its own
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "images/000001.png: larger than 16384 pixels a side" in lines[0]
    assert "larger than 16384" in lines[1] and all("pixels" in line for line in lines[2:4]) and lines[4] == "True"
    with pytest.raises(DatasetError, match="pixels"):
        import_set("folder", box / "photos", box / "out", OWN)
    assert not (box / "out").exists()


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (16_385, 1), (16_000, 16_000), (2**31 - 1, 2**31 - 1)])
def test_sizes_are_judged_by_the_header(tmp_path, width, height):
    path = tmp_path / "a.png"
    path.write_bytes(png_header_only(width, height) if width < 10**6 else png_header_only(16, 16)[:16]
                     + struct.pack(">II", width, height) + png_header_only(16, 16)[24:])
    with pytest.raises(DatasetError, match=r"pixels|damaged|larger"):
        load_photo(path)
    with pytest.raises(DatasetError, match=r"pixels|damaged|larger"):
        read_png(path)


@pytest.mark.parametrize(("change", "part"), [
    ({"n": 10**12}, "n, size_px"), ({"size_px": 10**9}, "n, size_px"), ({"preset": "a\nb"}, "one line"),
    ({"generator": "evil"}, "allowed are physics"), ({"licences": []}, "at least one"),
    ({"attribution": ["a\x1b[2Jb"]}, "list of texts"),
])
def test_a_hostile_card_is_one_line(made, box, change, part):
    folder = shutil.copytree(made, box / "set")
    card = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(card | change))
    with pytest.raises(DatasetError, match=part) as caught:
        validate(folder)
    assert str(caught.value).isprintable()
