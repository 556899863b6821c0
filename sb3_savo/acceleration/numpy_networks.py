"""
The stacked networks' forward passes in NumPy: for a few observations, the overhead of torch's calls exceeds the computation.

The NumPy networks use the memory of torch's parameters, so they see every update in place.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import torch as th
from torch import nn

from sb3_savo.acceleration.blas_threads import multiplies_small_matrices
from sb3_savo.networks.conditioning import ConditionedMLP, SetPool, StackedSummarizer
from sb3_savo.networks.stacked import ALL, StackedLayerNorm, StackedLinear, StackedMLP

LAYER_NORM_EPSILON = 1e-5  # torch's default

# From this many rows or weights on, one matrix product is faster than one product per row
MIN_ROWS_FOR_MATMUL, MIN_MATMUL_WEIGHTS = 4, 2**14

# OpenBLAS computes a product of at most MAX_SMALL_PRODUCT multiplications without a copy of the weights, where it can. So a
# larger product of up to MAX_SPLIT_ROWS rows is computed in parts; more rows are worth the copy.
MAX_SMALL_PRODUCT, SPLIT_ROWS, MAX_SPLIT_ROWS = 10**6, 12, 96


def supports_numpy(*networks: nn.Module) -> bool:
    """
    :param networks: Stacked or conditioned MLPs
    :return: Whether all their parts have a forward pass here
    """
    stacks = [network for network in networks if not isinstance(network, ConditionedMLP)]
    for network in networks:
        if isinstance(network, ConditionedMLP):
            stacks.append(network.net)
            if network.summarizer is not None and not isinstance(network.summarizer.pool, SetPool):
                return False
    return all(
        type(stack) is StackedMLP
        and type(stack.activation) in ACTIVATIONS
        and (stack.output.weight.device.type, stack.output.weight.dtype) == ("cpu", th.float32)
        for stack in stacks
    )


def weight_and_bias(layer: nn.Module, nets: int | slice) -> tuple[np.ndarray, np.ndarray]:
    """
    :param layer: A linear layer or a layer normalization of a stack
    :param nets: Which networks of the stack
    :return: Weight and bias of one network, or of several networks in the first dimension, which broadcast with rows of inputs
    """
    assert isinstance(layer, StackedLinear | StackedLayerNorm)
    weight, bias = layer.weight.detach()[nets], layer.bias.detach()[nets].unsqueeze(-2)
    return (weight if isinstance(layer, StackedLinear) else weight.unsqueeze(-2)).numpy(), bias.numpy()


def affine(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """:return: The outputs of a linear layer, (n, output_dim), or of one layer per network, (n_networks, n, output_dim)"""
    if weight.ndim == 3:
        y = np.matmul(x, weight)
    elif 1 < len(x) < MIN_ROWS_FOR_MATMUL and weight.size >= MIN_MATMUL_WEIGHTS:
        y = np.vecmat(x, weight)
    elif len(x) <= MAX_SPLIT_ROWS and len(x) * weight.size > MAX_SMALL_PRODUCT and multiplies_small_matrices():
        y = np.empty((len(x), weight.shape[1]), dtype=np.float32)
        for start in range(0, len(x), SPLIT_ROWS):
            np.dot(x[start : start + SPLIT_ROWS], weight, out=y[start : start + SPLIT_ROWS])
    else:
        # ``matmul`` takes twice as long for small matrices
        y = x.dot(weight)
    y += bias
    return y


@cache
def constant_row(value: float, dim: int) -> np.ndarray:
    """:return: A (1, dim) row filled with ``value``. Two arrays combine about twice as fast as an array and a scalar."""
    return np.full((1, dim), value, dtype=np.float32)


def relu(x: np.ndarray) -> np.ndarray:
    """Rectify in place."""
    return np.maximum(x, constant_row(0.0, x.shape[-1]), out=x)


ACTIVATIONS: dict[type[nn.Module], Callable[[np.ndarray], np.ndarray]] = {
    nn.ReLU: relu,
    nn.Tanh: lambda x: np.tanh(x, out=x),
}


def normalize(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
    """Normalize the last dimension in place."""
    dim = x.shape[-1]
    x -= x.dot(constant_row(1 / dim, dim).T)
    variance = np.vecdot(x, x)[..., None] * constant_row(1 / dim, 1)
    variance += constant_row(LAYER_NORM_EPSILON, 1)
    x *= (weight + constant_row(1.0, dim)) / np.sqrt(variance, out=variance)
    x += bias


class NumpyMLP:
    """
    One network of a :class:`StackedMLP`, or several side by side.

    :param net: The stack
    :param nets: Which of its networks
    """

    def __init__(self, net: StackedMLP, nets: int | slice = 0):
        self.activation = ACTIVATIONS[type(net.activation)]
        self.layers = [weight_and_bias(layer, nets) for layer in net.hidden]
        self.norms = [weight_and_bias(norm, nets) for norm in net.norms]
        self.output = weight_and_bias(net.output, nets)
        self.generator = None
        if net.film is not None:
            self.generator = weight_and_bias(net.film.generator, nets)
            ends = np.cumsum(net.film.generator.output_dims).tolist()
            parts = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
            self.gammas, self.betas = parts[: len(ends) // 2], parts[len(ends) // 2 :]

    def hidden(self, x: np.ndarray, i: int) -> np.ndarray:
        """
        :param x: Inputs of a hidden layer, (..., n, dim)
        :param i: Which layer
        :return: Its outputs, before they are modulated
        """
        x = affine(x, *self.layers[i])
        if self.norms:
            normalize(x, *self.norms[i])
        return self.activation(x)

    def __call__(self, x: np.ndarray, summary: np.ndarray | None = None, first: np.ndarray | None = None) -> np.ndarray:
        """
        :param x: (n, input_dim)
        :param summary: (n, film_dim), when the network is modulated
        :param first: The result of :meth:`hidden` for the first layer, if it was computed before
        :return: (n, output_dim)
        """
        modulation = None if self.generator is None else affine(summary, *self.generator)  # type: ignore[arg-type]
        for i in range(len(self.layers)):
            x = self.hidden(x, i) if i > 0 or first is None else first
            if modulation is not None:
                x = x * (modulation[:, self.gammas[i]] + constant_row(1.0, x.shape[1]))
                x += modulation[:, self.betas[i]]
        return affine(x, *self.output)


class NumpySummarizer:
    """
    A :class:`StackedSummarizer` that is a DeepSet.

    :param summarizer: The stack
    """

    def __init__(self, summarizer: StackedSummarizer):
        self.states = weight_and_bias(summarizer.state, ALL)
        self.action_bias = weight_and_bias(summarizer.action, ALL)[1]
        self.actions = [weight_and_bias(summarizer.action, i)[0] for i in range(summarizer.n_networks)]
        self.elements = [weight_and_bias(summarizer.element, i) for i in range(summarizer.n_networks)]
        self.heads = [NumpyMLP(summarizer.head, i) for i in range(summarizer.n_networks)]
        self.pool = np.add if summarizer.pool.pool == "mean" else np.maximum

    def encode_states(self, features: np.ndarray) -> np.ndarray:
        """
        :param features: (n, features_dim)
        :return: The states' part of every network's first layer, (n_networks, n, hidden_dim)
        """
        states = affine(features, *self.states)
        states += self.action_bias
        return states

    def __call__(self, i: int, state: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """
        :param i: Which network
        :param state: Its part of :meth:`encode_states`, (n, hidden_dim)
        :param actions: The earlier actions, (n_actions, n, action_dim)
        :return: (n, summary_dim)
        """
        elements = actions.reshape(-1, actions.shape[2]).dot(self.actions[i])
        by_action = elements.reshape(len(actions), *state.shape)
        by_action += state[None]
        elements = relu(affine(relu(elements), *self.elements[i]))
        if len(actions) == 1:
            return self.heads[i](elements)
        pooled = self.pool.reduce(elements.reshape(by_action.shape), axis=0)
        if self.pool is np.add:
            pooled *= constant_row(1 / len(actions), pooled.shape[1])
        return self.heads[i](pooled)


class NumpyConditionedMLP:
    """
    A :class:`ConditionedMLP`, one network after the other. Only the parts that depend on the states alone run together.

    :param net: The stack
    """

    def __init__(self, net: ConditionedMLP):
        self.n_networks = net.n_networks
        self.together = NumpyMLP(net.net, ALL)
        self.networks = [NumpyMLP(net.net, i) for i in range(net.n_networks)]
        self.summarizer = None if net.summarizer is None else NumpySummarizer(net.summarizer)
        self.concatenates = net.summarizer is not None and net.modulation == "mlp"

    def outputs(self, features: np.ndarray, actions: np.ndarray) -> Iterator[np.ndarray]:
        """
        :param features: (n, features_dim)
        :param actions: (1 + n_networks, n, action_dim); the caller fills in the first i + 1 before it asks for the i-th output
        :return: Every network's outputs, (n, output_dim)
        """
        firsts: Sequence[np.ndarray | None] = [None] * self.n_networks
        if self.together.layers and not self.concatenates:
            firsts = self.together.hidden(features, 0)  # type: ignore[assignment]
        states = None if self.summarizer is None else self.summarizer.encode_states(features)
        for i, (network, first) in enumerate(zip(self.networks, firsts, strict=True)):
            summary = None if states is None else self.summarizer(i, states[i], actions[: i + 1])  # type: ignore[misc]
            inputs = np.concatenate([features, summary], axis=1) if self.concatenates else features  # type: ignore[list-item]
            yield network(inputs, None if self.concatenates else summary, first)
