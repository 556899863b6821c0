"""
Restricted actions (paper, §5 and §11.3.1): only actions in a union of balls have an effect.

In the paper's tasks, these balls are the same for every state and seed.
"""

import math
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_savo.actions.spaces import check_box
from sb3_savo.arguments import check_flag, check_number, check_type, to_numbers


class RestrictedAction(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """
    Replace every action outside a union of balls.

    **Actions**: unchanged. The action space is mapped affinely to the unit cube, where the balls lie: its lower bound to 0,
    its upper bound to 1. An action is valid if its distance to the center of a ball is strictly below that ball's radius.

    **Observations** and the end of an episode: unchanged. ``info["valid_action"]`` says at every step whether the action was
    simulated as given.

    **Rewards**: unchanged for valid actions; see ``invalid_reward`` for the others.

    :param env: An environment with a bounded ``Box`` action space
    :param centers: Centers of the balls in the unit cube, (n_balls, action_dim)
    :param radii: Radii of the balls, above 0; one number, or (n_balls,)
    :param invalid_action: The action to simulate in place of an invalid one, in the units of the action space; one number for
        all dimensions, or an action
    :param invalid_reward: Reward of a step whose action was invalid; None for the reward of the simulated action
    :param exempt_first_step: Whether to simulate the first action of an episode even if it is invalid
    :raises TypeError: if the action space is not a ``Box`` of floats, or an argument is no number
    :raises ValueError: if the action space is unbounded, the balls have wrong shapes or values, none of them reaches into
        the unit cube or they cover all of it, ``invalid_action`` is not in the action space, ``invalid_reward`` is not
        finite, or ``exempt_first_step`` is neither True nor False
    """

    def __init__(
        self,
        env: gym.Env,
        centers: np.ndarray,
        radii: np.ndarray | float,
        invalid_action: np.ndarray | float = 0.0,
        invalid_reward: float | None = None,
        exempt_first_step: bool = False,
    ):
        check_type("env", env, gym.Env, "an environment of Gymnasium")
        gym.Wrapper.__init__(self, env)
        check_box(env.action_space, type(self).__name__)
        space = cast(spaces.Box, env.action_space)
        self.low, self.width = space.low.ravel().astype(float), (space.high - space.low).ravel().astype(float)

        self.centers, self.radii = check_balls(centers, radii, self.low.size)
        if self._covers_everything():
            raise ValueError(
                f"centers and radii={radii!r}: the balls cover the whole unit cube, so every action would be valid. The radii "
                "must be smaller, or use the environment without RestrictedAction."
            )

        given_action = to_numbers("invalid_action", invalid_action)
        if given_action.shape not in ((), space.shape):
            raise ValueError(f"invalid_action has the shape {given_action.shape}: it must be one number or {space.shape}.")
        self.invalid_action = np.broadcast_to(given_action.astype(space.dtype), space.shape)
        if not space.contains(np.array(self.invalid_action)):
            raise ValueError(f"invalid_action={invalid_action!r} is not in the action space {space}.")
        if invalid_reward is not None:
            check_number("invalid_reward", invalid_reward, low=-math.inf)
        check_flag("exempt_first_step", exempt_first_step)
        self.invalid_reward = invalid_reward
        self.exempt_first_step = exempt_first_step
        self._is_first_step = True
        # As lists: gym.make(env.spec) compares the arguments with ==
        gym.utils.RecordConstructorArgs.__init__(
            self,
            centers=self.centers.tolist(),
            radii=self.radii.tolist(),
            invalid_action=self.invalid_action.tolist(),
            invalid_reward=invalid_reward,
            exempt_first_step=exempt_first_step,
        )

    def is_valid(self, actions: np.ndarray) -> np.ndarray:
        """
        :param actions: One action or an array of actions, in the units of the action space, (..., shape of an action)
        :return: Whether each action is valid, (...)
        """
        actions = np.asarray(actions, dtype=float)
        n_leading = actions.ndim - len(cast(spaces.Box, self.action_space).shape)
        points = (actions.reshape(*actions.shape[:n_leading], 1, -1) - self.low) / self.width
        return (((points - self.centers) ** 2).sum(axis=-1) < self.radii**2).any(axis=-1)

    def _covers_everything(self) -> bool:
        """Whether all of many random actions are valid."""
        rng = np.random.default_rng(0)
        for _ in range(20):
            points = rng.random((1_000, self.low.size))
            if not self.is_valid((self.low + points * self.width).reshape(-1, *self.action_space.shape)).all():  # type: ignore[misc]
                return False
        return True

    def coverage(self, n_samples: int = 100_000, seed: int = 0) -> float:
        """
        Estimate the share of the action space that is valid.

        :param n_samples: Number of uniformly random actions
        :param seed: Seed of the random actions
        :return: Share of valid actions, in [0, 1]
        """
        rng = np.random.default_rng(seed)
        valid = 0
        for chunk in np.array_split(np.arange(n_samples), max(1, n_samples // 10_000)):
            unit = rng.random((len(chunk), self.low.size))
            valid += self.is_valid((self.low + unit * self.width).reshape(-1, *self.action_space.shape)).sum()  # type: ignore[misc]
        return valid / n_samples

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self._is_first_step = True
        return self.env.reset(**kwargs)

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        is_exempt = self.exempt_first_step and self._is_first_step
        self._is_first_step = False
        valid = is_exempt or bool(self.is_valid(action))
        obs, reward, terminated, truncated, info = self.env.step(action if valid else self.invalid_action.copy())
        if not valid and self.invalid_reward is not None:
            reward = self.invalid_reward
        return obs, reward, terminated, truncated, {**info, "valid_action": valid}


def check_balls(centers: Any, radii: Any, action_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """
    :param centers: Centers of balls in the unit cube, (n_balls, action_dim)
    :param radii: Radii of the balls; one number, or (n_balls,)
    :param action_dim: Number of dimensions of the action
    :return: The centers, (n_balls, action_dim), and the radii, (n_balls,)
    :raises TypeError: if they are no numbers
    :raises ValueError: if they have wrong shapes or values, or no ball reaches into the unit cube
    """
    given_centers = to_numbers("centers", centers)
    if given_centers.ndim != 2 or len(given_centers) == 0 or given_centers.shape[1] != action_dim:
        raise ValueError(
            f"centers has the shape {given_centers.shape}: it must be (n_balls, {action_dim}), "
            "one column per dimension of the action space."
        )
    given_radii = to_numbers("radii", radii)
    if given_radii.shape not in ((), (len(given_centers),)):
        raise ValueError(f"radii has the shape {given_radii.shape}: it must be one number or ({len(given_centers)},).")
    given_radii = np.broadcast_to(given_radii, len(given_centers))
    if not (np.isfinite(given_centers).all() and np.isfinite(given_radii).all() and (given_radii > 0).all()):
        raise ValueError("centers must be finite, and radii finite and above 0.")
    nearest_in_cube = given_centers.clip(0, 1)
    if not (np.linalg.norm(given_centers - nearest_in_cube, axis=1) < given_radii).any():
        raise ValueError("centers and radii: no ball reaches into the unit cube, so no action would be valid.")
    return given_centers, given_radii


def paper_balls(action_dim: int) -> tuple[np.ndarray, float]:
    """
    Draw the paper's valid set: 33 balls per dimension, each of volume (0.6 / 33) m, where m is 3 for one dimension, 1.65 for
    three dimensions, and 1 otherwise.

    :param action_dim: Number of dimensions of the action space, D
    :return: Centers of the balls, (33 D, D), and their common radius
    """
    centers = np.random.RandomState(123).random_sample((33 * action_dim, action_dim))
    volume = 0.6 / 33 * {1: 3.0, 3: 1.65}.get(action_dim, 1.0)
    unit_ball_volume = math.pi ** (action_dim / 2) / math.gamma(action_dim / 2 + 1)
    return centers, (volume / unit_ball_volume) ** (1 / action_dim)


def make_restricted(env_id: str, invalid_reward: float | None = None, **kwargs: Any) -> RestrictedAction:
    """
    Make one of Gymnasium's MuJoCo tasks with the paper's valid set.

    An invalid action is replaced by 0. In a pendulum task, invalid actions would then be a way to stand still. So -1 replaces
    them there, except at the first step of an episode, which is exempt.

    :param env_id: Gymnasium's ID of the task
    :param invalid_reward: Reward of a step whose action was invalid. None, as in the paper's text, gives the reward of the
        simulated action; the authors' code used -10
    :param kwargs: Arguments of the task
    :return: The restricted task, without a time limit
    """
    check_type("env_id", env_id, str, "the ID of one of Gymnasium's tasks")
    # By its specification, if it has one: for an ID, Gymnasium says that v4 is out of date, but the paper's tasks are v4
    spec = gym.registry.get(env_id, env_id)
    env = gym.make(spec, max_episode_steps=-1, disable_env_checker=True, **kwargs)
    check_box(env.action_space, "RestrictedAction", argument=f"env_id={env_id!r}")
    centers, radius = paper_balls(cast(spaces.Box, env.action_space).shape[0])
    is_pendulum = "Pendulum" in env_id
    return RestrictedAction(
        env,
        centers,
        radius,
        invalid_action=-1.0 if is_pendulum else 0.0,
        invalid_reward=invalid_reward,
        exempt_first_step=is_pendulum,
    )
