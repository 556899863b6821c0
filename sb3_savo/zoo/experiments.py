"""What the RL Zoo's experiments do differently with our algorithms."""

import inspect
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymnasium import spaces
from optuna import TrialPruned
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.files.objects import load_vec_normalize, seal_pickle
from sb3_savo.vec_env import WatchedSubprocVecEnv
from sb3_savo.zoo.hyperparams import check_hyperparams, check_unique_keys, hyperparams_file
from sb3_savo.zoo.samplers import N_ITEMS
from sb3_savo.zoo.unfinished_runs import WithCheckpoints, ZooRun, command_settings, find_unfinished_run

# The mixin's methods call those of the RL Zoo's class, of which a type checker knows nothing here
Base: Any = Any if TYPE_CHECKING else object


class OurExperiments(Base):
    """Mixin over ``rl_zoo3.exp_manager.ExperimentManager``, whose own methods do the experiments with other algorithms."""

    vec_env_class: type[VecEnv]
    # The number of items in a discrete space
    n_items: int | None = None
    # What the command asks for, and its run, if it writes checkpoints
    _settings: dict[str, Any] | None = None
    _run: ZooRun | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        # Our hyperparameters, unless the user names another file; "--conf-file savo-paper.yml" is one of ours
        call = inspect.signature(super().__init__).bind(*args, **kwargs)
        if call.arguments["algo"] in ALGORITHMS:
            config = call.arguments.get("config") or f"{call.arguments['algo']}.yml"
            ours = hyperparams_file(config.removesuffix(".yml"))
            if ours.is_file() and not Path(config).is_file():
                call.arguments["config"] = str(ours)
        super().__init__(*call.args, **call.kwargs)
        # With ``--vec-env subproc``, workers that cannot fail in silence
        if self.is_ours and self.vec_env_class is SubprocVecEnv:
            self.vec_env_class = WatchedSubprocVecEnv

    @property
    def is_ours(self) -> bool:
        return self.algo in ALGORITHMS

    def read_hyperparameters(self) -> Any:
        if not self.is_ours:
            return super().read_hyperparameters()
        check_unique_keys(self.config)
        hyperparams, saved_hyperparams = super().read_hyperparameters()
        check_hyperparams(hyperparams, self.config)
        if hyperparams.pop("checkpoints", False) and not self.optimize_hyperparameters:
            if self.continue_training:
                warnings.warn(
                    "checkpoints=True has no effect with -i (--trained-agent), which starts a run from a saved model: "
                    "this run writes no checkpoints.",
                    stacklevel=3,
                )
            else:
                self._settings = command_settings(self.args, saved_hyperparams, sys.argv, self.seed)
        return hyperparams, saved_hyperparams

    def create_log_folder(self) -> None:
        if self._settings is not None:
            self._run = find_unfinished_run(self.log_path, self.env_name, self._settings)
            if self._run is not None:
                self._go_on_with(self._run)
            else:
                self._run = ZooRun(Path(self.save_path), self._settings, self.seed)
                if not self._run.hold():
                    raise ValueError(f"{self.save_path} is in use by another process. --uuid gives every run its own folder.")
                self._run.write()
        super().create_log_folder()

    def _go_on_with(self, run: ZooRun) -> None:
        """
        :param run: An unfinished run, whose folder and seed take the place of the new ones
        """
        self.save_path = os.path.join(self.log_path, run.folder.name)
        self.params_path = f"{self.save_path}/{self.env_name}"
        self.seed = self.args.seed = run.seed
        set_random_seed(run.seed)
        print(f"Going on with the unfinished run in {self.save_path}, with its seed {run.seed}")

    def learn(self, model: BaseAlgorithm) -> None:
        if self._run is None:
            return super().learn(model)
        try:
            super().learn(WithCheckpoints(model, self._run))
        except BaseException:
            self._run.release()
            raise

    def save_trained_model(self, model: BaseAlgorithm) -> None:
        super().save_trained_model(model)
        if self.is_ours and self.normalize:
            seal_pickle(Path(self.params_path, "vecnormalize.pkl"))
        if self._run is not None:
            self._run.write()
            self._run.release()

    def setup_experiment(self) -> Any:
        result = super().setup_experiment()
        if self.is_ours and self.optimize_hyperparameters:
            # ``-optimize`` saves no agent in the folder of the run, where ``enjoy`` would look for the latest one
            shutil.rmtree(self.save_path)
        return result

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> Any:
        # With ``-i``, the RL Zoo loads the statistics of the trained agent
        path = Path(self.trained_agent).parent / self.env_name / "vecnormalize.pkl"
        if not self.is_ours or not path.exists():
            return super()._maybe_normalize(env, eval_env)
        normalized = load_vec_normalize(path, env)
        if eval_env:
            normalized.training = normalized.norm_reward = False
        return normalized

    def _preprocess_action_noise(self, hyperparams: Any, saved_hyperparams: Any, env: Any) -> Any:
        self.n_items = int(env.action_space.n) if isinstance(env.action_space, spaces.Discrete) else None
        return super()._preprocess_action_noise(hyperparams, saved_hyperparams, env)

    def objective(self, trial: Any) -> float:
        if not self.is_ours:
            return super().objective(trial)
        if self.n_items is not None:
            trial.set_user_attr(N_ITEMS, self.n_items)  # so that no more items are suggested than there are
        try:
            return super().objective(trial)
        except ValueError as error:
            # The study goes on after suggestions that the task cannot have. Other errors end it.
            if not any(f"{name}=" in str(error) for name in (*trial.params, *trial.user_attrs)):
                raise
            print(f"Trial {trial.number} is pruned: {error}")
            raise TrialPruned(str(error)) from error


def with_our_algorithms(manager: type[Any]) -> type[Any]:
    """
    :param manager: ``rl_zoo3.exp_manager.ExperimentManager``
    :return: The class that takes its place; ``manager`` itself if it is such a class already
    """
    return manager if issubclass(manager, OurExperiments) else type(manager.__name__, (OurExperiments, manager), {})
