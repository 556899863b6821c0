"""Saved models and the states that they visit."""

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.files.errors import FileError
from sb3_savo.files.models import read_model
from sb3_savo.files.objects import load_vec_normalize


def read_settings(path: str | Path) -> dict[str, Any]:
    """
    :param path: A model's zip
    :return: The attributes that were saved with the model
    :raises ValueError: if there is no such file, or it holds no model, or reading it would execute code
    """
    if not Path(path).is_file():
        raise ValueError(f"{path} is not there: it must be the zip of a saved model.")
    try:
        settings = read_model(path)[0]
    except FileError as error:
        raise ValueError(f"{path} holds no model: {error}") from error
    if not settings:
        raise ValueError(f"{path} holds no model: it must be the zip of a saved model.")
    return settings


def algorithms_of(settings: dict[str, Any]) -> list[str]:
    """
    :param settings: The attributes of a saved model
    :return: The RL Zoo's name of its algorithm. Where it is not ours, or not there as in older zips, the names of all whose
        policy it has: GreedyAC and GreedyTD3 share theirs.
    """
    named = [name for name, algorithm in ALGORITHMS.items() if algorithm.__name__ == settings.get("algorithm_name")]
    if named:
        return named
    policy_class = settings.get("policy_class")
    if not isinstance(policy_class, type):
        return []
    return [
        name
        for name, algorithm in ALGORITHMS.items()
        if any(issubclass(policy_class, known) for known in algorithm.policy_aliases.values())
    ]


def load_on_cpu(path: str | Path, algo: str, env: VecEnv | None = None) -> MaximizerAlgorithm:
    """
    :param path: A model's zip
    :param algo: The RL Zoo's name of its algorithm
    :param env: Environment for the model; None for none
    :return: The model on the processor
    :raises ValueError: if the environment has other spaces than the model
    """
    return ALGORITHMS[algo].load(path, env=env, device="cpu")


def visited_observations(model: MaximizerAlgorithm, last_step: int, seed: int) -> Any:
    """
    Observations at the steps 0 … ``last_step`` when the model acts deterministically, and keeps to the environment's action
    masks if it has some; where an episode ends, the next begins.

    :param model: A model with one environment
    :param last_step: The last step, at least 0
    :param seed: Seed of the environment
    :return: The observations as the model gets them, (last_step + 1, ...), or a dict of them
    """
    env = model.get_env()
    assert env is not None
    env.seed(seed)
    obs: Any = env.reset()
    visited = [obs]
    has_masks = is_masking_supported(env)
    for _ in range(last_step):
        masks = get_action_masks(env) if has_masks else None
        obs, _, _, _ = env.step(model.predict(obs, deterministic=True, action_masks=masks)[0])
        visited.append(obs)
    if isinstance(obs, dict):
        return {name: np.concatenate([part[name] for part in visited]) for name in obs}
    return np.concatenate(visited)


def read_observations(path: str | Path, space: spaces.Space, normalize: VecNormalize | None) -> np.ndarray:
    """
    :param path: A ``.npy`` file of one observation, or of a batch of them, as the environment gives them
    :param space: The observation space
    :param normalize: Statistics to normalize them with; None for none
    :return: The observations as the model gets them, (batch, ...)
    :raises ValueError: if the file is missing, or holds something else
    """
    if isinstance(space, spaces.Dict):
        raise ValueError(f"{path}: this environment has observations of several parts: give the number of a step instead.")
    if not Path(path).is_file():
        raise ValueError(f"{path} is not there: it must be a .npy file, or the number of a step.")
    try:
        observations = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is no .npy file of numbers: {error}") from error
    assert space.shape is not None
    if isinstance(observations, np.ndarray) and observations.shape == space.shape:
        observations = observations[None]
    if not isinstance(observations, np.ndarray) or observations.shape[1:] != space.shape or len(observations) == 0:
        shape = getattr(observations, "shape", None)
        raise ValueError(f"{path} has the shape {shape}: it must be {space.shape}, or (n, *{space.shape}).")
    if not (np.issubdtype(observations.dtype, np.number) and np.isfinite(observations).all()):
        raise ValueError(f"{path} holds values that are not finite numbers.")
    if normalize is not None:
        observations = normalize.normalize_obs(observations)
    return np.asarray(observations, dtype=space.dtype if normalize is None else np.float32)


def to_vec_env(env: Any, normalize: str | Path | None) -> VecEnv:
    """
    :param env: One environment
    :param normalize: The statistics of ``VecNormalize`` that a run saved; None for none
    :return: The environment as a model takes it
    """
    vec_env = DummyVecEnv([lambda: env])
    if normalize is None:
        return vec_env
    normalized = load_vec_normalize(normalize, vec_env)
    normalized.training, normalized.norm_reward = False, False
    return normalized
