"""What the RL Zoo's programs for trained agents (``enjoy``, ``record_video``, ``push_to_hub``) do differently with ours."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from sb3_contrib.common.maskable.utils import is_masking_supported
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_savo.actions.spaces import EmbeddedDiscrete
from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.common.masked_evaluation import MaskedModel
from sb3_savo.files.objects import load_vec_normalize
from sb3_savo.vec_env import WatchedSubprocVecEnv
from sb3_savo.zoo.saved_settings import check_saved_settings, modules_named_by_user


class SafeVecNormalize(VecNormalize):
    """``VecNormalize`` whose files execute nothing when they are loaded."""

    load = staticmethod(load_vec_normalize)  # type: ignore[assignment]


class TrainedAgents:
    """
    Each of these programs calls four things of ``rl_zoo3.utils`` in turn: ``get_model_path`` with the algorithm's name,
    ``get_saved_hyperparams``, ``create_test_env``, and ``ALGOS[name].load``. The first tells this class whether the algorithm
    is ours. Before the second, the stored settings are checked, since the program then reads them by a loader that executes
    what they name. The third gives the environment, with statistics that are loaded safely, and the fourth then loads an agent
    that keeps to the masks of this environment.

    :param utils: ``rl_zoo3.utils``
    """

    def __init__(self, utils: ModuleType):
        self.algorithms: dict[str, type[BaseAlgorithm]] = utils.ALGOS
        self._utils: Any = utils
        self._get_model_path = utils.get_model_path
        self._get_saved_hyperparams = utils.get_saved_hyperparams
        self._create_test_env = utils.create_test_env
        # The algorithm of the agent that is about to be shown, if it is one of ours
        self.name: str | None = None

    def get_model_path(self, exp_id: int, folder: str, algo: str, *args: Any, **kwargs: Any) -> tuple[str, str, str]:
        """
        :param exp_id: See the RL Zoo's function, as for the others
        :param folder: See there
        :param algo: The name of the algorithm
        :return: See there
        """
        self.name = algo if algo in ALGORITHMS else None
        return self._get_model_path(exp_id, folder, algo, *args, **kwargs)

    def get_saved_hyperparams(self, stats_path: str, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], str | None]:
        """
        :param stats_path: The folder of the settings; see the RL Zoo's function, as for the others
        :return: See there
        :raises UnsafeFileError: for one of our algorithms, if the RL Zoo would execute what a file in the folder names
        :raises FileError: for one of ours, if a file is damaged
        """
        if self.name is not None:
            check_saved_settings(Path(stats_path), modules_named_by_user(sys.argv))
        return self._get_saved_hyperparams(stats_path, *args, **kwargs)

    def create_test_env(
        self, env_id: str, n_envs: int = 1, *args: Any, vec_env_cls: type[VecEnv] | None = None, **kwargs: Any
    ) -> VecEnv:
        """
        :param env_id: See the RL Zoo's function, as for the others
        :param n_envs: Number of environments
        :param vec_env_cls: For our algorithms, several environments are a ``WatchedSubprocVecEnv`` by default
        :return: The environment
        :raises UnsafeFileError: for one of our algorithms, if the file of ``VecNormalize`` names what it would execute
        :raises FileError: for one of ours, if this file is damaged
        """
        name, self.name = self.name, None
        if name is None:
            return self._create_test_env(env_id, n_envs, *args, vec_env_cls=vec_env_cls, **kwargs)
        if vec_env_cls is None and n_envs > 1:
            vec_env_cls = WatchedSubprocVecEnv
        with self._safe_statistics():
            env = self._create_test_env(env_id, n_envs, *args, vec_env_cls=vec_env_cls, **kwargs)
        if isinstance(env.action_space, EmbeddedDiscrete) and is_masking_supported(env):
            self._load_next_with_masks(name, env)
        return env

    @contextmanager
    def _safe_statistics(self) -> Iterator[None]:
        theirs = self._utils.VecNormalize
        self._utils.VecNormalize = SafeVecNormalize
        try:
            yield
        finally:
            self._utils.VecNormalize = theirs

    def _load_next_with_masks(self, name: str, env: VecEnv) -> None:
        """
        :param name: The name of one of our algorithms: its next ``load`` through the RL Zoo's table returns a ``MaskedModel``
        :param env: The environment in which this model acts
        """
        algorithm = ALGORITHMS[name]

        def load(*args: Any, **kwargs: Any) -> MaskedModel:
            self.algorithms[name] = algorithm
            return MaskedModel(algorithm.load(*args, **kwargs), env)

        namespace = {"load": staticmethod(load), "__module__": algorithm.__module__}
        self.algorithms[name] = type(algorithm.__name__, (algorithm,), namespace)


def show_our_agents(utils: ModuleType, package: ModuleType) -> None:
    """
    Put :class:`TrainedAgents` in the place of the RL Zoo's functions, once.

    :param utils: ``rl_zoo3.utils``
    :param package: ``rl_zoo3``, which has names of its own for two of them
    """
    if not isinstance(getattr(utils.create_test_env, "__self__", None), TrainedAgents):
        agents = TrainedAgents(utils)
        utils.get_model_path = agents.get_model_path  # type: ignore[attr-defined]
        for module in (utils, package):
            module.get_saved_hyperparams = agents.get_saved_hyperparams  # type: ignore[attr-defined]
            module.create_test_env = agents.create_test_env  # type: ignore[attr-defined]
