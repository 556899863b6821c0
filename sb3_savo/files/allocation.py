"""A model that a file describes may not be larger than the weights in the file."""

import math
from collections.abc import Iterable
from typing import Any

import torch as th
from torch.utils._python_dispatch import TorchDispatchMode

from sb3_savo.files.errors import FileError

SLACK = 2**24
# Initialization takes a few times the memory of the weights
MAX_RATIO = 4
# What makes tensors of given sizes
CREATING = ("empty", "empty_strided", "zeros", "ones", "full", "rand", "randn", "randint")


class LimitedTensors(TorchDispatchMode):
    """
    Inside this context, no new tensor may be much larger than all that a file holds.

    :param n_bytes: The size of what the file holds
    """

    def __init__(self, n_bytes: int):
        super().__init__()
        self.limit = MAX_RATIO * n_bytes + SLACK

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        creates = func.name().partition("::")[2].partition(".")[0].removeprefix("new_") in CREATING
        for size in args[:2] if creates else ():
            if isinstance(size, (list, tuple, th.Size)) and all(isinstance(n, int) for n in size):
                itemsize = (kwargs.get("dtype") or th.get_default_dtype()).itemsize
                if math.prod(size) * itemsize > self.limit:
                    raise FileError(
                        f"the arguments describe a network with a tensor of {math.prod(size) * itemsize:,} bytes, and all "
                        f"weights in the file together have {(self.limit - SLACK) // MAX_RATIO:,}."
                    )
        return func(*args, **kwargs)


def size_in_bytes(states: Any) -> int:
    """
    :param states: Tensors, in containers
    :return: The size of the tensors
    """
    if isinstance(states, th.Tensor):
        return states.numel() * states.element_size()
    parts: Iterable[Any] = ()
    if isinstance(states, dict):
        parts = states.values()
    elif isinstance(states, (list, tuple)):
        parts = states
    return sum(size_in_bytes(part) for part in parts)
