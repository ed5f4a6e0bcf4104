"""Comparison of sets: what is equal must not be told apart, what differs must be, and every figure by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from synthskin.bias import alike, folders
from synthskin.bias import compare as compare_module
from synthskin.bias import compare_statistics as cs
from synthskin.bias.compare import Options, compare_sets
from synthskin.bias.compare_masks import mask_statistics
from synthskin.bias.compare_metrics import distances, neighbours, precision_recall
from synthskin.bias.errors import BiasError
from synthskin.bias.features import FilterBank, embed, load_features

SIDE = 48


def picture(rng, shift=(0.0, 0.0, 0.0), grain=2.0):
    """Skin with a darker lesion, of random place, size and colour."""
    from skimage.color import lab2rgb

    y, x = np.mgrid[:SIDE, :SIDE]
    cy, cx, radius = rng.uniform(18, 30), rng.uniform(18, 30), rng.uniform(7, 13)
    skin = np.array([65.0, 10.0, 16.0]) + rng.normal(0, (4, 2, 3))
    lesion = skin - rng.uniform(15, 25) * np.array([1.0, 0.0, 0.2])
    inside = 1 / (1 + np.exp(np.hypot(x - cx, y - cy) - radius))[..., None]
    lab = skin * (1 - inside) + lesion * inside + np.array(shift) + rng.normal(0, grain, (SIDE, SIDE, 1))
    return (np.clip(lab2rgb(lab), 0, 1) * 255).astype(np.uint8)


def group(n, seed, kinds=("",), **options):
    rng = np.random.default_rng(seed)
    images = [cs.fitted(picture(rng, **options), SIDE) for _ in range(n)]
    return alike.make_group(images, [f"{seed}-{k}" for k in range(n)], [kinds[k % len(kinds)] for k in range(n)])


@pytest.fixture(scope="module")
def base():
    return group(40, 1)


@pytest.fixture(scope="module")
def same():
    return group(40, 2)


@pytest.fixture(scope="module")
def shifted():
    return group(40, 3, shift=(0.0, 8.0, 0.0))


def test_equal_sets_are_not_told_apart(base, same):
    found = alike.linear_auc(base, same)
    assert found.low < 0.5 < found.high and found.auc < 0.7
    assert len(found.scores) == 80


def test_a_shift_of_one_channel_is_found_and_named(base, shifted):
    assert alike.linear_auc(base, shifted).auc > 0.95
    ranked = alike.giveaways(base, shifted)
    assert ".a" in ranked[0].name or "hue" in ranked[0].name
    skin = next(g for g in ranked if g.name == "skin.a.mean")
    assert skin.auc > 0.97 and skin.second - skin.first == pytest.approx(8.0, abs=1.0) and skin.effect > 2
    apart = alike.distances(base, shifted)
    assert apart["skin.a.w1"] == pytest.approx(8.0, abs=1.0)
    assert apart["skin.L.w1"] < 3 and apart["skin.energy"] > alike.distances(base, base)["skin.energy"] + 1


def test_grain_is_found_by_texture_not_by_colour(base):
    grainy = group(40, 4, grain=4.0)
    texture = alike.linear_auc(base, grainy, [n for n in base.statistics[0] if not cs.is_colour(n)])
    assert texture.auc > 0.95
    fine = {g.name: g for g in alike.giveaways(base, grainy)}["skin.contrast.1-2.L"]
    assert fine.effect > 1
    assert alike.distances(base, grainy)["spectrum.L.rms_db"] > 2


def test_network_finds_a_plain_difference(base):
    red = group(40, 5, shift=(0.0, 25.0, 0.0))
    assert alike.cnn_auc(base, red, folds=2, epochs=8).auc > 0.9


def test_weighted_auc_is_scikit_learns():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    y, weights = rng.integers(0, 2, 80), rng.random(80)
    scores = rng.integers(0, 12, 80) + y
    assert alike._weighted_auc(scores, y, weights) == pytest.approx(roc_auc_score(y, scores, sample_weight=weights))


def test_folds_keep_groups_together():
    a = group(24, 6)
    pairs = alike.Group(a.images, a.statistics, tuple(f"g{k // 4}" for k in range(24)), a.kinds)
    which = alike._folds(pairs, a, 3)
    for name in set(pairs.groups):
        assert len({int(which[k]) for k in range(24) if pairs.groups[k] == name}) == 1


def test_sets_that_share_groups_are_not_told_apart_by_them(base):
    a = group(24, 6)
    renamed = alike.Group(a.images, a.statistics, tuple(f"copy {k}" for k in range(24)), a.kinds)
    for other in (a, renamed):  # the same groups, and the same pictures under other names
        which = alike._folds(a, other, 5)
        assert (which[:24] == which[24:]).all() and alike.shared_groups(a, other) == 24
        assert alike.linear_auc(a, other).auc == pytest.approx(0.5, abs=0.05)
    rng = np.random.default_rng(3)
    noise = rng.integers(-1, 2, a.images.shape)  # a sibling of each picture, not told from it
    near = alike.make_group(list(np.clip(a.images + noise, 0, 255).astype(np.uint8)), a.groups, a.kinds)
    assert (alike._folds(a, near, 5)[:24] == alike._folds(a, near, 5)[24:]).all()
    assert alike.shared_groups(base, a) == 0


def test_folds_of_sets_apart_are_spread_evenly(base, same):
    which = alike._folds(base, same, 5)
    assert np.bincount(which[:40]).tolist() == np.bincount(which[40:]).tolist() == [8] * 5


def test_balance_gives_both_sets_the_first_ones_mix():
    a, b = group(20, 7, kinds=("NV", "NV", "NV", "MEL")), group(20, 8, kinds=("NV", "MEL", "BCC"))
    weights = alike.balance(a, b)
    second = dict.fromkeys(("NV", "MEL", "BCC"), 0.0)
    for weight, kind in zip(weights[20:], b.kinds, strict=True):
        second[kind] += weight
    assert second == pytest.approx({"NV": 0.75, "MEL": 0.25, "BCC": 0.0})
    assert weights[:20].sum() == pytest.approx(1.0)


def test_too_few_pictures_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(BiasError, match="at least 20"):
        alike.make_group([picture(rng)] * 5, list("abcde"), [""] * 5)


def disc(radius=20.0, cy=31.5, cx=31.5, ratio=1.0):
    y, x = np.mgrid[:64, :64]
    return ((x - cx) / ratio) ** 2 + (y - cy) ** 2 <= radius**2


def test_masks_by_hand():
    found = mask_statistics(disc())
    assert found["area"] == pytest.approx(math.pi * 400 / 4096, rel=0.01)
    assert found["offset"] == pytest.approx(0, abs=1e-6) and found["cut"] == 0 and found["pieces"] == 1
    assert found["elongation"] == pytest.approx(1, abs=0.01) and found["asymmetry"] < 0.02
    assert found["irregularity"] == pytest.approx(1, abs=0.06)
    long = mask_statistics(disc(12, ratio=2.0))
    assert long["elongation"] == pytest.approx(2, abs=0.06) and long["asymmetry"] < 0.05
    moved = mask_statistics(disc(10, cx=47.5))
    assert moved["offset"] == pytest.approx(0.5, abs=0.01)
    half = disc(20) & (np.mgrid[:64, :64][1] >= 32)
    assert 0.12 < mask_statistics(half)["asymmetry"] < 0.2  # equal about one axis only
    assert mask_statistics(disc(20, cx=0))["cut"] > 0.1
    assert math.isnan(mask_statistics(np.zeros((64, 64), bool))["offset"])
    assert mask_statistics(disc(8, cx=16) | disc(8, cx=48))["pieces"] == 2


def test_precision_and_recall_by_hand():
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    synthetic = torch.tensor([[0.5], [10.0], [11.0], [12.0]])
    # k=1: balls of 1 around each real point hold 0.5 alone; of the synthetic balls (9.5, 1, 1, 1) that of 0.5 holds all
    assert precision_recall(real, synthetic, k=1) == (0.25, 1.0)
    assert precision_recall(real, real, k=1) == (1.0, 1.0)
    assert precision_recall(real, real + 100, k=1) == (0.0, 0.0)


def test_kid_and_fid():
    generator = torch.Generator().manual_seed(0)
    real, other = torch.randn(200, 8, generator=generator), torch.randn(200, 8, generator=generator)
    near, far = distances(real, other), distances(real, other + 2)
    assert abs(near.kid) < 3 * near.kid_sd and far.kid > 20 * near.kid_sd
    assert near.fid is None and "2048 are needed" in near.fid_reason
    many = torch.randn(2048, 2, generator=generator, dtype=torch.float32)
    shifted = distances(many, many + torch.tensor([3.0, 0.0]))
    assert shifted.fid == pytest.approx(9.0, rel=1e-3)  # same covariance: the squared distance of the means
    assert distances(real, real[:50]).copies == 1.0 and near.copies < 0.1


def test_neighbours_are_the_nearest():
    near = neighbours(torch.tensor([[0.0], [5.0]]), torch.tensor([[4.0], [1.0], [9.0]]))
    assert near.position.tolist() == [1, 0] and near.distance.tolist() == [1.0, 1.0]


def test_filter_bank():
    images = group(20, 9).images
    first, again = embed(FilterBank(), images), embed(FilterBank(), images[:3])
    assert first.shape == (20, FilterBank.num_features)
    assert torch.allclose(first[:3], again, atol=1e-6) and torch.isfinite(first).all()


def test_features_of_onnx_and_of_a_folder(tmp_path):
    import onnx
    from onnx import TensorProto, helper
    from transformers import ViTConfig, ViTModel

    images = group(20, 10).images[:4]
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])]
    graph = helper.make_graph(
        nodes, "mean", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])])
    path = tmp_path / "mean.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    module = load_features(str(path))
    assert module.num_features == 3
    expected = (images.mean(axis=(1, 2)) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(embed(module, images).numpy(), expected, atol=0.02)

    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32,
                       patch_size=16)
    ViTModel(config).save_pretrained(tmp_path / "vit", safe_serialization=True)
    module = load_features(str(tmp_path / "vit"))
    assert module.num_features == 16 and module.side_px == 32
    assert embed(module, images).shape == (4, 16)


@pytest.mark.parametrize(("spec", "says"), [
    ("net.pt", "can run code"), ("none.onnx", "no such file"), ("/no/such/folder", "cannot be loaded"),
])
def test_features_that_are_refused(spec, says):
    with pytest.raises(BiasError, match=says):
        load_features(spec)


def write(folder, n, seed, **options):
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    with open(folder / "metadata.jsonl", "w", encoding="utf-8") as rows:
        for k in range(n):
            Image.fromarray(picture(rng, **options)).save(folder / "images" / f"{k:04d}.jpg", quality=92)
            rows.write(json.dumps({"file_name": f"images/{k:04d}.jpg", "diagnosis": "NV" if k % 3 else "MEL"}) + "\n")
    return folder


def test_a_whole_comparison(tmp_path):
    real, made = write(tmp_path / "real", 24, 11), write(tmp_path / "made", 22, 12, shift=(0.0, 6.0, 0.0))
    (made / "images" / "0003.jpg").write_bytes(b"damaged")
    result = compare_sets(real, made, tmp_path / "out", Options(size_px=SIDE, masks="none", cnn=False))
    data = json.loads((tmp_path / "out" / "results.json").read_text())
    assert data["real"]["n"] == 24 and data["synthetic"]["n"] == 21
    assert list(data["synthetic"]["left_out"]) == ["images/0003.jpg"]
    assert data["two_sample"]["linear"]["auc"] > 0.8 and data["two_sample"]["cnn"] is None
    assert data["classes"]["MEL"] == [8, 7] and sum(v[0] for v in data["ita_classes"].values()) == 24
    assert data["embedding"]["fid"] is None and data["shapes"] == []
    assert data["groups"][0]["skin_delta_e"] > 2
    page = (tmp_path / "out" / "report.html").read_text()
    assert "made against real" in page and "not clinical evidence" in page.lower().replace("nothing here is", "not")
    assert page.count("<img") == len(result.to_real.shown()) + len(result.to_synthetic.shown())
    with Image.open(tmp_path / "out" / "neighbours.png") as sheet:
        assert sheet.width > 500
    assert not list((tmp_path / "out").glob(".*")) and data["two_sample"]["shared_groups"] == 0
    compare_module.check_folder(tmp_path / "out", compare_module.OURS, "a comparison", compare_module._strange)


def test_a_set_against_its_copy(tmp_path, capsys):
    import shutil

    from synthskin import cli

    real, out = write(tmp_path / "real", 21, 15), tmp_path / "out"
    shutil.copytree(real, tmp_path / "copy")
    for _ in range(2):  # again into the same folder
        with pytest.raises(SystemExit) as done:
            cli.main(["compare", str(real), str(tmp_path / "copy"), "--out", str(out), "--no-cnn", "--masks", "none",
                      "--size", str(SIDE)])
        assert done.value.code == 0 and "21 groups are in both sets" in capsys.readouterr().out
    found = json.loads((out / "results.json").read_text())["two_sample"]
    assert found["shared_groups"] == 21 and found["linear"]["auc"] == pytest.approx(0.5, abs=0.01)
    assert "21 groups are in both sets" in (out / "report.html").read_text()


def test_bad_input_is_refused_before_anything_is_written(tmp_path, capsys):
    from synthskin import cli

    real = write(tmp_path / "real", 24, 13)
    few = write(tmp_path / "few", 3, 14)
    out = tmp_path / "out"
    for args, says in (
        ([str(real), str(tmp_path / "nothing")], "no such folder"),
        ([str(real), str(few)], "at least 20"),
        ([str(real), str(real), "--masks", "mine"], "allowed are auto"),
        ([str(real), str(real), "--masks", "own"], "without a mask"),
        ([str(real), str(real), "--diagnosis", "BCC"], "0 pictures of BCC"),
        ([str(real), str(real), "--size", "8"], "32 to 512"),
        ([str(real), str(real), "--features", "x.pkl"], "can run code"),
        ([str(real), str(real), "--diagnosis", "FOO"], "--diagnosis FOO: unknown; allowed are MEL, NV,"),
        ([str(real), str(real), "--diagnosis", "NV,MELL"], "(did you mean 'MEL'?)"),
    ):
        with pytest.raises(SystemExit) as done:
            cli.main(["compare", *args, "--out", str(out)])
        said = capsys.readouterr().err.strip()
        assert done.value.code == 2 and said.startswith("error: ") and says in said and "\n" not in said
        assert not out.exists()


def test_where_it_cannot_write_shows_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compare_module, "find_items", lambda folder: pytest.fail("read the pictures"))
    monkeypatch.setattr(compare_module, "load_features", lambda spec: pytest.fail("loaded the features"))

    def said(out):
        return _refused(capsys, "compare", tmp_path, tmp_path, "--out", out)

    (tmp_path / "file").write_text("x")
    for name in ("file", "file/below"):
        assert f"{tmp_path / 'file'}: is a file" in said(tmp_path / name)
    assert "no part of a comparison" in said(tmp_path)
    for name in ("report.html", "results.json"):
        mine = tmp_path / f"mine {name}"
        mine.mkdir()
        (mine / name).write_text("{}")
        assert f"holds '{name}'" in said(mine) and (mine / name).read_text() == "{}"
    made = tmp_path / "new"
    monkeypatch.setattr(folders.tempfile, "TemporaryFile", _no_room)
    assert "cannot be written: No space left" in said(made / "below") and not made.exists()


def _no_room(**_):
    raise OSError(28, "No space left on device")


def _refused(capsys, *args):
    """The one line of a refusal."""
    from synthskin import cli

    with pytest.raises(SystemExit) as done:
        cli.main([*map(str, args)])
    said = capsys.readouterr().err.strip()
    assert done.value.code == 2 and said.startswith("error: ") and "\n" not in said
    return said


def test_a_model_that_cannot_be_fetched_is_one_question(monkeypatch):
    import huggingface_hub

    asked = []

    def gone(self, name, timeout):
        asked.append(timeout)
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", gone)
    with pytest.raises(BiasError, match=r"nobody/none: cannot be loaded: .*cannot be reached \(ConnectionError\)"):
        load_features("nobody/none")
    assert len(asked) == 1 and asked[0] < 10


def test_a_model_that_was_fetched_needs_no_network(monkeypatch, tmp_path):
    import huggingface_hub

    from synthskin.bias import features

    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file: str(tmp_path / file))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **keys: pytest.fail("asked"))
    assert features._on_this_machine("some/one") == str(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "x.safetensors"}}')
    assert not features._has_weights(tmp_path)


def test_long_errors_end_at_a_word():
    from synthskin.bias.features import _line

    assert _line(ValueError("one\n two")) == "one two"
    long = _line(ValueError("word " * 80))
    assert long.endswith("word ...") and len(long) <= 160


def test_options_of_tone_are_looked_at_first(tmp_path, capsys, monkeypatch):
    from synthskin.bias import tone_files

    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr(tone_files, "load_photo", lambda *args, **keys: pytest.fail("read a picture"))
    assert "--wcag foo: allowed are linear, encoded" in _refused(capsys, "tone", tmp_path, "--wcag", "foo")
    said = _refused(capsys, "tone", tmp_path, "--masks", tmp_path / "nope")
    assert f"--masks {tmp_path / 'nope'}: there is no such folder" in said
    assert "is no folder" in _refused(capsys, "tone", tmp_path, "--masks", tmp_path / "a.png")


def test_what_is_missing_is_named(monkeypatch, capsys, tmp_path):
    from synthskin import cli
    from synthskin.bias import errors

    assert errors.missing("json", "torch") is None and errors.missing("json", "no_such_module") == "no_such_module"
    monkeypatch.setattr(errors, "missing", lambda *modules: modules[1])
    with pytest.raises(SystemExit) as done:
        cli.main(["compare", str(tmp_path), str(tmp_path), "--out", str(tmp_path / "out")])
    assert done.value.code == 2 and "compare needs torchmetrics" in capsys.readouterr().err
