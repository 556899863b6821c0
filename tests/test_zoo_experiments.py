"""What our algorithms change in the RL Zoo's experiments."""

import importlib
from types import SimpleNamespace

import optuna
import pytest
import yaml
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_savo import CEM, SAVO, WatchedSubprocVecEnv, Wolpertinger
from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.zoo.experiments import with_our_algorithms
from sb3_savo.zoo.hyperparams import check_hyperparams, check_unique_keys, hyperparams_file
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


@pytest.mark.parametrize(
    "hyperparams, error, message",
    [
        ({"learning_rate": "1e-3"}, ValueError, "learning_rate='1e-3' is text: .* write 1.0e-3 or 0.001"),
        ({"qf_learning_rate": "line_0.1"}, ValueError, "qf_learning_rate='line_0.1' is text"),
        ({"n_envs": 0}, ValueError, "n_envs=0 is too small"),
        ({"n_envs": "2"}, TypeError, "n_envs='2'"),
        ({"checkpoints": "yes"}, ValueError, "checkpoints='yes'"),
        ({"n_timesteps": 0}, ValueError, "n_timesteps=0"),
        ({"noise_type": "normal"}, ValueError, "noise_type='normal' needs noise_std"),
        ({"noise_type": "pink", "noise_std": 0.1}, ValueError, "noise_type='pink' is not known"),
        ({"noise_type": "normal", "noise_std": -1}, ValueError, "noise_std=-1"),
    ],
)
def test_wrong_hyperparams(hyperparams, error, message):
    with pytest.raises(error, match=message):
        check_hyperparams(hyperparams, "savo.yml")


def test_right_hyperparams():
    """Ours, and what the RL Zoo understands."""
    for algo in ALGORITHMS:
        check_unique_keys(str(hyperparams_file(algo)))
        for task, hyperparams in yaml.safe_load(hyperparams_file(algo).read_text()).items():
            check_hyperparams(hyperparams, task)
    check_hyperparams({"learning_rate": "lin_0.001", "noise_type": "normal", "noise_std": 0.1, "n_timesteps": 1e6}, "x")


def test_keys_that_occur_twice(tmp_path):
    file = tmp_path / "savo.yml"
    file.write_text("base: &base\n  tau: 0.1\nPendulum-v1:\n  <<: *base\n  tau: 0.01\n")
    check_unique_keys(str(file))
    file.write_text("Pendulum-v1:\n  tau: 0.1\n  gamma: 0.9\n  tau: 0.01\n")
    with pytest.raises(ValueError, match=r"savo.yml: 'tau' occurs twice, the second time in line 4"):
        check_unique_keys(str(file))


@pytest.mark.parametrize("content, message", [("n_envs: 0", "n_envs=0"), ("tau: 0.1\n  tau: 0.2", "'tau' occurs twice")])
def test_the_zoo_refuses_a_wrong_file(content, message, tmp_path):
    file = tmp_path / "own.yml"
    file.write_text(f"Pendulum-v1:\n  n_timesteps: 100\n  policy: MlpPolicy\n  {content}\n")
    manager = importlib.import_module("rl_zoo3.exp_manager").ExperimentManager
    experiment = manager(SimpleNamespace(device="cpu"), "savo", "Pendulum-v1", str(tmp_path), config=str(file))
    with pytest.raises(ValueError, match=message):
        experiment.setup_experiment()


def test_optimize_leaves_no_folder_of_a_run(tmp_path):
    manager = importlib.import_module("rl_zoo3.exp_manager").ExperimentManager
    options = {"n_timesteps": 50, "optimize_hyperparameters": True}
    experiment = manager(SimpleNamespace(device="cpu"), "savo", "HopperRestricted-v5", str(tmp_path), **options)
    assert experiment.setup_experiment() is None
    assert not list((tmp_path / "savo").glob("HopperRestricted-v5*"))


def make_manager(error, algo="wolpertinger"):
    class Manager:
        vec_env_class = DummyVecEnv

        def __init__(self, algo, config=None):
            self.algo = algo

        def objective(self, trial):
            trial.suggest_int("k", 2, 30)
            raise error

    return with_our_algorithms(Manager)(algo)


def test_experiments_are_extended_once():
    """By the import hook, and by ``python -m sb3_savo``."""
    manager = importlib.import_module("rl_zoo3.exp_manager").ExperimentManager
    assert with_our_algorithms(manager) is manager


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
