"""Search spaces for the RL Zoo's ``-optimize``."""

from collections.abc import Callable
from functools import partial
from typing import Any

import optuna

from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.common.arguments import SearchRange
from sb3_savo.common.maximizer import MaximizerAlgorithm

# The attribute of a trial that holds the number of items, in a discrete space
N_ITEMS = "n_items"

NET_ARCHS = {"small": [64, 64], "medium": [256, 256], "big": [400, 300]}


def suggest(trial: optuna.Trial, name: str, search_range: SearchRange) -> int | float:
    """
    :param trial: The trial that suggests
    :param name: The argument
    :param search_range: Where to search
    :return: A value
    """
    low, high, *scale = search_range
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high)
    return trial.suggest_float(name, low, high, log=bool(scale))  # type: ignore[arg-type]


def suggest_noise(trial: optuna.Trial) -> dict[str, Any]:
    """:return: Exploration of an algorithm that does not explore by sampling its actor"""
    return {
        "exploration_noise": trial.suggest_categorical("exploration_noise", ["ou", "gaussian"]),
        "exploration_noise_std": trial.suggest_float("exploration_noise_std", 0.0, 0.5),
    }


def sample_params(
    algorithm: type[MaximizerAlgorithm],
    trial: optuna.Trial,
    n_actions: int,
    n_envs: int,
    additional_args: dict[str, Any],
) -> dict[str, Any]:
    """
    :param algorithm: The algorithm
    :param trial: The trial that suggests
    :param n_actions: Number of action dimensions
    :param n_envs: Number of environments
    :param additional_args: Whether HER is used, and its arguments
    :return: Constructor arguments of the algorithm
    """
    sampled: dict[str, Any] = {
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 0.0001, 0.03, log=True),
        "batch_size_pow": trial.suggest_int("batch_size_pow", 5, 11),
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 0.002, log=True),
        "train_freq": trial.suggest_int("train_freq", 1, 10),
        "gradient_steps": trial.suggest_int("gradient_steps", 1, 10),
        "tau": trial.suggest_float("tau", 0.001, 0.08, log=True),
        "net_arch": trial.suggest_categorical("net_arch", list(NET_ARCHS)),
    }
    for name, search_range in algorithm.search_space.items():
        if name in algorithm.item_counts and (n_items := trial.user_attrs.get(N_ITEMS)) is not None:
            search_range = (min(int(search_range[0]), n_items), min(int(search_range[1]), n_items))
        sampled[name] = suggest(trial, name, search_range)
    if algorithm.explores_by_noise:
        sampled |= suggest_noise(trial)
    # Display true values
    trial.set_user_attr("gamma", 1 - sampled["one_minus_gamma"])
    trial.set_user_attr("batch_size", 2 ** sampled["batch_size_pow"])
    if additional_args["using_her_replay_buffer"]:
        from rl_zoo3.hyperparams_opt import sample_her_params  # which imports this module

        sampled = sample_her_params(trial, sampled, additional_args["her_kwargs"])
    return convert_params(sampled)


def convert_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: The suggestions of a trial, by their names
    :return: Constructor arguments of the algorithm
    """
    hyperparams = sampled_params.copy()
    hyperparams["gamma"] = 1 - hyperparams.pop("one_minus_gamma")
    hyperparams["batch_size"] = 2 ** hyperparams.pop("batch_size_pow")
    hyperparams["policy_kwargs"] = {"net_arch": NET_ARCHS[hyperparams.pop("net_arch")]}
    return hyperparams


SAMPLERS: dict[str, Callable[..., dict[str, Any]]] = {
    name: partial(sample_params, algorithm) for name, algorithm in ALGORITHMS.items()
}
CONVERTERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = dict.fromkeys(ALGORITHMS, convert_params)
