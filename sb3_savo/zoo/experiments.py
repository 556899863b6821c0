"""What the RL Zoo's experiments do differently with our algorithms."""

import inspect
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymnasium import spaces
from optuna import TrialPruned
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.vec_env import WatchedSubprocVecEnv
from sb3_savo.zoo.hyperparams import check_hyperparams, check_unique_keys, hyperparams_file
from sb3_savo.zoo.samplers import N_ITEMS

# The mixin's methods call those of the RL Zoo's class, of which a type checker knows nothing here
Base: Any = Any if TYPE_CHECKING else object


class OurExperiments(Base):
    """Mixin over ``rl_zoo3.exp_manager.ExperimentManager``, whose own methods do the experiments with other algorithms."""

    vec_env_class: type[VecEnv]
    # The number of items in a discrete space
    n_items: int | None = None

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
        return hyperparams, saved_hyperparams

    def setup_experiment(self) -> Any:
        result = super().setup_experiment()
        if self.is_ours and self.optimize_hyperparameters:
            # ``-optimize`` saves no agent in the folder of the run, where ``enjoy`` would look for the latest one
            shutil.rmtree(self.save_path)
        return result

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
