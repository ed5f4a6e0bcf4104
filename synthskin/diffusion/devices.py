"""Where to compute, and what to say when memory runs out."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch

from synthskin.diffusion.errors import DiffusionError


def pick_device(name: str) -> torch.device:
    """`auto` takes a GPU where there is one; raises DiffusionError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise DiffusionError(f"--device {name}: allowed are auto, cpu and cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise DiffusionError("--device cuda: PyTorch finds no GPU here; take auto or cpu")
    return torch.device(name)


@contextlib.contextmanager
def told_of_memory(flags: str) -> Iterator[None]:
    """Turn an out-of-memory error into one line that names the flags that help."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise DiffusionError(f"out of GPU memory ({str(error).split('.')[0][:80]}); what helps: {flags}") from None
    except MemoryError:
        raise DiffusionError(f"out of memory; what helps: {flags}") from None
    except RuntimeError as error:
        text = str(error).lower()
        if "out of memory" in text or "can't allocate memory" in text:
            raise DiffusionError(f"out of memory; what helps: {flags}") from None
        raise


def keyed(*parts: object) -> int:
    """A seed of 63 bits from what it is for; the same parts, the same seed, on every machine."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: object) -> torch.Generator:
    """A generator on the processor, so that GPU and CPU draw the same noise."""
    return torch.Generator("cpu").manual_seed(keyed(*parts))
