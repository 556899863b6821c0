"""
Conditioning a network on the earlier actions a_<i: a summary of the list (§13.3) and its modulation (§13.4).

DeepSets have NumPy twins in ``sb3_savo.acceleration``, which ``tests/acceleration/test_numpy_policy.py`` keeps equal.
"""

from typing import Literal

import torch as th
from torch import nn

from sb3_savo.networks.stacked import ALL, StackedLinear, StackedMLP, expand_like

Summarizer = Literal["deepset", "lstm", "transformer"]
Modulation = Literal["film", "mlp"]
Pool = Literal["mean", "max"]

# So many networks are summarized at once. A group computes every action that one of its networks sees for all of them, so
# larger groups waste more work, and smaller ones make more calls.
SUMMARIZER_GROUP_SIZE = 2


class SetPool(nn.Module):
    """
    The DeepSet's pooling: the mean or the maximum over the elements that each network may see.

    :param n_networks: Number of networks; network i sees the first i + 1 elements
    :param dim: Size of an element
    :param pool: ``mean`` or ``max``
    """

    visible: th.Tensor

    def __init__(self, n_networks: int, dim: int, pool: Pool = "mean"):
        super().__init__()
        self.output_dim = dim
        self.pool = pool
        self.register_buffer("visible", th.ones(n_networks, n_networks).tril().bool()[:, :, None, None], persistent=False)

    def forward(self, elements: th.Tensor, nets: slice) -> th.Tensor:
        """
        :param elements: (n, n_elements, batch, dim)
        :param nets: Which networks of the stack to evaluate
        :return: (n, batch, dim)
        """
        visible = self.visible[nets, : elements.shape[1]]
        if self.pool == "max":
            return elements.masked_fill(~visible, -th.inf).amax(dim=1)
        return (elements * (visible / visible.sum(dim=1, keepdim=True))).sum(dim=1)


class SequencePool(nn.Module):
    """
    A sequence model of its own for every network, over the elements that the network may see.

    :param n_networks: Number of networks; network i sees the first i + 1 elements
    :param dim: Size of an element
    :param pool: Not used: the sequence model replaces the pooling
    """

    outputs_per_dim = 1

    def __init__(self, n_networks: int, dim: int, pool: Pool = "mean"):
        super().__init__()
        self.output_dim = self.outputs_per_dim * dim
        self.models = nn.ModuleList(self.make_model(dim) for _ in range(n_networks))

    def make_model(self, dim: int) -> nn.Module:
        """:return: A model that maps (n_elements, batch, dim) as :meth:`summarize` expects"""
        raise NotImplementedError

    def summarize(self, model: nn.Module, elements: th.Tensor) -> th.Tensor:
        """
        :param model: One network's sequence model
        :param elements: (n_elements, batch, dim)
        :return: One vector per state, (batch, features)
        """
        raise NotImplementedError

    def forward(self, elements: th.Tensor, nets: slice) -> th.Tensor:
        """
        :param elements: (n, n_elements, batch, dim)
        :param nets: Which networks of the stack to evaluate
        :return: (n, batch, features)
        """
        indices = range(len(self.models))[nets]
        return th.stack([self.summarize(self.models[i], seen[: i + 1]) for i, seen in zip(indices, elements, strict=True)])


class LSTMPool(SequencePool):
    """A 2-layer bidirectional LSTM; the last hidden states of both directions."""

    outputs_per_dim = 2

    def make_model(self, dim: int) -> nn.Module:
        return nn.LSTM(dim, dim, num_layers=2, bidirectional=True)

    def summarize(self, model: nn.Module, elements: th.Tensor) -> th.Tensor:
        _, (hidden, _) = model(elements)
        return th.cat([hidden[-2], hidden[-1]], dim=1)


class TransformerPool(SequencePool):
    """Self-attention and a feed-forward layer, then the mean over the elements."""

    def make_model(self, dim: int) -> nn.Module:
        return nn.TransformerEncoderLayer(dim, nhead=4, dim_feedforward=dim, dropout=0.0)

    def summarize(self, model: nn.Module, elements: th.Tensor) -> th.Tensor:
        return model(elements).mean(dim=0)


# A summarizer is one entry here: a class with the constructor of :class:`SetPool` and an ``output_dim``
POOLINGS: dict[Summarizer, type[SetPool | SequencePool]] = {
    "deepset": SetPool,
    "lstm": LSTMPool,
    "transformer": TransformerPool,
}


