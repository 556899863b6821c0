"""Pictures of several methods' actions hold the actions."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th

from sb3_savo.analysis.comparison import (
    FRAME_MS,
    LAST_FRAME_MS,
    Actions,
    animate_actions,
    plot_actions,
    plot_actions_side_by_side,
)

pytest.importorskip("matplotlib")

STATE = th.tensor([0.1, -0.2, 0.3, 0.4])
ACTIONS = Actions("title", {"A": np.array([0.5, -0.5]), "B": np.array([-0.25, 0.75])}, {"proposals": np.full((3, 2), 0.1)})


@pytest.fixture
def landscape():
    return gym.make("LandscapePeaks2D-v0").unwrapped.landscape


def test_marks_and_map(landscape):
    ax, _ = plot_actions(landscape, STATE, ACTIONS).axes
    points = {line.get_label(): line.get_xydata().round(6).tolist() for line in ax.lines}
    assert points["A's action"] == [[0.5, -0.5]] and points["B's action"] == [[-0.25, 0.75]]
    assert points["proposals"] == [[0.1, 0.1]] * 3
    best = landscape.best(STATE[None])[0]
    assert np.allclose(points["highest peak"][0], best, atol=1e-6)
    # The map is drawn with its first dimension to the right: its highest cell is at the highest peak
    image = ax.images[0]
    heights, (left, right, low, high) = image.get_array(), image.get_extent()
    row, column = np.unravel_index(heights.argmax(), heights.shape)
    place = left + (column + 0.5) / heights.shape[1] * (right - left), low + (row + 0.5) / heights.shape[0] * (high - low)
    assert np.allclose(place, best, atol=0.03)


def test_side_by_side(landscape):
    panels = [ACTIONS, Actions("one", {"A": np.array([0.25, 0.5])})]
    figure = plot_actions_side_by_side(landscape, STATE, panels, columns=3)
    axes = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in axes] == ["title", "one"]
    points = [{line.get_label(): line.get_xydata().round(6).tolist() for line in ax.lines} for ax in axes]
    assert points[0]["proposals"] == [[0.1, 0.1]] * 3 and points[1]["A's action"] == [[0.25, 0.5]]
    assert [len(ax.images) for ax in axes] == [1, 1]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["highest peak", "proposals", "A's action", "B's action"]
    with pytest.raises(ValueError, match="panels is empty"):
        plot_actions_side_by_side(landscape, STATE, [])


def test_animation(landscape, tmp_path):
    from PIL import Image

    moved = Actions("later", {"A": np.array([-0.5, 0.5]), "B": np.array([0.0, 0.0])})
    animate_actions(landscape, STATE, [ACTIONS, moved], tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 2
        durations = []
        for frame in range(gif.n_frames):
            gif.seek(frame)
            durations.append(gif.info["duration"])
            colors = np.asarray(gif.convert("RGB")).reshape(-1, 3).astype(int)
            # The color of the first method's marker is still there
            assert (np.abs(colors - [0xD5, 0x5E, 0x00]).max(axis=1) < 30).sum() > 50
    assert durations == [FRAME_MS, LAST_FRAME_MS]


def test_no_frames(landscape, tmp_path):
    with pytest.raises(ValueError, match="frames is empty"):
        animate_actions(landscape, STATE, [], tmp_path / "a.gif")
