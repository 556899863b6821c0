"""
Acting in NumPy: for a few observations, torch's calls take longer than what they compute.

A mirror is a network's forward pass on the memory of its parameters, whose changes it sees.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_savo.acceleration.blas_threads import on_one_thread
from sb3_savo.networks.conditioning import ConditionedMLP, SetPool, Summarizer
from sb3_savo.networks.stacked import ALL, StackedLayerNorm, StackedLinear, StackedMLP

# Of torch's layer normalization
EPSILON = 1e-5

# So many rows, and so large a matrix, from which on a product of matrices is faster than one for each row
FEW_ROWS, LARGE = 4, 2**14


def can_mirror(*networks: nn.Module) -> bool:
    """
    :param networks: Networks
    :return: Whether all that they consist of can be evaluated in NumPy
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


def arrays(layer: nn.Module, nets: int | slice) -> tuple[np.ndarray, np.ndarray]:
    """
    :param layer: Of a stack: linear, or a layer normalization
    :param nets: Which networks of the stack
    :return: Weight and bias, of one network or of several in the first dimension, which broadcast with rows of inputs
    """
    assert isinstance(layer, StackedLinear | StackedLayerNorm)
    weight, bias = layer.weight.detach()[nets], layer.bias.detach()[nets].unsqueeze(-2)
    return (weight if isinstance(layer, StackedLinear) else weight.unsqueeze(-2)).numpy(), bias.numpy()


