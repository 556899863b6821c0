"""The chain of successive actors: each proposes an action given the state and the earlier actions."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_savo.acceleration.numpy_networks import MirroredConditionedMLP, MirroredMLP, can_mirror
from sb3_savo.actions.candidates import perturb
from sb3_savo.networks.conditioning import ConditionedMLP
from sb3_savo.networks.stacked import ALL, StackedMLP, initialize_weights


class ActorChain(BasePolicy):
    """
    The successive actors: a_0 = μ(s) and a_i = ν_i(s; a_<i) (paper, §4.2.3), on one features extractor.

    :param observation_space: Observation space
    :param action_space: Action space
    :param net_arch: Sizes of every actor's hidden layers
    :param features_extractor: Network to extract features
    :param features_dim: Number of features
    :param activation_fn: Activation function
    :param normalize_images: Whether to normalize images or not, dividing by 255.0 (True by default)
    :param n_actors: Number of actors, μ and the ν_i
    :param layer_norm: Whether to normalise every hidden layer
    :param joint_action: Propose all actions at once by one actor with n_actors * action_dim outputs ("+ Joint Action")
    :param init: How to initialise the weights
    :param conditioning: How the ν_i see the earlier actions; see :class:`ConditionedMLP`
    """

    outputs_per_dim: ClassVar[int] = 1
    """Outputs of an actor per dimension of the action."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        n_actors: int = 3,
        layer_norm: bool = True,
        joint_action: bool = False,
        init: str = "orthogonal",
        conditioning: dict[str, Any] | None = None,
    ):
        super().__init__(
            observation_space,
            action_space,
            features_extractor=features_extractor,
            normalize_images=normalize_images,
            squash_output=True,
        )
        self.constructor_kwargs = {
            "net_arch": net_arch,
            "features_extractor": features_extractor,
            "features_dim": features_dim,
            "activation_fn": activation_fn,
            "n_actors": n_actors,
            "layer_norm": layer_norm,
            "joint_action": joint_action,
            "init": init,
            "conditioning": conditioning,
        }
        self.n_actors = n_actors
        self.action_dim = get_action_dim(action_space)
        self.n_outputs = self.outputs_per_dim * self.action_dim
        n_joint_outputs = n_actors * self.n_outputs if joint_action else self.n_outputs
        self.mu = StackedMLP(1, features_dim, n_joint_outputs, net_arch, activation_fn, layer_norm=layer_norm)
        self.nu: ConditionedMLP | None = None
        output_layers = [self.mu.output]
        if n_actors > 1 and not joint_action:
            self.nu = ConditionedMLP(
                n_actors - 1,
                features_dim,
                self.n_outputs,
                net_arch,
                features_dim,
                self.action_dim,
                activation_fn,
                layer_norm=layer_norm,
                **(conditioning or {}),
            )
            output_layers.append(self.nu.net.output)
        initialize_weights(self, init, output_layers)

    def forward(self, obs: PyTorchObs, noise: th.Tensor | None = None) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param noise: What to add to the proposals inside the chain; (batch, n_actors, action_dim)
        :return: Proposals, one actor after the other, (batch, n_actors, action_dim) in [-1, 1]
        """
        return self.propose(self.extract_features(obs, self.features_extractor), noise)

    def propose(self, features: th.Tensor, noise: th.Tensor | None = None) -> th.Tensor:
        """
        :param features: (batch, features_dim)
        :param noise: What to add to the proposals inside the chain: later actors see the noisy, clipped earlier ones;
            (batch, n_actors, action_dim)
        :return: Proposals, one actor after the other, (batch, n_actors, action_dim) in [-1, 1]
        """
        proposals = self._act_from(0, self._first(features), noise)
        return self._extend(features, proposals, self.n_actors, noise)

    def act(self, outputs: th.Tensor, noise: th.Tensor | None = None) -> th.Tensor:
        """
        :param outputs: What the networks of some actors return, (batch, n, n_outputs)
        :param noise: What to add to their actions, which are clipped then; (batch, n, action_dim)
        :return: Their actions, (batch, n, action_dim) in [-1, 1]
        """
        return perturb(outputs.tanh(), noise)

    def propose_detached(self, obs: PyTorchObs, noise: th.Tensor | None = None) -> tuple[th.Tensor, th.Tensor]:
        """
        The chain for learning: each proposal has a gradient to its own actor only, since the earlier actions that it is
        conditioned on are constants. (They are found first, so that all the successors then run as one.)

        :param obs: Observations, (batch, ...)
        :param noise: As in :meth:`propose`
        :return: The proposals as constants, (batch, n_actors, action_dim), and what the networks return that makes them, with
            its gradients, (batch, n_actors, n_outputs)
        """
        features = self.extract_features(obs, self.features_extractor)
        outputs = self._first(features)
        constants = self._act_from(0, outputs.detach(), noise)
        if self.nu is not None:
            with th.no_grad():
                anchors = self._extend(features, constants, self.n_actors - 1, noise)
            outputs = th.cat([outputs, self._successors(features, anchors)], dim=1)
            constants = self.act(outputs.detach(), noise)
        return constants, outputs

    def outputs_given(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: What all the actors did, (batch, n_actors, action_dim)
        :return: What the network of each returns where the earlier ones did that, (batch, n_actors, n_outputs)
        """
        return self._given(self.extract_features(obs, self.features_extractor), actions)

    def _given(self, features: th.Tensor, actions: th.Tensor) -> th.Tensor:
        first = self._first(features)
        return first if self.nu is None else th.cat([first, self._successors(features, actions[:, :-1])], dim=1)

    def _extend(self, features: th.Tensor, proposals: th.Tensor, n: int, noise: th.Tensor | None) -> th.Tensor:
        """The first proposals, continued up to n of them by the actors that follow."""
        while proposals.shape[1] < n:
            i = proposals.shape[1]
            outputs = self._successors(features, proposals, slice(i - 1, i))
            proposals = th.cat([proposals, self._act_from(i, outputs, noise)], dim=1)
        return proposals

    def _act_from(self, i: int, outputs: th.Tensor, noise: th.Tensor | None) -> th.Tensor:
        """What those actors do, from the i-th on, whose networks return the outputs."""
        return self.act(outputs, None if noise is None else noise[:, i : i + outputs.shape[1]])

    def _first(self, features: th.Tensor) -> th.Tensor:
        return self.mu(features.unsqueeze(0)).squeeze(0).unflatten(1, (-1, self.n_outputs))

    def _successors(self, features: th.Tensor, earlier: th.Tensor, nets: slice = ALL) -> th.Tensor:
        assert self.nu is not None
        n_networks = len(range(self.nu.n_networks)[nets])
        inputs = features.expand(n_networks, -1, -1)
        return self.nu(inputs, features, earlier, nets).transpose(0, 1)

    def mirror(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """:return: As :class:`Mirror` takes it: observations to proposals, (n_actors, n, action_dim), if NumPy can"""
        if type(self) is not ActorChain or not can_mirror(self.mu, *([] if self.nu is None else [self.nu])):
            return None
        first = MirroredMLP(self.mu)
        n_first = self.mu.output.output_dims[0] // self.action_dim
        successors = None if self.nu is None else MirroredConditionedMLP(self.nu)

        def propose(obs: np.ndarray) -> np.ndarray:
            proposals = np.empty((self.n_actors, len(obs), self.action_dim), dtype=np.float32)
            outputs = first(obs).reshape(len(obs), n_first, self.action_dim).swapaxes(0, 1)
            np.tanh(outputs, out=proposals[:n_first])
            if successors is not None:
                for i, outputs in enumerate(successors.outputs(obs, proposals), start=1):
                    np.tanh(outputs, out=proposals[i])
            return proposals

        return propose

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        # The chain alone cannot say which proposal is best: the critic does, in the policy
        return self.act(self._first(self.extract_features(observation, self.features_extractor)))[:, 0]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.constructor_kwargs}
