"""RecSim's environments (paper, §11.2), for a single user and for several users at once."""

from functools import partial
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sb3_savo.actions.spaces import MAX_ITEMS, EmbeddedDiscrete
from sb3_savo.arguments import MAX_UNITS, check_choice, check_integer
from sb3_savo.envs.pictures import draw_bars
from sb3_savo.envs.recsim.users import N_CATEGORIES, USER_MODELS, make_catalogue


class RecSim(gym.Env):
    """
    Recommend one item per step to a simulated user. Items belong to 30 categories, and are points in 30 dimensions around the
    centers of the categories. The interest u of a user is such a point, too. A click on an item e moves the interest toward
    the item or away from it. Every episode has a new user.

    **Actions**: the index of an item. Embeddings, (n_items, 30 + n_noise_dims) in [-1, 1]: the item e, then noise.

    **Observations**: the interest u, 30 numbers in [-1, 1].

    **Rewards**: 1 for a click, else 0. ``info["click"]`` tells whether the user clicked.

    An episode ends when the user leaves (``terminated``), or at the time limit of ``RecSim-v0``, 20 steps (``truncated``).

    ``user_model="budget"``, the authors' dynamics:

    - P(click) = s / (s + 2), with s = softplus(d) and d = ⟨u, e⟩, minus 1.5 if that is negative.
    - A click moves u by ± α ⊙ (e - u), plus with probability sigmoid(⟨u, e⟩), clipped to [-1, 1]; α is ``|u|``, min-max scaled
      to [0, 1] over its dimensions.
    - The user starts with a budget of 20, and leaves when it is used up. A click costs 4, or the rest of the budget if that is
      less, and gives back 4 α q. Here q is the item's quality, whose mean depends on the category and is from -3 to 3, and α
      is a constant of the user, uniform in [0, 1]. A step without a click costs 0.5.

    ``user_model="softmax"``, the paper's text:

    - P(click) is the softmax of ⟨u, e⟩ against 3, the score of a skip.
    - A click moves u by ± 0.3 (1 - ``|u|``) ⊙ (e - u), plus with probability (⟨u, e⟩ + 1) / 2, clipped to [0, 1].
    - The user never leaves.

    :param n_items: Number of items, at least 2
    :param user_model: ``"budget"`` or ``"softmax"``
    :param items_seed: Seed of the items, at least 0; environments of one process share the items
    :param n_noise_dims: Number of dimensions of noise, uniform in [-1, 1], in the embeddings, at least 0
    :param render_mode: ``"rgb_array"``: an image of the interest, one bar per dimension, (96, 240, 3) in uint8; ``"ansi"``: a
        string with the budget and the strongest interests; None: :meth:`render` returns None
    :raises TypeError: if a number is not an integer
    :raises ValueError: if a number is too small, or the user model or the render mode is unknown
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012 (Gymnasium's attribute)
    action_space: EmbeddedDiscrete

    def __init__(
        self,
        n_items: int = 10_000,
        user_model: str = "budget",
        items_seed: int = 0,
        n_noise_dims: int = 15,
        render_mode: str | None = None,
    ):
        check_integer("n_items", n_items, low=2, high=MAX_ITEMS)
        check_choice("user_model", user_model, tuple(USER_MODELS))
        check_integer("items_seed", items_seed, low=0)
        check_integer("n_noise_dims", n_noise_dims, low=0, high=MAX_UNITS)
        check_choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.render_mode = render_mode
        self.catalogue = make_catalogue(n_items, items_seed, n_noise_dims)
        self.users = USER_MODELS[user_model](self.catalogue, n_users=1)
        self.action_space = EmbeddedDiscrete(self.catalogue.embeddings)
        self.observation_space = spaces.Box(-1.0, 1.0, (N_CATEGORIES,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.users.renew(0, self.np_random)
        return self.users.interest[0].copy(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        :param action: Index of the item
        :raises ValueError: if there is no such item
        :raises ResetNeeded: if the user has left, or before the first reset
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action={action!r} is not an item: it must be an integer from 0 to {self.action_space.n - 1}.")
        self.np_random.random(out=self.users.random_numbers)
        clicked, left = self.users.respond(np.array([action]))
        click = bool(clicked[0])
        return self.users.interest[0].copy(), float(click), bool(left[0]), False, {"click": click}

    def render(self) -> str | np.ndarray | None:
        if self.render_mode == "rgb_array":
            return draw_bars(self.users.interest)
        if self.render_mode == "ansi":
            interest = self.users.interest[0]
            strongest = ", ".join(f"{c}: {interest[c]:+.2f}" for c in np.abs(interest).argsort()[:-4:-1])
            return f"{self.users.n_steps[0]} items shown, budget {self.users.budget[0]:.1f}, interest {strongest}, …"
        return None


class RecSimVecEnv(DummyVecEnv):
    """
    A faster ``DummyVecEnv`` of ``RecSim-v0``: it steps all users at once, and returns exactly the same numbers. For statistics
    of the episodes, wrap it in SB3's ``VecMonitor``.

    :param n_envs: Number of environments, at least 1
    :param kwargs: Arguments of :class:`RecSim`
    """

    action_space: EmbeddedDiscrete

    def __init__(self, n_envs: int, **kwargs: Any):
        check_integer("n_envs", n_envs, low=1)
        super().__init__([partial(gym.make, "RecSim-v0", **kwargs)] * n_envs)
        spec = self.envs[0].spec
        assert spec is not None and spec.max_episode_steps is not None
        self._max_steps = spec.max_episode_steps
        self._recsims = [cast(RecSim, env.unwrapped) for env in self.envs]
        self.users = type(self._recsims[0].users)(self._recsims[0].catalogue, n_envs)
        self._share_users()

    def _share_users(self) -> None:
        for index, recsim in enumerate(self._recsims):
            recsim.users = self.users.view_of_user(index)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Copying and unpickling turn the views into separate arrays
        self.__dict__.update(state)
        self._share_users()

    def get_state(self) -> dict[str, Any]:
        """:return: The users and their random generators, for a checkpoint"""
        users = {name: value.copy() for name, value in vars(self.users).items() if isinstance(value, np.ndarray)}
        return {"users": users, "generators": [recsim.np_random.bit_generator.state for recsim in self._recsims]}

    def set_state(self, state: dict[str, Any]) -> None:
        """
        :param state: What :meth:`get_state` has returned
        """
        for name, value in state["users"].items():
            getattr(self.users, name)[:] = value
        for recsim, generator in zip(self._recsims, state["generators"], strict=True):
            recsim.np_random.bit_generator.state = generator

    def step_async(self, actions: np.ndarray) -> None:
        """
        :param actions: Index of the item for each user, (n_envs,)
        :raises ValueError: if the actions have another shape, or there is no such item
        """
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,):
            raise ValueError(f"actions has the shape {actions.shape}: it must be ({self.num_envs},).")
        if actions.dtype.kind not in "iu" or actions.min() < 0 or actions.max() >= self.action_space.n:
            raise ValueError(
                f"actions={actions!r} are not all items: they must be integers from 0 to {self.action_space.n - 1}."
            )
        self.actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        for recsim in self._recsims:
            recsim.np_random.random(out=recsim.users.random_numbers)
        clicked, left = self.users.respond(self.actions)
        at_time_limit = self.users.n_steps >= self._max_steps
        dones = left | at_time_limit
        infos: list[dict[str, Any]] = [
            {"click": click, "TimeLimit.truncated": truncated}
            for click, truncated in zip(clicked.tolist(), (at_time_limit & ~left).tolist(), strict=True)
        ]
        for index in dones.nonzero()[0].tolist():
            infos[index]["terminal_observation"] = self.users.interest[index].copy()
            _, self.reset_infos[index] = self.envs[index].reset()
        return self.users.interest.copy(), clicked.astype(np.float32), dones, infos
