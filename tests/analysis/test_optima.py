"""Local maxima, compared with slow searches and with known functions."""

import numpy as np
import pytest
import torch as th

from sb3_savo.analysis.optima import grid_neighbors, maxima_by_ascent, maxima_on_graph
from tests.analysis.models import Hills


def slow_neighbors(point, shape):
    """All other points of the grid that differ by at most 1 in each coordinate."""
    return [other for other in np.ndindex(shape) if other != point and np.abs(np.subtract(other, point)).max() <= 1]


def slow_maxima(values):
    """Plateaus, by flooding, of which no point has a higher neighbor: a set of points each."""
    found, seen = [], set()
    for start in np.ndindex(values.shape):
        if start in seen:
            continue
        plateau, waiting, is_maximum = {start}, [start], True
        while waiting:
            point = waiting.pop()
            for other in slow_neighbors(point, values.shape):
                is_maximum &= bool(values[other] <= values[point])
                if values[other] == values[point] and other not in plateau:
                    plateau.add(other)
                    waiting.append(other)
        seen |= plateau
        if is_maximum:
            found.append(plateau)
    return found


@pytest.mark.parametrize("shape", [(9,), (3, 4), (2, 3, 2)])
def test_grid_neighbors(shape):
    neighbors = grid_neighbors(shape)
    for index, point in enumerate(np.ndindex(shape)):
        expected = {int(np.ravel_multi_index(other, shape)) for other in slow_neighbors(point, shape)}
        assert set(neighbors[index].tolist()) - {index} == expected


@pytest.mark.parametrize("shape", [(1, 30), (40,), (9, 11), (4, 4, 4)])
@pytest.mark.parametrize("n_levels", [1, 2, 3, 50])
def test_maxima_on_grids_with_plateaus(shape, n_levels):
    """Few levels make wide plateaus, many make none."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        values = rng.integers(n_levels, size=shape).astype(float)
        found = maxima_on_graph(values.ravel(), grid_neighbors(shape))
        expected = slow_maxima(values)
        assert len(found) == len(expected)
        for index in found:
            assert sum(np.unravel_index(index, shape) in plateau for plateau in expected) == 1
        assert (np.diff(values.ravel()[found]) <= 0).all()


def test_rounding_errors_are_no_maxima():
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 1, 50)
    neighbors = grid_neighbors((50,))
    assert len(maxima_on_graph(np.floor(slope * 10) + 1e-8 * rng.normal(size=50), neighbors)) == 1
    assert len(maxima_on_graph(100 + 1e-7 * rng.normal(size=50) * 1e-2, neighbors)) == 1


@pytest.mark.parametrize("dim", [1, 3, 5])
def test_ascents_find_all_hills(dim):
    places = th.tensor([[0.6] * dim, [-0.6] * dim, [0.6] + [-0.6] * (dim - 1), [-0.1] * dim])
    heights = th.tensor([1.0, 0.8, 0.6, 0.5])
    if dim == 1:
        places, heights = places[[0, 1, 3]], heights[[0, 1, 3]]
    hills = Hills(places, heights)
    starts = (places.repeat(8, 1) + 0.15 * th.randn(8 * len(places), dim, generator=th.Generator().manual_seed(0))).clamp(
        -1, 1
    )
    found, values = maxima_by_ascent(hills, starts)
    np.testing.assert_allclose(values, heights, atol=0.01)
    np.testing.assert_allclose(found, places, atol=0.05)


def test_ends_on_a_ridge_are_one_maximum():
    starts = 2 * th.rand(40, 3, generator=th.Generator().manual_seed(0)) - 1
    found, values = maxima_by_ascent(lambda actions: -actions[..., 0].square(), starts)
    assert len(found) == 1 and values[0] == pytest.approx(0, abs=1e-4)
