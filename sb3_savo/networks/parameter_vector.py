"""
All parameters of a network in one vector, so that an optimizer or a target network makes one pass over one tensor.

Users of SB3 work with a network's parameters: they give them other memory, freeze them, read their gradients, or pass them to
an optimizer of their own. All this works as it does without the vector.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch as th
from torch import nn

# A parameter begins at a multiple of this many numbers, the size of a cache line
ALIGNMENT = 16


class ParameterVector:
    """
    Store the given parameters in one vector. Each becomes a view of it, so an in-place update of the vector updates them all.

    Element-wise optimizers (Adam, AdamW, RMSprop, SGD, …) change the vector as they would change the parameters.

    :param parameters: Parameters of one data type, on one device
    """

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self.parameters = list(parameters)
        self.shapes = [parameter.shape for parameter in self.parameters]
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
        places = zip(self.shapes, self.starts, strict=True)
        return [vector.narrow(0, start, shape.numel()).view(shape) for shape, start in places]

    # What users do to the parameters

    def are_views(self) -> list[bool]:
        """:return: For every parameter whether its memory is its part of the vector"""
        base, width = self.vector.data_ptr(), self.vector.element_size()
        places = zip(self.parameters, self.starts, strict=True)
        return [parameter.data_ptr() == base + start * width for parameter, start in places]

    @contextmanager
    def bound(self) -> Iterator[None]:
        """
        Make the parameters views of the vector inside the context. A parameter that a user gave other memory
        (``parameter.data = …``) gets this memory back at the end, with its new values: another model may share it.

        :raises ValueError: if a parameter was given another shape, data type or device
        """
        places = zip(self.parameters, self.views(self.vector.data), self.are_views(), strict=True)
        lent = [(parameter, view, parameter.data) for parameter, view, is_view in places if not is_view]
        for _, view, memory in lent:
            check_same_kind(memory, view)
        for parameter, view, memory in lent:
            view.copy_(memory)
            parameter.data = view
        try:
            yield
        finally:
            for parameter, view, memory in lent:
                memory.copy_(view)
                parameter.data = memory

    @property
    def is_plain(self) -> bool:
        """Whether every parameter learns, and none has hooks on its gradient."""
        return all([parameter.requires_grad and not parameter._backward_hooks for parameter in self.parameters])

    def check_hooks(self) -> None:
        """:raises ValueError: if a parameter has hooks that ``torch.autograd.grad`` does not call"""
        if any(parameter._post_accumulate_grad_hooks for parameter in self.parameters):
            raise ValueError(
                "register_post_accumulate_grad_hook: gradients are not accumulated here, so the hook would not be called; use "
                "register_hook, which gets the gradient itself."
            )

    # Gradients

    def gradient(
        self, loss: th.Tensor, max_norm: float | None = None, parameters: Sequence[th.Tensor] | None = None
    ) -> th.Tensor:
        """
        :param loss: A scalar
        :param max_norm: A longer gradient is scaled down to this norm, as by ``clip_grad_norm_``; None for no limit
        :param parameters: The tensors that replace the parameters in the loss's computation; None for the parameters
        :return: The loss's gradient with respect to the vector, (size,); zero for a parameter that the loss does not use, or
            that does not learn
        """
        wanted = self.parameters if parameters is None else parameters
        learning = [parameter for parameter in wanted if parameter.requires_grad]
        gradients = iter(th.autograd.grad(loss, learning, allow_unused=True, materialize_grads=True))
        parts = []
        for parameter in wanted:
            part = next(gradients) if parameter.requires_grad else th.zeros_like(parameter)
            parts.append(part.reshape(-1))
            if part.numel() % ALIGNMENT:
                parts.append(part.new_zeros(-part.numel() % ALIGNMENT))
        gradient = th.cat(parts)
        if max_norm is not None:
            gradient = gradient * (max_norm / (th.linalg.vector_norm(gradient) + 1e-6)).clamp(max=1.0)
        return gradient

    def step(self, optimizer: th.optim.Optimizer, gradient: th.Tensor) -> None:
        """
        One step of an optimizer of the vector, or of one that a user made for the parameters. The gradient stays in ``.grad``
        of both. Parameters that do not learn (``requires_grad_(False)``) keep their values.

        :param optimizer: The optimizer
        :param gradient: The loss's gradient with respect to the vector, (size,)
        """
        self.vector.grad = gradient
        for parameter, start in zip(self.parameters, self.starts, strict=True):
            # The same view as by :meth:`views`, in a third of the time
            parameter.grad = gradient.as_strided(parameter.shape, parameter.stride(), start)
        frozen = [(parameter, parameter.detach().clone()) for parameter in self.parameters if not parameter.requires_grad]
        for parameter, _ in frozen:
            parameter.grad = None
        optimizer.step()
        for parameter, value in frozen:
            parameter.data.copy_(value)

    def is_optimized_by(self, optimizer: th.optim.Optimizer) -> bool:
        """:return: Whether an optimizer changes the vector, or at least one of the parameters"""
        own = {id(self.vector), *map(id, self.parameters)}
        return any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"])

    def gather_state(self, optimizer: th.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        """
        A hook of the vector's optimizer, before it loads a state: a state of the parameters, which an optimizer of the user's
        own has saved, becomes one of the vector.

        :param optimizer: The optimizer
        :param state_dict: The state to load
        :return: The state to load instead
        """
        groups, states = state_dict["param_groups"], state_dict["state"]
        if len(groups) != 1 or len(groups[0]["params"]) != len(self.parameters) or len(self.parameters) == 1:
            return state_dict
        gathered: dict[str, Any] = {}
        for i, (start, shape) in enumerate(zip(self.starts, self.shapes, strict=True)):
            for name, value in states.get(i, {}).items():
                if isinstance(value, th.Tensor) and value.dim() > 0 and value.shape == shape:
                    whole = gathered.setdefault(name, value.new_zeros(self.size))
                    whole[start : start + value.numel()] = value.flatten()
                else:
                    gathered.setdefault(name, value)
        return {"param_groups": [{**groups[0], "params": [0]}], "state": {0: gathered} if gathered else {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.bind()


def check_same_kind(given: th.Tensor, expected: th.Tensor) -> None:
    """
    :param given: The memory that a parameter was given
    :param expected: Its part of the vector
    :raises ValueError: if they differ in shape, data type or device
    """
    for name in ("shape", "dtype", "device"):
        if getattr(given, name) != getattr(expected, name):
            raise ValueError(
                f"A parameter was given data of the {name} {getattr(given, name)}: it must be {getattr(expected, name)}, as "
                "when the network was made. To convert a whole policy, use policy.to(…)."
            )
