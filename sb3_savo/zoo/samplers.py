"""Search spaces for the RL Zoo's ``-optimize``."""

from collections.abc import Callable
from typing import Any

import optuna
from rl_zoo3.hyperparams_opt import sample_her_params

NET_ARCHS = {"small": [64, 64], "medium": [256, 256], "big": [400, 300]}


def sample_savo_params(trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    :param trial: The trial that suggests
    :param n_actions: Number of action dimensions
    :param n_envs: Number of environments
    :param additional_args: Whether HER is used, and its arguments
    :return: Constructor arguments of SAVO
    """
    sampled: dict[str, Any] = {
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 0.0001, 0.03, log=True),
        "batch_size_pow": trial.suggest_int("batch_size_pow", 5, 11),
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 0.002, log=True),
        "train_freq": trial.suggest_int("train_freq", 1, 10),
        "gradient_steps": trial.suggest_int("gradient_steps", 1, 10),
        "tau": trial.suggest_float("tau", 0.001, 0.08, log=True),
        "net_arch": trial.suggest_categorical("net_arch", list(NET_ARCHS)),
        "n_actors": trial.suggest_int("n_actors", 2, 10),
        "exploration_noise": trial.suggest_categorical("exploration_noise", ["ou", "gaussian"]),
        "exploration_noise_std": trial.suggest_float("exploration_noise_std", 0.0, 0.5),
    }
    # Display true values
    trial.set_user_attr("gamma", 1 - sampled["one_minus_gamma"])
    trial.set_user_attr("batch_size", 2 ** sampled["batch_size_pow"])
    if additional_args["using_her_replay_buffer"]:
        sampled = sample_her_params(trial, sampled, additional_args["her_kwargs"])
    return convert_savo_params(sampled)


def convert_savo_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: The suggestions of a trial, by their names
    :return: Constructor arguments of SAVO
    """
    hyperparams = sampled_params.copy()
    hyperparams["gamma"] = 1 - hyperparams.pop("one_minus_gamma")
    hyperparams["batch_size"] = 2 ** hyperparams.pop("batch_size_pow")
    hyperparams["policy_kwargs"] = {"net_arch": NET_ARCHS[hyperparams.pop("net_arch")]}
    return hyperparams


SAMPLERS: dict[str, Callable[..., dict[str, Any]]] = {"savo": sample_savo_params}
CONVERTERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"savo": convert_savo_params}
