"""At which actions a landscape is drawn: slices through an action, samples of the space, and their projection to two axes."""

from collections.abc import Sequence
from types import ModuleType
from typing import Literal

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_savo.arguments import check_choice
from sb3_savo.extras import needs_extra

Projection = Literal["pca", "umap"]


def slice_through(action: np.ndarray, dims: Sequence[int], n: int) -> np.ndarray:
    """
    A regular grid along some dimensions, from -1 to 1; the other dimensions are those of one action.

    :param action: The action, (action_dim,)
    :param dims: The dimensions of the grid, each from 0 to action_dim - 1
    :param n: Number of points along each of them, at least 2
    :return: One axis per dimension of the grid, (n, …, n, action_dim)
    """
    grid = np.broadcast_to(action, (*[n] * len(dims), len(action))).astype(np.float32)
    for dim, coordinates in zip(dims, np.meshgrid(*[np.linspace(-1, 1, n)] * len(dims), indexing="ij"), strict=True):
        grid[..., dim] = coordinates
    return grid


def spread_actions(action_dim: int, n: int, seed: int = 0) -> np.ndarray:
    """
    Cover the action space evenly, by a scrambled Sobol sequence.

    :param action_dim: Number of dimensions
    :param n: Number of actions
    :param seed: Seed of the scrambling
    :return: Actions in [-1, 1], (n, action_dim)
    """
    return (2 * th.quasirandom.SobolEngine(action_dim, scramble=True, seed=seed).draw(n) - 1).numpy()


def project(points: np.ndarray, projection: Projection, seed: int = 0) -> np.ndarray:
    """
    Place points of many dimensions in a plane.

    :param points: (n, dim), n at least 3
    :param projection: ``"pca"``, the two directions of the largest variance; or ``"umap"``, which keeps neighbors together
        and distorts large distances
    :param seed: Seed of UMAP
    :return: (n, 2)
    :raises ValueError: if the projection is unknown
    :raises ImportError: if it is ``"umap"``, and umap-learn is not installed
    """
    check_choice("projection", projection, Projection)
    if projection == "umap":
        umap = load_umap()
        # Without n_jobs UMAP warns that a seed allows one thread only
        return np.asarray(umap.UMAP(n_components=2, random_state=seed, n_jobs=1).fit_transform(points))
    centered = points - points.mean(axis=0)
    directions = np.linalg.svd(centered, full_matrices=False)[2][:2]
    plane = np.zeros((len(points), 2))
    plane[:, : len(directions)] = centered @ directions.T
    return plane


def load_umap() -> ModuleType:
    """
    :return: The module of umap-learn
    :raises ImportError: if it is not installed
    """
    with needs_extra("umap", "projection='umap'"):
        import umap
    return umap


def to_environment(actions: np.ndarray, space: spaces.Space) -> np.ndarray:
    """
    :param actions: Actions scaled to [-1, 1], one dimension after the other, (..., action_dim)
    :param space: The action space
    :return: The actions in the units of a ``Box``; unchanged in a discrete space, whose embeddings have no other scale
    """
    if not isinstance(space, spaces.Box):
        return actions
    low, high = space.low.ravel(), space.high.ravel()
    return low + (actions + 1) / 2 * (high - low)
