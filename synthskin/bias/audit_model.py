"""The audited model: an ONNX graph that runs as data, or TorchScript and Python where the user trusts their code.

An ONNX file is untrusted: its size is bounded, weights outside its folder and operators that need a library of their
own are refused before ONNX Runtime sees it. It can still ask for much time or memory; that is not bounded here.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from synthskin.bias.audit_preprocess import Preprocess
from synthskin.bias.errors import BiasError

MAX_MODEL_BYTES: Final = 2**31  # of the graph: protobuf's own limit
MAX_WEIGHTS_BYTES: Final = 8 * 2**30  # of files beside it
#: Operators that ONNX Runtime brings itself.
KNOWN_DOMAINS: Final = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft")
TORCHSCRIPT: Final = (".pt", ".ts", ".torchscript")
_TYPES: Final = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
_TRUST: Final = "it can run any code; give --trust-code if you know where it comes from"

Run = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Model:
    """A model that answers: `predict` gives the probability of the positive class.

    name, sha256   of the file, and of the weights beside it (of a callable: of the file it stands in)
    kind           onnx, torchscript or python
    device         what it runs on
    batch          pictures it takes at once; None any number
    looked         of each call: did the output look like probabilities before the activation?
    """

    name: str
    kind: str
    sha256: str
    device: str
    preprocess: Preprocess
    run: Run
    batch: int | None = None
    looked: list[bool] = field(default_factory=list, compare=False)

    @property
    def identity(self) -> str:
        """Hash of model and preprocess file: what decides a prediction (and the threshold does not)."""
        own = self.preprocess.model_dump(mode="json", exclude={"threshold", "positive_diagnoses", "label"})
        own["positive"] = list(self.preprocess.followed)
        text = json.dumps([self.sha256, own], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def doubt(self) -> str:
        """A remark where every output looked like probabilities, or ""."""
        if not self.looked or not all(self.looked):
            return ""
        kind = self.preprocess.activation
        return (f"every output of the model lies between 0 and 1{' and sums to 1' if kind == 'softmax' else ''}, as if "
                f"{kind} had been taken already; if so, say activation = \"none\" in the preprocess file")

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """(n,) probabilities of (h, w, 3) uint8 pictures of any size; raises BiasError if the output does not fit."""
        if not len(images):
            return np.zeros(0)
        inputs = np.stack([self.preprocess.prepared(image) for image in images])
        n, step = len(inputs), self.batch or len(inputs)
        parts = []
        for k in range(0, n, step):
            part = inputs[k:k + step]
            short = step - len(part)
            fed = np.concatenate([part, np.repeat(part[-1:], short, axis=0)]) if short else part
            raw = np.asarray(self.run(fed))
            if raw.ndim == 0 or raw.shape[0] != len(fed):
                raise BiasError(f"{self.name}: returns an array of {raw.shape} for {len(fed)} pictures; one row a "
                                "picture is needed")
            parts.append(self.preprocess.probabilities(raw[:len(part)], self.name))
            self.looked.append(self.preprocess.looks_done(raw[:len(part)]))
        return np.concatenate(parts)


def load_model(path: str, preprocess: Preprocess, trust_code: bool = False, device: str = "auto",
               custom_ops: Path | None = None) -> Model:
    """Open MODEL.onnx, MODEL.pt (TorchScript) or FILE.py:function and ask it about one grey picture; raises BiasError.

    device       auto, cpu or cuda
    custom_ops   library of operators for ONNX Runtime, only with trust_code
    """
    if device not in ("auto", "cpu", "cuda"):
        raise BiasError(f"device {device}: allowed are auto, cpu, cuda")
    file, _, function = path.partition(".py:")
    suffix = Path(path).suffix.lower()
    if function:
        model = _python(Path(file + ".py"), function, preprocess, trust_code)
    elif suffix == ".onnx":
        model = _onnx(Path(path), preprocess, trust_code, device, custom_ops)
    elif suffix in TORCHSCRIPT:
        model = _torchscript(Path(path), preprocess, trust_code, device)
    else:
        raise BiasError(f"{path}: a model is FILE.onnx, or with --trust-code TorchScript ({', '.join(TORCHSCRIPT)}) or "
                        "a Python function, FILE.py:function")
    try:
        model.predict([np.full((*preprocess.sides, 3), 128, np.uint8)])
    except BiasError:
        raise
    except Exception as error:  # the runtime's and the user's own errors
        raise BiasError(f"{path}: cannot judge a picture of {preprocess.sides[0]} x {preprocess.sides[1]} pixels, "
                        f"{preprocess.layout} {preprocess.dtype}: {_line(error)}") from None
    return model


# --- ONNX -------------------------------------------------------------------------------------------------------------

def check_onnx(path: Path, trust_code: bool = False) -> list[Path]:
    """Refuse what an untrusted graph may not have; raises BiasError. Returns the files of its weights, unread."""
    try:
        import onnx
    except ModuleNotFoundError:
        raise BiasError("an audit needs onnx and onnxruntime; type: pip install 'synthskin[study]'") from None
    _bounded(path, MAX_MODEL_BYTES)
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except Exception:  # protobuf's DecodeError, under several names
        raise BiasError(f"{path}: is no ONNX model") from None
    if not model.graph.node:
        raise BiasError(f"{path}: is no ONNX model: its graph has no nodes")
    files = _check_files(path, _tensors(model))
    own = {function.domain for function in model.functions}
    graphs = [model.graph, *model.functions]
    odd = sorted({node.domain for graph in graphs for node in _nodes(graph)} - set(KNOWN_DOMAINS) - own)
    if odd and not trust_code:
        raise BiasError(f"{path}: has operators of the domain {odd[0][:60]!r}, which need a library of their own; "
                        f"{_TRUST}, and name the library with --custom-ops")
    return files


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor that is stored in the model."""
    for graph in (model.graph, *model.functions):
        yield from _tensors_of(graph)


