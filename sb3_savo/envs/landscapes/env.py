"""The task of one step whose reward is a landscape, and its making by name."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from sb3_savo.actions.spaces import MAX_ITEMS, EmbeddedDiscrete
from sb3_savo.arguments import MAX_SAMPLES, MAX_UNITS, check_choice, check_integer, check_type
from sb3_savo.envs.landscapes.functions import CONTEXT_DIM, LANDSCAPES, TEST_FUNCTIONS, WITH_PEAKS, ItemPeaks, Landscape
from sb3_savo.envs.pictures import HEATMAP_CELLS, draw_heatmap

# Distinguishes the draws of a landscape from those of spaces and environments with the same seed
LANDSCAPE_STREAM = 1
# Number of peaks or balls, unless a number is given
N_PEAKS = 25

BEST_COLOR, TAKEN_COLOR = (255, 255, 255), (220, 50, 40)  # of the best action and of the action that was taken


class LandscapeEnv(gym.Env[np.ndarray, Any]):
    """
    A contextual bandit whose reward is a landscape.

    **Actions**: a point in [-1, 1]^D, or an item that stands for the point of its embedding.

    **Observations**: the context, 4 numbers in [-1, 1]. Every reset draws a new one, uniformly.

    **Rewards**: the landscape's value at the context and the action, in [0, 1].

    Every episode ends after one step (``terminated``); its last observation is the same context.

    :param landscape: The reward, as a function of context and action
    :param action_space: A ``Box`` from -1 to 1, or an :class:`EmbeddedDiscrete` whose embeddings span [-1, 1] in every
        dimension
    :param render_mode: ``"rgb_array"``: a heatmap of the landscape in this context, (384, 384, 3) in uint8, along the first
        two dimensions of the action, with the other dimensions fixed at the best action. A white square marks the best action,
        a red one the action that was taken. After a reset it shows the last step until the next one, since a ``VecEnv`` resets
        an environment before it renders. None: :meth:`render` returns None
    :raises ValueError: if the render mode is unknown
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012 (Gymnasium's attribute)

    def __init__(self, landscape: Landscape, action_space: spaces.Box | EmbeddedDiscrete, render_mode: str | None = None):
        check_type("landscape", landscape, Landscape, "a Landscape")
        check_type("action_space", action_space, (spaces.Box, EmbeddedDiscrete), "a Box, or an EmbeddedDiscrete")
        check_choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.landscape = landscape
        self.render_mode = render_mode
        self.action_space: spaces.Box | EmbeddedDiscrete = action_space
        self.observation_space = spaces.Box(-1.0, 1.0, (CONTEXT_DIM,), np.float32)
        # Of the episode that is under way; None before the first reset
        self.context: np.ndarray | None = None
        # The last step
        self.taken_action: np.ndarray | None = None
        self.rendered_context: np.ndarray | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.context = self.np_random.uniform(-1, 1, CONTEXT_DIM).astype(np.float32)
        return self.context.copy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        :param action: Finite numbers, (action_dim,), or the index of an item
        :raises ValueError: if the action has another shape, is not finite, or is no item
        :raises ResetNeeded: before the first reset
        """
        space, context = self.action_space, self._current_context()
        if isinstance(space, EmbeddedDiscrete):
            if not space.contains(action):
                raise ValueError(f"action={action!r} is not an item: it must be an integer from 0 to {space.n - 1}.")
            point = space.embeddings[action]
        else:
            point = np.array(action, dtype=np.float32)
            if point.shape != space.shape or not np.isfinite(point).all():
                raise ValueError(f"action={action!r} is not in {space}: it must be {space.shape[0]} finite numbers.")
        self.taken_action, self.rendered_context = point, context
        with th.no_grad():
            reward = self.landscape(th.from_numpy(context)[None], th.tensor(point[None, None])).item()
        return context.copy(), reward, True, False, {}

    def _current_context(self) -> np.ndarray:
        if self.context is None:
            raise ResetNeeded("No episode is under way: call reset() before step() and render().")
        return self.context

    def render(self) -> np.ndarray | None:
        if self.render_mode is None:
            return None
        with th.no_grad():
            context = th.from_numpy(self._current_context() if self.rendered_context is None else self.rendered_context)[None]
            best = self.landscape.best(context)
            actions = best.repeat(HEATMAP_CELLS, HEATMAP_CELLS, 1)
            line = th.linspace(-1, 1, HEATMAP_CELLS)
            actions[:, :, 0] = line
            if best.shape[1] > 1:
                actions[:, :, 1] = line[:, None]
            values = self.landscape(context, actions.flatten(0, 1)[None]).reshape(HEATMAP_CELLS, HEATMAP_CELLS)
        markers = [(best[0].numpy(), BEST_COLOR)]
        if self.taken_action is not None:
            markers.append((self.taken_action, TAKEN_COLOR))
        # A landscape of one dimension is constant along y: its markers are drawn at y = 0
        return draw_heatmap(values.numpy(), [(np.append(point, 0.0)[:2], color) for point, color in markers])


def landscape_rng(landscape_seed: int) -> np.random.Generator:
    """
    :param landscape_seed: Seed of a landscape
    :return: The generator of its draws. ``default_rng(landscape_seed)`` would be that of an action space with this seed, whose
        first samples, the first random actions of an agent, would lie at the peaks.
    """
    return np.random.default_rng([landscape_seed, LANDSCAPE_STREAM])


def make_landscape(
    landscape: str = "peaks",
    action_dim: int = 2,
    n_peaks: int | None = None,
    landscape_seed: int = 0,
    render_mode: str | None = None,
) -> LandscapeEnv:
    """
    Make a landscape over continuous actions.

    :param landscape: ``"peaks"``, ``"restricted"``, ``"switching"``, ``"terraces"``, ``"ackley"``, ``"griewank"``, ``"levy"``,
        ``"rastrigin"``, ``"ravines"``, ``"shubert"`` or ``"waves"``
    :param action_dim: Number of dimensions of the action, at least 1
    :param n_peaks: Number of peaks of ``"peaks"``, ``"switching"`` and ``"terraces"``, or of balls of ``"restricted"``, at
        least 1, 25 by default. The other landscapes have their own number of optima: there it must be None.
    :param landscape_seed: Seed of the landscape, at least 0; it draws the places and motions of the optima
    :param render_mode: ``"rgb_array"`` or None, see :class:`LandscapeEnv`
    :return: The environment
    :raises TypeError: if a number is not an integer
    :raises ValueError: if a number is too small, or the landscape or the render mode is unknown, or ``n_peaks`` is given for a
        landscape that has its own
    """
    check_choice("landscape", landscape, LANDSCAPES)
    check_integer("action_dim", action_dim, low=1, high=MAX_UNITS)
    check_integer("landscape_seed", landscape_seed, low=0)
    if n_peaks is not None:
        check_integer("n_peaks", n_peaks, low=1, high=MAX_SAMPLES)
        if landscape not in WITH_PEAKS:
            raise ValueError(
                f"n_peaks={n_peaks}: landscape={landscape!r} has its own number of optima, so n_peaks must be None. It is for "
                f"{', '.join(map(repr, WITH_PEAKS))}."
            )
    rng = landscape_rng(landscape_seed)
    reward: Landscape
    if landscape in WITH_PEAKS:
        reward = WITH_PEAKS[landscape](action_dim, N_PEAKS if n_peaks is None else n_peaks, rng)
    else:
        reward = TEST_FUNCTIONS[landscape](action_dim, rng)
    return LandscapeEnv(reward, spaces.Box(-1.0, 1.0, (action_dim,), np.float32), render_mode)


def make_item_landscape(
    n_items: int = 1000,
    n_clusters: int = 20,
    action_dim: int = 8,
    landscape_seed: int = 0,
    render_mode: str | None = None,
) -> LandscapeEnv:
    """
    Make a landscape over items.

    :param n_items: Number of items, at least 2
    :param n_clusters: Number of clusters of items, at least 1
    :param action_dim: Number of dimensions of an embedding, at least 1
    :param landscape_seed: Seed of the landscape, at least 0; it draws the items, and the peaks' heights and how they change
    :param render_mode: ``"rgb_array"`` or None, see :class:`LandscapeEnv`
    :return: The environment
    :raises TypeError: if a number is not an integer
    :raises ValueError: if a number is too small, or the render mode is unknown
    """
    check_integer("n_items", n_items, low=2, high=MAX_ITEMS)
    check_integer("n_clusters", n_clusters, low=1, high=MAX_SAMPLES)
    check_integer("action_dim", action_dim, low=1, high=MAX_UNITS)
    check_integer("landscape_seed", landscape_seed, low=0)
    rng = landscape_rng(landscape_seed)
    centers = rng.uniform(-0.8, 0.8, (n_clusters, action_dim))
    spread = 0.1
    embeddings = centers[rng.integers(n_clusters, size=n_items)] + rng.normal(0, spread, (n_items, action_dim))
    # Agents scale embeddings to [-1, 1] in every dimension, so the landscape is defined on that scale
    low, high = embeddings.min(axis=0), embeddings.max(axis=0)
    embeddings, centers = (2 * (points - low) / (high - low) - 1 for points in (embeddings, centers))
    reward = ItemPeaks(embeddings, centers, 4 * spread, rng)
    return LandscapeEnv(reward, EmbeddedDiscrete(embeddings), render_mode)


# Gymnasium shows an environment in a window where its entry point tells which pictures it makes
make_landscape.metadata = make_item_landscape.metadata = LandscapeEnv.metadata  # type: ignore[attr-defined]
