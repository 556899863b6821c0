"""A loss and its gradient as one pure function of parameters and batch, traced in a fork and compiled ahead of time."""

import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from sb3_savo.acceleration.compile_process import compile_package
from sb3_savo.acceleration.fork import run_in_fork
from sb3_savo.acceleration.package_cache import PackageCache, packages_folder
from sb3_savo.networks.parameter_vector import ParameterVector

# A loss and what to log, of one batch or more
Loss = Callable[..., tuple[th.Tensor, dict[str, th.Tensor]]]
# A compiled graph: its outputs, given its inputs
Graph = Callable[[list[th.Tensor]], list[th.Tensor]]

GPU_OPTIONS: dict[str, Any] = {"triton.cudagraphs": True, "fallback_random": True}
# The first folder in every package
ARCHIVE = "sb3_savo"
# One thread at a time loads a package and looks where it was unpacked
LOADING = threading.Lock()


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

    The policy's settings and its mode (training or not) are those at the time of the compilation.

    :param policy: The policy, on its device
    :param vectors: The vectors that hold the policy's parameters
    :param learner: The one of them that gets the gradient
    :param loss_function: The loss and what to log; it may use any of the policy's networks, but no control flow that depends
        on data
    :param max_norm: Largest norm of the gradient; None for no limit
    :param args: Examples of the loss's arguments, batches or tensors
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
        compile = compile_ahead_of_time if policy.device.type == "cpu" else compile_in_process
        self.graph, (self.loss, self.metrics, self.gradient) = compile(loss_and_gradient, (values, others, args))

    @th.no_grad()
    def __call__(self, *args: Any) -> tuple[th.Tensor, dict[str, th.Tensor], th.Tensor]:
        """
        :param args: Arguments of the loss, in the shapes of the examples
        :return: The loss, what to log, and the gradient with respect to the learner's vector
        """
        outputs = self.graph([*self.own_tensors, *tensors_in(args)])
        return outputs[self.loss], {name: outputs[i] for name, i in self.metrics.items()}, outputs[self.gradient]


def tensors_in(values: Any) -> list[th.Tensor]:
    """
    :param values: Tensors and other values in nested lists, tuples and dictionaries
    :return: The tensors
    """
    return [leaf for leaf in th.utils._pytree.tree_leaves(values) if isinstance(leaf, th.Tensor)]


def trace(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[th.fx.GraphModule, Any]:
    """
    :param function: A function whose arguments and result are nested lists, tuples and dictionaries of tensors
    :param args: Example arguments
    :return: The traced graph, a function of a flat list of tensors (tracing has no side effects), and the structure of its
        result with output indices as leaves
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    pytree = th.utils._pytree
    leaves, structure = pytree.tree_flatten(args)
    indices: Any = None

    def flat_function(*tensors: th.Tensor) -> list[th.Tensor]:
        nonlocal indices
        inputs = iter(tensors)
        filled = [next(inputs) if isinstance(leaf, th.Tensor) else leaf for leaf in leaves]
        outputs, output_structure = pytree.tree_flatten(function(*pytree.tree_unflatten(filled, structure)))
        indices = pytree.tree_unflatten(range(len(outputs)), output_structure)
        return outputs

    with th.no_grad():
        graph = make_fx(flat_function, tracing_mode="fake", _allow_non_fake_inputs=True)(*tensors_in(args))
    return graph, indices


def compile_in_process(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Graph, Any]:
    """
    Compile for a GPU, in CUDA graphs.

    :param function: As for :func:`trace`, of tensors on a GPU
    :param args: Example arguments
    :return: The compiled function, which takes a flat list of tensors; and, in the structure of the original result, the index
        of each output
    """
    graph, indices = trace(function, args)
    compiled = th.compile(graph, fullgraph=True, dynamic=False, options=GPU_OPTIONS)
    return lambda inputs: compiled(*inputs), indices


def compile_ahead_of_time(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Graph, Any]:
    """
    Compile for the processor, in separate processes, so that the compiler's memory is freed when they end. Compiled graphs are
    kept in a folder of the user's own.

    :param function: As for :func:`trace`
    :param args: Example arguments
    :return: The compiled function, which takes a flat list of tensors; and, in the structure of the original result, the index
        of each output
    :raises RuntimeError: if it cannot be compiled
    """
    # Precompiled headers, which inductor would use once, take longer than they save
    options: dict[str, Any] = {
        "cpp.threads": th.get_num_threads(),
        "fallback_random": True,
        "aot_inductor.precompile_headers": False,
    }
    cache = PackageCache(packages_folder())
    with cache.work_folder() as folder:
        # The package's name is the first folder in it; see :func:`load`
        graph, package = folder / "graph.pt2", folder / f"{ARCHIVE}.pt2"
        key, indices = run_in_fork(partial(export, function, args, options, cache, graph, package))
        if not package.exists():
            compile_package(graph, package, options)
            cache.store(key, package)
        return load(package), indices


def load(package: Path) -> Graph:
    """
    :param package: A compiled graph, which nobody else can have written
    :return: The compiled function
    """
    with LOADING:
        # torch._inductor.aoti_load_package would import the compiler
        loader = th._C._aoti.AOTIModelPackageLoader(str(package), "model", True, 1, -1)
        # torch has unpacked the library into a temporary folder, which a kill would leave behind. It stays mapped without.
        if sys.platform.startswith("linux"):
            for line in Path("/proc/self/maps").read_text().splitlines():
                if line.endswith(".so") and f"/{ARCHIVE}/data/aotinductor/" in line:
                    root, _, _ = line[line.index("/") :].rpartition(f"/{ARCHIVE}/data/")
                    shutil.rmtree(Path(root, ARCHIVE), ignore_errors=True)
                    with suppress(OSError):
                        os.rmdir(root)
    return loader.boxed_run


def export(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    options: dict[str, Any],
    cache: PackageCache,
    graph_path: Path,
    package_path: Path,
) -> tuple[str, Any]:
    """
    Trace a function, and get the package of its graph if it was compiled before; otherwise write the graph to a file.

    :param function: As for :func:`trace`
    :param args: Example arguments
    :param options: Options of the compiler
    :param cache: Compiled graphs
    :param graph_path: Where to write the graph
    :param package_path: Where to copy the package to
    :return: The graph's key in the cache, which is a checksum of all that the package depends on; and, in the structure of
        the original result, the index of each output
    :raises RuntimeError: if there is no C++ compiler
    """
    check_compiler()
    graph, indices = trace(function, args)
    inputs = tensors_in(args)
    shapes = [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in inputs]
    constants = [(name, tensor.tolist()) for name, tensor in graph.named_buffers()]
    ingredients = (graph.code, constants, shapes, options, th.__version__, th.backends.cpu.get_cpu_capability())
    key = hashlib.sha256(repr(ingredients).encode()).hexdigest()
    if not cache.fetch(key, package_path):
        th.export.save(th.export.export(graph, tuple(inputs)), graph_path)
    return key, indices


def check_compiler() -> None:
    """
    Tracing takes a minute or more, so ask first.

    :raises RuntimeError: if the C++ compiler that torch's inductor would call in a new process does not run
    """
    from torch._inductor.cpp_builder import cpp_compiler_search
    from torch._inductor.exc import InvalidCxxCompiler

    # Inductor's setting of this process may be older than the variable
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    try:
        cpp_compiler_search((None, name))
    except (InvalidCxxCompiler, OSError):
        raise RuntimeError(
            f"the C++ compiler {name!r} was not found or does not run: install g++ (for example by apt install g++), "
            "or set CXX to a C++ compiler."
        ) from None
