"""
Checks of the runs of a suite that need the algorithms and the environments: names and ranges of their arguments. They import
torch, so ``benchmarks.run`` makes them only if a run is missing.
"""

import importlib
import inspect
import json
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from benchmarks.schema import SB3_ALGORITHMS, SuiteError, nearest
from benchmarks.suite import Run
from benchmarks.training import CONSTRUCTORS, GIVEN, NOISE, constructor_arguments
from sb3_savo.arguments import (
    InheritedArguments,
    check_argument_names,
    check_arguments,
    check_choice,
    check_integer,
    check_type,
)
from sb3_savo.common.callbacks import Reset


def check_runs(runs: Iterable[Run]) -> None:
    """
    :param runs: Runs of a suite
    :raises SuiteError: if an environment, or an argument of an environment or of an algorithm, does not exist, or a value is
        out of its range; the message names the task and the method
    """
    checked = set()
    for run in runs:
        settings = json.dumps(run.settings, sort_keys=True)
        # A runner from elsewhere, such as a test's, gives the arguments a meaning of its own
        if settings in checked or not run.settings["runner"].startswith("benchmarks."):
            continue
        checked.add(settings)
        try:
            check_env(run.settings["env"], run.settings["env_kwargs"])
            check_algorithm(run.settings["algorithm"], run.settings["arguments"])
            if run.settings["runner"].startswith("benchmarks.landscapes:"):
                check_landscape_run(run.settings)
            if run.settings["reset"] is not None:
                check_choice("reset", run.settings["reset"], Reset)
        except (TypeError, ValueError, ImportError, gym.error.Error) as error:
            raise SuiteError(f"task {run.task}, method {run.method}: {error}") from error


def check_methods(runs: Iterable[Run], methods: Mapping[str, dict[str, Any]]) -> None:
    """
    A task's arguments are those of several algorithms, so a run leaves out what its algorithm does not have. A method has one.

    :param runs: Runs of a suite
    :param methods: All methods by name, as ``methods.yml`` describes them
    :raises SuiteError: if a method of the runs has an argument that its algorithm does not have
    """
    for name in sorted({run.method for run in runs if run.settings["runner"].startswith("benchmarks.")}):
        try:
            check_known(methods[name]["algorithm"], methods[name].get("arguments", {}))
        except TypeError as error:
            raise SuiteError(f"method {name}: {error}") from error


def check_known(algorithm: str, arguments: Mapping[str, Any]) -> None:
    """
    :param algorithm: Name of an algorithm
    :param arguments: Arguments of a run with it
    :raises TypeError: if the run does not know one of them
    """
    constructor = CONSTRUCTORS[algorithm]
    known = [*inspect.signature(constructor).parameters, "n_envs", *(NOISE if algorithm == "td3" else ())]
    check_argument_names(constructor.__name__, arguments, known)


def check_landscape_run(settings: dict[str, Any]) -> None:
    """
    :param settings: The settings of a run on a landscape, which counts updates and not steps
    :raises TypeError: if its environment is no landscape, or its algorithm does not have an argument
    :raises ValueError: if the run would ignore a setting, or count otherwise
    """
    arguments = settings["arguments"]
    check_env(settings["env"], {"landscape_seed": 0, **settings["env_kwargs"]})
    if settings["algorithm"] in SB3_ALGORITHMS:
        raise ValueError(f"algorithm={settings['algorithm']!r}: a run on a landscape needs an algorithm of ours.")
    check_known(settings["algorithm"], arguments)
    if "landscape_seed" in settings["env_kwargs"]:
        raise ValueError(
            f"env_kwargs={settings['env_kwargs']!r}: a run on a landscape has no landscape_seed, since its own seed draws the "
            "landscape."
        )
    if settings["reset"] is not None:
        raise ValueError(f"reset={settings['reset']!r}: a run on a landscape has no resets.")
    train_freq, gradient_steps = arguments.get("train_freq", 1), arguments.get("gradient_steps", 1)
    if train_freq != 1 or gradient_steps < 1:
        raise ValueError(
            f"{train_freq=}, {gradient_steps=}: a run on a landscape needs train_freq=1 and gradient_steps of at least 1, "
            "since it counts updates."
        )
    scale = arguments.get("exploration_noise_scale")
    if scale is not None and not isinstance(scale, list | tuple):
        raise ValueError(f"exploration_noise_scale={scale!r}: a run on a landscape needs (initial value, final value, steps).")


def check_env(env_id: str, env_kwargs: dict[str, Any]) -> None:
    """
    :param env_id: Gymnasium's ID of an environment, after the name of a module that registers it and a colon if needed
    :param env_kwargs: Its arguments
    :raises ValueError: if there is no such environment
    :raises ImportError: if its module is not installed
    :raises TypeError: if it has no such argument
    """
    module, colon, name = env_id.rpartition(":")
    if colon:
        importlib.import_module(module)
    if name not in gym.registry:
        raise ValueError(f"env={env_id!r} is not registered in Gymnasium{nearest(name, gym.registry)}.")
    entry_point = gym.spec(name).entry_point
    assert entry_point is not None
    creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    known = inspect.signature(creator).parameters
    if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in known.values()):
        check_argument_names(env_id, env_kwargs, known)


def check_algorithm(algorithm: str, arguments: dict[str, Any]) -> None:
    """
    :param algorithm: Name of an algorithm, in small letters
    :param arguments: Its arguments, and ``n_envs``
    :raises TypeError: if there is no such argument, or its value is of the wrong type
    :raises ValueError: if a value is out of its range
    """
    constructor, given = CONSTRUCTORS[algorithm], constructor_arguments(algorithm, arguments)
    check_integer("n_envs", given.pop("n_envs", 1), low=1)
    for name in GIVEN:
        if name in given:
            raise ValueError(f"{name}={given[name]!r} must not be an argument of a task or a method: the run itself gives it.")
    if algorithm in SB3_ALGORITHMS:
        check_argument_names(constructor.__name__, given, inspect.signature(constructor).parameters)
    else:
        check_arguments(constructor, (), given)  # type: ignore[arg-type]
    check_policy(constructor, given["policy"], given.get("policy_kwargs") or {})


def check_policy(constructor: type[OffPolicyAlgorithm], policy: Any, policy_kwargs: Any) -> None:
    """
    :param constructor: An algorithm
    :param policy: Name of its policy
    :param policy_kwargs: The policy's own arguments
    :raises TypeError: if the policy has no such argument, or its value is of the wrong type
    :raises ValueError: if there is no such policy, or a value is out of its range
    """
    check_choice("policy", policy, tuple(constructor.policy_aliases))
    check_type("policy_kwargs", policy_kwargs, dict, "a mapping")
    policy_class = constructor.policy_aliases[policy]
    known = inspect.signature(policy_class).parameters.keys() - {"observation_space", "action_space", "lr_schedule"}
    check_argument_names(f"the policy {policy_class.__name__}", policy_kwargs, known)
    if issubclass(policy_class, InheritedArguments):
        check_arguments(policy_class, (), policy_kwargs)
