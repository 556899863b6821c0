"""Models on landscapes. In a frozen run the landscape replaces the critic."""

from typing import Any

import torch as th
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.envs.landscapes import CONTEXT_DIM, Landscape


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


def make_model(
    env_id: str,
    algorithm: str,
    arguments: dict[str, Any],
    seed: int,
    n_updates: int,
    frozen: bool,
    env_kwargs: dict[str, Any] | None = None,
) -> tuple[MaximizerAlgorithm, Landscape]:
    """
    :param env_id: Gymnasium's ID of the task
    :param algorithm: Name of an algorithm of the package, in small letters
    :param arguments: Its arguments, and ``n_envs``; a schedule of noise ends with the last update
    :param seed: Seed of the model and of the landscape
    :param n_updates: Planned number of updates
    :param frozen: Whether the landscape replaces the critic
    :param env_kwargs: Arguments of the task, without ``landscape_seed``
    :return: An untrained model, and its landscape
    """
    arguments = {**arguments}
    env = make_vec_env(env_id, n_envs=arguments.pop("n_envs", 1), env_kwargs={**(env_kwargs or {}), "landscape_seed": seed})
    landscape: Landscape = env.get_attr("landscape")[0]
    if "exploration_noise_scale" in arguments:
        initial, final, _ = arguments["exploration_noise_scale"]
        n_steps = n_updates * env.num_envs * arguments.get("train_freq", 1) // arguments.get("gradient_steps", 1)
        arguments["exploration_noise_scale"] = (initial, final, n_steps)
    model_class = with_frozen_critic(ALGORITHMS[algorithm]) if frozen else ALGORITHMS[algorithm]
    model = model_class(env=env, seed=seed, device="cpu", **arguments)
    if frozen:
        model.critic.q_networks = LandscapeQ(landscape)  # type: ignore[assignment]
    return model, landscape


def steps_until(model: MaximizerAlgorithm, n_updates: int) -> int:
    """
    :param model: A model that updates at every step of its environments
    :param n_updates: Number of updates since the start of its training
    :return: Environment steps from now on until it has done them
    """
    return model.learning_starts + n_updates * model.n_envs // model.gradient_steps - model.num_timesteps
