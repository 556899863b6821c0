"""Search spaces for the RL Zoo's ``-optimize``."""

from collections.abc import Callable
from functools import partial
from typing import Any

import optuna

NET_ARCHS = {"small": [64, 64], "medium": [256, 256], "big": [400, 300]}


def suggest_savo(trial: optuna.Trial) -> dict[str, Any]:
    """:return: What is SAVO's own, and the ensemble's"""
    return {"n_actors": trial.suggest_int("n_actors", 2, 10)}


def suggest_wolpertinger(trial: optuna.Trial) -> dict[str, Any]:
    """:return: What is Wolpertinger's own"""
    return {"k": trial.suggest_int("k", 2, 30), "sample_std": trial.suggest_float("sample_std", 0.001, 0.5, log=True)}


def suggest_cem(trial: optuna.Trial) -> dict[str, Any]:
    """:return: What is CEM's own"""
    iterations, samples = trial.suggest_int("n_iterations", 1, 6), trial.suggest_int("n_samples", 10, 100)
    return {"n_iterations": iterations, "n_samples": samples, "n_elites": trial.suggest_int("n_elites", 2, 10)}


def suggest_multistart(trial: optuna.Trial) -> dict[str, Any]:
    """:return: What is MultiStart's own"""
    starts, steps = trial.suggest_int("n_starts", 4, 64), trial.suggest_int("n_ascent_steps", 0, 10)
    return {"n_starts": starts, "n_ascent_steps": steps, "step_size": trial.suggest_float("step_size", 0.01, 0.5, log=True)}


def suggest_greedy(trial: optuna.Trial) -> dict[str, Any]:
    """:return: What is GreedyAC's and GreedyTD3's own"""
    samples, elites = trial.suggest_int("n_samples", 10, 100), trial.suggest_int("n_elites", 1, 10)
    entropy_coef = trial.suggest_float("entropy_coef", 1e-4, 0.1, log=True)
    return {"n_samples": samples, "n_elites": elites, "entropy_coef": entropy_coef}


def suggest_noise(trial: optuna.Trial) -> dict[str, Any]:
    """:return: Exploration of those who do not sample"""
    return {
        "exploration_noise": trial.suggest_categorical("exploration_noise", ["ou", "gaussian"]),
        "exploration_noise_std": trial.suggest_float("exploration_noise_std", 0.0, 0.5),
    }


Suggestion = Callable[[optuna.Trial], dict[str, Any]]
OWN: dict[str, tuple[Suggestion, ...]] = {
    "savo": (suggest_savo, suggest_noise),
    "savosac": (suggest_savo,),
    "ensemble": (suggest_savo, suggest_noise),
    "wolpertinger": (suggest_wolpertinger, suggest_noise),
    "cem": (suggest_cem, suggest_noise),
    "multistart": (suggest_multistart, suggest_noise),
    "greedyac": (suggest_greedy,),
    "greedytd3": (suggest_greedy, suggest_noise),
}


def sample_params(
    suggestions: tuple[Suggestion, ...],
    trial: optuna.Trial,
    n_actions: int,
    n_envs: int,
    additional_args: dict[str, Any],
) -> dict[str, Any]:
    """
    :param suggestions: What suggests the algorithm's own arguments
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
    for suggest in suggestions:
        sampled |= suggest(trial)
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


SAMPLERS: dict[str, Callable[..., dict[str, Any]]] = {name: partial(sample_params, own) for name, own in OWN.items()}
CONVERTERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = dict.fromkeys(OWN, convert_params)
