"""A stand-in for the compiler, which takes no time, and whose part in a run can be seen."""

from collections.abc import Callable
from typing import Any

import torch as th

from sb3_savo.acceleration.ahead_of_time import AheadOfTimeCompiler
from sb3_savo.acceleration.graph import Graph, trace


def begin(self: AheadOfTimeCompiler, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Callable[[], Graph], Any]:
    """:return: What :meth:`AheadOfTimeCompiler.begin` returns; "compiled" losses have half the gradient"""
    graph, indices = trace(function, args)
    _, _, gradient = indices

    def halved(inputs: list[th.Tensor]) -> list[th.Tensor]:
        outputs = graph(*inputs)
        outputs[gradient] = outputs[gradient] / 2
        return outputs

    return lambda: halved, indices
