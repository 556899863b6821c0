"""Resets (§12.2): begin again with new weights and the old replay buffer, against primacy bias (Nikishin et al., 2022)."""

from collections.abc import Iterator
from typing import Literal

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from torch import nn

from sb3_savo.arguments import check_choice, check_integer
from sb3_savo.networks.conditioning import StackedSummarizer
from sb3_savo.networks.network import Network
from sb3_savo.networks.stacked import StackedMLP

Reset = Literal["full", "last_layer"]


class ResetCallback(BaseCallback):
    """
    Re-initialize the networks of an off-policy algorithm (SB3's TD3, SAVO, ...) at regular intervals. Everything learned is
    discarded except the replay buffer. Optimizer state of re-initialized weights is cleared; in our algorithms, that of the
    whole network.

    :param reset: ``"full"``: all weights (Kim et al., 2024); ``"last_layer"``: the last layers of actors, critics and
        surrogates, online and target (Nikishin et al., 2022)
    :param reset_interval: Environment steps from one reset to the next, at least 1; the paper's 200,000
    :param verbose: Verbosity level: 1 for a message at every reset
    :raises TypeError: if ``reset_interval`` is not an integer
    :raises ValueError: if ``reset`` is unknown or ``reset_interval`` below 1
    """

    def __init__(self, reset: Reset = "full", reset_interval: int = 200_000, verbose: int = 0):
        super().__init__(verbose)
        check_choice("reset", reset, Reset)
        check_integer("reset_interval", reset_interval, low=1)
        self.reset = reset
        self.reset_interval = reset_interval

    def _init_callback(self) -> None:
        if not isinstance(self.model, OffPolicyAlgorithm):
            raise TypeError(
                f"callback: ResetCallback is for off-policy algorithms, which keep a replay buffer: "
                f"{type(self.model).__name__} would begin from nothing. The model must be SAVO, TD3, SAC, …"
            )

    def _on_training_start(self) -> None:
        self.n_intervals = self.num_timesteps // self.reset_interval

    def _on_step(self) -> bool:
        if self.num_timesteps // self.reset_interval > self.n_intervals:
            self.n_intervals = self.num_timesteps // self.reset_interval
            reset_networks(self.model, self.reset)
            if self.verbose >= 1:
                print(f"Reset ({self.reset}) after {self.num_timesteps} steps")
        return True


def reset_networks(model: BaseAlgorithm, reset: Reset) -> None:
    """
    :param model: An off-policy algorithm
    :param reset: ``full`` or ``last_layer``
    """
    policy = model.policy
    fresh = type(policy)(**policy._get_constructor_parameters()).to(policy.device)
    names = set(policy.state_dict()) if reset == "full" else set(last_layers(policy))
    policy.load_state_dict({name: value for name, value in fresh.state_dict().items() if name in names}, strict=False)
    forgotten = {parameter for name, parameter in policy.named_parameters() if name in names}
    for name in model._get_torch_save_params()[0]:
        if name.endswith(".optimizer"):
            optimizer: th.optim.Optimizer = recursive_getattr(model, name)
            network = recursive_getattr(model, name.removesuffix(".optimizer"), None)
            if isinstance(network, Network) and not forgotten.isdisjoint(network.parameter_vector.parameters):
                # One vector holds all weights of the network, so the moments of its other weights are cleared too
                optimizer.state.clear()
            for parameter in forgotten & optimizer.state.keys():
                del optimizer.state[parameter]


def last_layers(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """
    :param module: A policy of SB3's kind, or of ours; or a part of it
    :param prefix: Where in the policy it is
    :return: Names of the weights of every network's last layer; summarizers and features extractors have none
    """
    children = dict(module.named_children())
    linear = [name for name, child in children.items() if isinstance(child, nn.Linear)]
    if isinstance(module, StackedMLP):
        last = ["output"]
    elif isinstance(module, nn.Sequential):
        last = linear[-1:]
    else:
        last = linear  # SAC's actor has two, on top of another network
    for name in last:
        yield from (f"{prefix}{name}.{parameter}" for parameter, _ in children[name].named_parameters())
    if not last:
        for name, child in children.items():
            if name != "features_extractor" and not isinstance(child, StackedSummarizer):
                yield from last_layers(child, f"{prefix}{name}.")
