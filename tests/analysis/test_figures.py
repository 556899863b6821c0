"""Pictures hold what they say: the data of their artists."""

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest

from sb3_savo import CEM, Ensemble
from sb3_savo.analysis import (
    animate_strip,
    landscape_along,
    landscape_of_items,
    landscape_projected,
    plot_landscape,
    plot_strip,
    plot_valid_set,
)
from sb3_savo.analysis.figures import merged
from sb3_savo.analysis.state_landscape import StateLandscape
from tests.analysis.models import OBSERVATION, untrained

pytest.importorskip("matplotlib")


def right_half(actions):
    return actions[:, 0] > 0


def visible(figure):
    return [ax for ax in figure.axes if ax.axison and ax.get_label() != "<colorbar>"]


def stars(ax):
    return [line for line in ax.lines if line.get_marker() == "*"]


def test_curves():
    landscape = landscape_along(untrained(1).policy, OBSERVATION, [0], 51, right_half)
    values, proposals = landscape.values, landscape.proposals
    first, *surrogates = visible(plot_landscape(landscape, "title"))
    assert len(surrogates) == 2
    curves = [line for line in first.lines if len(line.get_xdata()) == 51]
    np.testing.assert_array_equal(curves[0].get_ydata(), values.surrogate_q)
    np.testing.assert_array_equal(curves[1].get_ydata(), values.q1)
    np.testing.assert_allclose(curves[1].get_xdata(), np.linspace(-1, 1, 51), atol=1e-6)
    for i, ax in enumerate(surrogates):
        dashed, solid = (line for line in ax.lines if len(line.get_xdata()) == 51)
        np.testing.assert_array_equal(dashed.get_ydata(), values.learned[i])
        np.testing.assert_array_equal(solid.get_ydata(), values.exact[i])
        assert proposals.thresholds[i] in [line.get_ydata()[0] for line in ax.lines]
    (star,) = stars(first)
    assert star.get_xdata()[0] == landscape.marks[proposals.chosen, 0]
    assert star.get_ydata()[0] == proposals.q1[proposals.chosen]
    (shaded,) = first.patches
    assert shaded.get_x() == -1 and shaded.get_width() == pytest.approx(1.02)
    labels = ", ".join(text.get_text() for text in first.texts if "tau" not in text.get_text())
    assert sorted(labels.split(", ")) == ["0", "1", "2"]


def test_surfaces_and_marks():
    model = untrained(3)
    landscape = landscape_along(model.policy, OBSERVATION, [2, 0], 11, right_half)
    np.testing.assert_allclose(landscape.marks, landscape.proposals.actions[:, [2, 0]], atol=1e-6)
    chosen = landscape.proposals.actions[landscape.proposals.chosen]
    expected = [abs(action[1] - chosen[1]) > 1e-3 for action in landscape.proposals.actions]
    assert landscape.is_off_slice.tolist() == expected
    panels = visible(plot_landscape(landscape, "title"))
    assert len(panels) == 6  # Q, min(Q, Q_2), two exact and two learned surrogates
    for ax in panels:
        (star,) = stars(ax)
        assert (star.get_xdata()[0], star.get_ydata()[0]) == tuple(landscape.marks[landscape.proposals.chosen])


@pytest.mark.parametrize("surrogate, name", [("memory", "Q"), ("approximate", "min(Q, $Q_2$)")])
def test_the_legend_names_the_lines_of_a_surface(surrogate, name):
    """The threshold, where Q crosses it: the first critic's with the memory, the minimum's with the paper's surrogates."""
    landscape = landscape_along(untrained(2, surrogate=surrogate).policy, OBSERVATION, [0, 1], 11)
    values = landscape.values.surrogate_q
    for height, expected in ((values.mean(), [f"{name} = $\\tau_i$"]), (values.max() + 1, [])):
        landscape.proposals.thresholds[:] = height
        (legend,) = plot_landscape(landscape, "title").legends
        assert [text.get_text() for text in legend.get_texts() if "tau" in text.get_text()] == expected


def test_a_strip_accumulates_anchors():
    landscape = landscape_along(untrained(1, n_actors=4).policy, OBSERVATION, [0], 21)
    panels = visible(plot_strip(landscape, "title"))
    counts = [len([line for line in ax.lines if line.get_marker() in ("o", "s", "*")]) for ax in panels]
    assert counts == [1, 2, 3, 4, 4]
    chosen = landscape.proposals.chosen
    anchors = [len([line for line in ax.lines if line.get_marker() == "s"]) for ax in panels]
    assert anchors == [0, *(i - (chosen < i) for i in (1, 2, 3)), 0]


@pytest.mark.parametrize("plot", [plot_landscape, plot_strip])
@pytest.mark.parametrize("algorithm", [CEM, Ensemble])
@pytest.mark.parametrize("dim", [1, 2])
def test_other_algorithms(tmp_path, plot, algorithm, dim):
    landscape = landscape_along(untrained(dim, algorithm).policy, OBSERVATION, range(dim), 9)
    plot(landscape, "title").savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 0


