"""The chain of successive actors: each proposes an action given the state and the earlier actions."""

from typing import Any

import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_savo.actions.candidates import perturb
from sb3_savo.networks.actors import ActorNetwork
from sb3_savo.networks.conditioning import ConditionedMLP
from sb3_savo.networks.stacked import ALL, StackedMLP, initialize_weights


class ActorChain(ActorNetwork):
    """
    The successive actors: a_0 = μ(s) and a_i = ν_i(s; a_<i) (paper, §4.2.3), on one features extractor.

    It has a NumPy twin in ``sb3_savo.acceleration``, which ``tests/acceleration/test_numpy_policy.py`` keeps equal.

    :param joint_action: Propose all actions at once by one actor with n_actors * action_dim outputs ("+ Joint Action")
    :param conditioning: How the ν_i see the earlier actions: arguments of :class:`ConditionedMLP`
    :param kwargs: The arguments of all actors, see :class:`ActorNetwork`
    """

    def __init__(self, *, joint_action: bool = False, conditioning: dict[str, Any] | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.joint_action = joint_action
        self.conditioning = conditioning
        n_mu_outputs = self.n_actors * self.n_outputs if joint_action else self.n_outputs
        self.mu = StackedMLP(1, self.features_dim, n_mu_outputs, self.net_arch, self.activation_fn, layer_norm=self.layer_norm)
        self.nu: ConditionedMLP | None = None
        output_layers = [self.mu.output]
        if self.n_actors > 1 and not joint_action:
            self.nu = ConditionedMLP(
                self.n_actors - 1,
                self.features_dim,
                self.n_outputs,
                self.net_arch,
                self.features_dim,
                self.action_dim,
                self.activation_fn,
                layer_norm=self.layer_norm,
                **(conditioning or {}),
            )
            output_layers.append(self.nu.net.output)
        initialize_weights(self, self.init, output_layers)

    def forward(self, obs: PyTorchObs, noise: th.Tensor | None = None) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param noise: What to add to the proposals inside the chain: later actors see the noisy, clipped earlier actions;
            (batch, n_actors, action_dim)
        :return: Proposals, one actor after the other, (batch, n_actors, action_dim) in [-1, 1]
        """
        features = self.features(obs)
        proposals = self.squash_from(0, self.first_outputs(features), noise)
        return self.extend_chain(features, proposals, self.n_actors, noise)

    def squash(self, outputs: th.Tensor, noise: th.Tensor | None = None) -> th.Tensor:
        """
        :param outputs: The networks' outputs of some actors, (batch, n, n_outputs)
        :param noise: What to add to their actions, which are clipped then; (batch, n, action_dim)
        :return: Their actions, (batch, n, action_dim) in [-1, 1]
        """
        return perturb(outputs.tanh(), noise)

    def propose_detached(self, obs: PyTorchObs, noise: th.Tensor | None = None) -> tuple[th.Tensor, th.Tensor]:
        """
        The chain for learning: each proposal has a gradient to its own actor only, since the earlier actions that it is
        conditioned on are constants. These are computed first, so that all later actors then run as one stack.

        :param obs: Observations, (batch, ...)
        :param noise: As in :meth:`forward`
        :return: The proposals as constants, (batch, n_actors, action_dim), and the networks' outputs that make them, with
            their gradients, (batch, n_actors, n_outputs)
        """
        features = self.features(obs)
        outputs = self.first_outputs(features)
        constants = self.squash_from(0, outputs.detach(), noise)
        if self.nu is not None:
            with th.no_grad():
                anchors = self.extend_chain(features, constants, self.n_actors - 1, noise)
            outputs = th.cat([outputs, self.later_outputs(features, anchors)], dim=1)
            constants = self.squash(outputs.detach(), noise)
        return constants, outputs

    def replay_outputs(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :param actions: The actions of all actors, (batch, n_actors, action_dim)
        :return: Each network's outputs, given the earlier of these actions, (batch, n_actors, n_outputs)
        """
        features = self.features(obs)
        first = self.first_outputs(features)
        return first if self.nu is None else th.cat([first, self.later_outputs(features, actions[:, :-1])], dim=1)

    def extend_chain(self, features: th.Tensor, proposals: th.Tensor, n: int, noise: th.Tensor | None) -> th.Tensor:
        """
        :param features: (batch, features_dim)
        :param proposals: Those of the first actors, (batch, at least 1, action_dim)
        :param n: Up to how many the later actors are to extend them
        :param noise: As in :meth:`forward`
        :return: Proposals, (batch, n, action_dim)
        """
        while proposals.shape[1] < n:
            i = proposals.shape[1]
            outputs = self.later_outputs(features, proposals, slice(i - 1, i))
            proposals = th.cat([proposals, self.squash_from(i, outputs, noise)], dim=1)
        return proposals

    def squash_from(self, i: int, outputs: th.Tensor, noise: th.Tensor | None) -> th.Tensor:
        """:return: :meth:`squash` of the outputs of the actors from the i-th on, with their part of the noise"""
        return self.squash(outputs, None if noise is None else noise[:, i : i + outputs.shape[1]])

    def first_outputs(self, features: th.Tensor) -> th.Tensor:
        """:return: The outputs of μ, (batch, 1, or with ``joint_action`` n_actors, n_outputs)"""
        return self.mu(features.unsqueeze(0)).squeeze(0).unflatten(1, (-1, self.n_outputs))

    def later_outputs(self, features: th.Tensor, earlier: th.Tensor, nets: slice = ALL) -> th.Tensor:
        """:return: The outputs of some ν_i, given the earlier actions, (batch, n, n_outputs)"""
        assert self.nu is not None
        n_networks = len(range(self.nu.n_networks)[nets])
        inputs = features.expand(n_networks, -1, -1)
        return self.nu(inputs, features, earlier, nets).transpose(0, 1)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        self.check_not_exported_alone()
        # The first actor alone: the others need not run
        return self.squash(self.first_outputs(self.features(observation)))[:, 0]
