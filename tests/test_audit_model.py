"""The audited model and its preprocess file: what is fed, what is read, and what an untrusted file may not do."""

import json
import warnings

import numpy as np
import onnx
import pytest
from audit_models import SIDE, colour_model, violet_model
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from synthskin import cli
from synthskin.bias.audit_model import check_onnx, load_model
from synthskin.bias.audit_preprocess import CROP_IN_WORDS, load_preprocess, parse_preprocess
from synthskin.bias.errors import BiasError

GOOD = {"size": SIDE, "activation": "softmax", "classes": ["NV", "MEL"]}


def made(**keys):
    return parse_preprocess(json.dumps({**GOOD, **keys}), "file.json", True)


def picture(seed=0, height=SIDE, width=SIDE):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- the preprocess file ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("keys", "part"), [
    ({"size": 4}, "size"), ({"size": [32, 32, 32]}, "size"), ({"size": None}, "size"),
    ({"means": [0.5]}, "unknown key 'means' (did you mean 'mean'?)"),
    ({"mean": [0.5, 0.5]}, "1 or 3 numbers are needed"), ({"std": [0, 1, 1]}, "std"),
    ({"mean": [float("nan")]}, "mean"),
    ({"layout": "CHW"}, "layout"), ({"activation": "relu"}, "activation"), ({"dtype": "float64"}, "dtype"),
    ({"classes": ["MEL"]}, "classes"), ({"classes": ["MEL", "MEL"]}, "a name comes twice"),
    ({"classes": ["MEL", "NV", "BCC"]}, "positive"), ({"positive": "DF"}, "'DF' is none of the classes"),
    ({"threshold": 1.5}, "threshold"), ({"label": "ita_class"}, "ita_class cannot be audited"),
    ({"classes": ["cat", "dog"]}, "positive_diagnoses = [\"MEL\"]"),
    ({"classes": ["cat", "dog"], "positive_diagnoses": ["dog"]}, "'dog': allowed are MEL"),
    ({"resize": "squash"}, "resize"), ({"format": 2}, "format"),
])
def test_bad_preprocess_files(keys, part):
    with pytest.raises(BiasError) as caught:
        made(**keys)
    assert part in str(caught.value) and "\n" not in str(caught.value) and str(caught.value).startswith("file.json")


VALUES = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5),
                   st.lists(st.text(max_size=3), max_size=3))
TABLES = st.dictionaries(st.sampled_from(sorted([*GOOD, "mean", "positive", "x"])), VALUES)


@given(st.one_of(st.text(max_size=80), TABLES.map(json.dumps)), st.booleans())
def test_any_text_is_read_or_refused(text, is_json):
    try:
        parse_preprocess(text, "file", is_json)
    except BiasError as error:
        assert "\n" not in str(error)