def test_items(tmp_path):
    model = untrained(env=gym.make("LandscapeItems-v0", n_items=40, n_clusters=4, action_dim=3))
    ranked = landscape_of_items(model.policy, OBSERVATION)
    assert (np.diff(ranked.values.q1) <= 0).all()
    ranks = ranked.marks[:, 0].astype(int)
    np.testing.assert_allclose(ranked.values.q1[ranks], ranked.proposals.q1, atol=1e-5)
    placed = landscape_projected(model.policy, OBSERVATION, "pca", validity=right_half)
    np.testing.assert_allclose(placed.values.q1[-3:], placed.proposals.q1, atol=1e-5)
    np.testing.assert_array_equal(placed.places[-3:], placed.marks)
    assert len(placed.places) == 43
    assert len(landscape_projected(model.policy, OBSERVATION, "pca", n=10).places) == 13
    first = visible(plot_landscape(placed, "title"))[0]
    hidden, shown = (scatter.get_offsets() for scatter in first.collections)
    assert len(hidden) == (~placed.valid).sum() and len(shown) == placed.valid.sum()
    plot_strip(ranked, "title").savefig(tmp_path / "strip.png")


@pytest.mark.parametrize("plot", [plot_landscape, plot_strip])
def test_items_in_a_ranking_are_points(plot):
    """A line through the values of 10,000 items would fill the panels of min(Q, Q_2) and of the surrogates."""
    model = untrained(env=gym.make("LandscapeItems-v0", n_items=40, n_clusters=4, action_dim=3))
    figure = plot(landscape_of_items(model.policy, OBSERVATION), "title")
    values = [line for ax in visible(figure) for line in ax.lines if len(line.get_xdata()) == 40]
    assert len(values) >= 3 and {line.get_linestyle() for line in values} == {"None"}


def test_numbers_below_a_panel_are_apart():
    figure = plot_strip(landscape_along(untrained(1).policy, OBSERVATION, [0], 9), "title")
    figure.draw_without_rendering()
    for ax in visible(figure):
        boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
        assert all(left.x1 + 5 < right.x0 for left, right in pairwise(boxes))


def test_continuous_actions_have_no_items():
    with pytest.raises(ValueError, match="has no items"):
        landscape_of_items(untrained(2).policy, OBSERVATION)


@pytest.mark.parametrize("dims", [[], [0, 0], [3], [0, 1, 2], [-1]])
def test_wrong_dimensions_are_named(dims):
    with pytest.raises(ValueError, match="dims="):
        landscape_along(untrained(3).policy, OBSERVATION, dims)


def test_an_animation_has_one_scale(tmp_path):
    image = pytest.importorskip("PIL.Image")
    landscapes: list[StateLandscape] = [
        landscape_along(untrained(1, n_actors=2, init=init).policy, OBSERVATION, [0], 9) for init in ("orthogonal", "xavier")
    ]
    animate_strip(landscapes, ["first", "second"], tmp_path / "a.gif")
    with image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames >= 2
    with pytest.raises(ValueError, match="titles has 1 entries for 2"):
        animate_strip(landscapes, ["first"], tmp_path / "b.gif")


@pytest.mark.parametrize("task, dims", [("InvertedPendulum", None), ("Hopper", None), ("Hopper", [0, 2]), ("Walker2d", [5])])
def test_valid_sets(task, dims):
    env = gym.make(f"{task}Restricted-v5")
    figure = plot_valid_set(env, dims, "title")
    (ax,) = figure.axes
    if task == "Hopper" and dims is None:
        assert len(ax.collections) == 99
    elif dims != [0, 2]:
        shaded = np.zeros(500, dtype=bool)
        actions = np.zeros((500, *env.action_space.shape))
        x = actions[:, 0 if dims is None else dims[0]]
        x[:] = np.linspace(env.action_space.low[0], env.action_space.high[0], 500)
        for patch in ax.patches:
            shaded |= (x >= patch.get_x()) & (x <= patch.get_x() + patch.get_width())
        # The borders of the picture are as fine as its grid
        assert (shaded == env.get_wrapper_attr("is_valid")(actions)).mean() > 0.98


@pytest.mark.parametrize(
    "env_id, dims, message", [("LandscapePeaks2D-v0", None, "env: no"), ("AntRestricted-v5", None, "dims=")]
)
def test_valid_sets_that_cannot_be_drawn(env_id, dims, message):
    with pytest.raises(ValueError, match=message):
        plot_valid_set(gym.make(env_id), dims, "title")


def test_merged_labels():
    points = np.array([[0.0, 0], [0.5, 0], [0.05, 0.05], [0.05, 0.5]])
    assert merged(points, np.array([0.1, 0.1])) == [[0, 2], [1], [3]]
