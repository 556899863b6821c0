"""A loss and its gradient as one pure function of parameters and batch, compiled from outside (torch.compile)."""

from collections.abc import Callable
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from sb3_savo.common.flat import FlatParameters

# loss and values to record, of a batch
Loss = Callable[[Any], tuple[th.Tensor, dict[str, th.Tensor]]]

CPU_OPTIONS: dict[str, Any] = {"cpp_wrapper": True, "fallback_random": True}
CUDA_OPTIONS: dict[str, Any] = {"triton.cudagraphs": True, "fallback_random": True}


class Evaluation(nn.Module):
    """
    A module whose forward pass is some function that uses a policy, so that the function sees what
    ``torch.func.functional_call`` puts in the place of the policy's parameters.

    :param policy: The policy
    :param function: What to call
    """

    def __init__(self, policy: BasePolicy, function: Callable[..., Any]):
        super().__init__()
        self.policy = policy
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def places_of_parameters(module: nn.Module) -> dict[nn.Parameter, list[str]]:
    """
    :param module: A module, parts of which may be shared, and parameters too
    :return: Under which names its parameters are to be replaced: one per module that has it, however often that is reached
        (``functional_call`` does not restore what it replaces twice)
    """
    places: dict[nn.Parameter, list[str]] = {}
    for prefix, part in module.named_modules():
        for name, parameter in part.named_parameters(recurse=False):
            places.setdefault(parameter, []).append(f"{prefix}.{name}" if prefix else name)
    return places


class CompiledGradient:
    """
    The loss of one of a policy's networks, and the gradient of its parameters, traced and compiled for batches of one shape.

    :param policy: The policy, on its device; its settings and its mode (training or not) are those of the compilation
    :param flats: The vectors that hold the policy's parameters
    :param learner: The one of them that has the gradient
    :param loss: Of a batch; it may use any of the policy's networks, but no data-dependent control flow
    :param max_norm: Largest norm of the gradient; None for no limit
    :param batch: An example
    """

    def __init__(
        self,
        policy: BasePolicy,
        flats: list[FlatParameters],
        learner: FlatParameters,
        loss: Loss,
        max_norm: float | None,
        batch: Any,
    ):
        self.vectors = [flat.vector.detach() for flat in flats]
        places = places_of_parameters(policy)
        flat_places = [[places.pop(parameter) for parameter in flat.parameters] for flat in flats]
        self.others = dict(policy.named_buffers())
        self.others |= {name: parameter.detach() for parameter, names in places.items() for name in names}
        evaluation = Evaluation(policy, loss)
        of_learner = flats.index(learner)

        def loss_and_gradient(vectors: list[th.Tensor], others: dict[str, th.Tensor], batch: Any) -> Any:
            views = [flat.views(vector) for flat, vector in zip(flats, vectors, strict=True)]
            views[of_learner] = [view.detach().requires_grad_() for view in views[of_learner]]
            tensors = {f"policy.{name}": tensor for name, tensor in others.items()}
            for names_of_views, of_flat in zip(flat_places, views, strict=True):
                for names, view in zip(names_of_views, of_flat, strict=True):
                    tensors |= {f"policy.{name}": view for name in names}
            with th.enable_grad():
                value, recorded = th.func.functional_call(evaluation, tensors, (batch,), tie_weights=False)
                gradient = learner.gradient(value, max_norm, views[of_learner])
            return value.detach(), recorded, gradient

        # Of tensors without data: nothing is computed, no random number drawn, and no running statistic moved
        with th.no_grad():
            trace = make_fx(loss_and_gradient, tracing_mode="fake", _allow_non_fake_inputs=True)
            graph = trace(self.vectors, self.others, batch)
        options = CUDA_OPTIONS if policy.device.type == "cuda" else CPU_OPTIONS
        self.compiled = th.compile(graph, fullgraph=True, dynamic=False, options=options)

    @th.no_grad()
    def __call__(self, batch: Any) -> tuple[th.Tensor, dict[str, th.Tensor], th.Tensor]:
        """
        :param batch: Like the example
        :return: The loss, the values to record, and the gradient with respect to the learner's vector
        """
        return self.compiled(self.vectors, self.others, batch)