def _tensors_of(graph: Any) -> Iterator[Any]:
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors_of(inner)


def _check_files(path: Path, tensors: Iterator[Any]) -> list[Path]:
    """Weights in other files: inside the model's folder, no links, bounded in all."""
    places = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    folder, total = path.absolute().parent, 0
    found: list[Path] = []
    for place in sorted(places):
        shown = _line(place)[:80]
        parts = place.replace("\\", "/").split("/")
        if not place or Path(place).is_absolute() or ".." in parts or ":" in parts[0] or "\0" in place:
            raise BiasError(f"{path}: has weights in {shown!r}, outside the model's folder; refused")
        file = folder
        for part in parts:
            file = file / part
            if file.is_symlink():
                raise BiasError(f"{path}: has weights in {shown!r}, which passes through a symbolic link; refused")
        if not file.is_file():
            raise BiasError(f"{path}: has weights in {shown!r}, which is not there; put it beside the model")
        total += file.stat().st_size
        if total > MAX_WEIGHTS_BYTES:
            raise BiasError(f"{path}: has more than {MAX_WEIGHTS_BYTES} bytes of weights; refused")
        found.append(file)
    return found


def _onnx(path: Path, preprocess: Preprocess, trust_code: bool, device: str, custom_ops: Path | None) -> Model:
    if custom_ops is not None and not trust_code:
        raise BiasError(f"--custom-ops {custom_ops}: {_TRUST}")
    weights = check_onnx(path, trust_code)
    try:
        import onnxruntime as ort
    except ModuleNotFoundError:
        raise BiasError("an audit needs onnxruntime; type: pip install 'synthskin[study]'") from None
    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    options.log_severity_level = 4
    if custom_ops is not None:
        try:
            options.register_custom_ops_library(str(custom_ops))
        except Exception as error:
            raise BiasError(f"--custom-ops {custom_ops}: cannot be loaded: {_line(error)}") from None
    there = ort.get_available_providers()
    if device == "cuda" and "CUDAExecutionProvider" not in there:
        raise BiasError(f"--device cuda: this onnxruntime has {', '.join(there)}; type: pip install onnxruntime-gpu")
    wanted = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider")
              if p in there and (device != "cpu" or p.startswith("CPU"))]
    try:
        session = ort.InferenceSession(str(path), options, providers=wanted)
    except Exception as error:
        raise BiasError(f"{path}: cannot be loaded: {_line(error)}") from None
    try:
        name, batch = _input_of(session, preprocess, path)
        output = _output_of(session, preprocess, path)
    except UnicodeDecodeError:
        raise BiasError(f"{path}: a name in it is not UTF-8; the file is damaged, export the model again") from None

    def run(inputs: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(session.run([output], {name: inputs})[0])

    place = session.get_providers()[0].removesuffix("ExecutionProvider")
    return Model(path.name, "onnx", _sha256(path, *weights), place, preprocess, run, batch)


def _input_of(session: Any, preprocess: Preprocess, path: Path) -> tuple[str, int | None]:
    """(name of the input, size of a fixed batch); raises BiasError where it does not take what the file says."""
    inputs = {item.name: item for item in session.get_inputs()}
    if preprocess.input is not None and preprocess.input not in inputs:
        raise BiasError(f"{path}: has no input {preprocess.input!r}; it has {_names(inputs)}")
    if preprocess.input is None and len(inputs) != 1:
        raise BiasError(f"{path}: has {len(inputs)} inputs ({_names(inputs)}); a model of one picture is needed")
    item = inputs[preprocess.input or next(iter(inputs))]
    if len(inputs) != 1:
        raise BiasError(f"{path}: needs {_names(inputs)}; a model of one picture is needed")
    if item.type in _TYPES and _TYPES[item.type] != preprocess.dtype:
        raise BiasError(f"{path}: input {item.name!r} takes {_TYPES[item.type]}, the preprocess file says dtype "
                        f"{preprocess.dtype}")
    height, width = preprocess.sides
    wanted = (None, 3, height, width) if preprocess.layout == "NCHW" else (None, height, width, 3)
    shape = list(item.shape)
    if len(shape) != 4 or any(isinstance(own, int) and w is not None and own != w
                              for own, w in zip(shape, wanted, strict=False)):
        raise BiasError(f"{path}: input {item.name!r} takes {_shape(shape)}, the preprocess file gives "
                        f"{_shape(['n', *wanted[1:]])} ({preprocess.layout}); correct size or layout")
    return item.name, shape[0] if isinstance(shape[0], int) else None


def _output_of(session: Any, preprocess: Preprocess, path: Path) -> str:
    outputs = {item.name: item for item in session.get_outputs()}
    if preprocess.output is not None and preprocess.output not in outputs:
        raise BiasError(f"{path}: has no output {preprocess.output!r}; it has {_names(outputs)}")
    return preprocess.output or str(next(iter(outputs)))


# --- formats that run code --------------------------------------------------------------------------------------------

def _torchscript(path: Path, preprocess: Preprocess, trust_code: bool, device: str) -> Model:
    if not trust_code:
        raise BiasError(f"{path}: TorchScript: {_TRUST}, or export it to ONNX")
    _bounded(path, MAX_WEIGHTS_BYTES)
    try:
        import torch
    except ModuleNotFoundError:
        raise BiasError("TorchScript needs PyTorch; type: pip install 'synthskin[study]'") from None
    if device == "cuda" and not torch.cuda.is_available():
        raise BiasError("--device cuda: no GPU that PyTorch can use is here; give cpu or auto")
    place = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, and still about
            script: Any = torch.jit.load(str(path), map_location=place).eval()
    except Exception as error:
        raise BiasError(f"{path}: is no TorchScript model: {_line(error)}") from None

    def run(inputs: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            found = script(torch.from_numpy(inputs).to(place))
        found = found[0] if isinstance(found, (tuple, list)) else found
        return np.asarray(found.float().cpu())

    return Model(path.name, "torchscript", _sha256(path), place.upper(), preprocess, run)


def _python(path: Path, function: str, preprocess: Preprocess, trust_code: bool) -> Model:
    if not trust_code:
        raise BiasError(f"{path}:{function}: a Python function: {_TRUST}, or export the model to ONNX")
    _bounded(path, MAX_WEIGHTS_BYTES)
    spec = importlib.util.spec_from_file_location("synthskin_audited", path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        found = getattr(module, function)
    except AttributeError:
        raise BiasError(f"{path}: has no function {function!r}") from None
    except Exception as error:
        raise BiasError(f"{path}: cannot be loaded: {_line(error)}") from None
    return Model(f"{path.name}:{function}", "python", _sha256(path), "its own", preprocess,
                 lambda inputs: np.asarray(found(inputs)))


def _bounded(path: Path, most: int) -> None:
    if not path.is_file():
        raise BiasError(f"{path}: is not there; give the file of a model")
    if path.stat().st_size > most:
        raise BiasError(f"{path}: larger than {most} bytes; refused")


def _sha256(*paths: Path) -> str:
    """Of a file; of several, the hash of their hashes."""
    found = []
    for path in paths:
        with open(path, "rb") as handle:
            found.append(hashlib.file_digest(handle, "sha256").hexdigest())
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def _names(items: dict[str, Any]) -> str:
    return ", ".join(repr(str(name)[:40]) for name in list(items)[:8])


def _shape(shape: Sequence[Any]) -> str:
    return "(" + ", ".join(str(side if isinstance(side, int) else "n") for side in shape) + ")"


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