def affine(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """:return: The outputs, (n, output_dim), of a linear layer, or (n_networks, n, output_dim) of one of each network"""
    if weight.ndim == 3:
        y = np.matmul(x, weight)
    elif 1 < len(x) < FEW_ROWS and weight.size >= LARGE:
        y = np.vecmat(x, weight)
    else:
        # (``matmul`` takes twice the time over small matrices)
        y = x.dot(weight)
    y += bias
    return y


@cache
def row(value: float, dim: int) -> np.ndarray:
    """:return: A number so often as in a row of so many: arrays of one shape take NumPy half the time"""
    return np.full((1, dim), value, dtype=np.float32)


def relu(x: np.ndarray) -> np.ndarray:
    """:return: The same, rectified in place"""
    return np.maximum(x, row(0.0, x.shape[-1]), out=x)


ACTIVATIONS: dict[type[nn.Module], Callable[[np.ndarray], np.ndarray]] = {
    nn.ReLU: relu,
    nn.Tanh: lambda x: np.tanh(x, out=x),
}


def normalize(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
    """Layer normalization in place, of the last dimension."""
    dim = x.shape[-1]
    x -= x.dot(row(1 / dim, dim).T)
    variance = np.vecdot(x, x)[..., None] * row(1 / dim, 1)
    variance += row(EPSILON, 1)
    x *= (weight + row(1.0, dim)) / np.sqrt(variance, out=variance)
    x += bias


class MirroredMLP:
    """
    One network of a :class:`StackedMLP`, or several side by side.

    :param net: The stack
    :param nets: Which of its networks
    """

    def __init__(self, net: StackedMLP, nets: int | slice = 0):
        self.activation = ACTIVATIONS[type(net.activation)]
        self.layers = [arrays(layer, nets) for layer in net.hidden]
        self.norms = [arrays(norm, nets) for norm in net.norms]
        self.output = arrays(net.output, nets)
        self.generator = None
        if net.film is not None:
            self.generator = arrays(net.film.generator, nets)
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
        :param first: What :meth:`hidden` is in the first layer, if that is known
        :return: (n, output_dim)
        """
        modulation = None if self.generator is None else affine(summary, *self.generator)  # type: ignore[arg-type]
        for i in range(len(self.layers)):
            x = self.hidden(x, i) if i > 0 or first is None else first
            if modulation is not None:
                x = x * (modulation[:, self.gammas[i]] + row(1.0, x.shape[1]))
                x += modulation[:, self.betas[i]]
        return affine(x, *self.output)


class MirroredSummarizer:
    """
    A :class:`Summarizer` that is a DeepSet.

    :param summarizer: The stack
    """

    def __init__(self, summarizer: Summarizer):
        self.states = arrays(summarizer.state, ALL)
        self.action_bias = arrays(summarizer.action, ALL)[1]
        self.actions = [arrays(summarizer.action, i)[0] for i in range(summarizer.n_networks)]
        self.elements = [arrays(summarizer.element, i) for i in range(summarizer.n_networks)]
        self.heads = [MirroredMLP(summarizer.head, i) for i in range(summarizer.n_networks)]
        self.pool = np.add if summarizer.pool.pool == "mean" else np.maximum

    def of_states(self, features: np.ndarray) -> np.ndarray:
        """
        :param features: (n, features_dim)
        :return: What every network makes of them, (n_networks, n, hidden_dim)
        """
        states = affine(features, *self.states)
        states += self.action_bias
        return states

    def __call__(self, i: int, state: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """
        :param i: Which network
        :param state: What it makes of the states, (n, hidden_dim)
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
            pooled *= row(1 / len(actions), pooled.shape[1])
        return self.heads[i](pooled)


class MirroredConditionedMLP:
    """
    A :class:`ConditionedMLP`: its networks one after the other, but for what depends on the states alone.

    :param net: The stack
    """

    def __init__(self, net: ConditionedMLP):
        self.n_networks = net.n_networks
        self.together = MirroredMLP(net.net, ALL)
        self.networks = [MirroredMLP(net.net, i) for i in range(net.n_networks)]
        self.summarizer = None if net.summarizer is None else MirroredSummarizer(net.summarizer)
        self.concatenates = net.summarizer is not None and net.modulation == "mlp"

    def outputs(self, features: np.ndarray, actions: np.ndarray) -> Iterator[np.ndarray]:
        """
        :param features: (n, features_dim)
        :param actions: (1 + n_networks, n, action_dim), the first i + 1 of which are there when the i-th network is asked for
        :return: Every network's outputs, (n, output_dim)
        """
        firsts: Sequence[np.ndarray | None] = [None] * self.n_networks
        if self.together.layers and not self.concatenates:
            firsts = self.together.hidden(features, 0)  # type: ignore[assignment]
        states = None if self.summarizer is None else self.summarizer.of_states(features)
        for i, (network, first) in enumerate(zip(self.networks, firsts, strict=True)):
            summary = None if states is None else self.summarizer(i, states[i], actions[: i + 1])  # type: ignore[misc]
            inputs = np.concatenate([features, summary], axis=1) if self.concatenates else features  # type: ignore[list-item]
            yield network(inputs, None if self.concatenates else summary, first)


class Mirror:
    """
    A policy that takes the proposal with the highest value under the first critic.

    :param propose: From observations, (n, features_dim), to one proposal per actor, (n_actors, n, action_dim) in [-1, 1]
    :param critics: The critics' stack
    :param action_space: The action space
    """

    def __init__(self, propose: Callable[[np.ndarray], np.ndarray], critics: StackedMLP, action_space: spaces.Box):
        self._propose = propose
        self.q1 = MirroredMLP(critics)
        self.low = action_space.low.reshape(1, -1)
        self.features_dim = len((self.q1.layers or [self.q1.output])[0][0]) - self.low.shape[1]
        self.span = action_space.high.reshape(1, -1) - self.low

    def flatten(self, observations: np.ndarray) -> np.ndarray:
        """
        :param observations: One, (...), or several, (n, ...)
        :return: (n, features_dim)
        """
        return observations.reshape(-1, self.features_dim).astype(np.float32, copy=False)

    def propose(self, obs: np.ndarray) -> np.ndarray:
        """
        :param obs: (n, features_dim)
        :return: Proposals, (n_actions, n, action_dim)
        """
        return on_one_thread(self._propose, obs)

    def maximize(self, obs: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """
        :param obs: (n, features_dim)
        :param actions: (n_actions, n, action_dim)
        :return: Which action has the highest value, (n,)
        """
        return on_one_thread(self._maximize, obs, actions)

    def act(self, observations: np.ndarray) -> np.ndarray:
        """
        :param observations: One, (...), or several, (n, ...)
        :return: The maximizer's actions, as the environment takes them, (n, action_dim)
        """
        return on_one_thread(self._act, observations)

    def _maximize(self, obs: np.ndarray, actions: np.ndarray) -> np.ndarray:
        n_actions, n, features_dim = len(actions), *obs.shape
        inputs = np.empty((n_actions, n, features_dim + actions.shape[2]), dtype=np.float32)
        inputs[:, :, :features_dim] = obs
        inputs[:, :, features_dim:] = actions
        return self.q1(inputs.reshape(-1, inputs.shape[2])).reshape(n_actions, n).argmax(axis=0)

    def _act(self, observations: np.ndarray) -> np.ndarray:
        obs = self.flatten(observations)
        proposals = self._propose(obs)
        actions = proposals[0]
        if len(proposals) > 1:
            actions = proposals[self._maximize(obs, proposals), np.arange(len(obs))]
        # As SB3's ``unscale_action``
        actions = (actions + row(1.0, actions.shape[1])) * row(0.5, actions.shape[1])
        actions *= self.span
        actions += self.low
        return actions

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # A copy would see other memory than the networks that are copied with it
        return type(None), ()
