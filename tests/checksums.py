"""
Checksums of what every algorithm learns and predicts in a short seeded run, to compare a refactoring with the code before it:

    python -m tests.checksums > before.txt    # at the old commit
    python -m tests.checksums > after.txt     # at the new commit, on the same machine
    diff before.txt after.txt

Processors and versions of torch round differently, so no checksum is stored here. Names of parameters do not enter.
"""

import argparse
import hashlib
from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.envs import BitFlippingEnv, FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_savo import SAVO, ActionEmbedding
from sb3_savo.acceleration.compiled_losses import EAGER_STEPS
from sb3_savo.baselines.search import SearchAlgorithm
from tests.algorithms import ALGORITHMS

QUICK: dict[str, Any] = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500, "seed": 0, "device": "cpu"}
N_UPDATES = 50


class Items(gym.Env):
    """Random observations; reward for items near the first observed number."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Discrete(30)
    step_number = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_number = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.step_number += 1
        return self._observe(), -abs(action / 15 - 1 - self.seen[0]), False, self.step_number == 9, {}

    def _observe(self) -> np.ndarray:
        self.seen = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return self.seen


class MaskedItems(Items):
    """Every third item is forbidden in turn."""

    def action_masks(self) -> np.ndarray:
        return np.arange(30) % 3 != self.step_number % 3


def items_env() -> gym.Env:
    """:return: 30 items"""
    return ActionEmbedding(Items(), np.random.default_rng(0).normal(size=(30, 4)))


def masked_env() -> gym.Env:
    """:return: 30 items with action masks"""
    return ActionEmbedding(MaskedItems(), np.random.default_rng(0).normal(size=(30, 4)))


def image_env() -> gym.Env:
    """:return: Small images, a continuous action"""
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=False)
    env.observation_space.seed(0)
    env.action_space.seed(0)
    return env


def make_models(compile: bool) -> Iterable[tuple[str, Any]]:
    """
    :param compile: Whether to compile the losses, of a few representative models
    :return: Names, and functions that make the models
    """

    def make(cls: type[BaseAlgorithm], env: Any, policy: str = "MlpPolicy", net_arch: Any = (24, 24), **kwargs: Any) -> Any:
        policy_kwargs = {"net_arch": list(net_arch), **kwargs.pop("policy_kwargs", {})}
        env = DummyVecEnv([env] * 2) if callable(env) else env
        return lambda: cls(policy, env, policy_kwargs=policy_kwargs, **{**QUICK, **kwargs})

    if compile:
        yield "SAVO", make(SAVO, "Pendulum-v1", compile=True, surrogate="hybrid")
        yield "SAVO items", make(SAVO, masked_env, compile=True)
        return
    for cls in ALGORITHMS:
        yield cls.__name__, make(cls, "Pendulum-v1")
        if cls.__name__ != "SAVOSAC":
            yield f"{cls.__name__} items", make(cls, items_env)
            yield f"{cls.__name__} masked items", make(cls, masked_env, selection_epsilon=0.2)
    for surrogate in ("hybrid", "exact", None):
        yield f"SAVO {surrogate}", make(SAVO, "Pendulum-v1", surrogate=surrogate, target_policy_noise=0.1)
        yield f"SAVO {surrogate} items", make(SAVO, masked_env, surrogate=surrogate, q_smoothing=surrogate == "exact")
    for name, kwargs in {
        "1 actor": {"n_actors": 1},
        "10 actors, gaussian": {"n_actors": 10, "exploration_noise": "gaussian", "selection_epsilon": 0.3},
        "lstm, mlp": {"summarizer": "lstm", "modulation": "mlp"},
        "transformer, xavier": {"summarizer": "transformer", "init": "xavier"},
        "joint": {"joint_action": True, "saturation_penalty": 0.5},
        "unconditioned, random": {"condition_on_previous": False, "init": "random"},
        "max pool, 3 critics, q_smoothing": {"policy_kwargs": {"pool": "max", "n_critics": 3}, "q_smoothing": True},
        "medium, n-step, no clipping": {"precision": "medium", "n_steps": 3, "max_grad_norm": None, "net_arch": (160, 160)},
        "sgd": {"policy_kwargs": {"optimizer_class": th.optim.SGD}, "qf_learning_rate": 1e-2, "gradient_steps": -1},
    }.items():
        yield f"SAVO {name}", make(SAVO, "Pendulum-v1", **kwargs)
    shared = {"policy_kwargs": {"share_features_extractor": True}}
    for cls in ALGORITHMS:
        policy_kwargs = {} if issubclass(cls, SearchAlgorithm) else shared["policy_kwargs"]
        yield f"{cls.__name__} images", make(cls, image_env(), "CnnPolicy", policy_kwargs=policy_kwargs, batch_size=4)
    yield "SAVO Dict", make(SAVO, SimpleMultiObsEnv(discrete_actions=False), "MultiInputPolicy", **shared)
    her = {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": {"n_sampled_goal": 2}}
    yield "SAVO HER", make(SAVO, BitFlippingEnv(n_bits=4, continuous=True), "MultiInputPolicy", **her)


def digest(tensors: Iterable[th.Tensor]) -> str:
    """
    :param tensors: Tensors in any order
    :return: A checksum of their shapes and values
    """
    parts = (f"{tuple(t.shape)}".encode() + t.detach().cpu().numpy().tobytes() for t in tensors)
    return hashlib.sha256(b"".join(sorted(hashlib.sha256(part).digest() for part in parts))).hexdigest()[:16]


def checksums(model: BaseAlgorithm) -> tuple[str, str]:
    """
    :param model: An untrained model
    :return: Checksums of the policy's parameters after :data:`N_UPDATES` gradient steps (if its losses are compiled, as many
        more as precede the compiled ones), and of its predictions
    """
    n_updates = N_UPDATES + (EAGER_STEPS if getattr(model, "compile", False) is True else 0)
    steps = QUICK["learning_starts"] + n_updates * model.n_envs
    model.learn(steps, log_interval=None)
    assert model._n_updates >= n_updates - model.n_envs, model._n_updates
    model.observation_space.seed(1)
    seen = [model.observation_space.sample() for _ in range(8)]
    batch = {k: np.stack([s[k] for s in seen]) for k in seen[0]} if isinstance(seen[0], dict) else np.stack(seen)
    predicted = [model.predict(obs, deterministic=choice)[0] for obs in (seen[0], batch) for choice in (True, False)]
    return digest(model.policy.state_dict().values()), digest(th.as_tensor(np.asarray(action)) for action in predicted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", action="store_true", help="compile the losses of a few models (minutes)")
    args = parser.parse_args()
    th.set_num_threads(1)
    for name, make in make_models(args.compile):
        print(name.ljust(48), *checksums(make()), flush=True)


if __name__ == "__main__":
    main()
