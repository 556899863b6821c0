"""All parameters of a network in one vector, so that an optimizer or a target network makes one pass over one tensor."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch as th
from torch import nn

# A parameter begins at a multiple of so many numbers, the size of a cache line
ALIGNMENT = 16


class ParameterVector:
    """
    Store the given parameters in one vector. Each becomes a view of it, so an in-place update of the vector updates them all.

    Element-wise optimizers (Adam, AdamW, RMSprop, SGD, …) change the vector as they would change the parameters.

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
        :return: The vector's parts, in the shapes of the parameters
        """
        places = zip(self.parameters, self.starts, strict=True)
        return [vector.narrow(0, start, parameter.numel()).view(parameter.shape) for parameter, start in places]

    def gradient(
        self, loss: th.Tensor, max_norm: float | None = None, parameters: Sequence[th.Tensor] | None = None
    ) -> th.Tensor:
        """
        :param loss: A scalar
        :param max_norm: A longer gradient is scaled down to this norm, as by ``clip_grad_norm_``; None for no limit
        :param parameters: The tensors that replace the parameters in the loss's computation; None for the parameters
        :return: The loss's gradient with respect to the vector, (size,); zero for a parameter that the loss does not use
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
