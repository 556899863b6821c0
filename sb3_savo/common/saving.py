"""Saving a model and loading it again: what ``save``, ``load`` and the replay buffer's two methods do."""

import os
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from typing import IO, Any, TypeVar

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.noise import VectorizedActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_savo.common.environments import check_spaces_match, make_env
from sb3_savo.common.loading import (
    ADDED_LATER,
    check_attributes,
    check_changes,
    check_known,
    check_settings,
    read_complete_model,
    restore,
)
from sb3_savo.files.allocation import LimitedTensors, size_in_bytes
from sb3_savo.files.models import needs_pickle, write_model
from sb3_savo.files.objects import read_object, write_object

SelfAlgorithm = TypeVar("SelfAlgorithm", bound=BaseAlgorithm)
AnyPath = str | os.PathLike[str] | IO[bytes]


def save_model(model: BaseAlgorithm, path: AnyPath, exclude: Iterable[str] = (), include: Iterable[str] = ()) -> None:
    """
    :param model: A model
    :param path: Where to save it
    :param exclude: Attributes that are not saved, besides those of :meth:`_excluded_save_params`
    :param include: Attributes that are saved all the same
    """
    state_names, variable_names = model._get_torch_save_params()
    excluded = {*exclude, *model._excluded_save_params()} - set(include)
    excluded |= {name.split(".")[0] for name in (*state_names, *variable_names)}
    data = {name: value for name, value in vars(model).items() if name not in excluded}
    if refused := needs_pickle(data):
        warnings.warn(
            f"{', '.join(refused)}: load will need allow_pickle=True, or custom_objects={{…}} in their place, since "
            "functions or classes of the program itself cannot be loaded safely. Define them in a module that is imported.",
            stacklevel=3,
        )
    variables = {name: recursive_getattr(model, name) for name in variable_names}
    write_model(path, data, model.get_parameters(), variables)


def load_model(
    cls: type[SelfAlgorithm],
    path: AnyPath,
    env: GymEnv | str | None,
    device: th.device | str,
    custom_objects: dict[str, Any] | None,
    force_reset: bool,
    allow_pickle: bool,
    changes: dict[str, Any],
) -> SelfAlgorithm:
    """
    :param cls: The class of the model
    :param path: See ``load``, as for the others
    :param changes: Arguments of the constructor to change
    :return: The model
    """
    data, states, variables = read_complete_model(path, custom_objects, allow_pickle)
    attributes = check_changes(cls, changes, data.get("policy_kwargs", {}))  # type: ignore[arg-type]
    try:
        # A learning rate of 0 is what the RL Zoo gives to a model that it only evaluates
        only_evaluates = (custom_objects or {}).get("learning_rate", 1.0) == 0
        checked = {key: value for key, value in data.items() if not (only_evaluates and key == "learning_rate")}
        check_settings(cls, checked)  # type: ignore[arg-type]
        if env is not None:
            env = cls._wrap_env(make_env(env, data["verbose"]), data["verbose"])
            check_spaces_match(env, data["observation_space"], data["action_space"], cls.__name__)
            data["n_envs"] = env.num_envs
            noise = data.get("action_noise")
            if isinstance(noise, VectorizedActionNoise) and noise.n_envs != env.num_envs:
                # ``learn`` has made it of the noise of one environment, and makes it anew for the number of this one
                data["action_noise"] = noise.base_noise
            if force_reset:
                data["_last_obs"] = None
        model = cls(policy=data["policy_class"], env=env, device=device, _init_setup_model=False)  # type: ignore[call-arg,arg-type]
        check_attributes(data)
        known = {*vars(model), *ADDED_LATER}
        model.__dict__.update({name: value for name, value in {**data, **attributes}.items() if name in known})
        with nullcontext() if allow_pickle else LimitedTensors(size_in_bytes(states)):
            model._setup_model()
        if not allow_pickle:
            check_known(data, {*vars(model), *(custom_objects or {})})
        # Of files that are trusted, attributes that users have added; what ``_setup_model`` makes follows from the arguments
        model.__dict__.update({name: value for name, value in data.items() if name not in vars(model)})
        restore(model, states, variables)
    except (TypeError, ValueError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{error} (path={str(path)!r})") from error
    return model


def save_replay_buffer(model: OffPolicyAlgorithm, path: AnyPath) -> None:
    """
    :param model: A model
    :param path: Where to save its replay buffer
    """
    write_object(path, model.replay_buffer, "pkl")


def load_replay_buffer(model: OffPolicyAlgorithm, path: AnyPath, truncate_last_traj: bool, allow_pickle: bool) -> ReplayBuffer:
    """
    :param model: The model that is to learn from it
    :param path: See ``load_replay_buffer``, as for the others
    :return: The replay buffer
    """
    buffer = read_object(path, ReplayBuffer, "pkl", allow_pickle)
    if isinstance(buffer, HerReplayBuffer):
        if model.env is None:
            raise ValueError("env=None: a HerReplayBuffer computes rewards by the environment, so the model must have one.")
        buffer.set_env(model.env)
        if truncate_last_traj:
            buffer.truncate_last_trajectory()
    if isinstance(buffer, NStepReplayBuffer):
        # It holds single steps, from which sampling makes returns of as many steps as the model asks for
        own = model.replay_buffer
        buffer.n_steps, buffer.gamma = getattr(own, "n_steps", 1), getattr(own, "gamma", model.gamma)
    buffer.device = model.device
    return buffer
