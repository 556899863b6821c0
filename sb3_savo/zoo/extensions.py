"""Patches that register our algorithms with the RL Zoo, one per Zoo module, applied right after that module is imported."""

import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.extras import needs_extra
from sb3_savo.zoo.trained_agents import show_our_agents

ADROIT_TASKS = ("Door", "Hammer", "Pen")


def add_algorithms(utils: ModuleType) -> None:
    """
    Fill the RL Zoo's table of algorithms in place, before it builds its command line from it, show trained agents with action
    masks and without executing their files, and register the environments that our hyperparameters are for.

    :param utils: ``rl_zoo3.utils``
    """
    utils.ALGOS.update(ALGORITHMS)
    show_our_agents(utils, sys.modules["rl_zoo3"])
    for task in ADROIT_TASKS:
        if f"AdroitHand{task}-v1" not in gym.registry:
            gym.register(
                id=f"AdroitHand{task}-v1",
                entry_point="sb3_savo.zoo.extensions:make_adroit",
                max_episode_steps=200,
                kwargs={"task": task},
            )


def make_adroit(task: str, **kwargs: Any) -> gym.Env:
    """
    Import Gymnasium-Robotics only for those who ask for one of its tasks: it is optional, loads OpenGL, and prints a notice.

    :param task: One of ``ADROIT_TASKS``
    :param kwargs: Arguments of the environment
    :return: The environment that Gymnasium-Robotics registers as ``AdroitHand{task}-v1``
    :raises ImportError: if Gymnasium-Robotics is not installed
    """
    with needs_extra("adroit", f"AdroitHand{task}-v1"), warnings.catch_warnings():
        # The import registers the same ids, which replaces ours
        warnings.filterwarnings("ignore", ".*Overriding environment AdroitHand", UserWarning)
        create: Any = load_env_creator(f"gymnasium_robotics.envs.adroit_hand.adroit_{task.lower()}:AdroitHand{task}Env")
    return create(**kwargs)


def add_samplers(hyperparams_opt: ModuleType) -> None:
    """
    :param hyperparams_opt: ``rl_zoo3.hyperparams_opt``
    """
    from sb3_savo.zoo.samplers import CONVERTERS, SAMPLERS

    hyperparams_opt.HYPERPARAMS_SAMPLER.update(SAMPLERS)
    hyperparams_opt.HYPERPARAMS_CONVERTER.update(CONVERTERS)


def extend_experiments(exp_manager: ModuleType) -> None:
    """
    :param exp_manager: ``rl_zoo3.exp_manager``
    """
    from sb3_savo.zoo.experiments import with_our_algorithms

    exp_manager.ExperimentManager = with_our_algorithms(exp_manager.ExperimentManager)  # type: ignore[attr-defined]


def add_metadata(push_to_hub: ModuleType) -> None:
    """
    Restore the public name of a function: huggingface_sb3 made it private, and the RL Zoo imports the public name.

    :param push_to_hub: ``huggingface_sb3.push_to_hub``
    """
    if not hasattr(push_to_hub, "generate_metadata"):
        push_to_hub.generate_metadata = push_to_hub._generate_metadata  # type: ignore[attr-defined]


EXTENSIONS: dict[str, Callable[[ModuleType], None]] = {
    "rl_zoo3.utils": add_algorithms,
    "rl_zoo3.hyperparams_opt": add_samplers,
    "rl_zoo3.exp_manager": extend_experiments,
    "huggingface_sb3.push_to_hub": add_metadata,
}
