"""The panorama of a run, checked for every direction in which it can hang, before anything is made or written."""

from __future__ import annotations

from pathlib import Path

from synthskin.run.request import RunError, RunRequest

_KEY = "clinical.light_azimuth_deg"


def check_panorama(request: RunRequest) -> None:
    """Raises RunError where the panorama cannot be read, or its light misses the skin at an azimuth of the run."""
    path = request.options.environment
    if path is None:
        return
    from synthskin.physics.environment import EnvironmentMapError, check_azimuths

    values = request.values_of(_KEY)
    if values is not None:
        ranges = [(float(value), float(value)) for value in values]
    else:
        ranges = [limits for law in request.preset.laws_of(_KEY) if (limits := law.limits()) is not None]
    try:
        check_azimuths(Path(path), ranges)
    except EnvironmentMapError as error:
        raise RunError(str(error)) from None
