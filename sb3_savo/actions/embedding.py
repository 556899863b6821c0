"""A wrapper that gives the items of a ``Discrete`` action space embeddings."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_savo.actions.spaces import EmbeddedDiscrete
from sb3_savo.arguments import check_type


class ArgumentArray(np.ndarray):
    """An array among the arguments in ``env.spec``: ``gym.make(env.spec)`` compares arguments with ``==`` and copies them."""

    def __eq__(self, other: object) -> bool:  # type: ignore[override]
        return np.array_equal(np.asarray(self), np.asarray(other))

    def __ne__(self, other: object) -> bool:  # type: ignore[override]
        return not self == other

    def __deepcopy__(self, memo: Any) -> "ArgumentArray":  # type: ignore[override]
        # It is read-only, and may be large
        return self


class ActionEmbedding(gym.ActionWrapper, gym.utils.RecordConstructorArgs):
    """
    Turn the ``Discrete`` action space of an environment into an :class:`EmbeddedDiscrete`.

    Items are counted from 0, even if the environment's own actions start at another number. Observations, rewards and the end
    of an episode do not change.

    :param env: An environment with a ``Discrete`` action space
    :param embeddings: One row per action, (N, D)
    :param allow_duplicates: Whether two actions may have the same embedding, see :class:`EmbeddedDiscrete`
    :raises TypeError: if ``env`` is no environment, its action space is not ``Discrete``, or the embeddings are not numbers
    :raises ValueError: if there is not one row per action, a row is not finite, or two rows are equal
    """

    def __init__(self, env: gym.Env, embeddings: np.ndarray, *, allow_duplicates: bool = False):
        check_type("env", env, gym.Env, "an environment of Gymnasium")
        gym.Wrapper.__init__(self, env)
        if not isinstance(env.action_space, spaces.Discrete):
            raise TypeError(f"env: the action space {env.action_space} is not Discrete: only its items can have embeddings.")
        self.action_space = EmbeddedDiscrete(embeddings, allow_duplicates=allow_duplicates)
        if self.action_space.n != env.action_space.n:
            raise ValueError(
                f"embeddings has {self.action_space.n} rows, but the action space {env.action_space} has "
                f"{env.action_space.n} actions: it must have one row per action."
            )
        self.start = env.action_space.start
        gym.utils.RecordConstructorArgs.__init__(
            self, embeddings=self.action_space.embeddings.view(ArgumentArray), allow_duplicates=allow_duplicates
        )

    def action(self, action: Any) -> Any:
        return action + self.start
