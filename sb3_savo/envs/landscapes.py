"""
Landscapes: one-step tasks whose reward is a known, differentiable function of context and action with many local optima.

A return curve cannot say why a method wins. Here the optimum is known in every state. The function itself can also stand in
for the critic, so that a benchmark measures the maximization alone (``python -m benchmarks.run study_a``).
"""

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from torch import nn

from sb3_savo.actions.spaces import MAX_ITEMS, EmbeddedDiscrete
from sb3_savo.arguments import MAX_SAMPLES, MAX_UNITS, check_choice, check_integer, check_type
from sb3_savo.envs.pictures import HEATMAP_CELLS, draw_heatmap

CONTEXT_DIM = 4
# Distinguishes the draws of a landscape from those of spaces and environments with the same seed
LANDSCAPE_STREAM = 1

BEST_COLOR, TAKEN_COLOR = (255, 255, 255), (220, 50, 40)  # of the best action and of the action that was taken


class Landscape(nn.Module, ABC):
    """
    A function of context and action with values in [0, 1].

    :param action_dim: Number of dimensions of the action, each in [-1, 1]
    """

    def __init__(self, action_dim: int):
        super().__init__()
        self.action_dim = action_dim

    def register_constants(self, constants: dict[str, np.ndarray]) -> None:
        """
        Store arrays as float32 buffers.

        :param constants: Values of the buffers, by name
        """
        for name, values in constants.items():
            self.register_buffer(name, th.as_tensor(values, dtype=th.float32))

    @abstractmethod
    def forward(self, contexts: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        :param contexts: Contexts in [-1, 1], (batch, CONTEXT_DIM)
        :param actions: Actions in [-1, 1], (batch, n_actions, action_dim)
        :return: Value of each action in its context, (batch, n_actions)
        """

    @abstractmethod
    def best(self, contexts: th.Tensor) -> th.Tensor:
        """
        :param contexts: Contexts in [-1, 1], (batch, CONTEXT_DIM)
        :return: An action of the greatest value in each context, (batch, action_dim)
        """


class Peaks(Landscape):
    """
    The maximum over several Gaussian peaks, whose centers move with the context. The first peak has height 1, the others have
    heights from 0.3 to 0.9.

    :param action_dim: Number of dimensions of the action
    :param n_peaks: Number of peaks
    :param rng: Generator of the peaks' places, motions, heights and widths
    """

    place: th.Tensor
    motion: th.Tensor
    height: th.Tensor
    width: th.Tensor

    def __init__(self, action_dim: int, n_peaks: int, rng: np.random.Generator):
        super().__init__(action_dim)
        spacing = 1.8 * n_peaks ** (-1 / action_dim)
        draws = {
            "place": np.arctanh(rng.uniform(-0.95, 0.95, (n_peaks, action_dim))),
            "motion": rng.normal(0, 0.3, (CONTEXT_DIM, n_peaks, action_dim)),
            "height": np.concatenate([[1.0], rng.uniform(0.3, 0.9, n_peaks - 1)]),
            "width": rng.uniform(0.3, 0.6, n_peaks) * spacing,
        }
        self.register_constants(draws)

    def places(self, contexts: th.Tensor) -> th.Tensor:
        """
        :param contexts: Contexts in [-1, 1], (batch, CONTEXT_DIM)
        :return: Centers of the peaks, (batch, n_peaks, action_dim)
        """
        return 0.9 * th.tanh(self.place + th.einsum("bc,ckd->bkd", contexts, self.motion))

    def forward(self, contexts: th.Tensor, actions: th.Tensor) -> th.Tensor:
        squares = (actions.unsqueeze(2) - self.places(contexts).unsqueeze(1)).square().sum(dim=3)
        return (self.height * th.exp(-squares / (2 * self.width**2))).amax(dim=2)

    def best(self, contexts: th.Tensor) -> th.Tensor:
        return self.places(contexts)[:, 0]


class RestrictedHill(Landscape):
    """
    A hill whose top moves with the context, and of which only balls are left: any other action has value 0. The balls are the
    same in every context, like the valid actions of a restricted task (paper, §5). A value is a share of the best one in the
    context.

    :param action_dim: Number of dimensions of the action
    :param n_balls: Number of balls
    :param rng: Generator of the balls' centers, and of the top's place and motion
    """

    # Standard deviation of the hill, divided by the square root of the number of dimensions
    width = 0.5
    centers: th.Tensor
    place: th.Tensor
    motion: th.Tensor

    def __init__(self, action_dim: int, n_balls: int, rng: np.random.Generator):
        super().__init__(action_dim)
        self.radius = 0.3 * 1.8 * n_balls ** (-1 / action_dim)
        draws = {
            "centers": (1 - self.radius) * rng.uniform(-1, 1, (n_balls, action_dim)),
            "place": rng.normal(0, 0.3, action_dim),
            "motion": rng.normal(0, 1, (CONTEXT_DIM, action_dim)),
        }
        self.register_constants(draws)

    def tops(self, contexts: th.Tensor) -> th.Tensor:
        """
        :param contexts: Contexts in [-1, 1], (batch, CONTEXT_DIM)
        :return: The top of the hill, which may be outside the balls, (batch, action_dim)
        """
        return 0.9 * th.tanh(self.place + contexts @ self.motion)

    def forward(self, contexts: th.Tensor, actions: th.Tensor) -> th.Tensor:
        is_valid = ((actions.unsqueeze(2) - self.centers).square().sum(dim=3) < self.radius**2).any(dim=2)
        tops = self.tops(contexts)
        squares = (actions - tops.unsqueeze(1)).square().mean(dim=2)
        best = (self.nearest_valid(tops) - tops).square().mean(dim=1, keepdim=True)
        return th.exp((best - squares).clamp(max=0) / (2 * self.width**2)) * is_valid

    def best(self, contexts: th.Tensor) -> th.Tensor:
        return self.nearest_valid(self.tops(contexts))

    def nearest_valid(self, tops: th.Tensor) -> th.Tensor:
        """
        :param tops: Points, (batch, action_dim)
        :return: The nearest point to each in a ball, or one that is hardly farther, since the surface is no part of the ball;
            (batch, action_dim)
        """
        ways = tops.unsqueeze(1) - self.centers
        distances = ways.norm(dim=2, keepdim=True)
        points = self.centers + ways * ((1 - 1e-5) * self.radius / distances).clamp(max=1)
        nearest = (distances.squeeze(2) - self.radius).argmin(dim=1)
        return points[th.arange(len(points)), nearest]


class ShiftedFunction(Landscape):
    """
    A test function of global optimization whose optimum moves with the context. Test functions are minimized, so the value
    is the negated function, scaled to [0, 1].

    :param action_dim: Number of dimensions of the action
    :param rng: Generator of the optimum's place and motion
    """

    scale: float
    """Half the width of the function's usual domain."""
    place: th.Tensor
    motion: th.Tensor

    def __init__(self, action_dim: int, rng: np.random.Generator):
        super().__init__(action_dim)
        place, motion = rng.uniform(-0.5, 0.5, action_dim), rng.normal(0, 0.3, (CONTEXT_DIM, action_dim))
        self.register_constants({"place": place, "motion": motion})

    @abstractmethod
    def height(self, x: th.Tensor) -> th.Tensor:
        """
        :param x: Points in the function's own coordinates, (..., action_dim)
        :return: The negated function, scaled to [0, 1], (...)
        """

    @abstractmethod
    def optimum(self) -> th.Tensor:
        """:return: A minimizer of the function, in its own coordinates, (action_dim,)"""

    def shifts(self, contexts: th.Tensor) -> th.Tensor:
        """
        :param contexts: Contexts in [-1, 1], (batch, CONTEXT_DIM)
        :return: Translation of the function, in units of the action, (batch, action_dim)
        """
        return 0.6 * th.tanh(self.place + contexts @ self.motion)

    def forward(self, contexts: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return self.height(self.scale * (actions - self.shifts(contexts).unsqueeze(1)))

    def best(self, contexts: th.Tensor) -> th.Tensor:
        return self.shifts(contexts) + self.optimum() / self.scale


class Ackley(ShiftedFunction):
    """Many small local optima on a funnel: 20 exp(-0.2 √mean x²) + exp(mean cos 2πx)."""

    scale = 32.768

    def height(self, x: th.Tensor) -> th.Tensor:
        root = (x.square().mean(dim=-1) + 1e-12).sqrt()
        return (20 * th.exp(-0.2 * root) + th.exp(th.cos(2 * th.pi * x).mean(dim=-1))) / (20 + th.e)

    def optimum(self) -> th.Tensor:
        return th.zeros(self.action_dim)


class Rastrigin(ShiftedFunction):
    """A bowl with a regular grid of deep local optima: x² - 10 cos 2πx + 10, averaged over the dimensions."""

    scale = 5.12
    worst = (5.12 * 1.6) ** 2 + 20

    def height(self, x: th.Tensor) -> th.Tensor:
        return 1 - (x.square() - 10 * th.cos(2 * th.pi * x) + 10).mean(dim=-1) / self.worst

    def optimum(self) -> th.Tensor:
        return th.zeros(self.action_dim)


class Shubert(ShiftedFunction):
    """
    Groups of narrow optima among hundreds of local ones: Σ_i i cos((i + 1) x + i), i = 1 … 5, averaged over the dimensions.
    This is the additive form, so the optimum has a best x in every dimension.
    """

    scale = 10.0
    lowest, highest = -12.8708855, 14.508008
    argmin = -1.4251284

    def height(self, x: th.Tensor) -> th.Tensor:
        i = th.arange(1.0, 6.0, device=x.device)
        values = (i * th.cos((i + 1) * x.unsqueeze(-1) + i)).sum(dim=-1)
        return (self.highest - values.mean(dim=-1)) / (self.highest - self.lowest)

    def optimum(self) -> th.Tensor:
        return th.full((self.action_dim,), self.argmin)


class ItemPeaks(Landscape):
    """
    Clusters of items with one Gaussian peak on each. The heights of the peaks change with the context, and so does the best
    item.

    :param embeddings: Embeddings of the items in [-1, 1], (n_items, action_dim)
    :param centers: Centers of the clusters, (n_clusters, action_dim)
    :param width: Standard deviation of the peaks
    :param rng: Generator of the heights and of how they change
    """

    items: th.Tensor
    centers: th.Tensor
    base: th.Tensor
    motion: th.Tensor

    def __init__(self, embeddings: np.ndarray, centers: np.ndarray, width: float, rng: np.random.Generator):
        super().__init__(embeddings.shape[1])
        self.width = width
        draws = {
            "items": embeddings,
            "centers": centers,
            "base": rng.normal(0, 1, len(centers)),
            "motion": rng.normal(0, 1, (CONTEXT_DIM, len(centers))),
        }
        self.register_constants(draws)

    def forward(self, contexts: th.Tensor, actions: th.Tensor) -> th.Tensor:
        heights = th.sigmoid(self.base + contexts @ self.motion)
        peaks = th.exp(-th.cdist(actions, self.centers).square() / (2 * self.width**2))
        return (heights.unsqueeze(1) * peaks).amax(dim=2)

    def best(self, contexts: th.Tensor) -> th.Tensor:
        values = self(contexts, self.items.expand(len(contexts), -1, -1))
        return self.items[values.argmax(dim=1)]


TEST_FUNCTIONS: dict[str, type[ShiftedFunction]] = {"ackley": Ackley, "rastrigin": Rastrigin, "shubert": Shubert}
WITH_PEAKS: dict[str, type[Peaks | RestrictedHill]] = {"peaks": Peaks, "restricted": RestrictedHill}
LANDSCAPES = (*WITH_PEAKS, *TEST_FUNCTIONS)


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
    n_peaks: int = 25,
    landscape_seed: int = 0,
    render_mode: str | None = None,
) -> LandscapeEnv:
    """
    Make a landscape over continuous actions.

    :param landscape: ``"peaks"``, ``"restricted"``, ``"ackley"``, ``"rastrigin"`` or ``"shubert"``
    :param action_dim: Number of dimensions of the action, at least 1
    :param n_peaks: Number of peaks of ``"peaks"``, or of balls of ``"restricted"``, at least 1
    :param landscape_seed: Seed of the landscape, at least 0; it draws the places and motions of the optima
    :param render_mode: ``"rgb_array"`` or None, see :class:`LandscapeEnv`
    :return: The environment
    :raises TypeError: if a number is not an integer
    :raises ValueError: if a number is too small, or the landscape or the render mode is unknown
    """
    check_choice("landscape", landscape, LANDSCAPES)
    check_integer("action_dim", action_dim, low=1, high=MAX_UNITS)
    check_integer("n_peaks", n_peaks, low=1, high=MAX_SAMPLES)
    check_integer("landscape_seed", landscape_seed, low=0)
    rng = landscape_rng(landscape_seed)
    reward: Landscape
    if landscape in WITH_PEAKS:
        reward = WITH_PEAKS[landscape](action_dim, n_peaks, rng)
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
