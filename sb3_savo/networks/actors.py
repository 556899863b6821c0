"""Actors that propose independently of one another."""

from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_savo.networks.network import Network
from sb3_savo.networks.stacked import Init, StackedMLP, initialize_weights
from sb3_savo.tracing import is_exporting, is_in_policy


class ActorNetwork(BasePolicy, Network):
    """
    A network that proposes several actions per state.

    Without a critic that could choose between them, :meth:`predict` returns the first.

    :param n_actors: Number of actors
    :param layer_norm: Whether to normalize every hidden layer
    :param init: How to initialize the weights
    :param kwargs: The arguments of every network, see :class:`Network`
    """

    outputs_per_dim: ClassVar[int] = 1
    """Outputs of an actor per dimension of the action."""

    def __init__(self, *, n_actors: int = 1, layer_norm: bool = True, init: Init = "orthogonal", **kwargs: Any):
        super().__init__(squash_output=True, **kwargs)
        self.n_actors = n_actors
        self.layer_norm = layer_norm
        self.init = init
        self.action_dim = get_action_dim(self.action_space)
        self.n_outputs = self.outputs_per_dim * self.action_dim

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.check_not_exported_alone()
        return super().__call__(*args, **kwargs)

    def check_not_exported_alone(self) -> None:
        """:raises RuntimeError: if this network is exported without the policy that chooses between its proposals"""
        if is_exporting() and not is_in_policy():
            raise RuntimeError(
                f"{type(self).__name__} cannot be exported alone: it proposes actions scaled to [-1, 1], and the policy "
                "chooses between them by its critic. Export the whole policy: "
                "sb3_savo.export.export_policy(model, 'policy.onnx')."
            )

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self(observation)[:, 0]


class Actors(ActorNetwork):
    """Some actors μ_i(s) that do not see each other's actions, on one features extractor; see :class:`ActorNetwork`."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.mu = StackedMLP(
            self.n_actors, self.features_dim, self.n_outputs, self.net_arch, self.activation_fn, layer_norm=self.layer_norm
        )
        initialize_weights(self, self.init, [self.mu.output])

    def outputs(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :return: The networks' outputs, (batch, n_actors, n_outputs)
        """
        return self.mu(self.features(obs).expand(self.n_actors, -1, -1)).transpose(0, 1)

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :return: One proposal per actor, (batch, n_actors, action_dim) in [-1, 1]
        """
        return self.outputs(obs).tanh()
