"""
Several networks of one shape as one stack of weights, evaluated in one batched matrix product.

These networks have NumPy twins in ``sb3_savo.acceleration``, which ``tests/acceleration/test_numpy_policy.py`` keeps equal.
"""

from itertools import pairwise
from typing import Literal

import torch as th
from torch import nn
from torch.nn import functional as F

ALL = slice(None)

Init = Literal["orthogonal", "xavier", "random", "add"]

# Under autocast, smaller layers stay in float32, since casting them to bfloat16 would cost more time than it saves
MIN_BFLOAT16_WEIGHTS = 2**14


class StackedLinear(nn.Module):
    """
    ``n_networks`` linear layers, y_i = x_i W_i + b_i, as one batched product.

    :param n_networks: Number of layers in the stack
    :param input_dim: Number of inputs of each
    :param output_dims: Number of outputs of each; pass several to place several layers side by side on the same input
    """

    def __init__(self, n_networks: int, input_dim: int, *output_dims: int):
        super().__init__()
        self.output_dims = output_dims
        self.is_large = input_dim * sum(output_dims) >= MIN_BFLOAT16_WEIGHTS
        self.weight = nn.Parameter(th.empty(n_networks, input_dim, sum(output_dims)))
        self.bias = nn.Parameter(th.zeros(n_networks, sum(output_dims)))
        for matrix in self.matrices():
            nn.init.xavier_uniform_(matrix)

    def matrices(self) -> list[th.Tensor]:
        """:return: The weights of every layer, (input_dim, one of output_dims) each"""
        return [matrix for weight in self.weight.data for matrix in weight.split(self.output_dims, dim=1)]

    def forward(self, x: th.Tensor, nets: slice = ALL) -> th.Tensor:
        """
        :param x: Inputs, one row of the first dimension per selected network; (n, ..., batch, input_dim)
        :param nets: Which networks of the stack to evaluate
        :return: (n, ..., batch, output_dim)
        """
        rows, weight = x.flatten(1, -2), self.weight[nets]
        if not self.is_large and th.is_autocast_enabled(x.device.type):
            with th.autocast(x.device.type, enabled=False):
                y = th.bmm(rows.to(weight.dtype), weight)
        else:
            y = th.bmm(rows, weight)
        return (y + self.bias[nets].unsqueeze(1)).unflatten(1, x.shape[1:-1])


class StackedLayerNorm(nn.Module):
    """
    ``n_networks`` layer normalizations, each with a scale 1 + ``weight`` and a shift ``bias`` of its own, zero at first.

    :param n_networks: Number of normalizations in the stack
    :param dim: Number of units normalized together
    """

    def __init__(self, n_networks: int, dim: int):
        super().__init__()
        self.weight = nn.Parameter(th.zeros(n_networks, dim))
        self.bias = nn.Parameter(th.zeros(n_networks, dim))

    def forward(self, x: th.Tensor, nets: slice = ALL) -> th.Tensor:
        """
        :param x: (n, ..., batch, dim)
        :param nets: Which networks of the stack to evaluate
        :return: (n, ..., batch, dim)
        """
        normalized = F.layer_norm(x, x.shape[-1:])
        return th.addcmul(
            expand_like(x, self.bias[nets].unsqueeze(1)), expand_like(x, 1 + self.weight[nets].unsqueeze(1)), normalized
        )


class StackedFiLM(nn.Module):
    """
    Feature-wise linear modulation (paper, §13.4) of every hidden layer: h·γ(z) + β(z), one generator of each γ and β per
    network. Near the identity at first: γ is one plus a linear layer.

    :param n_networks: Number of networks in the stack
    :param summary_dim: Size of the summary z
    :param dims: Number of modulated units of each layer
    """

    def __init__(self, n_networks: int, summary_dim: int, dims: list[int]):
        super().__init__()
        # All generators see the same summary: one product
        self.generator = StackedLinear(n_networks, summary_dim, *dims, *dims)

    def forward(self, summary: th.Tensor, nets: slice = ALL) -> list[tuple[th.Tensor, th.Tensor]]:
        """
        :param summary: (n, batch, summary_dim)
        :param nets: Which networks of the stack to evaluate
        :return: γ - 1 and β for every layer, (n, batch, dim) each
        """
        parts = self.generator(summary, nets).split(self.generator.output_dims, dim=-1)
        n_layers = len(parts) // 2
        return list(zip(parts[:n_layers], parts[n_layers:], strict=True))


