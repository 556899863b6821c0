"""Patches that register our algorithms with the RL Zoo, one per Zoo module, applied right after that module is imported."""

import functools
import inspect
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator
from stable_baselines3.common.vec_env import SubprocVecEnv

import sb3_savo
from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.extras import needs_extra
from sb3_savo.vec_env import WatchedSubprocVecEnv
from sb3_savo.zoo.hyperparams_checks import check_hyperparams, check_unique_keys

ADROIT_TASKS = ("Door", "Hammer", "Pen")


def hyperparams_file(algo: str) -> Path:
    """
    :param algo: The RL Zoo's name of one of our algorithms
    :return: The file of its hyperparameters, in the installed package or, in a checkout, beside the package
    """
    package = Path(sb3_savo.__file__).parent
    folder = package / "hyperparams"
    return (folder if folder.is_dir() else package.parent / "hyperparams") / f"{algo}.yml"


def add_algorithms(utils: ModuleType) -> None:
    """
    Fill the RL Zoo's table of algorithms in place, before it builds its command line from it, and register the
    environments that our hyperparameters are for.

    :param utils: ``rl_zoo3.utils``
    """
    utils.ALGOS.update(ALGORITHMS)
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
    add_hyperparams(exp_manager.ExperimentManager)
    check_files(exp_manager.ExperimentManager)
    leave_no_empty_folder(exp_manager.ExperimentManager)
    count_items(exp_manager.ExperimentManager)
    prune_impossible_trials(exp_manager.ExperimentManager)


def add_hyperparams(manager: Any) -> None:
    """
    Let an experiment with one of our algorithms read our hyperparameters, unless the user names a file. With ``--vec-env
    subproc`` its environments run in workers that cannot fail in silence.

    :param manager: ``ExperimentManager``
    """
    init = manager.__init__
    signature = inspect.signature(init)

    @functools.wraps(init)
    def init_with_config(*args: Any, **kwargs: Any) -> None:
        call = signature.bind(*args, **kwargs)
        if call.arguments["algo"] in ALGORITHMS and not call.arguments.get("config"):
            call.arguments["config"] = str(hyperparams_file(call.arguments["algo"]))
        init(*call.args, **call.kwargs)
        experiment = call.arguments["self"]
        if call.arguments["algo"] in ALGORITHMS and experiment.vec_env_class is SubprocVecEnv:
            experiment.vec_env_class = WatchedSubprocVecEnv

    manager.__init__ = init_with_config


def check_files(manager: Any) -> None:
    """
    Check the hyperparameters of our algorithms right after they are read.

    :param manager: ``ExperimentManager``
    """
    read = manager.read_hyperparameters

    @functools.wraps(read)
    def read_and_check(self: Any) -> Any:
        if self.algo not in ALGORITHMS:
            return read(self)
        check_unique_keys(self.config)
        hyperparams, saved_hyperparams = read(self)
        check_hyperparams(hyperparams, self.config)
        return hyperparams, saved_hyperparams

    manager.read_hyperparameters = read_and_check


def leave_no_empty_folder(manager: Any) -> None:
    """
    ``-optimize`` makes the folder of a run and saves no agent there, so that ``enjoy`` would find no agent in the latest run.

    :param manager: ``ExperimentManager``
    """
    set_up = manager.setup_experiment

    @functools.wraps(set_up)
    def set_up_and_tidy(self: Any) -> Any:
        result = set_up(self)
        if self.algo in ALGORITHMS and self.optimize_hyperparameters:
            shutil.rmtree(self.save_path)
        return result

    manager.setup_experiment = set_up_and_tidy


def count_items(manager: Any) -> None:
    """
    Let ``-optimize`` suggest no more items than there are.

    :param manager: ``ExperimentManager``
    """
    from sb3_savo.zoo.samplers import N_ITEMS

    preprocess, objective = manager._preprocess_action_noise, manager.objective

    @functools.wraps(preprocess)
    def preprocess_and_count(self: Any, hyperparams: dict[str, Any], saved_hyperparams: dict[str, Any], env: Any) -> Any:
        self.n_items = int(env.action_space.n) if isinstance(env.action_space, spaces.Discrete) else None
        return preprocess(self, hyperparams, saved_hyperparams, env)

    @functools.wraps(objective)
    def objective_of_items(self: Any, trial: Any) -> float:
        if self.n_items is not None:
            trial.set_user_attr(N_ITEMS, self.n_items)
        return objective(self, trial)

    manager._preprocess_action_noise, manager.objective = preprocess_and_count, objective_of_items


def prune_impossible_trials(manager: Any) -> None:
    """
    Let ``-optimize`` go on after a trial whose suggestions the task cannot have, such as more neighbors than there are items.
    Other errors still end the study.

    :param manager: ``ExperimentManager``
    """
    from optuna import TrialPruned

    objective = manager.objective

    @functools.wraps(objective)
    def objective_or_pruned(self: Any, trial: Any) -> float:
        try:
            return objective(self, trial)
        except ValueError as error:
            suggested = {*trial.params, *trial.user_attrs}
            if self.algo not in ALGORITHMS or not any(f"{name}=" in str(error) for name in suggested):
                raise
            print(f"Trial {trial.number} is pruned: {error}")
            raise TrialPruned(str(error)) from error

    manager.objective = objective_or_pruned


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
