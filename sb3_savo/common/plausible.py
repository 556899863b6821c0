"""Warnings where numbers are finite, but so large that nothing is learned from them."""

import math
import warnings
from typing import Any

import numpy as np

from sb3_savo.common.finite import NonFiniteError

# A return is at most the largest reward over 1 - γ. A mean Q that is MARGIN times larger is no estimate of returns.
MARGIN = 10.0
# Below γ = 0.99 the range stays as wide, since untrained networks may begin there. From γ = 0.9999 on, episodes end before
# their discount does.
MIN_HORIZON, MAX_HORIZON = 1e2, 1e4
# Adam moves every weight by about the learning rate per step, and weights begin at about 0.1
MAX_ADAPTIVE_LEARNING_RATE = 0.1
# Networks begin near 0, and Adam moves their weights by the learning rate per step, so they never reach such rewards. The
# square of an error of 1e19 is infinite in float32.
MAX_REWARD = 1e9
# A gradient of a squared error is twice the error times the slope of Q, in all of the network's weights together
MAX_SLOPE = 1e4
# Gradient steps from one look at the gradients to the next, since their norms take about a hundredth of a step
GRADIENT_INTERVAL = 100
# A ratio, which is infinite where the critics have no error
RATIOS = ("surrogate_error_pct",)


def check_metrics(metrics: dict[str, float], n_updates: int, num_timesteps: int) -> None:
    """
    :param metrics: What the gradient steps recorded: losses and other means
    :param n_updates: Number of gradient steps so far
    :param num_timesteps: Environment steps so far
    :raises NonFiniteError: if one is NaN or infinite
    """
    for name, value in metrics.items():
        if not math.isfinite(value) and name not in RATIOS:
            raise NonFiniteError(
                f"{name} is {value} at step {num_timesteps}, gradient step {n_updates}: it must be finite. The weights are "
                "lost. Go back to the last saved model, and lower learning_rate or scale the rewards."
            )


class PlausibleRange:
    """
    Warns once when the learning rate, rewards, Q or gradients leave any plausible range. Make a new one for every call of
    ``learn``.

    :param gamma: Discount factor
    """

    def __init__(self, gamma: float):
        self.horizon = min(max(1 / max(1 - gamma, 1e-9), MIN_HORIZON), MAX_HORIZON)
        self.max_q = MARGIN * self.horizon
        self.has_warned = False

    def check_learning_rate(self, name: str, learning_rate: float, num_timesteps: int) -> None:
        """
        :param name: The argument
        :param learning_rate: Its value, of an optimizer whose steps do not depend on the size of the gradient
        :param num_timesteps: Environment steps so far
        """
        if learning_rate > MAX_ADAPTIVE_LEARNING_RATE:
            self._warn(f"{name}={learning_rate:g}", num_timesteps)

    def check_reward(self, reward: np.ndarray, num_timesteps: int) -> None:
        """
        :param reward: Rewards of the environments, (n_envs,)
        :param num_timesteps: Environment steps so far
        """
        if not self.has_warned and float(np.vdot(reward, reward)) > MAX_REWARD**2:
            i = int(np.abs(reward).argmax())
            self._warn(f"A reward of {reward[i]:g} in environment {i}", num_timesteps)

    def check_q(self, q_values: dict[str, float], stored_rewards: Any, num_timesteps: int) -> None:
        """
        :param q_values: Means that have the size of Q, by name
        :param stored_rewards: The rewards in the replay buffer, or None
        :param num_timesteps: Environment steps so far
        """
        if self.has_warned or max(q_values.values()) <= self.max_q:
            return
        # The largest reward is looked for where the size of Q asks for it only
        largest = float(np.abs(stored_rewards).max()) if isinstance(stored_rewards, np.ndarray) else 0.0
        self.max_q = MARGIN * self.horizon * max(1.0, largest)
        for name, value in q_values.items():
            if value > self.max_q:
                self._warn(f"{name} {value:g} (rewards are up to {largest:g})", num_timesteps)

    def check_gradient(self, name: str, norm: float, num_timesteps: int) -> None:
        """
        :param name: Name of the network
        :param norm: The norm of its gradient
        :param num_timesteps: Environment steps so far
        """
        if norm > MAX_SLOPE * self.max_q:
            self._warn(f"A gradient of norm {norm:g} of {name}", num_timesteps)

    def _warn(self, what: str, num_timesteps: int) -> None:
        if not self.has_warned:
            self.has_warned = True
            warnings.warn(
                f"{what} at step {num_timesteps} is beyond any plausible range, so nothing may be learned: lower "
                "learning_rate, or scale the rewards (VecNormalize).",
                stacklevel=2,
            )
