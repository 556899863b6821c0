"""A loss and its gradient as one pure function of parameters and batch, traced here and compiled from outside."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy
from torch import nn
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from sb3_savo.acceleration import compile_process as compiler
from sb3_savo.acceleration.fork import forked
from sb3_savo.networks.parameter_vector import FlatParameters

# loss and values to record, of a batch
Loss = Callable[[Any], tuple[th.Tensor, dict[str, th.Tensor]]]
# What a compiled graph is: outputs of inputs
Function = Callable[[list[th.Tensor]], list[th.Tensor]]

GPU_OPTIONS: dict[str, Any] = {"triton.cudagraphs": True, "fallback_random": True}


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
    :raises RuntimeError: if it cannot be compiled
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
        vectors = [flat.vector.detach() for flat in flats]
        places = places_of_parameters(policy)
        flat_places = [[places.pop(parameter) for parameter in flat.parameters] for flat in flats]
        others = dict(policy.named_buffers())
        others |= {name: parameter.detach() for parameter, names in places.items() for name in names}
        evaluation = Evaluation(policy, loss)
        of_learner = flats.index(learner)

        def loss_and_gradient(
            vectors: list[th.Tensor], others: dict[str, th.Tensor], batch: Any
        ) -> tuple[th.Tensor, dict[str, th.Tensor], th.Tensor]:
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

        self.own_tensors = [*vectors, *others.values()]
        compile = compile_apart if policy.device.type == "cpu" else compile_here
        self.compiled, (self.loss, self.recorded, self.gradient) = compile(loss_and_gradient, (vectors, others, batch))

    @th.no_grad()
    def __call__(self, batch: Any) -> tuple[th.Tensor, dict[str, th.Tensor], th.Tensor]:
        """
        :param batch: Like the example
        :return: The loss, the values to record, and the gradient with respect to the learner's vector
        """
        outputs = self.compiled([*self.own_tensors, *tensors_in(batch)])
        return outputs[self.loss], {name: outputs[i] for name, i in self.recorded.items()}, outputs[self.gradient]


def tensors_in(values: Any) -> list[th.Tensor]:
    """
    :param values: Tensors, and whatever else, in lists, dictionaries, …
    :return: The tensors
    """
    return [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, th.Tensor)]


def trace(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[GraphModule, Any]:
    """
    :param function: A function of tensors that are in lists, dictionaries, …, which returns such
    :param args: Example arguments
    :return: What it computes, as a graph of the tensors alone (nothing is computed, no random number drawn, and no running
        statistic moved), and the like of what the function returns, with the places among the graph's outputs
    """
    leaves, structure = pytree.tree_flatten(args)
    places: Any = None

    def of_tensors(*tensors: th.Tensor) -> list[th.Tensor]:
        nonlocal places
        given = iter(tensors)
        filled = [next(given) if isinstance(leaf, th.Tensor) else leaf for leaf in leaves]
        outputs, structure_of_outputs = pytree.tree_flatten(function(*pytree.tree_unflatten(filled, structure)))
        places = pytree.tree_unflatten(range(len(outputs)), structure_of_outputs)
        return outputs

    with th.no_grad():
        graph = make_fx(of_tensors, tracing_mode="fake", _allow_non_fake_inputs=True)(*tensors_in(args))
    return graph, places


def compile_here(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Function, Any]:
    """
    :param function: Of tensors on a GPU, as for :func:`trace`
    :param args: Example arguments
    :return: The same of the tensors alone, compiled, in CUDA graphs; and the places among its outputs
    """
    graph, places = trace(function, args)
    compiled = th.compile(graph, fullgraph=True, dynamic=False, options=GPU_OPTIONS)
    return lambda inputs: compiled(*inputs), places


def compile_apart(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Function, Any]:
    """
    Compile for the processor, ahead of time, in processes of their own, whose memory goes when they end. What was compiled
    before is found in torch's cache (``TORCHINDUCTOR_CACHE_DIR``).

    :param function: As for :func:`trace`
    :param args: Example arguments
    :return: The same of the tensors alone, compiled; and the places among its outputs
    :raises RuntimeError: if it cannot be compiled
    """
    options: dict[str, Any] = {"cpp.threads": th.get_num_threads(), "fallback_random": True}
    packages = Path(cache_dir(), "sb3_savo")
    packages.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=packages) as folder:
        exported, compiled = f"{folder}/graph.pt2", f"{folder}/compiled.pt2"

        def export() -> tuple[Path, Any]:
            graph, places = trace(function, args)
            inputs = tensors_in(args)
            shapes = [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in inputs]
            constants = [(name, tensor.tolist()) for name, tensor in graph.named_buffers()]
            made_of = (graph.code, constants, shapes, options, th.__version__, th.backends.cpu.get_cpu_capability())
            package = packages / f"{hashlib.sha256(repr(made_of).encode()).hexdigest()}.pt2"
            if not package.exists():
                th.export.save(th.export.export(graph, tuple(inputs)), exported)
            return package, places

        package, places = forked(export)
        if not package.exists():
            command = [sys.executable, "-W", "ignore", compiler.__file__, exported, compiled, json.dumps(options)]
            paths = os.pathsep.join(path for path in sys.path if path)
            done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
            os.replace(compiled, package)
    # (Not by torch._inductor.aoti_load_package, which imports the compiler)
    return th._C._aoti.AOTIModelPackageLoader(str(package), "model", True, 1, -1).boxed_run, places
