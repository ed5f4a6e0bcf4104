"""metadata.jsonl of strangers: one line for each fault, and nothing is opened before all lines were read."""

from __future__ import annotations

import json

import pytest

from synthskin.bias.compare_load import find_items
from synthskin.bias.errors import BiasError
from synthskin.dataset.format import MAX_ROW_BYTES

GOOD = b'{"file_name": "a.jpg", "diagnosis": "NV"}\n'


def write(folder, *lines):
    (folder / "metadata.jsonl").write_bytes(b"".join(lines))
    return folder


@pytest.mark.parametrize(("line", "says"), [
    (b'{"file_name": 5}\n', "file_name 5: a path inside the folder, as text"),
    (b'{"file_name": null}\n', "file_name None: "),
    (b'{"file_name": "b.jpg", "site": "caf\xe9"}\n', "byte 36 is not UTF-8; save the file as UTF-8"),
    (b'{"file_name": "\\ud800.jpg"}\n', r"file_name '\\ud800.jpg': a path"),
    (b'{"file_name": "' + b"x" * 300 + b'.jpg"}\n', "file_name 'xxx.*as text, is needed"),
    (b'{"file_name": "../b.jpg"}\n', "paths are relative and stay inside"),
    (b'{"diagnosis": "NV"}\n', "an object with file_name is needed"),
    (b"[1]\n", "an object with file_name is needed"),
    (b"[" * 200_000 + b"\n", "an object with file_name is needed"),
    (b'{"file_name": "b.jpg", "x": "' + b"x" * MAX_ROW_BYTES + b'"}\n', f"longer than {MAX_ROW_BYTES} bytes"),
    (b'{"file_name": "b.jpg", "group_id": {"a": 1}}\n', r"group_id \{'a': 1\}: text or a whole number"),
    (b'{"file_name": "b.jpg", "patient_id": NaN}\n', "patient_id nan: text or a whole number"),
    (b'{"file_name": "b.jpg", "lesion_id": true}\n', "lesion_id True: "),
], ids=["number", "null", "latin1", "surrogate", "long name", "climbs", "no name", "list", "deep", "long line",
        "object", "nan", "true"])
def test_a_bad_line_is_told_with_its_number(tmp_path, line, says):
    with pytest.raises(BiasError, match=rf"metadata.jsonl, line 3: .*{says}") as told:
        find_items(write(tmp_path, GOOD, b"\n", line, GOOD))
    assert "\n" not in str(told.value) and len(str(told.value)) < len(str(tmp_path)) + 250
    str(told.value).encode()


def test_empty_lines_and_unknown_keys_are_let_be(tmp_path):
    rows = [{"file_name": "a.jpg", "diagnosis": ["NV"], "group_id": None, "patient_id": 0},
            {"file_name": "b.jpg", "diagnosis": "MEL", "group_id": "", "lesion_id": 7.0, "more": {}}]
    found = find_items(write(tmp_path, *(json.dumps(row).encode() + b"\r\n" for row in rows), b"\n", b"  \n"))
    assert [(item.name, item.kind, item.group) for item in found] == [("a.jpg", "", "0"), ("b.jpg", "MEL", "7.0")]