def test_files(tmp_path):
    (tmp_path / "a.toml").write_text('size = [32, 48]\nactivation = "none"\nclasses = ["benign", "malignant"]\n')
    found = load_preprocess(tmp_path / "a.toml")
    assert found.sides == (32, 48) and found.followed == ("malignant",) and found.decides_at == 0.5
    assert found.truth()["MEL"] and not found.truth()["NV"] and "AKIEC" not in found.truth()
    for name, content in (("a.yaml", b""), ("b.json", b"{"), ("c.json", b"\xff"), ("d.json", b"[]"), ("no.toml", None)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(BiasError, match=name):
            load_preprocess(tmp_path / name)
    (tmp_path / "big.json").write_bytes(b" " * 1_000_001)
    with pytest.raises(BiasError, match="larger than"):
        load_preprocess(tmp_path / "big.json")


def test_the_positive_class_can_be_turned():
    given_ = made(threshold=0.3)
    assert given_.followed == ("MEL",) and given_.with_positive("MEL") is given_
    turned = given_.with_positive("NV")
    assert turned.followed == ("NV",) and turned.decides_at == pytest.approx(0.7) and turned.truth()["NV"]


def test_what_is_fed():
    image = picture()
    plain = made().prepared(image)
    assert plain.dtype == np.float32 and plain.shape == (3, SIDE, SIDE)
    assert np.allclose(plain, image.transpose(2, 0, 1) / 255)
    own = made(mean=[0.1, 0.2, 0.3], std=[0.5, 1, 2], layout="NHWC", channels="BGR").prepared(image)
    assert np.allclose(own, (image[..., ::-1] / 255 - [0.1, 0.2, 0.3]) / [0.5, 1, 2], atol=1e-6)
    assert np.array_equal(made(dtype="uint8", layout="NHWC").prepared(image), image)
    assert made(dtype="float16").prepared(image).dtype == np.float16
    wide = picture(1, 40, 80)
    assert made().prepared(wide).shape == made(resize="stretch").prepared(wide).shape == (3, SIDE, SIDE)
    assert not np.allclose(made().prepared(wide), made(resize="stretch").prepared(wide))


def test_the_classifiers_own_file_feeds_as_the_classifier_does():
    pictures = pytest.importorskip("synthskin.classify.pictures")
    file = {"format": 1, "size": 48, "resize": CROP_IN_WORDS, "scale": 1 / 255, "mean": [0.6, 0.5, 0.5],
            "std": [0.2, 0.2, 0.2], "layout": "NCHW", "channels": "RGB", "dtype": "float32", "input": "image",
            "output": "logits", "activation": "softmax", "classes": ["MEL", "NV"], "label": "diagnosis",
            "threshold": 0.4, "weights_sha256": "0" * 64}
    given_ = parse_preprocess(json.dumps(file), "f", True)
    assert given_.followed == ("NV",) and given_.decides_at == 0.4  # the threshold is the second class's
    smooth = np.kron(picture(2, 16, 20), np.ones((8, 8, 1), np.uint8))
    theirs = (pictures.fitted(smooth, 48).transpose(2, 0, 1) / 255 - 0.5) / 0.2
    ours = given_.prepared(smooth)
    assert np.abs(ours[1:] - theirs[1:]).max() <= 1.01 / 255 / 0.2  # PIL and torch round apart by one level


# --- the answer -------------------------------------------------------------------------------------------------------

def test_probabilities():
    logits = np.array([[0.0, 1.0], [2.0, -1.0]])
    p = 1 / (1 + np.exp(-(logits[:, 1] - logits[:, 0])))
    assert made().probabilities(logits, "m") == pytest.approx(p)
    assert made(positive="NV").probabilities(logits, "m") == pytest.approx(1 - p)
    one = made(activation="sigmoid")
    assert one.probabilities(np.array([[0.0], [3.0]]), "m") == pytest.approx([0.5, 1 / (1 + np.exp(-3))])
    turned = one.with_positive("NV").probabilities(np.array([0.0, 3.0]), "m")
    assert turned[1] == pytest.approx(1 - 1 / (1 + np.exp(-3)))
    assert made(activation="none").probabilities(np.array([0.2, 0.9]), "m") == pytest.approx([0.2, 0.9])
    three = made(classes=["MEL", "NV", "BCC"], positive=["MEL", "BCC"])
    assert three.probabilities(np.zeros((1, 3)), "m") == pytest.approx([2 / 3])
    assert made().probabilities(np.array([[1000.0, -1000.0]]), "m") == pytest.approx([0.0])


@pytest.mark.parametrize(("keys", "raw", "part"), [
    ({}, np.zeros((2, 7)), "returns 7 numbers a picture"), ({}, np.zeros((2, 1)), "returns 1 numbers"),
    ({}, np.full((2, 2), np.nan), "not finite"), ({"activation": "none"}, np.array([[-3.0, 4.0]]), "from -3 to 4"),
    ({"classes": ["MEL", "NV", "BCC"], "positive": "MEL"}, np.zeros((2, 2)), "names 3 classes"),
])
def test_outputs_that_do_not_fit(keys, raw, part):
    with pytest.raises(BiasError, match=part):
        made(**keys).probabilities(raw, "model")


def test_an_onnx_model_answers_alone_and_in_batches(tmp_path):
    model = load_model(str(violet_model(tmp_path / "m.onnx")), made())
    images = [picture(seed) for seed in range(5)]
    p = model.predict(images)
    mean = np.stack(images).mean((1, 2)) / 255
    assert p == pytest.approx(1 / (1 + np.exp(-(60 * (mean[:, 2] - mean[:, 1]) - 2))), abs=1e-5)
    assert [model.predict([image])[0] for image in images] == pytest.approx(p, abs=1e-6)
    fixed = load_model(str(violet_model(tmp_path / "f.onnx", batch=2)), made())
    assert fixed.batch == 2 and fixed.predict(images) == pytest.approx(p, abs=1e-6)
    assert model.predict([]).shape == (0,) and model.identity != fixed.identity
    assert load_model(str(tmp_path / "m.onnx"), made(threshold=0.2)).identity == model.identity


# --- untrusted files --------------------------------------------------------------------------------------------------

def with_external(path, location):
    model = onnx.load(str(violet_model(path)))
    tensor = model.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    path.write_bytes(model.SerializeToString())
    return raw


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "..", "C:/x", "a\\..\\..\\b",
                                      "gone.bin"])
def test_weights_outside_the_folder_are_refused(tmp_path, location):
    (tmp_path / "secret").write_bytes(b"0" * 64)
    path = tmp_path / "in" / "m.onnx"
    path.parent.mkdir()
    with_external(path, location)
    with pytest.raises(BiasError, match="has weights in"):
        check_onnx(path)


def test_weights_beside_the_model_are_read_and_links_refused(tmp_path):
    path = tmp_path / "m.onnx"
    raw = with_external(path, "m.bin")
    (tmp_path / "m.bin").write_bytes(raw)
    inside = load_model(str(path), made()).predict([picture()])
    assert inside == pytest.approx(load_model(str(violet_model(tmp_path / "n.onnx")), made()).predict([picture()]))
    before = load_model(str(path), made()).identity
    (tmp_path / "m.bin").write_bytes(np.zeros(6, np.float32).tobytes())
    other = load_model(str(path), made())
    assert other.identity != before and other.predict([picture()]) != pytest.approx(inside)
    (tmp_path / "m.bin").rename(tmp_path / "elsewhere")
    (tmp_path / "m.bin").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BiasError, match="symbolic link"):
        check_onnx(path)


