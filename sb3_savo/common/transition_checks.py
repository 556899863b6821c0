"""What the environments return is checked before it is stored: numbers are finite, and observations are of their space."""

from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_savo.common.environments import last_observations
from sb3_savo.common.finite import check_finite, check_numbers

if TYPE_CHECKING:
    from sb3_savo.common.collection import CollectingAlgorithm


def check_first_observations(model: "CollectingAlgorithm") -> None:
    """
    Check the observations from which a call of ``learn`` begins.

    :param model: The model that learns
    :raises NonFiniteError: if a number is not finite
    :raises TypeError: if they are not of the observation space
    :raises ValueError: if they have another shape than the observation space, or are far beyond it
    """
    check_observations(model, model._last_obs, model._last_original_obs, f"step {model.num_timesteps}")


def check_transition(
    model: "CollectingAlgorithm",
    new_obs: np.ndarray | dict[str, np.ndarray],
    reward: np.ndarray,
    dones: np.ndarray,
    infos: list[dict[str, Any]],
) -> None:
    """
    Stop before a transition enters the replay buffer that spoils what is learned, or that ``predict`` would refuse.

    :param model: The model that learns
    :param new_obs: What the environments return, as for the others
    :raises NonFiniteError: if an observation or a reward is not finite
    :raises ValueError: if an observation has another shape than its space, or is far beyond it, or a reward or the end of
        an episode is no number
    """
    moment = f"step {model.num_timesteps}"
    check_numbers("reward", reward, model.n_envs, moment)
    check_numbers("done", dones, model.n_envs, moment)
    normalize = model._vec_normalize_env
    check_observations(model, new_obs, None if normalize is None else normalize.get_original_obs(), moment)
    if normalize is not None:
        reward = normalize.get_original_reward()
    check_finite("reward", reward, moment)
    if model._plausible_range is not None:
        model._plausible_range.check_reward(reward, model.num_timesteps)
    for i, last in last_observations(dones, infos):
        check_finite(f"terminal observation of environment {i} at {moment}", last)
        check_in_space(model, last, f"the end of an episode of environment {i}, {moment}")


def check_last_observations(model: "CollectingAlgorithm", dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
    """
    Check the last observations of episodes before they are normalized.

    :param model: The model that learns, before it has counted the step
    :param dones: Which episodes have ended, (n_envs,)
    :param infos: The infos of the same step
    :raises NonFiniteError: if one is not finite
    """
    for i, last in last_observations(dones, infos):
        check_finite(f"terminal observation of environment {i} at step {model.num_timesteps + model.n_envs}", last)


def check_observations(model: "CollectingAlgorithm", obs: Any, original_obs: Any, moment: str) -> None:
    """
    :param model: The model that learns
    :param obs: Observations of all environments
    :param original_obs: The same before ``VecNormalize`` has normalized them, if it does
    :param moment: When they were made
    :raises NonFiniteError: if a number is not finite
    :raises TypeError: if they are not of the observation space
    :raises ValueError: if they have another shape than the observation space, or are far beyond it
    """
    if model._vec_normalize_env is None:
        check_finite("observation", obs, moment)
    else:
        # First the original values, which are stored: NaN in one environment spreads by the statistics to all
        check_finite("observation", original_obs, moment)
        check_finite("normalized observation", obs, moment)
    check_in_space(model, obs, moment)


def check_in_space(model: "CollectingAlgorithm", obs: Any, moment: str) -> None:
    """
    :param model: The model that learns
    :param obs: Observations of all environments, or one observation
    :param moment: When they were made
    :raises TypeError: if they are not of the observation space
    :raises ValueError: if they have another shape than the observation space, or are far beyond it
    """
    if model._check_observation is not None:
        try:
            model._check_observation(obs)
        except (TypeError, ValueError) as error:
            raise type(error)(f"At {moment}: {error}") from None
