"""A function as a graph of tensors, which a compiler can read."""

from collections.abc import Callable
from typing import Any

import torch as th

# A compiled graph: its outputs, given its inputs
Graph = Callable[[list[th.Tensor]], list[th.Tensor]]


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
