"""What embeddings say of two sets: copies are found whatever lies twice in the real set, and chance has its width."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthskin.bias.compare_metrics import distances, kernel_distance
from synthskin.bias.errors import BiasError


def drawn(n, d=8, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_copies_are_found_where_real_pictures_lie_twice():
    real = drawn(40)
    twice = torch.cat([real, real[:1]])
    equal = [f"g{k}" for k in range(40)] + ["g0"]  # as alike.together names pictures of equal pixels
    assert distances(real, real).copies == distances(twice, real, equal).copies == 1.0
    near = torch.cat([real, real[:1] + 0.001])  # the lesion pictured again; it makes nobody else's pictures less near
    other = drawn(40, seed=1)
    assert distances(near, other, equal).copies == pytest.approx(distances(real, other).copies, abs=0.03)
    taken = torch.cat([other[:20], real[:20] + 0.01])
    assert distances(near, taken, equal).copies == pytest.approx(0.5, abs=0.06)
    assert distances(near, taken).copies <= 0.5


def test_copies_of_far_points_do_not_hang_on_rounding():
    real = drawn(60) + 1000  # by products of such points even equal ones are not at 0
    assert distances(real, real + torch.zeros(60, 1)).copies == 1.0


def test_kernel_distance_is_that_of_torchmetrics():
    from torchmetrics.image.kid import poly_mmd

    x, y = drawn(50).double(), (drawn(50, seed=1) + 0.3).double()
    assert kernel_distance(x.numpy(), y.numpy()) == pytest.approx(float(poly_mmd(x, y)), rel=1e-9)


def test_chance_between_halves_has_its_width():
    real = drawn(100)
    found = distances(real, drawn(100, seed=1))
    assert found.kid_null_low < 0 < found.kid_null_high and abs(found.kid_null) < 0.2 * found.kid_null_high
    order = np.random.default_rng(5)
    splits = []
    for _ in range(200):
        half = order.permutation(100)
        splits.append(kernel_distance(real[half[:50]].double().numpy(), real[half[50:]].double().numpy()))
    assert np.mean((np.array(splits) > found.kid_null_low) & (np.array(splits) < found.kid_null_high)) > 0.88
    # two samples of one law lie within it, a shifted one does not
    same = [distances(drawn(100, seed=2 * k), drawn(100, seed=2 * k + 1)) for k in range(10)]
    assert sum(f.kid_null_low < f.kid < f.kid_null_high for f in same) >= 8
    assert distances(real, drawn(100, seed=1) + 1).kid > 3 * found.kid_null_high


def test_halves_part_no_group():
    people = drawn(12).repeat_interleave(10, 0) + 0.05 * drawn(120, seed=1)
    groups = [f"p{k // 10}" for k in range(120)]
    apart, cut = distances(people, people, groups), distances(people, people)
    assert apart.kid_null_high > 3 * cut.kid_null_high  # six people against six others
    few = [f"p{min(k // 10, 2)}" for k in range(120)]
    with pytest.raises(BiasError, match=r"are of 3 groups .*; at least 4"):
        distances(people, people, few)
