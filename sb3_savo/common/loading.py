"""Loading a model from a zip: what was read passes the checks of the constructor, and errors name the file."""

import inspect
import warnings
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.save_util import recursive_getattr, recursive_setattr

from sb3_savo.actions.spaces import EmbeddedDiscrete, describe_difference, proposal_space
from sb3_savo.arguments import InheritedArguments, check_argument_names, check_flag, check_integer, check_type
from sb3_savo.common.buffers import CandidateStorage
from sb3_savo.files.errors import FileError
from sb3_savo.files.models import read_model

# Arguments of ``load`` itself, or of nothing that it could change
NOT_CHANGED_BY_LOAD = {"policy", "env", "device", "_init_setup_model"}
# No machine has time for more environments
MAX_ENVS = 2**16
# SB3 keeps it under another name than its argument's
SAVED_AS = {"stats_window_size": "_stats_window_size"}

# What ``_setup_model`` and ``learn`` add to the attributes that the constructor makes
ADDED_LATER = {
    "observation_space",
    "action_space",
    "action_dim",
    "n_envs",
    "learned_with_masks",
    "_last_obs",
    "_last_original_obs",
    "_last_episode_starts",
}
# Attributes that are no arguments, and what they must be
COUNTS = ("num_timesteps", "_total_timesteps", "_num_timesteps_at_start", "_n_updates", "_episode_num")


def read_complete_model(
    path: Any, custom_objects: dict[str, Any] | None, allow_pickle: bool
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]:
    """
    :param path: See SB3's ``load``, as for the others
    :param custom_objects: Objects that replace those in the zip
    :param allow_pickle: Whether the zip may execute code
    :return: The attributes of the saved model, the states of its networks and optimizers, and its other tensors
    :raises FileNotFoundError: if there is no such file
    :raises ValueError: if the file is damaged, would execute code, or holds no model
    """
    data, states, variables = read_model(path, custom_objects, allow_pickle)
    missing = [name for name in ("policy_class", "observation_space", "action_space") if name not in (data or {})]
    if data is None or missing or not states:
        raise FileError(
            f"path={str(path)!r} holds no model: {', '.join(missing) or 'its weights'} are missing. The file is cut off, or "
            "no zip that save() wrote. It must be a complete copy of such a file."
        )
    return data, states, variables


def algorithm_name(cls: type) -> str:
    """:return: The name of the algorithm of ours that a class is or derives from; a zip holds it as ``algorithm_name``"""
    return next(base.__name__ for base in cls.__mro__ if base.__module__.partition(".")[0] == "sb3_savo")


def check_known(data: Mapping[str, Any], known: Collection[str]) -> None:
    """
    :param data: The attributes in a zip
    :param known: Names of the attributes that a model has
    :raises ValueError: if one is unknown
    """
    for name in data:
        if name not in known:
            raise FileError(
                f"the zip holds the attribute {name!r}, which no such model has. If you added it, load by allow_pickle=True, "
                "and save by exclude=[…] next time."
            )


def check_attributes(data: Mapping[str, Any]) -> None:
    """
    :param data: The attributes in a zip
    :raises TypeError: if an attribute that is no argument has the wrong type
    :raises ValueError: if it is out of its range
    """
    for name in COUNTS:
        if name in data:
            check_integer(name, data[name], low=0)
    if "n_envs" in data:
        check_integer("n_envs", data["n_envs"], low=1, high=MAX_ENVS)
    for name in ("ep_info_buffer", "ep_success_buffer"):
        check_type(name, data.get(name), (deque, type(None)), "a deque, or None")
    for name in ("use_sde", "use_sde_at_warmup", "learned_with_masks", "_custom_logger"):
        if name in data:
            check_flag(name, data[name])


def check_settings(cls: type[InheritedArguments], settings: Mapping[str, Any]) -> None:
    """
    :param cls: A class
    :param settings: Attributes of an instance
    :raises TypeError: if another algorithm of ours has them, or an attribute that is an argument has the wrong type
    :raises ValueError: if it is out of its range
    """
    if (other := settings.get("algorithm_name", algorithm_name(cls))) != algorithm_name(cls):
        raise TypeError(f"this is a model of {other}, which {cls.__name__}.load cannot load: it must be {other}.load(…).")
    for name, check in cls.argument_checks.items():
        if (attribute := SAVED_AS.get(name, name)) in settings:
            check(name, settings[attribute])