def test_operators_of_other_libraries_are_refused_also_in_branches(tmp_path):
    path = colour_model(tmp_path / "m.onnx", (1, 1, 1), domain="evil.ops")
    with pytest.raises(BiasError, match=r"domain 'evil.ops'.*--trust-code"):
        check_onnx(path)
    check_onnx(path, trust_code=True)
    with pytest.raises(BiasError, match="cannot be loaded"):  # trusted, but ONNX Runtime does not know it
        load_model(str(path), made(), trust_code=True)
    branch = helper.make_graph([helper.make_node("Mystery", ["image"], ["logits"], domain="evil.ops")], "b", [],
                               [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)])
    outer = helper.make_graph(
        [helper.make_node("If", ["c"], ["logits"], then_branch=branch, else_branch=branch)], "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array(True), "c")])
    hidden = tmp_path / "h.onnx"
    hidden.write_bytes(helper.make_model(outer, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    with pytest.raises(BiasError, match=r"evil.ops"):
        check_onnx(hidden)


@pytest.mark.parametrize(("name", "content", "part"), [
    ("m.onnx", b"no model at all", "is no ONNX model"), ("e.onnx", b"", "is no ONNX model"),
    ("gone.onnx", None, "is not there"), ("m.pth", b"", "a model is FILE.onnx"), ("m.pt", b"x", "--trust-code"),
    ("f.py:answer", None, "--trust-code"),
])
def test_files_that_are_no_models(tmp_path, name, content, part):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BiasError) as caught:
        load_model(str(tmp_path / name), made())
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("synthskin.bias.audit_model.MAX_MODEL_BYTES", 100)
    with pytest.raises(BiasError, match="larger than 100 bytes"):
        check_onnx(violet_model(tmp_path / "m.onnx"))


@given(st.integers(0, 500), st.binary(min_size=1, max_size=4))
@example(179, b"\x80")  # the name of an output
def test_a_damaged_model_is_refused_or_answers(tmp_path_factory, place, bytes_):
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    content = bytearray(violet_model(path).read_bytes())
    content[place % len(content):place % len(content) + len(bytes_)] = bytes_
    path.write_bytes(content)
    try:
        p = load_model(str(path), made()).predict([picture()])
    except BiasError as error:
        assert "\n" not in str(error)
    else:
        assert 0 <= p[0] <= 1


@pytest.mark.parametrize(("keys", "model", "part"), [
    ({"size": 64}, {}, r"takes \(n, 3, 32, 32\), the preprocess file gives \(n, 3, 64, 64\)"),
    ({"layout": "NHWC"}, {}, r"gives \(n, 32, 32, 3\)"),
    ({"input": "pixels"}, {}, "has no input 'pixels'; it has 'image'"),
    ({"output": "p"}, {}, "has no output 'p'; it has 'logits'"),
    ({"dtype": "uint8"}, {}, "takes float32, the preprocess file says dtype uint8"),
    ({}, {"outputs": 5}, "returns 5 numbers a picture, the preprocess file names 2 classes"),
])
def test_a_model_that_does_not_fit_its_file_is_one_line(tmp_path, capsys, keys, model, part):
    path = violet_model(tmp_path / "m.onnx", **model)
    (tmp_path / "in.json").write_text(json.dumps({**GOOD, **keys}))
    with pytest.raises(SystemExit) as caught:
        cli.main(["audit", str(path), "--preprocess", str(tmp_path / "in.json"), "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1
    with pytest.raises(BiasError, match=part):
        load_model(str(path), made(**keys))
    assert not (tmp_path / "out").exists()


def test_code_is_run_only_where_it_is_trusted(tmp_path):
    torch = pytest.importorskip("torch")
    source = tmp_path / "own.py"
    source.write_text("def answer(images):\n    return images.mean((1, 2, 3))\n\ndef flat(images):\n    return 3\n")
    one = made(activation="none")
    model = load_model(f"{source}:answer", one, trust_code=True)
    assert model.kind == "python" and model.predict([picture()])[0] == pytest.approx(picture().mean() / 255, abs=1e-4)
    for name, part in (("none", "has no function"), ("flat", "returns an array of")):
        with pytest.raises(BiasError, match=part):
            load_model(f"{source}:{name}", one, trust_code=True)
    layers = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still about
        torch.jit.trace(layers, torch.zeros(1, 3, SIDE, SIDE)).save(str(tmp_path / "m.pt"))
    scripted = load_model(str(tmp_path / "m.pt"), made(), trust_code=True)
    assert scripted.kind == "torchscript" and 0 < scripted.predict([picture()])[0] < 1
    (tmp_path / "bad.pt").write_bytes(b"no")
    with pytest.raises(BiasError, match="is no TorchScript model"):
        load_model(str(tmp_path / "bad.pt"), made(), trust_code=True)
    with pytest.raises(BiasError, match="--custom-ops"):
        load_model(str(violet_model(tmp_path / "m.onnx")), made(), custom_ops=tmp_path / "x.so")
