"""The landscape tasks, the methods that compete on them, and their models. In a frozen run a landscape replaces the critic."""

from typing import Any

import torch as th
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.envs.landscapes import CONTEXT_DIM, Landscape

TASKS = ("Peaks2D", "Peaks8D", "Rastrigin", "Items", "Peaks1D", "Peaks4D", "Shubert", "Ackley")
WIDE = {"net_arch": [256, 256]}
# Name of a method → name of its algorithm and the arguments that differ from the defaults; reports keep this order
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "td3": ("savo", {"n_actors": 1}),
    "ensemble": ("ensemble", {}),
    "wolpertinger": ("wolpertinger", {}),
    "wolpertinger_0.1": ("wolpertinger", {"sample_std": 0.1}),
    "cem": ("cem", {}),
    "greedyac": ("greedyac", {}),
    "greedytd3": ("greedytd3", {}),
    "multistart": ("multistart", {}),
    "savo": ("savo", {}),
    "savo_exact": ("savo", {"surrogate": "exact"}),
    "savo_hybrid": ("savo", {"surrogate": "hybrid"}),
    # Without Q-smoothing, which is the default for items
    "td3_raw_q": ("savo", {"n_actors": 1, "q_smoothing": False}),
    "ensemble_raw_q": ("ensemble", {"q_smoothing": False}),
    "wolpertinger_raw_q": ("wolpertinger", {"q_smoothing": False}),
    "savo_hybrid_raw_q": ("savo", {"surrogate": "hybrid", "q_smoothing": False}),
    "savo_penalty": ("savo", {"saturation_penalty": 1.0}),
    "savo_hybrid_penalty": ("savo", {"surrogate": "hybrid", "saturation_penalty": 1.0}),
    # Networks that are large enough for bfloat16, in float32 and in bfloat16
    "savo_hybrid_wide": ("savo", {"surrogate": "hybrid", "policy_kwargs": WIDE}),
    "savo_hybrid_wide_medium": ("savo", {"surrogate": "hybrid", "policy_kwargs": WIDE, "precision": "medium"}),
}
# SAVOSAC cannot compete under equal conditions: it takes no items, no noise schedule and no policy delay
EXCLUDED = ("savosac",)
# An algorithm that is new in the package's table competes with its default arguments
METHODS |= {name: (name, {}) for name in ALGORITHMS if name not in METHODS and name not in EXCLUDED}

N_ENVS = 16
SHARED: dict[str, Any] = {
    "learning_starts": 512,
    "gamma": 0.0,
    "buffer_size": 50_000,
    "policy_kwargs": {"net_arch": [64, 64]},
    "device": "cpu",
}
# Environment steps per update. In a frozen run the actors learn at every update, since no critic has to learn first
FREQUENCIES: dict[str, dict[str, Any]] = {
    "frozen": {"train_freq": 1, "gradient_steps": N_ENVS, "policy_delay": 1},
    "learned": {"train_freq": 1, "gradient_steps": N_ENVS // 4},
}
CHECKPOINTS = (2_500, 10_000, 40_000)


class LandscapeQ(nn.Module):
    """
    A landscape with the interface of the critic's stacked networks, which it replaces.

    :param landscape: The landscape
    """

    def __init__(self, landscape: Landscape):
        super().__init__()
        self.landscape = landscape

    def forward(self, inputs: th.Tensor, nets: slice) -> th.Tensor:
        """
        :param inputs: Contexts, each repeated for every one of its actions, and actions, for every network of the stack;
            (n, n_actions, batch, CONTEXT_DIM + action_dim)
        :param nets: The chosen networks of the stack; the landscape stands for every one of them
        :return: (n, n_actions, batch, 1)
        """
        contexts, actions = inputs[0, 0, :, :CONTEXT_DIM], inputs[0, ..., CONTEXT_DIM:].transpose(0, 1)
        return self.landscape(contexts, actions).T.expand(len(inputs), -1, -1).unsqueeze(3)


def with_frozen_critic(algorithm: type[MaximizerAlgorithm]) -> type[MaximizerAlgorithm]:
    """
    :param algorithm: An algorithm of the package
    :return: A subclass whose critic does not learn; Q̂, which imitates the critic, still learns
    """

    def update_critics(self: MaximizerAlgorithm, batch: Any) -> th.Tensor:
        if self.smooth_critic is not None:
            self.updater.step("smooth_critic", self.smoothing_loss, batch)
        return th.ones(())

    return type(f"Frozen{algorithm.__name__}", (algorithm,), {"update_critics": update_critics})


def make_model(kind: str, task: str, method: str, seed: int, n_updates: int) -> tuple[MaximizerAlgorithm, Landscape]:
    """
    :param kind: ``frozen`` or ``learned``
    :param task: One of :data:`TASKS`
    :param method: One of :data:`METHODS`
    :param seed: Seed of the model and of the landscape
    :param n_updates: Planned number of updates, over which the noise decays
    :return: An untrained model, and its landscape
    """
    env = make_vec_env(f"Landscape{task}-v0", n_envs=N_ENVS, env_kwargs={"landscape_seed": seed})
    landscape: Landscape = env.get_attr("landscape")[0]
    name, method_kwargs = METHODS[method]
    algorithm = with_frozen_critic(ALGORITHMS[name]) if kind == "frozen" else ALGORITHMS[name]
    scale = (1.0, 0.1, n_updates * steps_per_update(kind))
    kwargs = {**SHARED, **FREQUENCIES[kind], "exploration_noise_scale": scale, **method_kwargs}
    model = algorithm("MlpPolicy", env, seed=seed, **kwargs)
    if kind == "frozen":
        model.critic.q_networks = LandscapeQ(landscape)  # type: ignore[assignment]
    return model, landscape


def steps_per_update(kind: str) -> int:
    """
    :param kind: ``frozen`` or ``learned``
    :return: Environment steps per update
    """
    return N_ENVS // FREQUENCIES[kind]["gradient_steps"]
