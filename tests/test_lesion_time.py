"""A lesion grows from nothing: its radius in proportion to time, from its first day, with what lies on its border."""

from __future__ import annotations

import numpy as np
import pytest

from synthskin.physics.lesion import growth
from synthskin.physics.lesion.shapes import Ground, border, whole_lesion
from synthskin.physics.lesion.structures import grow
from synthskin.physics.noise import F32, NoiseField
from synthskin.record import Camera, Hair, Lesion, SampleRecord, Skin, Structures

N, COLUMN_MM = 160, 0.04
AXIS = ((np.arange(N) - 0.5 * (N - 1)) * COLUMN_MM).astype(np.float32)


def record(
    index: int, time: float = 1.0, structures: Structures | None = None, regularity: float = 0.6
) -> SampleRecord:
    lesion = Lesion(diameter_mm=4.0, elongation=1.0, regularity=regularity, growth_time=time)
    return SampleRecord("test", "", 0, index, "NV", Skin(), Hair(count=0), lesion, Camera(),
                        structures=structures or Structures())


def ground(sample: SampleRecord) -> Ground:
    disc = growth.arrival_on_disc(sample)
    arrival = growth.arrival_map(sample, disc, AXIS, AXIS)
    return Ground(sample, NoiseField(sample, AXIS, AXIS), COLUMN_MM, arrival, np.ones_like(arrival),
                  sample.lesion.growth_time, whole_lesion(sample, disc, None))


def fine(sample: SampleRecord) -> F32:
    """Arrival on a fine grid over the growth's own, in radii."""
    table, axis = growth.arrival_on_disc(sample)
    at = np.linspace(-growth.HALF_WIDTH, growth.HALF_WIDTH, 400, dtype=np.float32)
    return growth.look_up(table, axis, *np.meshgrid(at, at, indexing="ij"))


@pytest.mark.parametrize("regularity", [1.0, 0.6, 0.2])
def test_radius_grows_in_proportion_to_time(regularity: float) -> None:
    times = (0.05, 0.1, 0.25, 0.5, 0.75)
    radii = []
    for index in range(6):
        arrival = fine(record(index, regularity=regularity))
        assert arrival.min() < 0.02, "the origin is reached at once"
        final = (arrival <= 1).sum()
        radii.append([np.sqrt((arrival <= time).sum() / final) for time in times])
    assert np.mean(radii, axis=0) == pytest.approx(times, abs=0.02, rel=0.12)
    assert np.min(radii, axis=0)[0] > 0.025, "a lesion is seen from its first day"


def test_final_outline_is_that_of_the_smoothed_front(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time at the origin is moved to 0, the contour at time 1 stays."""
    smoothed: list[F32] = []
    smooth = growth.gaussian_filter

    def keep(*arguments: object, **options: object) -> F32:
        smoothed.append(smooth(*arguments, **options))
        return smoothed[-1]

    monkeypatch.setattr(growth, "gaussian_filter", keep)
    for index in range(4):
        arrival, _ = growth.arrival_on_disc(record(index))
        before = smoothed[-1]
        order = np.argsort(before, axis=None)
        assert (np.diff(arrival.ravel()[order]) >= 0).all(), "the same contours, in the same order"
        inside = round(np.pi * (growth.NODES - 1) ** 2 / (2 * growth.HALF_WIDTH) ** 2)
        assert abs(int((arrival <= 1).sum()) - inside) <= 2


@pytest.mark.parametrize("time", [0.05, 0.1, 0.2])
def test_a_young_lesion_is_there(time: float) -> None:
    for index in range(6):
        lesion = grow(record(index, time, regularity=1 - 0.15 * index), AXIS, AXIS, COLUMN_MM)
        assert lesion.presence.max() > 0.1 and lesion.column_um.max() > 0.1


def test_border_is_as_long_as_the_lesion_is_wide() -> None:
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False, dtype=np.float32)
    whole = border(ground(record(0)), angles).length_mm
    assert whole == pytest.approx(np.pi * 4.0)
    for time in (0.25, 0.5):
        assert border(ground(record(0, time)), angles).length_mm == pytest.approx(time * whole)


@pytest.mark.parametrize("time", [0.2, 0.5, 1.0])
def test_rays_from_the_middle_meet_the_border_of_a_lesion_of_any_age(time: float) -> None:
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False, dtype=np.float32)
    met = []
    for index in range(10):
        place = ground(record(index, time, regularity=0.2))
        found = border(place, angles)
        met.append((np.abs(place.look(place.arrival, found.x_mm, found.y_mm, 9.0) - time) < 0.15).mean())
    assert np.mean(met) > 0.9


def test_nests_and_vessels_lie_in_the_lesion_as_it_is_now() -> None:
    """Half grown, a lesion has half the radius: what is spread over it lies there, and vessels per area stay."""
    asked = Structures(blue_grey_ovoid_nest_count=8, blue_grey_ovoid_nest_diameter_mm=0.15,
                       arborizing_vessels_density_per_mm=1.5, arborizing_vessels_width_um=40.0)
    seen: dict[float, list[tuple[float, float]]] = {0.5: [], 1.0: []}
    for time, found in seen.items():
        for index in range(10):
            lesion = grow(record(index, time, asked, regularity=1.0), AXIS, AXIS, COLUMN_MM)
            area = (lesion.arrival <= time).sum()
            assert lesion.deep_um is not None and lesion.vessel_um is not None
            found.append((float((lesion.deep_um > 0.5).sum()), float(lesion.vessel_um.sum() / area)))
    half, whole = (np.mean(found, axis=0) for found in (seen[0.5], seen[1.0]))
    assert half[0] > 0.8 * whole[0], "nests of a given size are all in the lesion, not cut away around it"
    assert half[1] == pytest.approx(whole[1], rel=0.2)
