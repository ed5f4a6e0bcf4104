"""Files whole or not at all, JSON that is refused, and folders that one process holds at a time."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from synthskin.files import FolderLock, json_bytes, parse_json, read_json, replacing, write_whole

ROOT = Path(__file__).resolve().parent.parent


class RefusedError(ValueError):
    pass


def test_a_file_is_the_old_one_or_the_new_one(tmp_path):
    path = tmp_path / "a.bin"
    write_whole(path, b"old", RefusedError)
    with pytest.raises(KeyboardInterrupt), replacing(path, RefusedError) as part:
        part.write_bytes(b"ha")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.bin"]
    (tmp_path / ".a.bin.part").write_bytes(b"left by a kill")
    write_whole(path, b"new", RefusedError)
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["a.bin"]


def test_a_full_disk_is_one_line_of_the_package(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(RefusedError, match=r"a\.bin: cannot be written: No space left on device; buy a disk$"), \
            replacing(path, RefusedError, "buy a disk") as part:
        part.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.bin"]
    with pytest.raises(RefusedError, match="No such file or directory; free or fix it, then give the same command"):
        write_whole(tmp_path / "none/a.bin", b"", RefusedError)


def test_no_link_under_the_temporary_name_is_followed(tmp_path):
    (tmp_path / "victim").write_bytes(b"untouched")
    (tmp_path / ".a.bin.part").symlink_to(tmp_path / "victim")
    write_whole(tmp_path / "a.bin", b"new", RefusedError)
    assert (tmp_path / "victim").read_bytes() == b"untouched" and not (tmp_path / "a.bin").is_symlink()


def test_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(json_bytes({"naevus": "nævus", "n": 1.5}))
    assert path.read_text(encoding="utf-8") == '{\n "naevus": "nævus",\n "n": 1.5\n}\n'
    assert read_json(path, RefusedError) == {"naevus": "nævus", "n": 1.5}
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            json_bytes(value)
    with pytest.raises(ValueError, match="NaN is not a finite number"):
        parse_json("[NaN]")


@pytest.mark.parametrize(("content", "why"), [
    (None, "is missing"), (b"{", "is damaged: Expecting"), (b"[]", "is damaged: not a JSON object"),
    (b'{"a": NaN}', "is damaged: NaN is not a finite number"), (b"\xff", "is damaged: 'utf-8' codec"),
    (b'{"a": "' + b"x" * 100 + b'"}', "larger than 100 bytes"), (b"[" * 99, "is damaged: Expecting"),
])
def test_json_that_is_refused(tmp_path, content, why):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(RefusedError, match=rf"a\.json: {why}"):
        read_json(tmp_path / "a.json", RefusedError, most=100)


TAKE = """
import sys
from pathlib import Path
from synthskin.files import FolderLock
try:
    with FolderLock(Path(sys.argv[1]), ValueError, "held by another"):
        print("taken")
except ValueError as error:
    print(error)
"""


def take(folder):
    return subprocess.run([sys.executable, "-c", TAKE, folder], capture_output=True, text=True, check=True,
                          cwd=ROOT).stdout.strip()


def test_one_process_holds_a_folder(tmp_path):
    with FolderLock(tmp_path, RefusedError, "held") as lock:
        assert lock.is_there() and take(tmp_path) == "held by another"
        with pytest.raises(RefusedError, match="held"):
            FolderLock(tmp_path, RefusedError, "held")
        assert lock.is_there()  # who was refused has removed nothing
    assert os.listdir(tmp_path) == [] and take(tmp_path) == "taken"


def test_a_killed_process_holds_nothing(tmp_path):
    code = "import os, pathlib, sys; from synthskin.files import FolderLock\n" \
           "lock = FolderLock(pathlib.Path(sys.argv[1]), ValueError, ''); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT).returncode == -9
    assert (tmp_path / ".lock").exists() and take(tmp_path) == "taken"


def test_a_folder_that_took_the_place_of_ours_keeps_its_lock(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    ours = FolderLock(folder, RefusedError, "held")
    folder.rename(tmp_path / "b")
    folder.mkdir()
    theirs = FolderLock(folder, RefusedError, "held")
    assert not ours.is_there() and theirs.is_there()
    ours.release()
    assert theirs.is_there() and take(folder) == "held by another"
    theirs.release()


def test_a_lock_follows_no_link(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        FolderLock(tmp_path, RefusedError, "held")
    assert not (tmp_path / "victim").exists()
