"""Compilation for a GPU, in this process."""

from collections.abc import Callable
from typing import Any

import torch as th

from sb3_savo.acceleration.graph import Graph, trace

OPTIONS: dict[str, Any] = {"triton.cudagraphs": True, "fallback_random": True}


def compile_just_in_time(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Callable[[], Graph], Any]:
    """
    Trace a function for a GPU. Its first call compiles it, in CUDA graphs.

    :param function: As for :func:`~sb3_savo.acceleration.graph.trace`, of tensors on a GPU
    :param args: Example arguments
    :return: A function that returns the compiled function; and, in the structure of the original result, the index of each
        output
    """
    graph, indices = trace(function, args)
    compiled = th.compile(graph, fullgraph=True, dynamic=False, options=OPTIONS)
    return lambda: lambda inputs: compiled(*inputs), indices
