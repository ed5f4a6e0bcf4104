"""Shapes that structures are made of: balls and strokes seen from above, and patches of a given share of the lesion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthskin.physics.lesion.growth import arrival_map, extent_mm
from synthskin.physics.noise import F32, NoiseField, keyed_rng, smoothstep
from synthskin.record import SampleRecord

WHOLE_POINTS = 80  # a side of the grid that holds the whole lesion


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a lesion grows: what every structure needs to know.

    name        type       meaning
    record      -          the sample
    noise       -          noise on these columns; holds x_mm (c,) and y_mm (r,)
    column_mm   float      width of a column
    arrival     (r, c)     as in LesionField; the border of the lesion at its present age is at `time`
    presence    (r, c)     as in LesionField
    time        float      lesion.growth_time
    whole       Ground     the whole final lesion on a coarse grid of its own, whatever the columns here see of it
    """

    record: SampleRecord
    noise: NoiseField
    column_mm: float
    arrival: F32
    presence: F32
    time: float
    whole: Ground | None = None

    @property
    def radius_mm(self) -> float:
        """Of the disc of the lesion's final area."""
        return 0.5 * self.record.lesion.diameter_mm

    @property
    def final(self) -> Ground:
        """`whole`; raises ValueError where this ground was made without."""
        if self.whole is None:
            raise ValueError("a Ground without `whole`; give it what `whole_lesion` makes")
        return self.whole

    @property
    def middle_mm(self) -> tuple[float, float]:
        """x, y of the lesion as it is now: on the way from the growth's origin to the lesion's centre."""
        final, lesion = self.final, self.record.lesion
        row, column = divmod(int(np.argmin(final.arrival)), WHOLE_POINTS)
        x, y = float(final.noise.x_mm[column]), float(final.noise.y_mm[row])
        return x + self.time * (lesion.centre_x_mm - x), y + self.time * (lesion.centre_y_mm - y)

    @property
    def grid_half_mm(self) -> float:
        """Half the width of the picture's grid with its margin, less half a column: where its outermost centres lie."""
        return 0.6 * self.record.camera.field_of_view_mm - 0.5 * self.column_mm

    def rng(self, name: str) -> np.random.Generator:
        return keyed_rng(self.record, name)

    def at(self, x_mm: F32, y_mm: F32) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Row, column and whether they lie on these columns."""
        column = np.floor((x_mm - self.noise.x_mm[0]) / self.column_mm + 0.5).astype(np.int64)
        row = np.floor((y_mm - self.noise.y_mm[0]) / self.column_mm + 0.5).astype(np.int64)
        rows, columns = self.arrival.shape
        return row, column, (row >= 0) & (row < rows) & (column >= 0) & (column < columns)

    def look(self, values: F32, x_mm: F32, y_mm: F32, outside: float) -> F32:
        """Nearest value of a map at points, `outside` beyond it."""
        row, column, seen = self.at(x_mm, y_mm)
        found = values[np.where(seen, row, 0), np.where(seen, column, 0)]
        return np.where(seen, found, np.float32(outside)).astype(np.float32)

    def scatter(self, name: str, density_per_mm2: float, draws: int = 4) -> tuple[F32, F32, F32]:
        """Points x, y (k,) of a Poisson-like process over the lesion's reach and `draws` uniforms each (k, draws).

        Point j is the same whatever the density.
        """
        half = self.radius_mm * 1.75 * math.sqrt(self.record.lesion.elongation)
        count = round(density_per_mm2 * (2 * half) ** 2)  # at most 221,000, by the bounds of the record
        table = self.rng(name).random((count, 2 + draws), dtype=np.float32)
        x = np.float32(self.record.lesion.centre_x_mm) + (2 * table[:, 0] - 1) * np.float32(half)
        y = np.float32(self.record.lesion.centre_y_mm) + (2 * table[:, 1] - 1) * np.float32(half)
        return x, y, table[:, 2:]

    def scatter_inside(
        self, name: str, density_per_mm2: float, draws: int = 4, margin: float = 0.04
    ) -> tuple[F32, F32, F32]:
        """As `scatter`, those whose arrival is at least `margin` before the present."""
        x, y, table = self.scatter(name, density_per_mm2, draws)
        inside = self.look(self.arrival, x, y, 9.0) < self.time - margin
        return x[inside], y[inside], table[inside]


def balls(
    ground: Ground, x_mm: F32, y_mm: F32, radius_mm: F32, dose: F32 | None = None, roundness: float = 0.5
) -> F32:
    """Thickness (r, c) in um of the thickest ball over each column; narrow balls keep their volume.

    dose (k,) is a factor on each ball's thickness. `roundness` is the exponent of its fall from the middle to the rim:
    0.5 is a ball, 1 a drop that fades to its rim.
    """
    rows, columns = ground.arrival.shape
    thickness = np.zeros((rows, columns), np.float32)
    row, column, _ = ground.at(x_mm, y_mm)
    soft = 0.5 * ground.column_mm
    cells = np.ceil((radius_mm + soft) / ground.column_mm).astype(np.int64) + 1 if len(radius_mm) else radius_mm
    for reach in np.unique(cells):  # balls of a size together: a large one does not make all stamps large
        pick = cells == reach
        offset = np.arange(-reach, reach + 1)
        px, py = column[pick][:, None] + offset, row[pick][:, None] + offset
        dx = (ground.noise.x_mm[0] + px * ground.column_mm - x_mm[pick][:, None]).astype(np.float32)
        dy = (ground.noise.y_mm[0] + py * ground.column_mm - y_mm[pick][:, None]).astype(np.float32)
        r2 = dx[:, None, :] ** 2 + dy[:, :, None] ** 2
        radius = radius_mm[pick].astype(np.float32)[:, None, None]
        wide2 = radius**2 + np.float32(soft**2)
        fall = np.clip(1 - r2 / wide2, 0, 1)
        chord = 2000 * radius**3 / wide2 * (np.sqrt(fall) if roundness == 0.5 else fall ** np.float32(roundness))
        if dose is not None:
            chord *= dose[pick][:, None, None]
        keep = (chord > 0) & ((px >= 0) & (px < columns))[:, None, :] & ((py >= 0) & (py < rows))[:, :, None]
        target = py[:, :, None] * columns + px[:, None, :]
        np.maximum.at(thickness.reshape(-1), target[keep], chord[keep].astype(np.float32))
    return thickness


def strokes(
    ground: Ground, x_mm: F32, y_mm: F32, radius_mm: F32, dose: F32 | None = None, roundness: float = 0.5
) -> F32:
    """Thickness (r, c) in um of round strokes along paths of points (k, m), radius and `dose` (k, m)."""
    dose = np.ones_like(x_mm) if dose is None else dose
    parts_x, parts_y, parts_r, parts_d = [], [], [], []
    step = np.hypot(np.diff(x_mm, axis=1), np.diff(y_mm, axis=1))
    finest = np.maximum(0.6 * ground.column_mm, 0.5 * np.minimum(radius_mm[:, 1:], radius_mm[:, :-1]))
    pieces = int(np.clip(np.ceil((step / finest).max(initial=1.0)), 1, 40))
    for piece in range(pieces):
        t = np.float32((piece + 0.5) / pieces)
        parts_x.append(x_mm[:, :-1] * (1 - t) + x_mm[:, 1:] * t)
        parts_y.append(y_mm[:, :-1] * (1 - t) + y_mm[:, 1:] * t)
        parts_r.append(radius_mm[:, :-1] * (1 - t) + radius_mm[:, 1:] * t)
        parts_d.append(dose[:, :-1] * (1 - t) + dose[:, 1:] * t)
    px, py, pr, pd = (
        np.concatenate([p.ravel() for p in parts]).astype(np.float32) for parts in (parts_x, parts_y, parts_r, parts_d)
    )
    seen = ground.at(px, py)[2] & (pr > 1e-4)
    thickness = balls(ground, px[seen], py[seen], pr[seen], pd[seen], roundness)
    # a ball keeps its volume, a stroke its cross-section: narrow strokes lose less than narrow balls
    if len(pr):
        mean, soft = float(pr.mean()), 0.5 * ground.column_mm
        thickness *= np.float32(math.sqrt(mean**2 + soft**2) / mean) if mean > 0 else np.float32(1)
    return thickness


def whole_lesion(
    record: SampleRecord, disc: tuple[F32, F32], memory: dict[tuple[str, float, float], F32] | None
) -> Ground:
    """The final lesion on a grid of WHOLE_POINTS x WHOLE_POINTS around it; presence is 1 in it and 0 elsewhere.

    disc is what `growth.arrival_on_disc` gives, memory that of a NoiseField.
    """
    middle_x, middle_y, half = extent_mm(record, disc)
    axis = np.linspace(-half, half, WHOLE_POINTS, dtype=np.float32)
    x, y = axis + np.float32(middle_x), axis + np.float32(middle_y)
    arrival = arrival_map(record, disc, x, y)
    column_mm = 2 * half / (WHOLE_POINTS - 1)
    inside = (arrival <= 1).astype(np.float32)
    return Ground(record, NoiseField(record, x, y, memory), column_mm, arrival, inside, record.lesion.growth_time)


def patch(
    ground: Ground,
    name: str,
    share: float,
    scale_mm: float,
    lean: Callable[[Ground], F32] | None = None,
    softness: float = 0.25,
) -> F32:
    """A region 0..1 (r, c) that covers `share` of the final lesion: noise at `scale_mm`, moved by `lean`, cut off.

    Where it is cut off is found on the whole lesion, so that what the columns see of it does not matter.
    `softness` is the width of its edge in standard deviations of the noise. Raises ValueError without `ground.whole`.
    """

    def field(place: Ground) -> F32:
        values = place.noise.octaves(name, (scale_mm, 0.45 * scale_mm, 0.2 * scale_mm), (1.0, 0.5, 0.28))
        return values if lean is None else values + lean(place)

    level = np.quantile(field(ground.final)[ground.final.arrival <= 1], 1 - share)
    return smoothstep((field(ground) - np.float32(level)) / np.float32(softness) + np.float32(0.5)) * ground.presence


def side(ground: Ground, name: str, amount: float) -> F32:
    """A tilt (r, c) towards a random direction, +-`amount` at one radius: makes patches lie on one side."""
    angle = float(ground.rng(name).random()) * 2 * math.pi
    u = (ground.noise.x_mm - ground.record.lesion.centre_x_mm) * math.cos(angle)
    v = (ground.noise.y_mm - ground.record.lesion.centre_y_mm) * math.sin(angle)
    return ((u[None, :] + v[:, None]) * (amount / ground.radius_mm)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Border:
    """Points of the present border by direction from the middle: x, y, outward unit vector, (k,) each."""

    x_mm: F32
    y_mm: F32
    out_x: F32
    out_y: F32
    length_mm: float


def border(ground: Ground, angles: F32) -> Border:
    """Where rays from the lesion's present middle cross its border for the last time; the outward direction there."""
    lesion = ground.record.lesion
    reach = ground.radius_mm * 2.0 * math.sqrt(lesion.elongation)
    steps = np.linspace(0, reach, 160, dtype=np.float32)[1:]
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    middle_x, middle_y = ground.middle_mm
    x = np.float32(middle_x) + cos[:, None] * steps
    y = np.float32(middle_y) + sin[:, None] * steps
    early = ground.look(ground.arrival, x, y, 9.0) <= ground.time
    last = early.shape[1] - 1 - np.argmax(early[:, ::-1], axis=1)
    rows = np.arange(len(angles))
    bx, by = x[rows, last], y[rows, last]
    h = np.float32(3 * ground.column_mm)
    gx = ground.look(ground.arrival, bx + h, by, 2.0) - ground.look(ground.arrival, bx - h, by, 2.0)
    gy = ground.look(ground.arrival, bx, by + h, 2.0) - ground.look(ground.arrival, bx, by - h, 2.0)
    norm = np.hypot(gx, gy) + np.float32(1e-6)
    ox, oy = 0.6 * gx / norm + 0.4 * cos, 0.6 * gy / norm + 0.4 * sin
    norm = np.hypot(ox, oy) + np.float32(1e-6)
    around = 2 * math.pi * ground.radius_mm * ground.time
    return Border(bx, by, ox / norm, oy / norm, around)