class StackedSummarizer(nn.Module):
    """
    Summaries of the earlier actions, one summarizer per network (§13.3): a 2-layer MLP on every (s, a_j), a pooling
    over j < i, and a 2-layer MLP.

    :param n_networks: Number of networks; network i (from 0) is conditioned on the first i + 1 actions
    :param features_dim: Size of the state's features
    :param action_dim: Size of an action
    :param summarizer: How the elements are pooled: ``deepset``, ``lstm`` or ``transformer``
    :param pool: The DeepSet's pooling, ``mean`` or ``max``
    :param hidden_dim: Size of the hidden layers
    :param summary_dim: Size of the summary
    """

    def __init__(
        self,
        n_networks: int,
        features_dim: int,
        action_dim: int,
        summarizer: Summarizer = "deepset",
        pool: Pool = "mean",
        hidden_dim: int = 64,
        summary_dim: int = 16,
    ):
        super().__init__()
        self.n_networks = n_networks
        # The first layer on (s, a_j) in two parts, since the part of s is equal for every j
        self.state = StackedLinear(n_networks, features_dim, hidden_dim)
        self.action = StackedLinear(n_networks, action_dim, hidden_dim)
        self.element = StackedLinear(n_networks, hidden_dim, hidden_dim)
        self.pool = POOLINGS[summarizer](n_networks, hidden_dim, pool)
        self.head = StackedMLP(n_networks, self.pool.output_dim, summary_dim, [hidden_dim])

    def forward(self, features: th.Tensor, actions: th.Tensor, nets: slice = ALL) -> th.Tensor:
        """
        :param features: (batch, features_dim)
        :param actions: Earlier actions, of which network i sees the first i + 1; (batch, n_actions, action_dim)
        :param nets: Which networks of the stack to evaluate
        :return: (n, batch, summary_dim)
        """
        networks = range(self.n_networks)[nets]
        state = self.state(features.expand(len(networks), -1, -1), nets).unsqueeze(1)
        pooled = []
        for start in range(0, len(networks), SUMMARIZER_GROUP_SIZE):
            group_states = state[start : start + SUMMARIZER_GROUP_SIZE]
            group = slice(networks.start + start, networks.start + start + len(group_states))
            seen = actions[:, : group.stop].transpose(0, 1).expand(len(group_states), -1, -1, -1)
            elements = self.element((group_states + self.action(seen, group)).relu(), group).relu()
            pooled.append(self.pool(elements, group))
        return self.head(pooled[0] if len(pooled) == 1 else th.cat(pooled), nets)


class ConditionedMLP(nn.Module):
    """
    A stack of MLPs, network i of which is conditioned on the first i + 1 of the earlier actions.

    :param n_networks: Number of networks
    :param input_dim: Number of inputs besides the conditioning
    :param output_dim: Number of outputs
    :param net_arch: Sizes of the hidden layers
    :param features_dim: Size of the state's features, for the summarizer
    :param action_dim: Size of an action
    :param activation_fn: Activation function
    :param layer_norm: Whether to normalize every hidden layer
    :param condition_on_previous: False for networks that ignore the earlier actions (the paper's "- Previous Actions")
    :param summarizer: ``deepset``, ``lstm`` or ``transformer``
    :param modulation: ``film``: h·γ(z) + β(z) after each hidden activation; ``mlp``: z concatenated to the input
    :param pool: The DeepSet's pooling, ``mean`` or ``max``
    :param summary_dim: Size of the summary z
    """

    def __init__(
        self,
        n_networks: int,
        input_dim: int,
        output_dim: int,
        net_arch: list[int],
        features_dim: int,
        action_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        layer_norm: bool = False,
        condition_on_previous: bool = True,
        summarizer: Summarizer = "deepset",
        modulation: Modulation = "film",
        pool: Pool = "mean",
        summary_dim: int = 16,
    ):
        super().__init__()
        self.n_networks = n_networks
        self.modulation = modulation
        self.summarizer = None
        if condition_on_previous:
            self.summarizer = StackedSummarizer(
                n_networks, features_dim, action_dim, summarizer=summarizer, pool=pool, summary_dim=summary_dim
            )
        used_dim = summary_dim if condition_on_previous else 0
        self.net = StackedMLP(
            n_networks,
            input_dim + (used_dim if modulation == "mlp" else 0),
            output_dim,
            net_arch,
            activation_fn,
            layer_norm=layer_norm,
            film_dim=used_dim if modulation == "film" else 0,
        )

    def forward(self, x: th.Tensor, features: th.Tensor, actions: th.Tensor, nets: slice = ALL) -> th.Tensor:
        """
        :param x: Inputs besides the conditioning, (n, ..., batch, input_dim)
        :param features: (batch, features_dim)
        :param actions: Earlier actions, of which network i sees the first i + 1; (batch, n_actions, action_dim)
        :param nets: Which networks of the stack to evaluate
        :return: (n, ..., batch, output_dim)
        """
        if self.summarizer is None:
            return self.net(x, nets)
        summary = self.summarizer(features, actions, nets)
        if self.modulation == "film":
            return self.net(x, nets, summary)
        return self.net(th.cat([x, expand_like(x, summary).expand(*x.shape[:-1], -1)], dim=-1), nets)
