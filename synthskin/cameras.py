"""Which camera took a picture, and its undoing: between the rows of a set and the device profiles of the renderer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from synthskin.bias.errors import BiasError
from synthskin.bias.tone import Camera
from synthskin.conventions import DEVICE_PROFILES
from synthskin.files import parse_json
from synthskin.physics.devices import read_profile, undevelop
from synthskin.record import Device, RecordError, check_value

MAX_PROFILE_CHARACTERS: Final = 100_000
MOST_CONDITION: Final = 1e3  # of a colour matrix that can be undone


def camera_of_row(row: dict[str, Any]) -> Camera | None:
    """Undoes the device of a rendered row; None where it is not known.

    A translated or generated picture carries the record of another.
    """
    device = parse_json(row["params"]).get("device") if row["generator"] == "physics" else None
    if not isinstance(device, dict):
        return None
    try:
        made = Device(**{key: check_value(f"device.{key}", value) for key, value in device.items()})
    except RecordError:
        return None  # of a version that knows other devices: as any unknown camera
    return partial(undevelop, device=made)


def camera_of_profile(name: str) -> Camera:
    """Undoes a device profile, by its name or the path of a TOML file; raises BiasError naming what is wrong."""
    if name in DEVICE_PROFILES:
        return partial(undevelop, device=Device(profile=name))
    path = Path(name)
    if path.suffix != ".toml" or not path.is_file():
        raise BiasError(f"--camera {name}: allowed are {', '.join(DEVICE_PROFILES)}, or the path of a profile (.toml)")
    try:
        with path.open(encoding="utf-8") as handle:
            made = read_profile(handle.read(MAX_PROFILE_CHARACTERS))
    except (OSError, ValueError) as error:
        raise BiasError(f"--camera {name}: {error}") from None
    if np.linalg.cond(np.array(made.matrix)) > MOST_CONDITION:
        raise BiasError(f"--camera {name}: matrix: it mixes the colours so that they cannot be told apart again")
    return partial(undevelop, device=Device(), made=made)
