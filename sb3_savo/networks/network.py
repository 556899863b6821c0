"""What the actors, the critics and the surrogates share: a features extractor, and parameters in one vector."""

from collections.abc import Callable
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_savo.arguments import InheritedArguments
from sb3_savo.files.policies import SavedAlone
from sb3_savo.networks.parameter_vector import ParameterVector


class Network(InheritedArguments, SavedAlone):
    """
    A network on the features of an observation.

    :param observation_space: Observation space
    :param action_space: Action space of the proposals, a ``Box``
    :param net_arch: Sizes of the hidden layers
    :param features_extractor: Network to extract features
    :param features_dim: Number of features
    :param activation_fn: Activation function
    :param normalize_images: Whether to normalize images or not, dividing by 255.0 (True by default)
    :param share_features_extractor: Whether another network owns and trains the features extractor
    """

    features_extractor: BaseFeaturesExtractor
    optimizer: th.optim.Optimizer
    parameter_vector: ParameterVector
    """The parameters that this network learns; see :meth:`gather_parameters`."""
    frozen_parameters: list[nn.Parameter]
    """Its other parameters, which were frozen when the network was made."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        share_features_extractor: bool = False,
    ):
        super().__init__(
            observation_space, action_space, features_extractor=features_extractor, normalize_images=normalize_images
        )
        self.net_arch = net_arch
        self.features_dim = features_dim
        self.activation_fn = activation_fn
        self.share_features_extractor = share_features_extractor

    def gather_parameters(self) -> ParameterVector:
        """
        Store the network's own parameters in one vector: all that learn, without a features extractor of another network.

        :return: The vector, which is also ``self.parameter_vector``
        """
        own = self.own_parameters()
        self.frozen_parameters = [parameter for parameter in own if not parameter.requires_grad]
        self.parameter_vector = ParameterVector(parameter for parameter in own if parameter.requires_grad)
        return self.parameter_vector

    def own_parameters(self) -> list[nn.Parameter]:
        """:return: The network's parameters without those of a features extractor that another network owns"""
        others = self.features_extractor.parameters() if self.share_features_extractor else ()
        excluded = {id(parameter) for parameter in others}
        return [parameter for parameter in self.parameters() if id(parameter) not in excluded]

    def check_parameters(self, name: str) -> None:
        """
        :param name: The network's name in the policy
        :raises ValueError: if a parameter was replaced or added after the network was made, or has a hook that is not called,
            or if the optimizer holds none of the parameters
        """
        known = {id(parameter) for parameter in (*self.parameter_vector.parameters, *self.frozen_parameters)}
        if known != {id(parameter) for parameter in self.own_parameters()}:
            raise ValueError(
                f"policy.{name}: parameters or layers were replaced or added after the model was made, so its optimizer does "
                "not know them. Copy the values instead (parameter.data.copy_(…)), or pass the layers by policy_kwargs."
            )
        if not self.parameter_vector.is_optimized_by(self.optimizer):
            raise ValueError(f"policy.{name}.optimizer holds none of the network's parameters, so nothing would be learned.")
        self.parameter_vector.check_hooks()

    def check_frozen(self, name: str) -> None:
        """
        :param name: The network's name in the policy
        :raises ValueError: if a parameter learns now that was frozen when the network was made
        """
        if any([parameter.requires_grad for parameter in self.frozen_parameters]):
            raise ValueError(
                f"policy.{name}: a parameter that was frozen when the model was made is to learn now, but its optimizer does "
                "not know it. Freeze it after the model was made (requires_grad_(False)); then it can be unfrozen."
            )

    def features(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :return: Their features, (batch, features_dim); without a gradient if another network owns the extractor
        """
        with th.set_grad_enabled(th.is_grad_enabled() and not self.share_features_extractor):
            return self.extract_features(obs, self.features_extractor)

    def constant_features(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: Observations, (batch, ...)
        :return: Their features without a gradient, (batch, features_dim)
        """
        with th.no_grad():
            return self.extract_features(obs, self.features_extractor)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        if "parameter_vector" not in self.__dict__:
            return super()._apply(fn, recurse)
        before = self.parameter_vector.are_views()
        result = super()._apply(fn, recurse)
        # Moving a network to another device or data type gives each parameter memory of its own; share_memory does not
        if self.parameter_vector.are_views() != before:
            self.parameter_vector.bind()
        return result

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return self.constructor_arguments()
