"""Domains that have changed are noticed, and no sibling of a test row is learnt from, whatever the filters say."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from gan_sets import write_set
from PIL import Image
from test_gan_melanet import GROUPS, SPECS
from test_gan_melanet import TINY as STUDY
from test_gan_train import BOTH, TINY, domains
from test_gan_translate import DarkSegmenter, translator

from synthskin.dataset.reader import read_rows
from synthskin.gan import GanError
from synthskin.gan.balance import _sources, balance_set, find_needs
from synthskin.gan.checkpoint import STATE
from synthskin.gan.domain import content_hash, load_domain, split_domains
from synthskin.gan.melanet import Study
from synthskin.gan.model import load_model, read_model_card
from synthskin.gan.train import train
from synthskin.gan.where import parse_where
from synthskin.gates import GatePanel, SourceLeakGate


def inverted(path):
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


@pytest.mark.parametrize(("file", "said"), [("images/000001.png", "SOURCE"), ("masks/000023.png", "TARGET")])
def test_another_file_of_a_domain_is_refused(tmp_path, file, said):
    directory, out = write_set(tmp_path / "set", BOTH), tmp_path / "m"
    train(*domains(directory), TINY, out)
    assert train(*domains(directory), TINY, out).made == 0
    kept = (directory / file).read_bytes()
    inverted(directory / file)
    with pytest.raises(GanError, match=f"{said} has other pictures, masks, labels or splits"):
        train(*domains(directory), TINY, out)
    assert train(*domains(directory), TINY, out, overwrite=True).made == 4
    (directory / file).write_bytes(kept)


def test_the_hash_is_of_contents_and_not_of_places(tmp_path):
    directory = write_set(tmp_path / "set", BOTH)
    shutil.copytree(directory, tmp_path / "copy")
    one, two = domains(directory)[0], domains(tmp_path / "copy")[0]
    assert content_hash([one]) == content_hash([two]) != content_hash([domains(directory)[1]])
    assert content_hash([one, one.subset([])]) != content_hash([one.subset([]), one])  # learnt from, or held out
    (directory / "masks/000003.png").unlink()
    with pytest.raises(Exception, match=r"000003\.png: cannot be read"):
        content_hash([one])


def test_a_training_of_before_goes_on(tmp_path):
    """Its checkpoint and card tell no hash of the files."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    from synthskin.training_state import tensor_bytes

    directory, out = write_set(tmp_path / "set", BOTH), tmp_path / "m"
    train(*domains(directory), TINY, out)
    with safe_open(out / STATE, "pt") as opened:
        told = json.loads(opened.metadata()["synthskin"])
    told["identity"] = {k: v for k, v in told["identity"].items() if not k.startswith("files of")}
    (out / STATE).write_bytes(tensor_bytes(load_file(out / STATE), {"synthskin": json.dumps(told)}))
    card = json.loads((out / "model.json").read_text())
    for side in ("source", "target"):
        assert len(card[side].pop("content")) == 16
    (out / "model.json").write_text(json.dumps(card))
    assert load_model(out).card == read_model_card(out)
    assert train(*domains(directory), TINY, out).made == 0


def test_test_rows_that_the_filter_leaves_out_guard_their_group(tmp_path):
    """Lesions of two pictures; of g0 and g12 the second is for testing, without a diagnosis or with another one."""
    specs = [("NV", 2)] * 24 + [("MEL", 2)] * 24
    directory = write_set(tmp_path / "set", specs, groups=[f"g{k // 2}" for k in range(48)],
                          splits=["test" if k in (1, 25) else None for k in range(48)])
    rows = read_rows(directory)
    for index, diagnosis in ((1, None), (25, "BCC")):
        rows[index] |= {"diagnosis": diagnosis, "benign_malignant": None if diagnosis is None else "malignant"}
    (directory / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    split = split_domains(domains(directory), seed=0)
    seen = {row["group_id"] for part in (split.learn, split.held_out) for domain in part for row in domain.rows}
    assert seen == {f"g{k}" for k in range(24)} - {"g0", "g12"}
    narrow = [load_domain(directory, parse_where(f"diagnosis={d},split!=test"), 32) for d in ("NV", "MEL")]
    assert {row["group_id"] for d in split_domains(narrow, seed=0).learn for row in d.rows} <= seen

    for row in rows[40:]:  # fewer melanomas than nevi
        row |= {"diagnosis": None, "benign_malignant": None}
    (directory / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (need,) = find_needs(rows, 1.0, [translator()])
    assert {row["group_id"] for row in _sources(need, directory, 0).rows} == {f"g{k}" for k in range(1, 12)}


def test_a_study_notices_other_pictures(tmp_path):
    write_set(tmp_path / "real", SPECS, groups=GROUPS, generator="real", masks=False)
    write_set(tmp_path / "renders", [("MEL", 2)] * 12, seed=7, set_hash="fedcba9876543210")

    def study():
        return Study(tmp_path / "real", tmp_path / "s", replace(STUDY), tmp_path / "renders", DarkSegmenter())

    study()
    study()
    told = json.loads((tmp_path / "s/study.json").read_text())
    for file, said in (("real/images/000004.png", "content of DATA"), ("renders/images/000002.png", "of --physics")):
        kept = (tmp_path / file).read_bytes()
        inverted(tmp_path / file)
        with pytest.raises(GanError, match=f"holds a study with another .*{said}"):
            study()
        (tmp_path / file).write_bytes(kept)
    study()
    old = {key: value for key, value in told.items() if not key.startswith("content")}
    (tmp_path / "s/study.json").write_text(json.dumps(old))
    study()  # of before: goes on
    assert json.loads((tmp_path / "s/study.json").read_text()) == told


def test_balance_notices_other_sources(tmp_path):
    """A source replaced, or one before it, so that another picture now comes in its place."""
    directory = write_set(tmp_path / "set", [("NV", 1 + k % 6) for k in range(8)] + [("MEL", 2)] * 4)
    out = tmp_path / "out"
    needs = find_needs(read_rows(directory), 1.0, [translator()])

    def fill():
        return balance_set(directory, out, needs, GatePanel([SourceLeakGate()]))

    fill()
    fill()
    parents = [row["parents"][0]["file_name"] for row in read_rows(out)]
    kept = (directory / parents[1]).read_bytes()
    inverted(directory / parents[1])
    with pytest.raises(GanError, match=f"000001.png was made from another {parents[1]} than .* holds now; choose"):
        fill()
    (directory / parents[1]).unlink()
    with pytest.raises(GanError, match=f"made from another {parents[1]}"):
        fill()
    (directory / parents[1]).write_bytes(kept)
    fill()
    rows = read_rows(directory)
    rows[int(parents[0][-10:-4])]["split"] = "val"
    (directory / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(GanError, match=r"000000\.png was made from another picture than .* now gives in its place"):
        fill()
    with pytest.raises(GanError, match=r"--report .*why: lies inside --out"):
        balance_set(directory, tmp_path / "p", needs, GatePanel([SourceLeakGate()]), report=tmp_path / "p/why")
    assert not (tmp_path / "p").exists()
