"""Compilation for a GPU, in this process."""

from collections.abc import Callable
from typing import Any

import torch as th

from sb3_savo.acceleration.graph import Graph, trace

OPTIONS: dict[str, Any] = {"triton.cudagraphs": True, "fallback_random": True}


class JustInTimeCompilation:
    """
    The compilation of one function for a GPU, in CUDA graphs. It is traced when this object is made, and compiled at its
    first call.

    :param function: As for :func:`~sb3_savo.acceleration.graph.trace`, of tensors on a GPU
    :param args: Example arguments
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]):
        self._graph, self._indices = trace(function, args)

    def proceed(self, wait: bool = False) -> None:
        """Nothing goes on elsewhere."""

    def finish(self) -> tuple[Graph, Any]:
        """:return: The compiled function; and, in the structure of the original result, the index of each output"""
        compiled = th.compile(self._graph, fullgraph=True, dynamic=False, options=OPTIONS)
        return lambda inputs: compiled(*inputs), self._indices
