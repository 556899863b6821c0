"""Q3C: Q-learning for continuous control with control points (arXiv 2510.18828), a method without actors."""

from functools import partial
from typing import Any, ClassVar, Unpack

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, Schedule

from sb3_savo.actions.candidates import nan_unless_finite, pick
from sb3_savo.arguments import MAX_SAMPLES, Check, check_integer, check_number
from sb3_savo.baselines.search import SearchAlgorithm, SearchPolicy
from sb3_savo.common.arguments import MaximizerArguments, SearchRange
from sb3_savo.common.buffers import Batch
from sb3_savo.common.maximizer import LossAndMetrics
from sb3_savo.networks.control_points import ControlPointCritic

# Of the arguments that the policy and its algorithm share
Q3C_CHECKS: dict[str, Check] = {
    "n_points": partial(check_integer, low=2, high=MAX_SAMPLES),
    "n_nearest": partial(check_integer, low=1, high=MAX_SAMPLES),
}


class Q3CPolicy(SearchPolicy):
    """
    Policy class (with the critics) for Q3C. In ``net_arch``, ``pi`` is for the generators of the control points, and ``qf``
    for their values.

    :param observation_space: Observation space
    :param action_space: Action space, a ``Box`` or an :class:`EmbeddedDiscrete`
    :param lr_schedule: Learning rate schedule (could be constant)
    :param n_points: Number of control points
    :param n_nearest: How many of them a value depends on
    :param kwargs: The arguments of all our policies, see :class:`MaximizerPolicy`
    """

    argument_checks: ClassVar[dict[str, Check]] = Q3C_CHECKS
    excluded_arguments = ("q_smoothing",)
    critic_class = ControlPointCritic
    critic: ControlPointCritic
    critic_target: ControlPointCritic

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        n_points: int = 20,
        n_nearest: int = 10,
        **kwargs: Any,
    ):
        check_integer("n_points", n_points, low=n_nearest)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.n_points = n_points
        self.n_nearest = n_nearest
        self.critic_kwargs |= {
            "n_points": n_points,
            "n_nearest": n_nearest,
            "generator_arch": self.actor_kwargs["net_arch"],
        }
        self._build(lr_schedule)

    def find_action(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return best_point(self.critic, obs)

    def propose_targets(self, obs: PyTorchObs, masks: th.Tensor | None = None) -> th.Tensor:
        return best_point(self.critic_target, obs).unsqueeze(1)


def best_point(critic: ControlPointCritic, obs: PyTorchObs) -> th.Tensor:
    """
    :param critic: The critics
    :param obs: Observations, (batch, ...)
    :return: The control point where the first critic is highest, (batch, action_dim); NaN where its Q is not finite
    """
    points, values = critic.control_points(obs)
    best_values, picked = values[0].max(dim=1, keepdim=True)
    return nan_unless_finite(pick(points[0], picked), best_values)


MlpPolicy = Q3CPolicy


class CnnPolicy(Q3CPolicy):
    """:class:`Q3CPolicy` for image observations: features by ``NatureCNN``."""

    default_features_extractor_class = NatureCNN


class MultiInputPolicy(Q3CPolicy):
    """:class:`Q3CPolicy` for Dict observations: features by ``CombinedExtractor``."""

    default_features_extractor_class = CombinedExtractor


class Q3C(SearchAlgorithm):
    """
    No actor: the critic interpolates between control points, which it learns, so its maximum is at one of them.

    The target critic's best control point is the action of the Bellman target. The control points learn by the Bellman error
    and a penalty on their crowding.

    Paper: Actor-Free Continuous Control via Structurally Maximizable Q-Functions (arXiv 2510.18828)

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: Learning rate, above 0, or a function of the current progress remaining (from 1 to 0)
    :param n_points: Number of control points, at least ``n_nearest``
    :param n_nearest: How many of them a value depends on, at least 1
    :param smoothing: c at the start of a run, at least 0: how far the best control point's value reaches. It falls with the
        square of the progress remaining, to 0.
    :param separation_coef: Weight of the penalty on the mean inverse distance between control points, at least 0
    :param kwargs: The arguments of :class:`MaximizerAlgorithm`, by name, without ``q_smoothing``
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises TypeError: if an argument has the wrong type, or the policy or the action space is of the wrong kind
    :raises ValueError: if an argument is out of its range, or the action space is unbounded
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    argument_checks: ClassVar[dict[str, Check]] = {
        **Q3C_CHECKS,
        "smoothing": check_number,
        "separation_coef": check_number,
    }
    # No network ascends Q, so there is no use for Q̂
    excluded_arguments = ("q_smoothing",)
    search_space: ClassVar[dict[str, SearchRange]] = {
        "n_points": (10, 50),
        "n_nearest": (2, 10),
        "smoothing": (0.01, 1.0, "log"),
        "separation_coef": (1e-3, 0.1, "log"),
    }
    critic_loss_scale = 0.5
    policy: Q3CPolicy
    critic: ControlPointCritic
    critic_target: ControlPointCritic

    def __init__(
        self,
        policy: str | type[Q3CPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        *,
        n_points: int = 20,
        n_nearest: int = 10,
        smoothing: float = 0.1,
        separation_coef: float = 0.01,
        _init_setup_model: bool = True,
        **kwargs: Unpack[MaximizerArguments],
    ):
        super().__init__(policy, env, learning_rate, **kwargs)
        self.n_points = n_points
        self.n_nearest = n_nearest
        self.smoothing = smoothing
        self.separation_coef = separation_coef

        if _init_setup_model:
            self._setup_model()

    @property
    def uses_q_smoothing(self) -> bool:
        return False

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        for critic in (self.critic, self.critic_target):
            critic.smoothing.fill_(self.smoothing * self._current_progress_remaining**2)
        super().train(gradient_steps, batch_size)

    def critic_loss(self, batch: Batch) -> LossAndMetrics:
        """
        Half of the Bellman error, summed over the critics, and the penalty on the crowding of the control points.

        :param batch: Transitions
        :return: A scalar, and metrics: the mean of the first critic's Q, and the crowding
        """
        bellman_error, metrics = super().critic_loss(batch)
        crowding = self.critic.crowding(batch.observations)
        return bellman_error + self.separation_coef * crowding, {**metrics, "crowding": crowding.detach()}
