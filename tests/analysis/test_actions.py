"""At which actions a landscape is drawn, and where."""

import sys

import numpy as np
import pytest
from gymnasium import spaces

from sb3_savo.analysis.actions import project, slice_through, spread_actions, to_environment


def test_a_slice_keeps_the_other_dimensions():
    action = np.array([0.1, 0.2, 0.3, 0.4])
    grid = slice_through(action, [2, 0], 5)
    line = np.linspace(-1, 1, 5)
    for i in range(5):
        for j in range(5):
            np.testing.assert_allclose(grid[i, j], [line[j], 0.2, line[i], 0.4], rtol=1e-6)


def test_spread_actions_cover_every_quarter():
    actions = spread_actions(2, 256, seed=3)
    counts = np.histogram2d(*actions.T, bins=4, range=[[-1, 1], [-1, 1]])[0]
    assert (counts == 16).all() and not np.array_equal(actions, spread_actions(2, 256, seed=4))


def test_units():
    space = spaces.Box(np.float32([[0, -3]]), np.float32([[10, 3]]))
    np.testing.assert_allclose(to_environment(np.array([[-1, 0], [0.5, 1]]), space), [[0, 0], [7.5, 3]])


def test_the_principal_plane_keeps_distances_of_a_plane():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(30, 2))
    placed = project(flat @ np.linalg.qr(rng.normal(size=(5, 5)))[0][:2], "pca")
    distances = [np.linalg.norm(points[:, None] - points[None], axis=2) for points in (flat, placed)]
    np.testing.assert_allclose(*distances, atol=1e-6)
    assert project(flat[:, :1], "pca").shape == (30, 2)


def test_a_missing_umap_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"projection='umap' needs umap: pip install 'sb3-savo\[umap\]'"):
        project(np.eye(4), "umap")


def test_an_unknown_projection_is_named():
    with pytest.raises(ValueError, match="projection='tsne' is not known"):
        project(np.eye(4), "tsne")


@pytest.mark.expensive
def test_umap_keeps_neighbors_together():
    pytest.importorskip("umap")
    groups = np.repeat(np.eye(4), 20, axis=0)
    points = groups + 0.01 * np.random.default_rng(0).normal(size=groups.shape)
    placed = project(points, "umap", seed=1)
    np.testing.assert_array_equal(placed, project(points, "umap", seed=1))
    distances = np.linalg.norm(placed[:, None] - placed[None], axis=2)
    same = (groups[:, None] == groups[None]).all(axis=2)
    assert np.median(distances[same]) < np.median(distances[~same]) / 2