class StackedMLP(nn.Module):
    """
    ``n_networks`` multi-layer perceptrons of one shape.

    Each hidden layer is linear, layer normalization (optional), activation, feature-wise linear modulation (optional).

    :param n_networks: Number of networks in the stack
    :param input_dim: Number of inputs of each
    :param output_dim: Number of outputs of each
    :param net_arch: Sizes of the hidden layers
    :param activation_fn: Activation function
    :param layer_norm: Whether to normalize every hidden layer
    :param film_dim: Size of the summary that modulates every hidden activation; 0 for no modulation
    """

    def __init__(
        self,
        n_networks: int,
        input_dim: int,
        output_dim: int,
        net_arch: list[int],
        activation_fn: type[nn.Module] = nn.ReLU,
        layer_norm: bool = False,
        film_dim: int = 0,
    ):
        super().__init__()
        sizes = [input_dim, *net_arch]
        self.hidden = nn.ModuleList(StackedLinear(n_networks, n_in, n_out) for n_in, n_out in pairwise(sizes))
        self.norms = nn.ModuleList(StackedLayerNorm(n_networks, dim) for dim in net_arch if layer_norm)
        self.film = StackedFiLM(n_networks, film_dim, net_arch) if film_dim > 0 and net_arch else None
        self.activation = activation_fn()
        self.output = StackedLinear(n_networks, sizes[-1], output_dim)

    def forward(self, x: th.Tensor, nets: slice = ALL, summary: th.Tensor | None = None) -> th.Tensor:
        """
        :param x: (n, ..., batch, input_dim)
        :param nets: Which networks of the stack to evaluate
        :param summary: (n, batch, film_dim), when the networks are modulated
        :return: (n, ..., batch, output_dim)
        """
        modulations = None if self.film is None else self.film(summary, nets)
        for i, layer in enumerate(self.hidden):
            x = layer(x, nets)
            if self.norms:
                x = self.norms[i](x, nets)
            x = self.activation(x)
            if modulations is not None:
                gamma, beta = modulations[i]
                x = th.addcmul(expand_like(x, beta), expand_like(x, 1 + gamma), x)
        return self.output(x, nets)


def expand_like(x: th.Tensor, values: th.Tensor) -> th.Tensor:
    """
    :param x: (n, ..., batch, dim)
    :param values: Values that are constant over the middle dimensions, (n, batch, dim) or (n, 1, dim)
    :return: The values in a shape that broadcasts with x
    """
    while values.dim() < x.dim():
        values = values.unsqueeze(1)
    return values


def initialize_weights(module: nn.Module, scheme: Init, output_layers: list[StackedLinear]) -> None:
    """
    Initialize every stacked linear layer of a module by one of the paper's schemes (§14.7); biases are left alone.

    ``orthogonal`` gives the hidden layers orthogonal weights and shrinks the output layers by 1e-3, so that
    proposals start near the middle of the action space; ``xavier`` is Glorot's uniform; ``random`` is N(0, 1);
    ``add`` is ``xavier`` plus 0.5 N(0, 1).

    :param module: The module whose layers are initialized
    :param scheme: How to initialize the weights
    :param output_layers: The module's output layers
    """
    for layer in module.modules():
        if not isinstance(layer, StackedLinear):
            continue
        for weight in layer.matrices():
            if scheme == "orthogonal":
                nn.init.orthogonal_(weight, gain=1e-3 if layer in output_layers else 1.0)
            elif scheme == "random":
                nn.init.normal_(weight)
            else:
                nn.init.xavier_uniform_(weight)
                if scheme == "add":
                    weight.add_(th.randn_like(weight), alpha=0.5)
