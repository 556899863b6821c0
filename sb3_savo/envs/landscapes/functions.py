"""
The landscapes: differentiable functions of context and action with many local optima, whose optimum is known in every context.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch as th
from torch import nn

CONTEXT_DIM = 4


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
        return (self.heights(contexts).unsqueeze(1) * th.exp(-squares / (2 * self.width**2))).amax(dim=2)

    def heights(self, contexts: th.Tensor) -> th.Tensor:
        """
        :param contexts: Contexts in [-1, 1], (batch, CONTEXT_DIM)
        :return: Heights of the peaks, of which the greatest is 1, (batch, n_peaks)
        """
        return self.height.expand(len(contexts), -1)

    def best(self, contexts: th.Tensor) -> th.Tensor:
        places = self.places(contexts)
        return places[th.arange(len(places), device=places.device), self.heights(contexts).argmax(dim=1)]


class Switching(Peaks):
    """
    Gaussian peaks whose heights change with the context, too. So the best action jumps from peak to peak: it is no continuous
    function of the context.

    :param action_dim: Number of dimensions of the action
    :param n_peaks: Number of peaks
    :param rng: Generator of the peaks' places, motions, heights, changes of height and widths
    """

    base: th.Tensor
    change: th.Tensor

    def __init__(self, action_dim: int, n_peaks: int, rng: np.random.Generator):
        super().__init__(action_dim, n_peaks, rng)
        self.register_constants({"base": rng.normal(0, 1, n_peaks), "change": rng.normal(0, 1, (CONTEXT_DIM, n_peaks))})

    def heights(self, contexts: th.Tensor) -> th.Tensor:
        heights = th.sigmoid(self.base + contexts @ self.change)
        return heights / heights.amax(dim=1, keepdim=True)


class Terraces(Peaks):
    """Gaussian peaks that are cut into terraces of equal height, 0.1: the gradient is zero wherever it exists."""

    n_terraces = 10

    def forward(self, contexts: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return (super().forward(contexts, actions) * self.n_terraces).round() / self.n_terraces


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


class Ravines(ShiftedFunction):
    """
    Rastrigin's function in rotated coordinates, the first of which is stretched three times and the last not at all. Its local
    optima lie in ravines that are parallel to no axis.

    :param action_dim: Number of dimensions of the action
    :param rng: Generator of the optimum's place and motion, and of the rotation
    """

    scale = Rastrigin.scale
    stretch = 3.0
    rotation: th.Tensor

    def __init__(self, action_dim: int, rng: np.random.Generator):
        super().__init__(action_dim, rng)
        rotation = np.linalg.qr(rng.normal(0, 1, (action_dim, action_dim)))[0]
        stretches = np.geomspace(self.stretch, 1, action_dim) if action_dim > 1 else np.ones(1)
        self.register_constants({"rotation": rotation / stretches})

    def height(self, x: th.Tensor) -> th.Tensor:
        x = x @ self.rotation
        # Neither a rotation nor a stretch adds to the mean of the squares
        return 1 - (x.square() - 10 * th.cos(2 * th.pi * x) + 10).mean(dim=-1) / Rastrigin.worst

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


class Griewank(ShiftedFunction):
    """A flat bowl with waves that cross: 1 + Σ x²/4000 - Π_i cos(x_i / √i), in a domain of ±50."""

    scale = 50.0

    def height(self, x: th.Tensor) -> th.Tensor:
        roots = th.arange(1.0, self.action_dim + 1, device=x.device).sqrt()
        function = 1 + x.square().sum(dim=-1) / 4000 - th.cos(x / roots).prod(dim=-1)
        return 1 - function / (2 + self.action_dim * (1.6 * self.scale) ** 2 / 4000)

    def optimum(self) -> th.Tensor:
        return th.zeros(self.action_dim)


class Levy(ShiftedFunction):
    """
    A bowl with valleys of several widths: with w = 1 + (x - 1)/4, sin²(πw_1) + Σ_{i<D} (w_i - 1)² (1 + 10 sin²(πw_i + 1)) +
    (w_D - 1)² (1 + sin²(2πw_D)), averaged over the dimensions.
    """

    scale = 10.0

    def height(self, x: th.Tensor) -> th.Tensor:
        w = 1 + (x - 1) / 4
        inner = ((w - 1).square() * (1 + 10 * th.sin(th.pi * w + 1).square()))[..., :-1].sum(dim=-1)
        last = (w[..., -1] - 1).square() * (1 + th.sin(2 * th.pi * w[..., -1]).square())
        worst = 1 + ((1.6 * self.scale + 1) / 4) ** 2 * (11 * (self.action_dim - 1) + 2)
        return 1 - (th.sin(th.pi * w[..., 0]).square() + inner + last) / worst

    def optimum(self) -> th.Tensor:
        return th.ones(self.action_dim)


class Waves(ShiftedFunction):
    """
    Plane waves of random directions, lengths and heights, all with a crest at the optimum: Σ_k h_k cos(ω_k · x). There is no
    bowl that leads to the optimum, and the best of the other crests are nearly as high.

    :param action_dim: Number of dimensions of the action
    :param rng: Generator of the optimum's place and motion, and of the waves
    """

    scale = 1.0
    n_waves = 6
    frequencies = (4.0, 12.0)  # the lowest and the highest, in radians per unit of the action
    waves: th.Tensor
    heights: th.Tensor

    def __init__(self, action_dim: int, rng: np.random.Generator):
        super().__init__(action_dim, rng)
        directions = rng.normal(0, 1, (self.n_waves, action_dim))
        lengths = rng.uniform(*self.frequencies, (self.n_waves, 1)) / np.linalg.norm(directions, axis=1, keepdims=True)
        heights = rng.uniform(0.5, 1, self.n_waves)
        self.register_constants({"waves": directions * lengths, "heights": heights / heights.sum()})

    def height(self, x: th.Tensor) -> th.Tensor:
        return (1 + th.cos(x @ self.waves.T) @ self.heights) / 2

    def optimum(self) -> th.Tensor:
        return th.zeros(self.action_dim)


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


TEST_FUNCTIONS: dict[str, type[ShiftedFunction]] = {
    "ackley": Ackley,
    "griewank": Griewank,
    "levy": Levy,
    "rastrigin": Rastrigin,
    "ravines": Ravines,
    "shubert": Shubert,
    "waves": Waves,
}
WITH_PEAKS: dict[str, type[Peaks | RestrictedHill]] = {
    "peaks": Peaks,
    "restricted": RestrictedHill,
    "switching": Switching,
    "terraces": Terraces,
}
LANDSCAPES = (*WITH_PEAKS, *TEST_FUNCTIONS)
