"""Checks of environments: their spaces, those of all copies, whether a model fits them, and the shapes that they return."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sb3_savo.actions.spaces import EmbeddedDiscrete, check_action_space, check_box, describe_difference
from sb3_savo.arguments import check_type
from sb3_savo.common.observations import check_observation_space
from sb3_savo.vec_env import shape_difference


def make_env(env: GymEnv | str, verbose: int) -> GymEnv:
    """
    :param env: An environment, or the ID of one
    :param verbose: Verbosity level: 1 for a message where an environment is made
    :return: The environment
    :raises TypeError: if it is no environment
    :raises ValueError: if there is no environment of this ID
    """
    check_type("env", env, (str, gym.Env, VecEnv), "an environment of Gymnasium, its ID, or a VecEnv")
    try:
        return maybe_make_env(env, verbose)
    except gym.error.Error as error:
        raise ValueError(f"env={env!r} cannot be made: it must be the ID of a registered environment: {error}") from error


def check_env(env: GymEnv, algorithm: str, takes_items: bool) -> None:
    """
    :param env: An environment
    :param algorithm: Name of the algorithm that is to act in it
    :param takes_items: Whether the algorithm acts in discrete spaces with embeddings
    :raises TypeError: if a space is of the wrong kind
    :raises ValueError: if a space has the wrong bounds, or the environments of a ``VecEnv`` have different spaces
    """
    (check_action_space if takes_items else check_box)(env.action_space, algorithm)
    check_observation_space(env.observation_space, algorithm)
    if isinstance(env, VecEnv):
        check_equal_spaces(env)


def check_equal_spaces(env: VecEnv) -> None:
    """
    :param env: Several environments, of which a ``VecEnv`` shows the first one's spaces only
    :raises ValueError: if their action spaces or the shapes of their observations differ
    """
    copies = env.unwrapped
    if not isinstance(copies, (DummyVecEnv, SubprocVecEnv)):
        return
    for index in range(1, env.num_envs):
        action_space = copies.get_attr("action_space", indices=[index])[0]
        if action_space != copies.action_space:
            raise ValueError(
                f"env: the action space of environment {index} is not that of environment 0: "
                f"{describe_difference(copies.action_space, action_space)}. All environments of a VecEnv must have one action "
                "space: make it once, and give it to all of them."
            )
        observation_space = copies.get_attr("observation_space", indices=[index])[0]
        if not have_equal_shapes(copies.observation_space, observation_space):
            raise ValueError(
                f"env: the observation space of environment {index} is not that of environment 0: "
                f"{describe_difference(copies.observation_space, observation_space)}. All environments of a VecEnv must have "
                "one observation space."
            )


def watch_shapes(env: VecEnv) -> None:
    """
    From now on, an environment that returns an observation of another shape than its space has raises an error. A
    ``DummyVecEnv`` repeats numbers that are too few, and names neither the environment nor the observation if they are too
    many.

    :param env: Several environments. :class:`WatchedSubprocVecEnv` looks at the shapes itself.
    """
    copies = env.unwrapped
    if type(copies) is DummyVecEnv:
        copies._save_obs = partial(save_checked, copies)  # type: ignore[method-assign]


def save_checked(env: DummyVecEnv, env_idx: int, obs: Any) -> None:
    """
    :param env: Several environments
    :param env_idx: Which of them has returned an observation
    :param obs: The observation
    :raises ValueError: if its shape is wrong
    """
    if difference := shape_difference(obs, env.observation_space):
        raise ValueError(f"Environment {env_idx} has returned an observation that does not fit its space: {difference}")
    DummyVecEnv._save_obs(env, env_idx, obs)


def last_observations(dones: np.ndarray, infos: list[dict[str, Any]]) -> Iterator[tuple[int, Any]]:
    """
    :param dones: Which episodes have ended, (n_envs,)
    :param infos: The infos of the same step
    :return: Index and last observation of each environment whose episode has ended, where the info has this observation
    """
    for i in np.flatnonzero(dones):
        if (last := infos[i].get("terminal_observation")) is not None:
            yield int(i), last


@contextmanager
def watching_last_observations(env: VecEnv, check: Callable[[np.ndarray, list[dict[str, Any]]], None]) -> Iterator[None]:
    """
    Check the ends of episodes in every step. Afterwards the environment no longer keeps the check, and the model that checks.

    :param env: What a ``VecNormalize`` wraps, which clips an infinite last observation to a plausible one
    :param check: Takes which episodes have ended, and the infos
    """
    env.step_wait = partial(step_checked, env, check)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del env.step_wait


def step_checked(env: VecEnv, check: Callable[[np.ndarray, list[dict[str, Any]]], None]) -> VecEnvStepReturn:
    """
    :param env: Several environments
    :param check: See :func:`watching_last_observations`
    :return: What the environments return
    """
    obs, rewards, dones, infos = type(env).step_wait(env)
    check(dones, infos)
    return obs, rewards, dones, infos


def have_equal_shapes(first: spaces.Space, second: spaces.Space) -> bool:
    """:return: Whether the observations of two spaces have the same parts, shapes and data types"""
    if isinstance(first, spaces.Dict) and isinstance(second, spaces.Dict):
        return first.keys() == second.keys() and all(have_equal_shapes(first[key], second[key]) for key in first)
    return type(first) is type(second) and (first.shape, first.dtype) == (second.shape, second.dtype)


def check_spaces_match(env: VecEnv, observation_space: spaces.Space, action_space: spaces.Space, algorithm: str) -> None:
    """
    :param env: An environment that a model is to act in
    :param observation_space: The model's observation space
    :param action_space: The model's action space
    :param algorithm: Name of the model's class
    :raises ValueError: if the environment has other spaces; it says in what they differ, and what to do
    """
    given = env.action_space
    if given != action_space:
        if (
            isinstance(action_space, EmbeddedDiscrete)
            and isinstance(given, spaces.Discrete)
            and not isinstance(given, EmbeddedDiscrete)
        ):
            raise ValueError(
                f"Action spaces do not match: that of env, {given}, has no embeddings, and that of the model is "
                f"{action_space}. Wrap the environment as for training: ActionEmbedding(env, embeddings). The embeddings are "
                f"saved with the model: {algorithm}.load(path).action_space.embeddings."
            )
        remedy = ""
        if isinstance(action_space, EmbeddedDiscrete) and isinstance(given, EmbeddedDiscrete):
            remedy = (
                " If the model is to act on the new items, and embeddings mean the same as in training, load it by "
                f'{algorithm}.load(path, env=env, custom_objects={{"action_space": env.action_space}}).'
            )
        raise ValueError(
            f"Action spaces do not match: that of env, {given}, is not that of the model, {action_space}: "
            f"{describe_difference(action_space, given)}.{remedy}"
        )
    if env.observation_space != observation_space:
        raise ValueError(
            f"Observation spaces do not match: that of env, {env.observation_space}, is not that of the model, "
            f"{observation_space}: {describe_difference(observation_space, env.observation_space)}."
        )
    check_equal_spaces(env)
