"""The local maxima of a function: on a graph of evaluated points, or by gradient ascent from many points."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import torch as th

from sb3_savo.actions.candidates import ascend

N_ON_SEGMENT = 17


def grid_neighbors(shape: tuple[int, ...]) -> np.ndarray:
    """
    :param shape: Number of points of a regular grid along each dimension
    :return: The neighbors of each point, also along diagonals, (n_points, 3^dims - 1), in the order of the flattened grid; a
        point at the border is its own neighbor where one is missing
    """
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    offsets = [offset for offset in product((-1, 0, 1), repeat=len(shape)) if any(offset)]
    moved = points[..., None, :] + np.array(offsets)
    inside = ((moved >= 0) & (moved < shape)).all(axis=-1, keepdims=True)
    moved = np.where(inside, moved, points[..., None, :])
    return np.ravel_multi_index(tuple(np.moveaxis(moved, -1, 0)), shape).reshape(-1, len(offsets))


def maxima_on_graph(values: np.ndarray, neighbors: np.ndarray, tolerance: float = 1e-5) -> np.ndarray:
    """
    Local maxima of a function that is known at the points of a graph: points without a higher neighbor. Connected points of
    equal value are one plateau, which is one maximum, or none if one of its points has a higher neighbor.

    :param values: (n,)
    :param neighbors: Indices of each point's neighbors, (n, n_neighbors)
    :param tolerance: Values are rounded to this share of their range, so that rounding errors are no maxima
    :return: The index of one of the points of each maximum, the highest maximum first
    """
    step = tolerance * (values.max() - values.min())
    # Where a function is constant, its range is that of rounding errors
    levels = np.zeros(len(values)) if step <= tolerance * 1e-6 * np.abs(values).max() else np.round(values / step)
    around = levels[neighbors]
    has_higher = (around > levels[:, None]).any(axis=1)
    starts, columns = np.nonzero(around == levels[:, None])
    ends = neighbors[starts, columns]
    # Each plateau takes the largest index of its points as its name
    plateau = np.arange(len(values))
    while True:
        before = plateau.copy()
        np.maximum.at(plateau, starts, before[ends])
        np.maximum.at(plateau, ends, before[starts])
        plateau = plateau[plateau]
        if (plateau == before).all():
            break
    is_maximum = np.ones(len(values), dtype=bool)
    is_maximum[plateau[has_higher]] = False
    found = np.flatnonzero(is_maximum & (plateau == np.arange(len(values))))
    return found[np.argsort(-values[found], kind="stable")]


@th.no_grad()
def maxima_by_ascent(
    q: Callable[[th.Tensor], th.Tensor],
    starts: th.Tensor,
    n_steps: int = 100,
    step_size: float = 0.1,
    tolerance: float = 1e-3,
) -> tuple[th.Tensor, th.Tensor]:
    """
    Local maxima of a function on [-1, 1]^D by gradient ascent from many points. Two ends belong to one maximum if the function
    has no valley between them: on the line from one to the other it falls nowhere below the lower end. That merges the ends on
    a straight ridge. The number is an estimate: a small basin without a start is missed, and a maximum with a bent ridge
    counts more than once.

    :param q: Values of several actions, (1, n, action_dim) to (1, n)
    :param starts: Where to start, (n_starts, action_dim)
    :param n_steps: Gradient steps of each ascent
    :param step_size: Length of the first step; the length falls linearly to zero
    :param tolerance: A valley is deeper than this share of the range of the values at the starts and the ends
    :return: The maxima, (n, action_dim), and their values, (n,), the highest first
    """
    ends = ascend(q, starts[None].clone(), n_steps, step_size)
    values = q(ends)[0]
    seen = th.cat([values, q(starts[None])[0]])
    depth = tolerance * (seen.max() - seen.min())
    order = values.argsort(descending=True, stable=True)
    ends, values = ends[0, order], values[order]
    weights = th.linspace(0, 1, N_ON_SEGMENT, device=ends.device)[1:-1, None]
    kept: list[int] = []
    for i in range(len(ends)):
        if kept:
            # (n_kept, N_ON_SEGMENT - 2, action_dim)
            between = ends[kept].unsqueeze(1) * weights + ends[i] * (1 - weights)
            lowest = q(between.flatten(0, 1)[None]).view(len(kept), -1).amin(dim=1)
            if bool((lowest >= values[i] - depth).any()):
                continue
        kept.append(i)
    return ends[kept], values[kept]


def grid_size(dims: int, n_points: int) -> int:
    """:return: Number of points along each dimension of a grid of at most ``n_points`` points"""
    return math.floor(n_points ** (1 / dims) + 1e-9)
