"""A loss and its gradient as one pure function of parameters and batch, compiled."""

from collections.abc import Callable
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from sb3_savo.acceleration.graph import Graph, tensors_in
from sb3_savo.networks.parameter_vector import ParameterVector

# A loss and what to log, of one batch or more
Loss = Callable[..., tuple[th.Tensor, dict[str, th.Tensor]]]
# Begins to compile a function with example arguments. Returns a function that waits for the end and returns the compiled
# function; and, in the structure of the original result, the index of each output
Begin = Callable[[Callable[..., Any], tuple[Any, ...]], tuple[Callable[[], Graph], Any]]


class FunctionalLoss(nn.Module):
    """
    A module whose forward pass is a policy's loss, so that ``torch.func.functional_call`` can replace the policy's parameters.

    :param policy: The policy
    :param loss_function: A loss that uses the policy's networks
    """

    def __init__(self, policy: BasePolicy, loss_function: Loss):
        super().__init__()
        self.policy = policy
        self.loss_function = loss_function

    def forward(self, *args: Any) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        return self.loss_function(*args)


def names_of_parameters(module: nn.Module) -> dict[nn.Parameter, list[str]]:
    """
    :param module: A module whose parts and parameters may be shared
    :return: The names under which each parameter has to be replaced. A shared module counts once, since ``functional_call``
        does not restore a parameter that it replaces twice.
    """
    names: dict[nn.Parameter, list[str]] = {}
    for prefix, part in module.named_modules():
        for name, parameter in part.named_parameters(recurse=False):
            names.setdefault(parameter, []).append(f"{prefix}.{name}" if prefix else name)
    return names


class CompiledLoss:
    """
    The loss of one of a policy's networks and the gradient of this network's parameters, compiled for batches of one shape.
    Its compilation begins here, and :meth:`finish` waits for the end.

    The policy's settings and its mode (training or not) are those at the time of the compilation.

    :param policy: The policy, on its device
    :param vectors: The vectors that hold the policy's parameters
    :param learner: The one of them that gets the gradient
    :param loss_function: The loss and what to log; it may use any of the policy's networks, but no control flow that depends
        on data
    :param max_norm: Largest norm of the gradient; None for no limit
    :param args: Examples of the loss's arguments, batches or tensors
    :param begin: Begins the compilation
    :raises RuntimeError: if the loss cannot be compiled
    """

    def __init__(
        self,
        policy: BasePolicy,
        vectors: list[ParameterVector],
        learner: ParameterVector,
        loss_function: Loss,
        max_norm: float | None,
        args: tuple[Any, ...],
        begin: Begin,
    ):
        values = [vector.vector.detach() for vector in vectors]
        names = names_of_parameters(policy)
        vector_names = [[names.pop(parameter) for parameter in vector.parameters] for vector in vectors]
        others = dict(policy.named_buffers())
        others |= {name: parameter.detach() for parameter, places in names.items() for name in places}
        functional_loss = FunctionalLoss(policy, loss_function)
        learner_index = vectors.index(learner)

        def loss_and_gradient(
            values: list[th.Tensor], others: dict[str, th.Tensor], args: tuple[Any, ...]
        ) -> tuple[th.Tensor, dict[str, th.Tensor], th.Tensor]:
            views = [vector.views(value) for vector, value in zip(vectors, values, strict=True)]
            views[learner_index] = [view.detach().requires_grad_() for view in views[learner_index]]
            replacements = {f"policy.{name}": tensor for name, tensor in others.items()}
            for parameter_names, vector_views in zip(vector_names, views, strict=True):
                for places, view in zip(parameter_names, vector_views, strict=True):
                    replacements |= {f"policy.{name}": view for name in places}
            with th.enable_grad():
                loss, metrics = th.func.functional_call(functional_loss, replacements, args, tie_weights=False)
                gradient = learner.gradient(loss, max_norm, views[learner_index])
            return loss.detach(), {name: value.detach() for name, value in metrics.items()}, gradient

        self.own_tensors = [*values, *others.values()]
        self._finish, (self.loss, self.metrics, self.gradient) = begin(loss_and_gradient, (values, others, args))
        self.graph: Graph | None = None

    def finish(self) -> None:
        """
        Wait until the loss is compiled. It can be called from then on.

        :raises RuntimeError: if it cannot be compiled
        """
        self.graph = self._finish()

    @th.no_grad()
    def __call__(self, *args: Any) -> tuple[th.Tensor, dict[str, th.Tensor], th.Tensor]:
        """
        :param args: Arguments of the loss, in the shapes of the examples
        :return: The loss, what to log, and the gradient with respect to the learner's vector
        """
        assert self.graph is not None
        outputs = self.graph([*self.own_tensors, *tensors_in(args)])
        return outputs[self.loss], {name: outputs[i] for name, i in self.metrics.items()}, outputs[self.gradient]
