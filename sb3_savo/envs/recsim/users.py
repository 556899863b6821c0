"""RecSim's items and users (paper, §11.2). A user model steps several users at once, each with random numbers of its own."""

import copy
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded

N_CATEGORIES = 30  # also the number of dimensions of interests and items
# Row c is the c-th unit vector, negated in the second half
CENTERS = np.diag(np.repeat(np.array([1.0, -1.0], dtype=np.float32), N_CATEGORIES // 2))
SPREAD = 0.35

MEAN_QUALITY = np.concatenate([np.linspace(-3, 0, 21), np.linspace(0, 3, 9)], dtype=np.float32)
QUALITY_SPREAD = 0.1

CLICK_COST, SKIP_COST = 4.0, 0.5


@dataclass(frozen=True, eq=False)
class Catalogue:
    """
    The items, in read-only arrays; made by :func:`make_catalogue`. Copying and unpickling call it again: they return the
    cached object, or make it anew in another process.
    """

    #: Embeddings that the agent sees: true embeddings, then noise, (n_items, 30 + n_noise_dims), float32 in [-1, 1]
    embeddings: np.ndarray
    #: Category of every item, 0 … 29, (n_items,)
    categories: np.ndarray
    #: Quality q of every item, (n_items,), float32
    quality: np.ndarray
    #: The arguments of :func:`make_catalogue`
    arguments: tuple[int, int, int]

    @property
    def true_embeddings(self) -> np.ndarray:
        """Embeddings that the users see, (n_items, 30), float32 in [-1, 1]; a view of ``embeddings``."""
        return self.embeddings[:, :N_CATEGORIES]

    def __reduce__(self) -> tuple[Callable[..., "Catalogue"], tuple[int, int, int]]:
        return make_catalogue, self.arguments


# A small cache, because 500,000 items take 92 MiB
@functools.lru_cache(maxsize=4)
def make_catalogue(n_items: int, items_seed: int, n_noise_dims: int) -> Catalogue:
    """
    Draw items from the mixture of the categories, and scale their true embeddings to [-1, 1] per dimension (min-max). The
    noise is drawn last, so that ``n_noise_dims`` does not change anything else.

    :param n_items: Number of items, at least 2
    :param items_seed: Seed of the items
    :param n_noise_dims: Number of dimensions of noise, uniform in [-1, 1], in the embeddings that the agent sees
    :return: The items
    """
    rng = np.random.default_rng(items_seed)
    categories = rng.integers(N_CATEGORIES, size=n_items)
    points = draw_points(categories, rng)
    points -= points.min(axis=0)
    points /= points.max(axis=0) / 2
    points -= 1
    quality = MEAN_QUALITY[categories] + QUALITY_SPREAD * rng.standard_normal(n_items, dtype=np.float32)
    noise = rng.random((n_items, n_noise_dims), dtype=np.float32)
    noise *= 2
    noise -= 1
    embeddings = np.concatenate([points, noise], axis=1)
    for array in (embeddings, categories, quality):
        array.setflags(write=False)
    return Catalogue(embeddings, categories, quality, (n_items, items_seed, n_noise_dims))


def draw_points(categories: Any, rng: np.random.Generator) -> np.ndarray:
    """
    :param categories: Categories, 0 … 29, of any shape (…)
    :param rng: Generator of the points
    :return: For each category, a point of the Gaussian around its center, (…, 30), float32
    """
    points = rng.standard_normal((*np.shape(categories), N_CATEGORIES), dtype=np.float32)
    points *= SPREAD
    points += CENTERS[categories]
    return points


class Users(ABC):
    """
    Several users and how they respond to items. Before the first :meth:`renew`, every user counts as having left.

    :param catalogue: The items
    :param n_users: Number of users
    """

    #: Budget of a new user
    initial_budget: float

    def __init__(self, catalogue: Catalogue, n_users: int):
        self.catalogue = catalogue
        #: Interest u, (n_users, 30), float32 in [-1, 1]
        self.interest = np.zeros((n_users, N_CATEGORIES), dtype=np.float32)
        #: Remaining budget, (n_users,); a user leaves at 0
        self.budget = np.zeros(n_users)
        #: Share of an item's quality that a click gives back to the budget, (n_users,), in [0, 1]
        self.refund = np.zeros(n_users)
        #: Number of items shown to the user so far, (n_users,)
        self.n_steps = np.zeros(n_users, dtype=np.int64)
        #: Random numbers in [0, 1) for the next response, (n_users, 2): the first decides on the click, the second on the
        #: direction in which the interest moves
        self.random_numbers = np.zeros((n_users, 2))

    def view_of_user(self, index: int) -> "Users":
        """
        :param index: Index of a user
        :return: This user alone, as a view: it shares its memory with this object
        """
        user = copy.copy(self)
        for name in ("interest", "budget", "refund", "n_steps", "random_numbers"):
            setattr(user, name, getattr(self, name)[index : index + 1])
        return user

    def renew(self, index: int, rng: np.random.Generator) -> None:
        """
        Replace a user by a new one, whose interest is drawn from the mixture of the categories and clipped to [-1, 1].

        :param index: Index of the user
        :param rng: Generator of the new user
        """
        self.interest[index] = draw_points(rng.integers(N_CATEGORIES), rng).clip(-1, 1)
        self.refund[index] = rng.random()
        self.budget[index] = self.initial_budget
        self.n_steps[index] = 0

    def respond(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Show each user an item.

        :param items: Index of the item for each user, (n_users,)
        :return: Whether each user clicked, and whether each user leaves because the budget is used up, both (n_users,)
        :raises ResetNeeded: if a user has left before
        """
        if self.budget.min() <= 0:
            raise ResetNeeded("No episode is under way: call reset() before step().")
        self.n_steps += 1
        embeddings = self.catalogue.true_embeddings[items]
        affinity = np.einsum("ud,ud->u", self.interest, embeddings)
        clicked = self.random_numbers[:, 0] < self.click_probability(affinity)

        gain = self.refund * CLICK_COST * self.catalogue.quality[items] - np.minimum(self.budget, CLICK_COST)
        self.budget += np.where(clicked, gain, -SKIP_COST)

        if clicked.any():
            move = self.step_size(self.interest) * (embeddings - self.interest)
            away = self.random_numbers[:, 1] >= self.pull_probability(affinity)
            np.negative(move, out=move, where=away[:, None])
            np.add(self.interest, move, out=self.interest, where=clicked[:, None])
            self.interest.clip(-1, 1, out=self.interest)
        return clicked, self.budget <= 0

    @abstractmethod
    def click_probability(self, affinity: Any) -> Any:
        """
        :param affinity: Products ⟨u, e⟩ of interests and items' true embeddings, of any shape
        :return: Probability of a click for each product
        """

    @abstractmethod
    def pull_probability(self, affinity: Any) -> Any:
        """
        :param affinity: Products ⟨u, e⟩ of interests and items' true embeddings, of any shape
        :return: Probability that a click moves the interest toward the item, and not away from it
        """

    @abstractmethod
    def step_size(self, interest: np.ndarray) -> np.ndarray:
        """
        :param interest: Interests, (…, 30)
        :return: Fraction of the way to the item by which a click moves the interest, (…, 30) in [0, 1]
        """


class BudgetUsers(Users):
    """The users of the authors' code: every item costs some of the budget, and a click on a good item gives some back."""

    initial_budget = 20.0

    def click_probability(self, affinity: Any) -> Any:
        # exp does not overflow, because the products are between -30 and 30
        score = np.log1p(np.exp(np.where(affinity < 0, affinity - 1.5, affinity)))
        return score / (score + 2)

    def pull_probability(self, affinity: Any) -> Any:
        return 1 / (1 + np.exp(-affinity))

    def step_size(self, interest: np.ndarray) -> np.ndarray:
        # Never 0 / 0: dimensions become equal only by clipping to 1, and the smallest dimension does not move at all
        size = np.abs(interest)
        size -= size.min(axis=-1, keepdims=True)
        size /= size.max(axis=-1, keepdims=True)
        return size


class SoftmaxUsers(Users):
    """The users of the paper's text, who never leave. Two slips in the paper's rule for the interest are corrected."""

    initial_budget = math.inf
    score_skip = 3.0
    y = 0.3  # step size of an interest of 0

    def click_probability(self, affinity: Any) -> Any:
        # The softmax over the scores of the item and of a skip
        return 1 / (1 + np.exp(self.score_skip - affinity))

    def pull_probability(self, affinity: Any) -> Any:
        return np.clip((affinity + 1) / 2, 0, 1)

    def step_size(self, interest: np.ndarray) -> np.ndarray:
        return self.y * (1 - np.abs(interest))


USER_MODELS: dict[str, type[Users]] = {"budget": BudgetUsers, "softmax": SoftmaxUsers}
