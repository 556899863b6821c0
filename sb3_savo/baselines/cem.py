"""CEM: the baseline "Evolutionary actor" (paper, §6.1)."""

from functools import partial
from typing import Any, ClassVar, Unpack

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, Schedule

from sb3_savo.actions.candidates import nan_unless_finite, take
from sb3_savo.arguments import MAX_SAMPLES, Check, check_integer
from sb3_savo.baselines.search import SearchAlgorithm, SearchPolicy
from sb3_savo.common.arguments import MaximizerArguments, SearchRange

# Of the arguments that the policy and its algorithm share
CEM_CHECKS: dict[str, Check] = {
    "n_iterations": partial(check_integer, low=1, high=MAX_SAMPLES),
    "n_samples": partial(check_integer, low=1, high=MAX_SAMPLES),
    "n_elites": partial(check_integer, low=1, high=MAX_SAMPLES),
}


class CEMPolicy(SearchPolicy):
    """
    Policy class (with the critics) for CEM.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param n_iterations: Number of iterations
    :param n_samples: Samples per iteration
    :param n_elites: Number of best samples that the next iteration samples around
    :param kwargs: The arguments of all our policies, see :class:`MaximizerPolicy`
    """

    argument_checks: ClassVar[dict[str, Check]] = CEM_CHECKS
    draws: th.Tensor
    weights: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        n_iterations: int = 3,
        n_samples: int = 30,
        n_elites: int = 3,
        **kwargs: Any,
    ):
        check_integer("n_samples", n_samples, low=n_elites)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.n_iterations = n_iterations
        self.n_samples = n_samples
        self.n_elites = n_elites
        # The samples where proposals must not be random
        self.register_buffer("draws", th.randn(n_iterations, 1, n_samples, self.action_dim))
        log_weights = th.log((n_elites + 1) / th.arange(1.0, n_elites + 1))
        self.register_buffer("weights", (log_weights / log_weights.sum()).reshape(1, -1, 1), persistent=False)
        self._build(lr_schedule)

    def find_action(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        mean, std = self.draws.new_zeros(1), self.draws.new_ones(1)
        for draws in self.draws:
            if not deterministic:
                draws = th.randn(self.batch_size(obs), *draws.shape[1:], device=self.device)
            samples = mean + std * draws.expand(self.batch_size(obs), -1, -1)
            q_values = self.actor_objective(obs, samples.tanh())
            best_q_values, ranking = q_values.topk(self.n_elites, dim=1)
            elites = take(samples, ranking)
            mean = (self.weights * elites).sum(dim=1, keepdim=True)
            std = (self.weights * (elites - mean).square()).sum(dim=1, keepdim=True).sqrt()
        return nan_unless_finite(elites[:, 0].tanh(), best_q_values[:, :1])


MlpPolicy = CEMPolicy


class CnnPolicy(CEMPolicy):
    """:class:`CEMPolicy` for image observations: features by ``NatureCNN``."""

    default_features_extractor_class = NatureCNN


class MultiInputPolicy(CEMPolicy):
    """:class:`CEMPolicy` for Dict observations: features by ``CombinedExtractor``."""

    default_features_extractor_class = CombinedExtractor


class CEM(SearchAlgorithm):
    """
    No actor: the cross-entropy method maximizes Q anew at every state.

    The first iteration samples N(0, 1). Every later one samples N(mean, variance) of the previous iteration's best samples,
    weighted by log((n_elites + 1) / rank). Actions are the tanh of samples. The best sample of the last iteration is taken.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: Learning rate, above 0, or a function of the current progress remaining (from 1 to 0)
    :param n_iterations: Number of iterations, at least 1
    :param n_samples: Samples per iteration, at least ``n_elites``
    :param n_elites: Number of best samples that the next iteration samples around, at least 1
    :param kwargs: The arguments of :class:`MaximizerAlgorithm`, by name
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises TypeError: if an argument has the wrong type, or the policy or the action space is of the wrong kind
    :raises ValueError: if an argument is out of its range, or the action space is unbounded
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    argument_checks: ClassVar[dict[str, Check]] = CEM_CHECKS
    search_space: ClassVar[dict[str, SearchRange]] = {"n_iterations": (1, 6), "n_samples": (10, 100), "n_elites": (2, 10)}
    policy: CEMPolicy

    def __init__(
        self,
        policy: str | type[CEMPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        *,
        n_iterations: int = 3,
        n_samples: int = 30,
        n_elites: int = 3,
        _init_setup_model: bool = True,
        **kwargs: Unpack[MaximizerArguments],
    ):
        super().__init__(policy, env, learning_rate, **kwargs)
        self.n_iterations = n_iterations
        self.n_samples = n_samples
        self.n_elites = n_elites

        if _init_setup_model:
            self._setup_model()
