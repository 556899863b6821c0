"""SAVOSAC's policy: a chain of stochastic actors, and the choice between their proposals by the soft Q (paper, §17)."""

from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule

from sb3_savo.actions.candidates import pick
from sb3_savo.actions.spaces import check_box
from sb3_savo.arguments import Check, check_number
from sb3_savo.networks.chain import ActorChain
from sb3_savo.networks.squashed_gaussian import entropy, gaussian
from sb3_savo.savo.policies import ChainPolicy


class StochasticChain(ActorChain):
    """
    Successive actors, each a squashed Gaussian: its network returns the mean and the logarithm of the standard deviation. The
    ``noise`` of the chain is a standard normal draw per sample; without noise, the actions are the squashed means.
    """

    outputs_per_dim = 2

    def squash(self, outputs: th.Tensor, noise: th.Tensor | None = None) -> th.Tensor:
        mean, std = gaussian(outputs)
        return (mean if noise is None else mean + std * noise).tanh()


class SAVOSACPolicy(ChainPolicy):
    """
    Policy class (with the actors and the critics) for SAVOSAC.

    :param observation_space: Observation space
    :param action_space: Action space
    :param lr_schedule: Learning rate schedule (could be constant)
    :param layer_norm: Whether to normalize every hidden layer of the actors
    :param ent_coef: α, the weight of the entropy in the choice between the candidates; the algorithm updates it
    :param kwargs: The arguments of :class:`ChainPolicy`
    """

    argument_checks: ClassVar[dict[str, Check]] = {"ent_coef": check_number}
    # SAVOSAC has no Q̂, no joint action and no items
    excluded_arguments = ("q_smoothing", "joint_action", "nearest")
    target_names = ("critic_target",)
    chain_class = StochasticChain
    actor: StochasticChain
    ent_coef: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        layer_norm: bool = False,
        ent_coef: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(observation_space, action_space, lr_schedule, layer_norm=layer_norm, **kwargs)
        self.register_buffer("ent_coef", th.full((1,), ent_coef))
        self._build(lr_schedule)

    @classmethod
    def check_action_space(cls, action_space: spaces.Space) -> None:
        check_box(action_space, cls.__name__, argument="action_space")

    def shared_extractor(self, target: bool = False) -> BaseFeaturesExtractor | None:
        return None if target else super().shared_extractor()

    def propose(
        self,
        obs: PyTorchObs,
        deterministic: bool = False,
        noise: th.Tensor | None = None,
        masks: th.Tensor | None = None,
    ) -> th.Tensor:
        return self.actor(obs, None if deterministic else self.draw(self.batch_size(obs)))

    def propose_targets(self, obs: PyTorchObs, masks: th.Tensor | None = None) -> th.Tensor:
        return self.propose(obs)

    def draw(self, batch_size: int) -> th.Tensor:
        """:return: Standard normal draws for the samples of all actors, (batch, n_actors, action_dim)"""
        return th.randn(batch_size, self.n_actors, self.action_dim, device=self.device)

    def maximize(self, obs: PyTorchObs, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        Pick the action with the highest soft value min(Q, Q_2)(s, a_i) + α H(π_i(· | s; a_<i)).

        :param obs: Observations, (batch, ...)
        :param actions: The actors' actions, (batch, n_actors, action_dim)
        :return: The picked action, (batch, action_dim), its index, (batch, 1), and all soft values, (batch, n_actors)
        """
        entropies = entropy(gaussian(self.actor.replay_outputs(obs, actions))[1], actions)
        soft_values = self.soft_values(obs, actions, entropies)
        picked = soft_values.argmax(dim=1, keepdim=True)
        return pick(actions, picked), picked, soft_values

    def soft_values(self, obs: PyTorchObs, actions: th.Tensor, entropies: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: The actors' actions, (batch, n_actors, action_dim)
        :param entropies: Estimates of the actors' entropies, (batch, n_actors)
        :return: min(Q, Q_2) + α H, (batch, n_actors)
        """
        return self.critic.evaluate(obs, actions).amin(dim=0) + self.ent_coef * entropies

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "ent_coef": self.ent_coef.item()}


MlpPolicy = SAVOSACPolicy


class CnnPolicy(SAVOSACPolicy):
    """:class:`SAVOSACPolicy` for image observations: features by ``NatureCNN``."""

    default_features_extractor_class = NatureCNN


class MultiInputPolicy(SAVOSACPolicy):
    """:class:`SAVOSACPolicy` for Dict observations: features by ``CombinedExtractor``."""

    default_features_extractor_class = CombinedExtractor
