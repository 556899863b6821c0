"""All parameters of a network in one vector, so that an optimizer or a target network is one pass over one tensor."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch as th
from stable_baselines3.common.policies import BaseModel
from torch import nn

# A parameter begins at a multiple of so many numbers: of a cache line
ALIGNMENT = 16


class FlatParameters:
    """
    One vector, of which the given parameters are views from then on: what changes it in place changes them.

    Optimizers that treat every number on its own (Adam, AdamW, RMSprop, SGD, …) do to the vector what they would do to the
    parameters.

    :param parameters: Parameters of one data type, on one device
    """

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self.parameters = list(parameters)
        self.starts: list[int] = []
        self.size = 0
        for parameter in self.parameters:
            self.starts.append(self.size)
            self.size += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
        self.vector = nn.Parameter(th.empty(0))
        self.bind()

    def bind(self) -> None:
        """Make the parameters views of the vector again, after they were given memory of their own (moved, or copied)."""
        vector = self.parameters[0].data.new_zeros(self.size)
        for parameter, view in zip(self.parameters, self.views(vector), strict=True):
            view.copy_(parameter.data)
            parameter.data = view
        self.vector.data = vector

    def views(self, vector: th.Tensor) -> list[th.Tensor]:
        """
        :param vector: (size,)
        :return: Its parts, in the shapes of the parameters
        """
        places = zip(self.parameters, self.starts, strict=True)
        return [vector.narrow(0, start, parameter.numel()).view(parameter.shape) for parameter, start in places]

    def gradient(
        self, loss: th.Tensor, max_norm: float | None = None, parameters: Sequence[th.Tensor] | None = None
    ) -> th.Tensor:
        """
        :param loss: A scalar
        :param max_norm: Where the gradient is longer than this, it is scaled down, as by ``clip_grad_norm_``
        :param parameters: What stands for the parameters in the loss's computation; None for themselves
        :return: Its gradient with respect to the vector, (size,); zero for what the loss does not depend on
        """
        wanted = self.parameters if parameters is None else parameters
        parts = []
        for part in th.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True):
            parts.append(part.reshape(-1))
            if part.numel() % ALIGNMENT:
                parts.append(part.new_zeros(-part.numel() % ALIGNMENT))
        gradient = th.cat(parts)
        if max_norm is not None:
            gradient = gradient * (max_norm / (th.linalg.vector_norm(gradient) + 1e-6)).clamp(max=1.0)
        return gradient

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.bind()


def flatten(network: BaseModel) -> FlatParameters:
    """
    :param network: A network
    :return: The vector of its own parameters, ``network.flat``: of those that learn, but for another's features extractor
    """
    not_own = set()
    if getattr(network, "share_features_extractor", False) and network.features_extractor is not None:
        not_own = {id(parameter) for parameter in network.features_extractor.parameters()}
    flat = FlatParameters(p for p in network.parameters() if p.requires_grad and id(p) not in not_own)
    network.flat = flat  # type: ignore[assignment]
    return flat
