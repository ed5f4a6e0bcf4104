"""Groups of numbers: names that are true of what is in them, and equal values that stay together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_study import rows

from synthskin.bias.errors import BiasError
from synthskin.bias.groups import fixed_names, make_grouping

MANY = np.linspace(0.05, 0.3, 30).tolist()  # no picture without hair
TIED = [0.0] * 12 + np.linspace(0.01, 0.2, 18).tolist()
MOST = [0.0] * 22 + np.linspace(0.01, 0.2, 8).tolist()


def grouped(by, values, **keys):
    return make_grouping("g", by, rows(len(values)), {by: values}, **keys)


def test_thirds_of_hair_are_not_called_hairless():
    found = grouped("hair", MANY, quantiles=3)
    assert found.names == ("least hair", "middle hair", "most hair") == fixed_names("hair", {}, (), 3, ())
    assert [found.labels.count(name) for name in found.names] == [10, 10, 10]
    assert fixed_names("hair", {}, (), None, ()) == ("no hair", "some hair", "dense hair")


@pytest.mark.parametrize(("by", "names"), [
    ("hair", ("least hair", "middle hair", "most hair")), ("size", ("small", "middle", "large"))])
def test_equal_values_stay_together_at_the_right_end(by, names):
    found = grouped(by, TIED, quantiles=3)
    assert [found.labels.count(name) for name in names] == [12, 8, 10] and found.labels[0] == names[0]
    assert found.note == "" and found.bounds[0] == 0.01
    found = grouped(by, MOST, quantiles=3)
    assert found.names == (names[0], names[2]) and found.labels.count(names[0]) == 22
    assert found.note == "2 groups instead of 3, as equal values stay together: 22 of 30 cases have 0"
    found = grouped(by, [1 - v for v in MOST], quantiles=3)  # the ties at the other end
    assert found.names == (names[0], names[2]) and found.labels.count(names[2]) == 22
    with pytest.raises(BiasError, match=r"no test picture is in 'middle.*22 of 30 cases have 0"):
        grouped(by, MOST, quantiles=3, pair=[names[1], names[0]])


def test_names_of_ranges():
    found = grouped("size", MOST, quantiles=4)
    assert found.names == ("under 0.01", "0.01 and over") and len(found.bounds) == 1
    near = grouped("size", [0.123456, 0.123457, 0.123458, 0.123459], edges=[0.1234565, 0.1234575])
    assert len(set(near.names)) == 3  # four digits would have made one of two groups
    for keys in ({"quantiles": 4}, {"quantiles": 3}, {}):
        with pytest.raises(BiasError, match="all test pictures are in one group"):
            grouped("size", [0.2] * 9, **keys)


@given(st.lists(st.integers(0, 12), min_size=2, max_size=60), st.integers(2, 10))
def test_quantiles_part_no_equal_values_and_keep_their_order(values, count):
    if len(set(values)) < 2:
        return
    found = grouped("size", [v / 100 for v in values], quantiles=count)
    place = [found.names.index(label) for label in found.labels]
    assert all((a < b) or place[i] >= place[j] for i, a in enumerate(values) for j, b in enumerate(values))
    assert all(place[i] == place[j] for i, a in enumerate(values) for j, b in enumerate(values) if a == b)
    assert len(found.bounds) + 1 == len(found.names) <= count and bool(found.note) == (len(found.names) < count)


@given(st.integers(9, 80), st.integers(2, 9))
def test_without_ties_the_parts_are_alike(n, count):
    sizes = [grouped("size", [k / 100 for k in range(n)], quantiles=count).labels]
    counts = [sizes[0].count(name) for name in set(sizes[0])]
    assert len(counts) == count and max(counts) - min(counts) <= 1
