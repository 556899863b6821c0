"""A stand-in for the compiler, which takes no time, and whose part in a run can be seen."""

from collections.abc import Callable
from typing import Any

import torch as th

from sb3_savo.acceleration.ahead_of_time import AheadOfTimeCompiler
from sb3_savo.acceleration.graph import Graph, trace


class Halved:
    """A compilation whose "compiled" loss has half the gradient"""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]):
        self.graph, self.indices = trace(function, args)
        self.is_waited_for = False

    def proceed(self, wait: bool = False) -> None:
        self.is_waited_for |= wait

    def finish(self) -> tuple[Graph, Any]:
        assert self.is_waited_for, "the compilers of several losses run side by side"
        _, _, gradient = self.indices

        def halved(inputs: list[th.Tensor]) -> list[th.Tensor]:
            outputs = self.graph(*inputs)
            outputs[gradient] = outputs[gradient] / 2
            return outputs

        return halved, self.indices


def begin(self: AheadOfTimeCompiler, function: Callable[..., Any], args: tuple[Any, ...]) -> Halved:
    """:return: Instead of what :meth:`AheadOfTimeCompiler.begin` returns"""
    return Halved(function, args)