def check_changes(cls: type[InheritedArguments], changes: Mapping[str, Any], policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    """
    :param cls: A class
    :param changes: The arguments that ``load`` is to change, by name
    :param policy_kwargs: The saved model's
    :return: The attributes to change, by name
    :raises TypeError: if an argument is unknown or of the wrong type
    :raises ValueError: if it is out of its range, or would change the networks
    """
    parameters = inspect.signature(cls).parameters
    check_argument_names(f"{cls.__name__}.load", changes, parameters.keys() - NOT_CHANGED_BY_LOAD)
    attributes = {SAVED_AS.get(name, name): value for name, value in changes.items()}
    check_settings(cls, attributes)
    # What the constructor makes of None
    replaced = {"batch_size": 256, "replay_buffer_kwargs": {}, "policy_kwargs": {}}
    attributes = {name: replaced[name] if value is None and name in replaced else value for name, value in attributes.items()}
    if attributes.get("policy_kwargs", policy_kwargs) != policy_kwargs:
        raise ValueError(
            f"policy_kwargs={changes['policy_kwargs']!r} are not those of the saved model: they must be {policy_kwargs!r}, "
            "since they shape its networks."
        )
    return attributes


def restore(model: BaseAlgorithm, states: dict[str, Any], variables: dict[str, Any] | None) -> None:
    """
    :param model: A new model
    :param states: The states of networks and optimizers
    :param variables: Other tensors
    :raises ValueError: if a state is missing or unknown, or does not fit
    """
    wanted = set(model._get_torch_save_params()[0])
    if missing := wanted - states.keys():
        raise ValueError(
            f"{', '.join(f'{name}.pth' for name in sorted(missing))} is missing: it must be in a zip of this model."
        )
    if unknown := states.keys() - wanted:
        raise ValueError(
            f"{', '.join(f'{name}.pth' for name in sorted(unknown))} is not a part of {type(model).__name__} with these "
            "arguments: it must be a zip that this class saved."
        )
    for name, state in states.items():
        part = recursive_getattr(model, name)
        try:
            part.load_state_dict(state)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{name}.pth does not fit the model that the arguments describe: {error}. The zip and the arguments of load "
                "must have the sizes of the networks that were saved."
            ) from error
        if isinstance(part, th.optim.Optimizer):
            check_optimizer_state(name, part)
    for name, value in (variables or {}).items():
        if value is not None:
            recursive_setattr(model, f"{name}.data", value.data.to(model.device))


def check_optimizer_state(name: str, optimizer: th.optim.Optimizer) -> None:
    """
    :param name: Its name
    :param optimizer: An optimizer, which takes any state
    :raises ValueError: if a moment of its parameters has another size than they have
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, th.Tensor) and value.dim() == parameter.dim() and value.shape != parameter.shape:
                raise ValueError(
                    f"{name}.pth does not fit the model: {key} has the shape {tuple(value.shape)}, and must have "
                    f"{tuple(parameter.shape)}."
                )


def check_replay_buffer(buffer: ReplayBuffer, model: OffPolicyAlgorithm, n_candidates: int, has_memory: bool) -> None:
    """
    :param buffer: A replay buffer that was read
    :param model: The model that is to learn from it
    :param n_candidates: Number of candidates that its policy proposes
    :param has_memory: Whether the model searches for better actions, which the buffer has to keep
    :raises ValueError: if it was filled in another environment or in another number of environments, by a policy with
        another number of candidates, or without the memory that the model needs, or makes no returns of ``n_steps``
    """
    if buffer.n_envs != model.n_envs:
        raise ValueError(
            f"the replay buffer is of {buffer.n_envs} environments, and the model is for {model.n_envs}: it must be loaded "
            f"into a model with as many, {type(model).__name__}.load(…, env=env)."
        )
    if buffer.observation_space != model.observation_space:
        raise ValueError(
            "the replay buffer is of another environment, whose observation space is not that of the model: "
            f"{describe_difference(model.observation_space, buffer.observation_space)}."
        )
    if model.n_steps > 1 and not isinstance(buffer, NStepReplayBuffer):
        raise ValueError(
            f"the replay buffer is a {type(buffer).__name__}, which makes no returns of n_steps={model.n_steps}: it must be "
            "an NStepReplayBuffer, as of a model with n_steps above 1."
        )
    space = model.action_space
    filled_in = buffer.env_action_space if isinstance(buffer, CandidateStorage) else buffer.action_space
    if filled_in not in (None, space):
        raise ValueError(
            "the replay buffer is of another environment, whose action space is not that of the model: "
            f"{describe_difference(space, filled_in)}."
        )
    if not isinstance(buffer, CandidateStorage):
        if isinstance(model.replay_buffer, CandidateStorage):
            warnings.warn(
                f"the replay buffer is a {type(buffer).__name__}, which keeps neither the candidates of a transition nor its "
                "best known action. The model learns from the candidates that it proposes now, and from the actions that were "
                "taken. For all of SAVO, the buffer must be one that a model with these arguments has filled.",
                stacklevel=3,
            )
        return
    check_candidates(buffer, space, n_candidates, has_memory)


def check_candidates(buffer: CandidateStorage, space: spaces.Space, n_candidates: int, has_memory: bool) -> None:
    """
    :param buffer: A replay buffer that was read
    :param space: The action space of the model that is to learn from it
    :param n_candidates: Number of candidates that its policy proposes
    :param has_memory: Whether the model searches for better actions, which the buffer has to keep
    :raises ValueError: if the buffer's candidates are of another size or number, or it has no memory and the model needs one
    """
    # Of a buffer that does not know its space
    found = buffer.candidate_dim, buffer.n_items
    own = get_action_dim(proposal_space(space)), int(space.n) if isinstance(space, EmbeddedDiscrete) else 0
    if found != own:
        raise ValueError(
            f"the replay buffer is of another environment: its actions have {found[0]} dimensions and {found[1]} items, and "
            f"must have {own[0]} and {own[1]}."
        )
    if buffer.n_candidates != n_candidates:
        raise ValueError(
            f"the replay buffer holds {buffer.n_candidates} candidates per transition, but the policy proposes {n_candidates}."
        )
    if has_memory and not getattr(buffer, "has_memory", False):
        raise ValueError(
            "the replay buffer has no memory of known actions, which surrogate='memory' needs: it must be one that a model "
            "with surrogate='memory' has filled."
        )
