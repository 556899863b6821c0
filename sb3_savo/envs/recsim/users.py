"""RecSim's items and users (paper, §11.2). A user model moves any number of users at once, each by its own random numbers."""

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
# Row c is e_c or, in the second half, -e_c
CENTERS = np.diag(np.repeat(np.array([1.0, -1.0], dtype=np.float32), N_CATEGORIES // 2))
SPREAD = 0.35

MEAN_QUALITY = np.concatenate([np.linspace(-3, 0, 21), np.linspace(0, 3, 9)], dtype=np.float32)
QUALITY_SPREAD = 0.1

CLICK_COST, SKIP_COST = 4.0, 0.5


@dataclass(frozen=True, eq=False)
class Catalogue:
    """
    The items, in read-only arrays: make it with :func:`make_catalogue`. Copies, and what pickles bring back, are the same
    arrays, or made anew in another process.
    """

    #: What the agent sees of the items, (n_items, 30 + n_noise_dims), float32 in [-1, 1]: true embeddings, then noise
    embeddings: np.ndarray
    #: Category of every item, 0 … 29, (n_items,)
    categories: np.ndarray
    #: Quality q of every item, (n_items,), float32
    quality: np.ndarray
    #: The arguments that made it
    made_with: tuple[int, int, int]

    @property
    def true_embeddings(self) -> np.ndarray:
        """What users see of the items, (n_items, 30), float32 in [-1, 1]; a view of the embeddings."""
        return self.embeddings[:, :N_CATEGORIES]

    def __reduce__(self) -> tuple[Callable[..., "Catalogue"], tuple[int, int, int]]:
        return make_catalogue, self.made_with


# Few at a time: 500,000 items take 92 MiB
@functools.lru_cache(maxsize=4)
def make_catalogue(n_items: int, items_seed: int, n_noise_dims: int) -> Catalogue:
    """
    The noise is drawn last, so the items do not depend on its dimensions otherwise.

    :param n_items: Number of items, at least 2
    :param items_seed: Their seed
    :param n_noise_dims: Number of dimensions of noise, uniform in [-1, 1], in the embeddings that the agent sees
    :return: The items: true embeddings from the mixture, min-max scaled to [-1, 1] per dimension
    """
    rng = np.random.default_rng(items_seed)
    categories = rng.integers(N_CATEGORIES, size=n_items)
    points = draw_around(categories, rng)
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


def draw_around(categories: Any, rng: np.random.Generator) -> np.ndarray:
    """
    :param categories: Categories, 0 … 29, of any shape
    :param rng: Generator
    :return: A point of the Gaussian around the centre of each, (…, 30), float32
    """
    points = rng.standard_normal((*np.shape(categories), N_CATEGORIES), dtype=np.float32)
    points *= SPREAD
    points += CENTERS[categories]
    return points


class Users(ABC):
    """
    Users and how they respond to items. All start as users who have left: :meth:`renew` puts new ones in their place.

    :param catalogue: The items
    :param n_users: Number of users
    """

    #: Budget of a new user
    initial_budget: float

    def __init__(self, catalogue: Catalogue, n_users: int):
        self.catalogue = catalogue
        #: Interest u, (n_users, 30), float32 in [-1, 1]
        self.interest = np.zeros((n_users, N_CATEGORIES), dtype=np.float32)
        #: Budget, (n_users,); who has none left, leaves
        self.budget = np.zeros(n_users)
        #: Share of an item's quality that a click gives back to the budget, (n_users,), in [0, 1]
        self.refund = np.zeros(n_users)
        #: Number of items that the user has been shown, (n_users,)
        self.n_steps = np.zeros(n_users, dtype=np.int64)
        #: Random numbers in [0, 1) for the next response, (n_users, 2): does the user click, which way does the interest move
        self.chances = np.zeros((n_users, 2))

    def row(self, index: int) -> "Users":
        """
        :param index: One of the users
        :return: This user alone, sharing memory with all of them: what changes the one changes the other
        """
        user = copy.copy(self)
        for name in ("interest", "budget", "refund", "n_steps", "chances"):
            setattr(user, name, getattr(self, name)[index : index + 1])
        return user

    def renew(self, index: int, rng: np.random.Generator) -> None:
        """
        :param index: Whom a new user, of the items' mixture clipped to [-1, 1], replaces
        :param rng: Their generator
        """
        self.interest[index] = draw_around(rng.integers(N_CATEGORIES), rng).clip(-1, 1)
        self.refund[index] = rng.random()
        self.budget[index] = self.initial_budget
        self.n_steps[index] = 0

    def respond(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Show each user an item.

        :param items: The items, (n_users,)
        :return: Whether each user clicked, and whether each leaves, their budget being used up; (n_users,) both
        :raises ResetNeeded: if a user has left before
        """
        if self.budget.min() <= 0:
            raise ResetNeeded("No episode is under way: call reset() before step().")
        self.n_steps += 1
        embeddings = self.catalogue.true_embeddings[items]
        affinity = np.einsum("ud,ud->u", self.interest, embeddings)
        clicked = self.chances[:, 0] < self.click_probability(affinity)

        gain = self.refund * CLICK_COST * self.catalogue.quality[items] - np.minimum(self.budget, CLICK_COST)
        self.budget += np.where(clicked, gain, -SKIP_COST)

        if clicked.any():
            move = self.step_size(self.interest) * (embeddings - self.interest)
            away = self.chances[:, 1] >= self.pull_probability(affinity)
            np.negative(move, out=move, where=away[:, None])
            np.add(self.interest, move, out=self.interest, where=clicked[:, None])
            self.interest.clip(-1, 1, out=self.interest)
        return clicked, self.budget <= 0

    @abstractmethod
    def click_probability(self, affinity: Any) -> Any:
        """
        :param affinity: Products ⟨u, e⟩ of interests and items' true embeddings, of any shape
        :return: The probability of a click on each
        """

    @abstractmethod
    def pull_probability(self, affinity: Any) -> Any:
        """
        :param affinity: Products ⟨u, e⟩ of interests and items' true embeddings, of any shape
        :return: The probability that a click moves the interest towards the item, and not away from it
        """

    @abstractmethod
    def step_size(self, interest: np.ndarray) -> np.ndarray:
        """
        :param interest: Interests, (…, 30)
        :return: The share of the way to the item that a click moves them, (…, 30) in [0, 1]
        """


class BudgetUsers(Users):
    """The authors' users: each item costs some of their budget, and a click on a good one gives some back."""

    initial_budget = 20.0

    def click_probability(self, affinity: Any) -> Any:
        # Products are between -30 and 30: far from where exp overflows
        score = np.log1p(np.exp(np.where(affinity < 0, affinity - 1.5, affinity)))
        return score / (score + 2)

    def pull_probability(self, affinity: Any) -> Any:
        return 1 / (1 + np.exp(-affinity))

    def step_size(self, interest: np.ndarray) -> np.ndarray:
        # Never 0 / 0: it is only at 1 that clipping makes dimensions equal, and the smallest one does not move
        size = np.abs(interest)
        size -= size.min(axis=-1, keepdims=True)
        size /= size.max(axis=-1, keepdims=True)
        return size


class SoftmaxUsers(Users):
    """The paper's users: they never leave. Two slips in its rule for the interest are corrected."""

    initial_budget = math.inf
    score_skip = 3.0
    y = 0.3

    def click_probability(self, affinity: Any) -> Any:
        # The softmax over the item's score and that of skipping it
        return 1 / (1 + np.exp(self.score_skip - affinity))

    def pull_probability(self, affinity: Any) -> Any:
        return np.clip((affinity + 1) / 2, 0, 1)

    def step_size(self, interest: np.ndarray) -> np.ndarray:
        return self.y * (1 - np.abs(interest))


USER_MODELS: dict[str, type[Users]] = {"budget": BudgetUsers, "softmax": SoftmaxUsers}
