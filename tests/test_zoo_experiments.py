"""What our algorithms change in the RL Zoo's experiments."""

import importlib
from types import SimpleNamespace

import optuna
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_savo import CEM, SAVO, WatchedSubprocVecEnv, Wolpertinger
from sb3_savo.zoo.extensions import prune_impossible_trials
from sb3_savo.zoo.samplers import N_ITEMS, sample_params

NO_HER = {"using_her_replay_buffer": False, "her_kwargs": {}}


@pytest.mark.parametrize(
    "algo, vec_env_type, expected",
    [("savo", "subproc", WatchedSubprocVecEnv), ("cem", "dummy", DummyVecEnv), ("td3", "subproc", SubprocVecEnv)],
)
def test_workers_of_our_algorithms_are_watched(algo, vec_env_type, expected, tmp_path):
    manager = importlib.import_module("rl_zoo3.exp_manager").ExperimentManager
    args = SimpleNamespace(device="cpu")
    experiment = manager(args, algo, "Pendulum-v1", str(tmp_path), vec_env_type=vec_env_type)
    assert experiment.vec_env_class is expected


def make_manager(error, algo="wolpertinger"):
    class Manager:
        def __init__(self):
            self.algo = algo

        def objective(self, trial):
            trial.suggest_int("k", 2, 30)
            raise error

    prune_impossible_trials(Manager)
    return Manager()


def test_trials_that_the_task_cannot_have_are_pruned(capsys):
    study = optuna.create_study()
    study.optimize(make_manager(ValueError("k=17 is too large: there are 5 items.")).objective, n_trials=2)
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.PRUNED] * 2
    assert "is pruned: k=17 is too large" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error, algo",
    [
        (ValueError("buffer_size=3 is smaller than a batch"), "wolpertinger"),
        (KeyError("k=17"), "wolpertinger"),
        (ValueError("k=17 is too large"), "td3"),
    ],
)
def test_other_errors_end_the_study(error, algo):
    with pytest.raises(type(error)):
        optuna.create_study().optimize(make_manager(error, algo).objective, n_trials=2)


@pytest.mark.parametrize("algorithm", [Wolpertinger, CEM, SAVO])
@pytest.mark.parametrize("n_items", [1, 5, 1000, None])
def test_suggestions_fit_the_number_of_items(algorithm, n_items):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = set()
    for _ in range(40):
        trial = study.ask()
        if n_items is not None:
            trial.set_user_attr(N_ITEMS, n_items)
        found.add(sample_params(algorithm, trial, 0, 1, NO_HER).get("k"))
    if algorithm is Wolpertinger:
        assert max(found) <= (n_items or 30) and (len(found) > 3 or n_items == 1)
    else:
        assert found == {None}
