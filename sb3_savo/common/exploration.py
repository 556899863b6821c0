"""Exploration: noise on every candidate action, random choices, and linear schedules over environment steps."""

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import torch as th

from sb3_savo.arguments import check_integer, check_number

ExplorationNoise = Literal["ou", "gaussian", None]

# A constant, or a line: (initial value, final value, environment steps from one to the other)
StepSchedule = float | tuple[float, float, int]


def check_step_schedule(name: str, schedule: StepSchedule, high: float = np.inf) -> None:
    """
    :param name: The argument
    :param schedule: A number, or (initial value, final value, environment steps)
    :param high: The largest value it may take
    :raises TypeError: if it is neither a number nor three numbers
    :raises ValueError: if a value is negative or above ``high``, or the line has no steps
    """
    if not isinstance(schedule, (tuple, list)):
        check_number(name, schedule, high=high)
        return
    if len(schedule) != 3:
        raise ValueError(f"{name}={schedule!r} must be a number, or three: (initial value, final value, steps).")
    check_number(f"{name}[0]", schedule[0], high=high)
    check_number(f"{name}[1]", schedule[1], high=high)
    check_integer(f"{name}[2]", schedule[2], low=1)


def value_at(schedule: StepSchedule, num_timesteps: int) -> float:
    """
    :param schedule: A number, or (initial value, final value, environment steps)
    :param num_timesteps: Environment steps so far
    :return: The schedule's value; the final one stays after the line's end
    """
    if not isinstance(schedule, (tuple, list)):
        return schedule
    initial, final, steps = schedule
    return initial + min(num_timesteps / steps, 1.0) * (final - initial)


class CandidateNoise(ABC):
    """
    An independent noise process for every environment and every candidate (paper, Algorithm 1: â_i = a_i + ε_i).

    :param shape: (n_envs, n_candidates, action_dim); n_candidates is 1 for noise that all candidates share
    :param sigma: Scale of the noise, in units of the action space scaled to [-1, 1]
    """

    def __init__(self, shape: tuple[int, int, int], sigma: float):
        self.shape = shape
        self.sigma = sigma

    @abstractmethod
    def __call__(self) -> np.ndarray:
        """:return: The next noise of every process, of the given shape"""

    def reset(self, dones: np.ndarray) -> None:  # noqa: B027 (noise without memory has nothing to restart)
        """
        Start the processes of some environments anew.

        :param dones: Which environments ended their episode, (n_envs,)
        """


class GaussianCandidateNoise(CandidateNoise):
    """ε ~ N(0, σ²), independent in time."""

    def __call__(self) -> np.ndarray:
        return np.random.normal(scale=self.sigma, size=self.shape)


class OrnsteinUhlenbeckCandidateNoise(CandidateNoise):
    """
    ε ← ε - θ ε + σ N(0, 1), one step of the process per environment step, from zero at the start of an episode.

    :param shape: (n_envs, n_candidates, action_dim)
    :param sigma: Scale of the process
    :param theta: Rate of its return to zero
    """

    def __init__(self, shape: tuple[int, int, int], sigma: float, theta: float = 0.15):
        super().__init__(shape, sigma)
        self.theta = theta
        self.state = np.zeros(shape)

    def __call__(self) -> np.ndarray:
        self.state += self.sigma * np.random.normal(size=self.shape) - self.theta * self.state
        return self.state.copy()

    def reset(self, dones: np.ndarray) -> None:
        self.state[dones] = 0.0


def make_candidate_noise(kind: ExplorationNoise, sigma: float | None, shape: tuple[int, int, int]) -> CandidateNoise | None:
    """
    :param kind: The kind of noise, ``"ou"``, ``"gaussian"`` or None
    :param sigma: Scale of the noise; None for the paper's 0.2 (``ou``) and 0.1 (``gaussian``)
    :param shape: (n_envs, n_candidates, action_dim)
    :return: The noise, or None
    """
    if kind == "ou":
        return OrnsteinUhlenbeckCandidateNoise(shape, 0.2 if sigma is None else sigma)
    if kind == "gaussian":
        return GaussianCandidateNoise(shape, 0.1 if sigma is None else sigma)
    return None


def sample_noise(
    noise: CandidateNoise | None, n_candidates: int, scale: StepSchedule, num_timesteps: int, device: th.device
) -> th.Tensor | None:
    """
    :param noise: The noise, or None
    :param n_candidates: Number of candidates, which may share the noise
    :param scale: Its multiplier
    :param num_timesteps: Environment steps so far
    :param device: Where to put the sample
    :return: Scaled noise for every candidate, (n_envs, n_candidates, action_dim), or None
    """
    if noise is None:
        return None
    sample = th.as_tensor(noise() * value_at(scale, num_timesteps), dtype=th.float32, device=device)
    return sample.expand(-1, n_candidates, -1)


def sample_bypass(epsilon: float, n_envs: int) -> np.ndarray:
    """
    :param epsilon: Probability of a random choice
    :param n_envs: Number of environments
    :return: Which environments take a random choice instead of the best one, (n_envs,)
    """
    return np.random.random(n_envs) < epsilon if epsilon > 0 else np.zeros(n_envs, dtype=bool)


def randomize_choice(picked: th.Tensor, bypass: np.ndarray, n_candidates: int) -> th.Tensor:
    """
    :param picked: Indices of the best candidates, (n_envs, 1)
    :param bypass: Which environments take a random candidate instead, (n_envs,)
    :param n_candidates: Number of candidates
    :return: Indices, (n_envs, 1)
    """
    if not bypass.any():
        return picked
    random_choice = th.randint(n_candidates, picked.shape, device=picked.device)
    return th.where(th.as_tensor(bypass, device=picked.device).unsqueeze(1), random_choice, picked)
