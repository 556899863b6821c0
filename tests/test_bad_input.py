"""
The catalogue of bad input: every row is refused before the first environment step, by an error that names the argument, its
value and what would be right. No row is silent, and none fails later.
"""

import inspect
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO, TD3
from stable_baselines3.common.callbacks import CallbackList, EvalCallback, EveryNTimesteps
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from torch import nn

from sb3_savo import (
    CEM,
    Q3C,
    SAVO,
    SAVOSAC,
    ActionEmbedding,
    EmbeddedDiscrete,
    Ensemble,
    GreedyAC,
    GreedyTD3,
    MultiStart,
    ResetCallback,
    Wolpertinger,
)
from sb3_savo.envs import RestrictedAction
from sb3_savo.envs.landscapes import LandscapeEnv, make_item_landscape, make_landscape
from sb3_savo.envs.mining import MiningExpedition
from sb3_savo.envs.recsim import RecSim, RecSimVecEnv
from sb3_savo.envs.restricted import make_restricted
from sb3_savo.files.archives import seal
from tests.algorithms import ALGORITHMS

WITH_ITEMS = [algorithm for algorithm in ALGORITHMS if algorithm is not SAVOSAC]
WITH_ACTORS = [SAVO, SAVOSAC, Ensemble, Wolpertinger, GreedyAC, GreedyTD3]
NAN, INF = float("nan"), float("inf")
SMALL: dict[str, Any] = {"learning_starts": 20, "batch_size": 16, "buffer_size": 100, "seed": 0, "device": "cpu"}
NETWORKS = {"net_arch": [8]}
EMBEDDINGS = np.random.default_rng(0).uniform(-1, 1, (6, 3)).astype(np.float32)
BOX = spaces.Box(-1, 1, (2,), np.float32)


class Task(gym.Env):
    """Any spaces; no row of the catalogue may come so far as to step."""

    def __init__(self, action_space=BOX, observation_space=None):
        self.action_space = action_space
        self.observation_space = observation_space or spaces.Box(-1, 1, (3,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        raise AssertionError("late: the environment was stepped")


class Walk(Task):
    """A task that can be stepped, for models that must have learned."""

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def items(embeddings=EMBEDDINGS):
    return Task(EmbeddedDiscrete(embeddings))


def make(algorithm=SAVO, env=None, policy="MlpPolicy", **kwargs):
    arguments = {**SMALL, "policy_kwargs": NETWORKS, **kwargs}
    return algorithm(policy, Task() if env is None else env, **arguments)


def make_policy(algorithm, **kwargs):
    """:return: A policy built without an algorithm"""
    arguments = {
        "observation_space": Task().observation_space,
        "action_space": BOX,
        "lr_schedule": lambda _: 1e-3,
        "net_arch": [8],
        **kwargs,
    }
    return algorithm.policy_aliases["MlpPolicy"](**arguments)


class Case(NamedTuple):
    id: str
    call: Callable[[Path], Any]
    error: type[Exception]
    words: tuple[str, ...]


CASES: list[Case] = []


def add(name: str, call: Callable[[Path], Any], error: type[Exception], *words: str) -> None:
    """A row of the catalogue: what is done (with a folder for its files), the error, and what the message must say."""
    CASES.append(Case(name, call, error, words))


def each(algorithms: list, name: str, call: Callable[[Any, Path], Any], error: type[Exception], *words: str) -> None:
    """A row for each of some algorithms."""
    for algorithm in algorithms:
        add(f"{algorithm.__name__}-{name}", lambda path, algorithm=algorithm: call(algorithm, path), error, *words)


# Constructors

COMMON: list[tuple[str, Any, type[Exception], str]] = [
    ("learning_rate", "3e-4", TypeError, "must be a number above 0"),
    ("learning_rate", 0.0, ValueError, "must be a number above 0"),
    ("learning_rate", 1e6, ValueError, "at most 1"),
    ("learning_rate", NAN, ValueError, "must be a number above 0"),
    ("learning_rate", lambda progress: "fast", TypeError, "function of the remaining progress"),
    ("learning_rate", lambda progress: 1e6 * progress, ValueError, "at most 1"),
    ("learning_rate", lambda: 1e-3, TypeError, "function of the remaining progress"),
    ("qf_learning_rate", -1, ValueError, "must be a number above 0"),
    ("qf_learning_rate", 1e6, ValueError, "at most 1"),
    ("buffer_size", 0, ValueError, "at least 1"),
    ("buffer_size", 1e6, TypeError, "must be an integer"),
    ("buffer_size", 10**15, ValueError, "at most 100000000"),
    ("learning_starts", -1, ValueError, "at least 0"),
    ("learning_starts", None, TypeError, "must be an integer"),
    ("batch_size", 0, ValueError, "at least 1"),
    ("batch_size", 16.0, TypeError, "must be an integer"),
    ("tau", 0, ValueError, "never update the target networks"),
    ("tau", 0.0, ValueError, "never update the target networks"),
    ("tau", 1.5, ValueError, "at most 1"),
    ("tau", "x", TypeError, "must be a number"),
    ("gamma", "x", TypeError, "must be a number"),
    ("gamma", 1.5, ValueError, "at most 1"),
    ("gamma", NAN, ValueError, "at most 1"),
    ("train_freq", 0, ValueError, "at least 1"),
    ("train_freq", (1, "day", 2), ValueError, "'step' or 'episode'"),
    ("train_freq", "2", TypeError, "must be an integer"),
    ("gradient_steps", -2, ValueError, "at least -1"),
    ("gradient_steps", 1.5, TypeError, "must be an integer"),
    ("action_noise", 0.1, TypeError, "ActionNoise"),
    ("action_noise", NormalActionNoise, TypeError, "ActionNoise"),
    ("replay_buffer_class", "HerReplayBuffer", TypeError, "ReplayBuffer"),
    ("replay_buffer_class", nn.Module, TypeError, "ReplayBuffer"),
    ("replay_buffer_kwargs", [1], TypeError, "must be a dictionary"),
    ("replay_buffer_kwargs", {"n_step": 3}, TypeError, "unexpected keyword argument 'n_step'"),
    ("optimize_memory_usage", "no", ValueError, "True or False"),
    ("n_steps", 0, ValueError, "at least 1"),
    ("n_target_critics", 0, ValueError, "at least 1"),
    ("n_target_critics", 9, ValueError, "at most the policy's n_critics"),
    ("stats_window_size", 0, ValueError, "at least 1"),
    ("tensorboard_log", 5, TypeError, "must be a path"),
    ("policy_kwargs", [8], TypeError, "must be a dictionary"),
    ("verbose", "loud", TypeError, "0, 1 or 2"),
    ("seed", -1, ValueError, "at least 0"),
    ("seed", 0.5, TypeError, "must be an integer"),
    ("device", "gpu", ValueError, "'cpu'"),
    ("max_grad_norm", 0, ValueError, "must be a number above 0"),
    ("selection_epsilon", 2.0, ValueError, "at most 1"),
    ("exploration_noise", "pink", ValueError, "'ou'"),
    ("exploration_noise_std", -1.0, ValueError, "at least 0"),
    ("noise_per_candidate", "no", ValueError, "True or False"),
    ("exploration_noise_scale", (1.0, 0.0), ValueError, "three"),
    ("q_smoothing", "no", ValueError, "True or False"),
    ("nearest", "fast", ValueError, "'exact'"),
    ("compile", "always", ValueError, "'auto'"),
    ("compile", 1, ValueError, "'auto'"),
    ("precision", "low", ValueError, "'medium'"),
    ("policy_delay", 0, ValueError, "at least 1"),
    ("target_policy_noise", -1, ValueError, "at least 0"),
    ("target_noise_clip", INF, ValueError, "at least 0"),
]


def takes(algorithm, name):
    return name in algorithm.__init__.__signature__.parameters


def shown(name, value):
    """:return: How an error names an argument and its value"""
    return f"{name}" if callable(value) else f"{name}={value!r}"


def add_common() -> None:
    for number, (name, value, error, words) in enumerate(COMMON):
        for algorithm in ALGORITHMS:
            if not takes(algorithm, name):
                continue
            add(
                f"{algorithm.__name__}-{name}-{number}",
                lambda path, algorithm=algorithm, name=name, value=value: make(algorithm, **{name: value}),
                error,
                shown(name, value),
                words,
            )


add_common()

OWN: list[tuple[Any, str, Any, type[Exception], str]] = [
    (SAVO, "n_actors", 0, ValueError, "at least 1"),
    (SAVO, "n_actors", 10**6, ValueError, "at most 1000"),
    (SAVO, "surrogate", "learned", ValueError, "'hybrid'"),
    (SAVO, "summarizer", "gru", ValueError, "'deepset'"),
    (SAVO, "modulation", None, ValueError, "'film'"),
    (SAVO, "condition_on_previous", "no", ValueError, "True or False"),
    (SAVO, "joint_action", 1, ValueError, "True or False"),
    (SAVO, "init", "zeros", ValueError, "'orthogonal'"),
    (SAVO, "saturation_penalty", -0.1, ValueError, "at least 0"),
    (SAVOSAC, "n_actors", 10**6, ValueError, "at most 1000"),
    (SAVOSAC, "n_actors", 2.0, TypeError, "must be an integer"),
    (SAVOSAC, "summarizer", "gru", ValueError, "'deepset'"),
    (SAVOSAC, "condition_on_previous", "no", ValueError, "True or False"),
    (SAVOSAC, "ent_coef", "automatic", ValueError, "'auto'"),
    (SAVOSAC, "ent_coef", -0.1, ValueError, "at least 0"),
    (SAVOSAC, "target_entropy", "low", TypeError, "must be a number"),
    (SAVOSAC, "target_update_interval", 0, ValueError, "at least 1"),
    (SAVOSAC, "use_sde", True, ValueError, "must be False"),
    (Ensemble, "n_actors", 0, ValueError, "at least 1"),
    (Ensemble, "n_actors", 10**6, ValueError, "at most 1000"),
    (Wolpertinger, "k", 0, ValueError, "at least 1"),
    (Wolpertinger, "k", 10**9, ValueError, "at most 100000"),
    (Wolpertinger, "sample_std", -1, ValueError, "at least 0"),
    (CEM, "n_iterations", 0, ValueError, "at least 1"),
    (CEM, "n_samples", 2, ValueError, "at least 3"),
    (CEM, "n_samples", 10**9, ValueError, "at most 100000"),
    (CEM, "n_elites", 0, ValueError, "at least 1"),
    (MultiStart, "n_starts", 0, ValueError, "at least 1"),
    (MultiStart, "n_starts", 10**9, ValueError, "at most 100000"),
    (MultiStart, "n_ascent_steps", -1, ValueError, "at least 0"),
    (MultiStart, "step_size", 0, ValueError, "above 0"),
    (Q3C, "n_points", 9, ValueError, "at least 10"),
    (Q3C, "n_points", 10**9, ValueError, "at most 100000"),
    (Q3C, "n_nearest", 0, ValueError, "at least 1"),
    (Q3C, "smoothing", -1, ValueError, "at least 0"),
    (Q3C, "separation_coef", -1, ValueError, "at least 0"),
    (GreedyAC, "n_samples", 2, ValueError, "at least 3"),
    (GreedyAC, "n_elites", 1.0, TypeError, "must be an integer"),
    (GreedyAC, "entropy_coef", "x", TypeError, "must be a number"),
    (GreedyTD3, "n_samples", 10**9, ValueError, "at most 100000"),
    (GreedyTD3, "entropy_coef", -1, ValueError, "at least 0"),
]
for number, (algorithm, name, value, error, words) in enumerate(OWN):
    add(
        f"{algorithm.__name__}-own-{name}-{number}",
        lambda path, algorithm=algorithm, name=name, value=value: make(algorithm, **{name: value}),
        error,
        f"{name}={value!r}",
        words,
    )

each(
    ALGORITHMS,
    "misspelt",
    lambda a, _: make(a, learning_rat=1e-3),
    TypeError,
    "learning_rat=0.001",
    "did you mean learning_rate",
)
add("misspelt-own", lambda _: make(SAVO, n_actor=3), TypeError, "n_actor=3", "SAVO", "did you mean n_actors")
add("misspelt-k", lambda _: make(CEM, n_elite=3), TypeError, "n_elite=3", "CEM", "did you mean n_elites")
each(ALGORITHMS, "batch", lambda a, _: make(a, buffer_size=8, batch_size=16), ValueError, "buffer_size=8", "batch_size=16")
each(ALGORITHMS, "policy", lambda a, _: make(a, policy="MlpPolic"), ValueError, "policy='MlpPolic'", "'MlpPolicy'")
each(ALGORITHMS, "policy-none", lambda a, _: make(a, policy=None), TypeError, "policy=None", "must be one of")
each(ALGORITHMS, "policy-module", lambda a, _: make(a, policy=nn.Module), TypeError, "policy=Module", "must be one of")
each(ALGORITHMS, "env-none", lambda a, _: a("MlpPolicy", None, **SMALL), ValueError, "env=None", "must be")
each(ALGORITHMS, "env-number", lambda a, _: a("MlpPolicy", 5, **SMALL), TypeError, "env=5", "environment of Gymnasium")
add("env-id", lambda _: make(env="Pendulun-v1"), ValueError, "env='Pendulun-v1'", "ID of a registered environment")
add("env-class", lambda _: make(env=Task), TypeError, "env=", "environment of Gymnasium")
add(
    "noise-size",
    lambda _: make(action_noise=NormalActionNoise(np.zeros(5), np.ones(5))),
    ValueError,
    "action_noise",
    "must have 2",
)
add(
    "noise-envs",
    lambda _: make(action_noise=VectorizedActionNoise(NormalActionNoise(np.zeros(2), np.ones(2)), 3)),
    ValueError,
    "action_noise",
    "must be for 1",
)
add(
    "n_steps-dict",
    lambda _: make(env=Task(BOX, spaces.Dict(a=BOX)), policy="MultiInputPolicy", n_steps=2),
    ValueError,
    "n_steps=2",
)
each(
    ALGORITHMS,
    "kwargs-of-the-algorithm",
    lambda a, _: make(a, policy_kwargs={"net_arch": [8], "gamma": 0.9}),
    ValueError,
    "policy_kwargs",
    "'gamma'",
    "argument of the algorithm",
)
if not th.cuda.is_available():
    each(ALGORITHMS, "cuda", lambda a, _: make(a, device="cuda"), ValueError, "device='cuda'", "0 cuda devices", "'cpu'")
    each(ALGORITHMS, "cuda-device", lambda a, _: make(a, device=th.device("cuda:1")), ValueError, "device=", "'cpu'")
    each(ALGORITHMS, "cuda-policy", lambda a, p: load_policy(a, p, device="cuda"), ValueError, "device='cuda'", "'cpu'")

# Policies, through policy_kwargs and built directly

POLICY: list[tuple[list, str, Any, type[Exception], str]] = [
    (ALGORITHMS, "net_arch", [0], ValueError, "at least 1"),
    (ALGORITHMS, "net_arch", [8.0], TypeError, "must be an integer"),
    (ALGORITHMS, "net_arch", [10**9], ValueError, "at most 65536"),
    (ALGORITHMS, "net_arch", "[8]", TypeError, "list of integers"),
    (ALGORITHMS, "net_arch", {"pi": [8]}, ValueError, "'qf'"),
    (ALGORITHMS, "net_arch", {"pi": [8], "qf": [-1]}, ValueError, "at least 1"),
    (ALGORITHMS, "activation_fn", "relu", TypeError, "torch.nn.modules.module.Module"),
    (ALGORITHMS, "activation_fn", nn.ReLU(), TypeError, "torch.nn.modules.module.Module"),
    (ALGORITHMS, "features_extractor_class", nn.Module, TypeError, "BaseFeaturesExtractor"),
    (ALGORITHMS, "features_extractor_kwargs", 5, TypeError, "must be a dictionary"),
    (ALGORITHMS, "features_extractor_kwargs", {"dim": 5}, TypeError, "must be arguments of FlattenExtractor"),
    (ALGORITHMS, "normalize_images", "no", ValueError, "True or False"),
    (ALGORITHMS, "optimizer_class", "Adam", TypeError, "Optimizer"),
    (ALGORITHMS, "optimizer_class", th.optim.LBFGS, ValueError, "Adam"),
    (ALGORITHMS, "optimizer_class", th.optim.SparseAdam, ValueError, "Adam"),
    (ALGORITHMS, "optimizer_kwargs", {"lr": 1e-3}, ValueError, "learning_rate"),
    (ALGORITHMS, "optimizer_kwargs", {"momentun": 0.9}, TypeError, "momentun"),
    (ALGORITHMS, "optimizer_kwargs", {"betas": (2.0, 0.9)}, ValueError, "Adam"),
    (ALGORITHMS, "n_critics", 0, ValueError, "at least 1"),
    (ALGORITHMS, "n_critics", 10**6, ValueError, "at most 1000"),
    (WITH_ACTORS, "layer_norm", "no", ValueError, "True or False"),
    (WITH_ACTORS, "share_features_extractor", 1, ValueError, "True or False"),
    ([SAVO, SAVOSAC], "pool", "sum", ValueError, "'mean'"),
    ([SAVO, SAVOSAC], "summary_dim", 0, ValueError, "at least 1"),
]


def add_policies() -> None:
    for number, (algorithms, name, value, error, words) in enumerate(POLICY):
        said = name if callable(value) or isinstance(value, (list, dict)) else f"{name}={value!r}"
        for how, build in (
            ("kwargs", lambda a, n, v: make(a, policy_kwargs={**NETWORKS, n: v})),
            ("direct", lambda a, n, v: make_policy(a, **{n: v})),
        ):
            each(
                algorithms,
                f"{how}-{name}-{number}",
                lambda a, _, build=build, name=name, value=value: build(a, name, value),
                error,
                said,
                words,
            )
    for number, (algorithm, name, value, error, words) in enumerate(OWN):
        if name in algorithm.policy_aliases["MlpPolicy"].__init__.__signature__.parameters and name != "ent_coef":
            add(
                f"{algorithm.__name__}-direct-own-{name}-{number}",
                lambda path, a=algorithm, n=name, v=value: make_policy(a, **{n: v}),
                error,
                f"{name}={value!r}",
                words,
            )


add_policies()
each(ALGORITHMS, "kwargs-misspelt", lambda a, _: make(a, policy_kwargs={"netarch": [8]}), TypeError, "netarch=[8]", "net_arch")
each(ALGORITHMS, "direct-misspelt", lambda a, _: make_policy(a, n_critic=2), TypeError, "n_critic=2", "did you mean n_critics")
each(
    ALGORITHMS,
    "direct-schedule",
    lambda a, _: make_policy(a, lr_schedule=1e6),
    ValueError,
    "lr_schedule=1000000.0",
    "at most 1",
)
each(
    ALGORITHMS,
    "direct-box",
    lambda a, _: make_policy(a, action_space=spaces.Discrete(3)),
    TypeError,
    "action_space",
    "Box of floats",
)
each(
    ALGORITHMS,
    "direct-width",
    lambda a, _: make_policy(a, action_space=spaces.Box(-INF, INF, (2,))),
    ValueError,
    "action_space",
    "finite bounds",
)
each(
    ALGORITHMS,
    "direct-tuple",
    lambda a, _: make_policy(a, observation_space=spaces.Tuple([BOX])),
    TypeError,
    "observation_space",
    "needs a Box",
)
each(
    ALGORITHMS,
    "cnn-of-numbers",
    lambda a, _: make(a, policy="CnnPolicy"),
    ValueError,
    "policy",
    "NatureCNN",
    "'MlpPolicy'",
)
each(
    ALGORITHMS,
    "multi-input-of-one",
    lambda a, _: make(a, policy="MultiInputPolicy"),
    ValueError,
    "policy",
    "CombinedExtractor",
    "'MlpPolicy'",
)
each(
    ALGORITHMS,
    "mlp-of-dict",
    lambda a, _: make(a, env=Task(BOX, spaces.Dict(a=BOX))),
    ValueError,
    "MultiInputPolicy",
    "MlpPolicy",
)
add("savosac-items", lambda _: make(SAVOSAC, items()), TypeError, "env", "SAVOSAC needs a Box of floats")
add("k-items", lambda _: make(Wolpertinger, items(), k=7), ValueError, "k=7", "only 6 items")


# Spaces

HUGE, TINY = np.finfo(np.float32).max, np.float32(1e-45)
SPACES: list[tuple[str, Any, type[Exception], str]] = [
    ("infinite", spaces.Box(-INF, INF, (2,)), ValueError, "finite bounds"),
    ("half-infinite", spaces.Box(0, INF, (2,)), ValueError, "finite bounds"),
    ("largest", spaces.Box(-HUGE, HUGE, (2,), np.float32), ValueError, "infinite in float32"),
    ("3e38", spaces.Box(-3e38, 3e38, (2,), np.float32), ValueError, "infinite in float32"),
    ("largest-float64", spaces.Box(-1.7e308, 1.7e308, (2,), np.float64), ValueError, "infinite in float64"),
    ("wide-float64", spaces.Box(-1e300, 1e300, (2,), np.float64), ValueError, "infinite in float32"),
    ("largest-float16", spaces.Box(-6e4, 6e4, (2,), np.float16), ValueError, "infinite in float16"),
    ("no-width", spaces.Box(np.float32([-1, 0]), np.float32([1, 0])), ValueError, "low must be below high"),
    ("tiny", spaces.Box(0, TINY, (2,), np.float32), ValueError, "wider"),
    ("narrow", spaces.Box(1e6, 1e6 + 1, (2,), np.float32), ValueError, "wider"),
    ("narrow-float64", spaces.Box(1e16, 1e16 + 16, (2,), np.float64), ValueError, "wider"),
    ("empty", spaces.Box(-1, 1, (0,), np.float32), ValueError, "at least one dimension"),
    ("integer", spaces.Box(0, 5, (2,), np.int64), TypeError, "Box of floats"),
    ("bytes", spaces.Box(0, 255, (2,), np.uint8), TypeError, "Box of floats"),
    ("discrete", spaces.Discrete(4), TypeError, "Box of floats"),
    ("multi-discrete", spaces.MultiDiscrete([2, 3]), TypeError, "Box of floats"),
    ("multi-binary", spaces.MultiBinary(3), TypeError, "Box of floats"),
    ("dict", spaces.Dict(a=BOX), TypeError, "Box of floats"),
    ("tuple", spaces.Tuple([BOX, BOX]), TypeError, "Box of floats"),
    ("text", spaces.Text(3), TypeError, "Box of floats"),
]
OBSERVATION_SPACES: list[tuple[str, Any, type[Exception], str]] = [
    ("tuple", spaces.Tuple([BOX]), TypeError, "needs a Box"),
    ("nested", spaces.Dict(a=spaces.Dict(b=BOX)), TypeError, "without a Dict in it"),
    ("text", spaces.Text(3), TypeError, "needs a Box"),
    ("empty", spaces.Box(-1, 1, (0,)), ValueError, "at least one number"),
    ("start", spaces.Discrete(3, start=2), ValueError, "needs start=0"),
    ("starts", spaces.MultiDiscrete([3, 4], start=[0, 1]), ValueError, "needs start=0"),
    ("scalar", spaces.Box(-1, 1, ()), ValueError, "a Box of the shape ()"),
    ("scalar-in-dict", spaces.Dict(a=BOX, b=spaces.Box(-1, 1, ())), ValueError, "at least one axis in a Box"),
    ("matrix", spaces.MultiDiscrete(np.array([[2, 3], [3, 4]])), ValueError, "a MultiDiscrete of the shape (2, 2)"),
    ("start-in-dict", spaces.Dict(a=BOX, b=spaces.Discrete(3, start=-1)), ValueError, "needs start=0"),
]
for name, space, error, words in SPACES:
    each(
        ALGORITHMS,
        f"space-{name}",
        lambda a, _, s=space: make(a, Task(s)),
        error,
        "env: the action space",
        str(space)[:12],
        words,
    )
for name, space, error, words in OBSERVATION_SPACES:
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    each(
        ALGORITHMS,
        f"observations-{name}",
        lambda a, _, s=space, p=policy: make(a, Task(BOX, s), policy=p),
        error,
        "env: the observation space",
        words,
    )

# Embeddings

ROWS = np.arange(12.0).reshape(4, 3)


def changed(row, value):
    rows = ROWS.copy()
    rows[row] = value
    return rows


EMBEDDING: list[tuple[str, Any, type[Exception], tuple[str, ...]]] = [
    ("nan", changed(2, NAN), ValueError, ("row 2", "finite")),
    ("infinite", changed(1, INF), ValueError, ("row 1", "finite")),
    ("beyond-float32", changed(3, 1e300), ValueError, ("row 3", "finite")),
    ("duplicates", changed(3, ROWS[1]), ValueError, ("rows 1 and 3", "item 3 could never be taken", "Merge")),
    ("float32-equal", changed(3, ROWS[1] + 1e-9), ValueError, ("rows 1 and 3", "float32")),
    ("equal-when-scaled", np.array([[0.5], [1.0], [20.0], [1e9]]), ValueError, ("rows 0 and 1", "after scaling", "clip")),
    ("too-large", np.array([[3e38], [-3e38], [0.0]]), ValueError, ("row 0", "above 1.7e+38")),
    ("signed-zero", np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 1.0]]), ValueError, ("rows 0 and 1",)),
    ("all-equal", np.ones((4, 3)), ValueError, ("all 4 rows are the same",)),
    ("one-row", ROWS[:1], ValueError, ("(1, 3)", "(N, D)")),
    ("one-dimensional", ROWS[0], ValueError, ("(3,)", "(N, D)")),
    ("three-dimensional", ROWS[None], ValueError, ("(1, 4, 3)", "(N, D)")),
    ("no-column", ROWS[:, :0], ValueError, ("(4, 0)", "(N, D)")),
    ("strings", np.array([["a"], ["b"]]), TypeError, ("<U1", "numbers")),
    ("bools", np.eye(3, dtype=bool), TypeError, ("bool", "numbers")),
    ("objects", np.array([[None], [1]]), TypeError, ("object", "numbers")),
    ("none", None, TypeError, ("object", "numbers")),
    ("ragged", [[1.0, 2.0], [3.0]], ValueError, ("(N, D)",)),
]
for name, embeddings, error, parts in EMBEDDING:
    add(f"embeddings-{name}", lambda _, e=embeddings: EmbeddedDiscrete(e), error, "embeddings", *parts)
    add(
        f"wrapped-embeddings-{name}",
        lambda _, e=embeddings: ActionEmbedding(Task(spaces.Discrete(4)), e),
        error,
        "embeddings",
        *parts,
    )
add("embeddings-rows", lambda _: ActionEmbedding(Task(spaces.Discrete(5)), ROWS), ValueError, "4 rows", "5 actions", "one row")
add("embeddings-box", lambda _: ActionEmbedding(Task(), ROWS), TypeError, "env", "not Discrete")
add(
    "embeddings-env",
    lambda _: ActionEmbedding("CartPole-v1", ROWS),
    TypeError,
    "env='CartPole-v1'",
    "environment of Gymnasium",
)
add(
    "embeddings-flag",
    lambda _: EmbeddedDiscrete(ROWS, allow_duplicates="no"),
    ValueError,
    "allow_duplicates='no'",
    "True or False",
)


# Environments


def restricted(**kwargs):
    return RestrictedAction(Task(), **{"centers": [[0.5, 0.5]], "radii": 0.1, **kwargs})


RESTRICTED: list[tuple[str, dict[str, Any], type[Exception], tuple[str, ...]]] = [
    ("radii-string", {"radii": "0.1"}, TypeError, ("radii='0.1'", "must be a number")),
    ("radii-strings", {"radii": ["0.1"]}, TypeError, ("radii", "must be a number")),
    ("radii-none", {"radii": None}, TypeError, ("radii=None", "must be a number")),
    ("radii-zero", {"radii": 0.0}, ValueError, ("radii", "above 0")),
    ("radii-nan", {"radii": NAN}, ValueError, ("radii", "finite")),
    ("radii-shape", {"radii": [0.1, 0.2]}, ValueError, ("radii", "(2,)", "one number")),
    ("centers-strings", {"centers": [["a", "b"]]}, TypeError, ("centers", "array of numbers")),
    ("centers-shape", {"centers": [0.5, 0.5]}, ValueError, ("centers", "(2,)", "(n_balls, 2)")),
    ("centers-columns", {"centers": [[0.5]]}, ValueError, ("centers", "(1, 1)", "(n_balls, 2)")),
    ("centers-ragged", {"centers": [[0.5, 0.5], [0.5]]}, ValueError, ("centers", "one length")),
    ("centers-none", {"centers": np.zeros((0, 2))}, ValueError, ("centers", "(0, 2)")),
    ("centers-nan", {"centers": [[NAN, 0.5]]}, ValueError, ("centers", "finite")),
    ("covers-nothing", {"centers": [[3.0, 3.0]]}, ValueError, ("centers and radii", "no action would be valid")),
    ("covers-everything", {"radii": 5.0}, ValueError, ("radii=5.0", "every action would be valid", "smaller")),
    (
        "balls-cover-everything",
        {"centers": [[x, y] for x in (0.25, 0.75) for y in (0.25, 0.75)], "radii": 0.4},
        ValueError,
        ("radii=0.4", "every action would be valid"),
    ),
    ("reward-nan", {"invalid_reward": NAN}, ValueError, ("invalid_reward=nan", "must be a number")),
    ("reward-infinite", {"invalid_reward": -INF}, ValueError, ("invalid_reward=-inf", "must be a number")),
    ("reward-string", {"invalid_reward": "-10"}, TypeError, ("invalid_reward='-10'", "must be a number")),
    ("exempt", {"exempt_first_step": "no"}, ValueError, ("exempt_first_step='no'", "True or False")),
    ("action-outside", {"invalid_action": 5.0}, ValueError, ("invalid_action=5.0", "action space")),
    ("action-nan", {"invalid_action": NAN}, ValueError, ("invalid_action=nan", "action space")),
    ("action-string", {"invalid_action": "0"}, TypeError, ("invalid_action='0'", "must be a number")),
    ("action-shape", {"invalid_action": [0.0, 0.0, 0.0]}, ValueError, ("invalid_action", "(3,)", "(2,)")),
]
for name, kwargs, error, parts in RESTRICTED:
    add(f"restricted-{name}", lambda _, k=kwargs: restricted(**k), error, *parts)
add("restricted-items", lambda _: RestrictedAction(items(), [[0.5]], 0.1), TypeError, "env", "Box of floats")
add(
    "restricted-env",
    lambda _: RestrictedAction("Hopper-v5", [[0.5]], 0.1),
    TypeError,
    "env='Hopper-v5'",
    "environment of Gymnasium",
)
add("restricted-id", lambda _: make_restricted("CartPole-v1"), TypeError, "env_id='CartPole-v1'", "Box of floats")
add("restricted-id-type", lambda _: make_restricted(5), TypeError, "env_id=5", "ID")
add("restricted-registered", lambda _: gym.make("HopperRestricted-v5", invalid_reward=NAN), ValueError, "invalid_reward=nan")

ENVIRONMENT: list[tuple[Callable, str, Any, type[Exception], str]] = [
    (make_landscape, "landscape", "hills", ValueError, "'peaks'"),
    (make_landscape, "action_dim", 0, ValueError, "at least 1"),
    (make_landscape, "action_dim", 10**9, ValueError, "at most"),
    (make_landscape, "n_peaks", 2.5, TypeError, "must be an integer"),
    (make_landscape, "n_peaks", 10**12, ValueError, "at most"),
    (make_landscape, "landscape_seed", -1, ValueError, "at least 0"),
    (make_landscape, "render_mode", "human", ValueError, "'rgb_array'"),
    (make_item_landscape, "n_items", 1, ValueError, "at least 2"),
    (make_item_landscape, "n_items", 10**12, ValueError, "at most"),
    (make_item_landscape, "n_clusters", 0, ValueError, "at least 1"),
    (make_item_landscape, "action_dim", "8", TypeError, "must be an integer"),
    (MiningExpedition, "randomize_positions", "no", ValueError, "True or False"),
    (MiningExpedition, "randomize_positions", 1, ValueError, "True or False"),
    (MiningExpedition, "n_noise_dims", -1, ValueError, "at least 0"),
    (MiningExpedition, "items_seed", 0.5, TypeError, "must be an integer"),
    (MiningExpedition, "render_mode", "human", ValueError, "'ansi'"),
    (RecSim, "n_items", 1, ValueError, "at least 2"),
    (RecSim, "n_items", 1e4, TypeError, "must be an integer"),
    (RecSim, "n_items", 10**12, ValueError, "at most"),
    (RecSim, "user_model", "random", ValueError, "'budget'"),
    (RecSim, "items_seed", -1, ValueError, "at least 0"),
    (RecSim, "n_noise_dims", -1, ValueError, "at least 0"),
    (RecSim, "render_mode", "human", ValueError, "'ansi'"),
    (RecSimVecEnv, "n_envs", 0, ValueError, "at least 1"),
]
for number, (build, name, value, error, words) in enumerate(ENVIRONMENT):
    add(
        f"{build.__name__}-{name}-{number}", lambda _, b=build, n=name, v=value: b(**{n: v}), error, f"{name}={value!r}", words
    )
for build in (make_landscape, make_item_landscape, MiningExpedition, RecSim):
    add(f"{build.__name__}-misspelt", lambda _, b=build: b(seeds=0), TypeError, "seeds")
add("landscape-type", lambda _: LandscapeEnv("peaks", BOX), TypeError, "landscape='peaks'", "must be a Landscape")


def different(algorithm=SAVO, vec_env=DummyVecEnv, second=EMBEDDINGS + 1):
    env = vec_env([items, lambda: items(second)])
    try:
        return make(algorithm, env)
    finally:
        env.close()


each(
    WITH_ITEMS,
    "different-embeddings",
    lambda a, _: different(a),
    ValueError,
    "env: the action space of environment 1",
    "6 of 6 items",
    "one action space",
)
add("more-items", lambda _: different(second=EMBEDDINGS[:4]), ValueError, "environment 1", "4 items", "instead of 6")
add("different-workers", lambda _: different(vec_env=SubprocVecEnv), ValueError, "environment 1", "6 of 6 items")
each(
    ALGORITHMS,
    "different-bounds",
    lambda a, _: make(a, DummyVecEnv([Task, lambda: Task(spaces.Box(-2, 2, (2,)))])),
    ValueError,
    "environment 1",
    "low[0] is -2.0 instead of -1.0",
)
add(
    "different-observations",
    lambda _: make(env=DummyVecEnv([Task, lambda: Task(BOX, spaces.Box(-1, 1, (5,)))])),
    ValueError,
    "observation space of environment 1",
    "(5,) instead of (3,)",
)
each(ALGORITHMS, "set-env-number", lambda a, _: make(a).set_env(5), TypeError, "env=5", "environment of Gymnasium")
each(
    ALGORITHMS,
    "set-env-bounds",
    lambda a, _: make(a).set_env(Task(spaces.Box(-2, 2, (2,)))),
    ValueError,
    "that of env",
    "low[0] is -2.0 instead of -1.0",
)
each(
    ALGORITHMS,
    "set-env-two",
    lambda a, _: make(a).set_env(DummyVecEnv([Task, Task])),
    ValueError,
    "2 environments",
    "the model is for 1",
    "load(path, env=env)",
)
add(
    "set-env-unwrapped",
    lambda _: make(env=items()).set_env(Task(spaces.Discrete(6))),
    ValueError,
    "Discrete(6)",
    "ActionEmbedding(env, embeddings)",
)

each(
    ALGORITHMS,
    "arguments-by-position",
    lambda a, _: a("MlpPolicy", Task(), 1e-3, 10_000),
    TypeError,
    "takes 3 arguments by position, policy, env, learning_rate, and 4 were given",
    "by name",
)

# learn


class Wrong(Walk):
    """Returns one wrong observation: the first, of the reset, has the number 0. It may end the episode."""

    def __init__(self, observation, number, ends=False, **kwargs):
        super().__init__(**kwargs)
        self.observation, self.number, self.ends, self.n_observations = observation, number, ends, 0

    def observe(self):
        self.n_observations += 1
        return self.observation if self.n_observations == self.number + 1 else self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        observation = self.observe()
        return observation, 0.0, self.ends and observation is self.observation, False, {}


DICT = spaces.Dict({"a": spaces.Box(-1, 1, (3,), np.float32), "b": spaces.Box(-1, 1, (2,), np.float32)})
RETURNED: list[tuple[str, Any, tuple[str, ...]]] = [
    ("far", np.float32([0, 1e6, 0]), ("1000000.0", "far beyond the observation space", "the environment must")),
    ("too-few", np.float32([0.5]), ("(1,)", "must be (3,)")),
    ("too-many", np.float32([0, 0, 0, 0]), ("(4,)", "must be (3,)")),
    ("number", 0.5, ("()", "must be (3,)")),
]
for name, observation, named in RETURNED:
    for moment, number in (("reset", 0), ("step", 7), ("learning", 25)):
        each(
            ALGORITHMS,
            f"learn-observation-{name}-{moment}",
            lambda a, _, observation=observation, number=number: make(a, Wrong(observation, number)).learn(60),
            ValueError,
            *named,
        )
add(
    "learn-observation-of-an-end",
    lambda _: make(env=Wrong(np.float32([0, 1e6, 0]), 7, ends=True)).learn(60),
    ValueError,
    "the end of an episode of environment 0",
    "far beyond",
)
add(
    "learn-observation-of-a-dict",
    lambda _: make(
        env=Wrong({"a": np.float32([0, 0, 0]), "b": np.float32([0, 1e6])}, 7, observation_space=DICT),
        policy="MultiInputPolicy",
    ).learn(60),
    ValueError,
    "At step",
    "observation['b']",
    "far beyond",
)
add(
    "learn-observation-of-a-dict-shape",
    lambda _: make(
        env=Wrong({"a": np.float32([0, 0, 0]), "b": np.float32([0])}, 7, observation_space=DICT), policy="MultiInputPolicy"
    ).learn(60),
    ValueError,
    "Environment 0",
    "entry 'b'",
    "must be (2,)",
)


# predict

GOOD = np.zeros(3, np.float32)
OBSERVATIONS: list[tuple[str, Any, type[Exception], tuple[str, ...]]] = [
    ("nan", np.float32([0, NAN, 0]), ValueError, ("NaN", "(1,)", "finite")),
    ("infinite", np.float32([0, 0, INF]), ValueError, ("infinite", "(2,)", "finite")),
    ("nan-float64", np.array([NAN, 0, 0]), ValueError, ("NaN", "finite")),
    ("nan-list", [0.0, NAN, 0.0], ValueError, ("NaN", "finite")),
    ("nan-of-several", np.float32([[0, 0, 0], [0, NAN, 0]]), ValueError, ("(1, 1)", "finite")),
    ("shape", np.zeros(4, np.float32), ValueError, ("(4,)", "(3,)", "(n_envs, 3)")),
    ("shape-of-several", np.zeros((2, 4), np.float32), ValueError, ("(2, 4)", "(n_envs, 3)")),
    ("too-many-axes", np.zeros((1, 1, 3), np.float32), ValueError, ("(1, 1, 3)", "(n_envs, 3)")),
    ("number", 0.0, ValueError, ("()", "(3,)")),
    ("far", np.float32([0, 1e6, 0]), ValueError, ("1000000.0 at (1,)", "far beyond the observation space")),
    ("very-far", np.float32([0, 1e30, 0]), ValueError, ("far beyond the observation space", "normalization")),
    ("far-integers", np.array([0, 10**9, 0]), ValueError, ("far beyond the observation space",)),
    ("none", None, TypeError, ("object", "numbers")),
    ("strings", ["a", "b", "c"], TypeError, ("<U1", "numbers")),
    ("dict", {"a": GOOD}, TypeError, ("object", "numbers")),
    ("gymnasium", (GOOD, {}), ValueError, ("tuple", "mixing Gym API", "env.reset()")),
    ("ragged", [[0.0], [0.0, 1.0]], TypeError, ("array",)),
]
MASKS: list[tuple[str, Any, type[Exception], tuple[str, ...]]] = [
    ("floats", np.ones(6), TypeError, ("float64", "must be bool")),
    ("nan", np.full(6, NAN), TypeError, ("float64", "must be bool")),
    ("nothing", np.zeros(6, bool), ValueError, ("row 0", "at least one item")),
    ("shape", np.ones(5, bool), ValueError, ("(5,)", "(n_items,)")),
    ("axes", np.ones((1, 1, 6), bool), ValueError, ("(1, 1, 6)", "(n_items,)")),
    ("rows", np.ones((3, 6), bool), ValueError, ("(3, 6)", "1 observations", "one row per observation")),
    ("integers", np.arange(6), ValueError, ("0 and 1",)),
    ("strings", np.array(["yes"] * 6), TypeError, ("<U3", "must be bool")),
]
MODELS: dict[Any, Any] = {}


def model_of(key, build):
    if key not in MODELS:
        MODELS[key] = build()
    return MODELS[key]


def continuous(algorithm):
    return model_of((algorithm, "box"), lambda: make(algorithm))


def discrete(algorithm):
    return model_of((algorithm, "items"), lambda: make(algorithm, items()))


def unbounded(algorithm):
    return model_of((algorithm, "unbounded"), lambda: make(algorithm, Task(BOX, spaces.Box(-INF, INF, (3,)))))


def of_dict(algorithm):
    space = spaces.Dict(a=spaces.Box(-1, 1, (3,)), b=spaces.Discrete(4))
    return model_of((algorithm, "dict"), lambda: make(algorithm, Task(BOX, space), policy="MultiInputPolicy"))


for name, observation, error, parts in OBSERVATIONS:
    each(ALGORITHMS, f"predict-{name}", lambda a, _, o=observation: continuous(a).predict(o), error, "observation", *parts)
    if name.startswith(("nan", "infinite", "shape")):
        each(
            WITH_ITEMS,
            f"predict-items-{name}",
            lambda a, _, o=observation: discrete(a).predict(o),
            error,
            "observation",
            *parts,
        )
        each(ALGORITHMS, f"predict-unbounded-{name}", lambda a, _, o=observation: unbounded(a).predict(o), error, *parts)
        each(ALGORITHMS, f"policy-predict-{name}", lambda a, _, o=observation: continuous(a).policy.predict(o), error, *parts)
for name, masks, error, parts in MASKS:
    each(
        WITH_ITEMS,
        f"masks-{name}",
        lambda a, _, m=masks: discrete(a).predict(GOOD, action_masks=m),
        error,
        "action_masks",
        *parts,
    )
each(
    ALGORITHMS,
    "masks-continuous",
    lambda a, _: continuous(a).predict(GOOD, action_masks=np.ones(2, bool)),
    ValueError,
    "action_masks",
    "must be a discrete one",
)
each(
    ALGORITHMS, "deterministic", lambda a, _: continuous(a).predict(GOOD, deterministic="no"), ValueError, "deterministic='no'"
)
for name, observation, error, parts in (
    ("nan", {"a": np.float32([0, NAN, 0]), "b": 1}, ValueError, ("observation['a']", "NaN")),
    ("missing", {"a": GOOD}, ValueError, ("keys ['a']", "['a', 'b']")),
    ("unknown", {"a": GOOD, "b": 1, "c": 2}, ValueError, ("'c'", "['a', 'b']")),
    ("array", GOOD, TypeError, ("ndarray", "dictionary")),
    ("item", {"a": GOOD, "b": 7}, ValueError, ("observation['b']", "Discrete(4)")),
    ("float", {"a": GOOD, "b": 1.5}, TypeError, ("observation['b']", "integers")),
    ("counts", {"a": np.zeros((2, 3)), "b": np.zeros(3, int)}, ValueError, ("the same for all keys",)),
):
    each(ALGORITHMS, f"predict-dict-{name}", lambda a, _, o=observation: of_dict(a).predict(o), error, *parts)


def with_nan_weights(algorithm):
    model = make(algorithm)
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.fill_(NAN)
    return model


each(ALGORITHMS, "predict-nan-weights", lambda a, _: with_nan_weights(a).predict(GOOD), ValueError, "policy.", "is nan")

# learn and callbacks

LEARN: list[tuple[str, Any, type[Exception], str]] = [
    ("total_timesteps", -1, ValueError, "at least 0"),
    ("total_timesteps", 10.5, ValueError, "not whole"),
    ("total_timesteps", "1e6", TypeError, "must be a number"),
    ("total_timesteps", NAN, ValueError, "must be a number"),
    ("total_timesteps", None, TypeError, "must be a number"),
    ("total_timesteps", True, TypeError, "must be a number"),
    ("log_interval", 0, ValueError, "at least 1"),
    ("log_interval", -1, ValueError, "at least 1"),
    ("log_interval", 2.5, TypeError, "must be an integer"),
    ("callback", 5, TypeError, "BaseCallback"),
    ("callback", "eval", TypeError, "BaseCallback"),
    ("callback", ResetCallback, TypeError, "an instance"),
    ("callback", [ResetCallback], TypeError, "an instance"),
    ("callback", [lambda *_: True], TypeError, "an instance"),
    ("callback", (ResetCallback(),), TypeError, "a list"),
    ("tb_log_name", 5, TypeError, "name"),
    ("reset_num_timesteps", "no", ValueError, "True or False"),
    ("progress_bar", "yes", ValueError, "True or False"),
    ("checkpoints", 5, TypeError, "the path of a folder"),
    ("checkpoints", True, TypeError, "the path of a folder"),
    ("checkpoints", __file__, ValueError, "is a file: it must be a folder"),
]
for number, (name, value, error, words) in enumerate(LEARN):
    each(
        ALGORITHMS,
        f"learn-{name}-{number}",
        lambda a, _, n=name, v=value: continuous(a).learn(**{"total_timesteps": 10, n: v}),
        error,
        name,
        words,
    )
each(
    ALGORITHMS,
    "learn-without-env",
    lambda a, p: load(a, p).learn(10),
    ValueError,
    "env=None",
    "load(path, env=env)",
    "set_env",
)


def evaluation(env):
    return EvalCallback(Monitor(env), eval_freq=5, verbose=0)


for name, wrap in (
    ("alone", lambda c: c),
    ("list", lambda c: [c]),
    ("nested", lambda c: CallbackList([EveryNTimesteps(5, c)])),
):
    each(
        WITH_ITEMS,
        f"evaluation-embeddings-{name}",
        lambda a, _, wrap=wrap: discrete(a).learn(10, wrap(evaluation(items(EMBEDDINGS + 1)))),
        ValueError,
        "eval_env",
        "6 of 6 items",
        "Both must be the same",
    )
add(
    "evaluation-observations",
    lambda _: continuous(SAVO).learn(10, evaluation(Task(BOX, spaces.Box(-1, 1, (5,))))),
    ValueError,
    "eval_env",
    "(5,) instead of (3,)",
)
add("reset-kind", lambda _: ResetCallback("all"), ValueError, "reset='all'", "'full'")
add("reset-interval", lambda _: ResetCallback(reset_interval=0), ValueError, "reset_interval=0", "at least 1")
add("reset-float", lambda _: ResetCallback(reset_interval=2e5), TypeError, "reset_interval=200000.0", "must be an integer")
add(
    "reset-on-policy",
    lambda _: PPO("MlpPolicy", Task(), n_steps=2, batch_size=2, device="cpu").learn(2, ResetCallback()),
    TypeError,
    "ResetCallback",
    "PPO",
    "off-policy",
)

# Save and load


def saved(algorithm, path, env=None, **kwargs):
    make(algorithm, env, **kwargs).save(path / "model.zip")
    return path / "model.zip"


def load(algorithm, path, **kwargs):
    return algorithm.load(saved(algorithm, path), **{"device": "cpu", **kwargs})


def load_policy(algorithm, path, **kwargs):
    make_policy(algorithm).save(path / "policy.pt")
    return algorithm.policy_aliases["MlpPolicy"].load(path / "policy.pt", **kwargs)


LOAD: list[tuple[str, Any, type[Exception], str]] = [
    ("gamma", "x", TypeError, "must be a number"),
    ("gamma", 2.0, ValueError, "at most 1"),
    ("buffer_size", -1, ValueError, "at least 1"),
    ("learning_rate", "fast", TypeError, "must be a number"),
    ("batch_size", 0, ValueError, "at least 1"),
    ("tau", 0.0, ValueError, "target networks"),
    ("stats_window_size", 0, ValueError, "at least 1"),
    ("train_freq", 0, ValueError, "at least 1"),
    ("seed", "x", TypeError, "must be an integer"),
    ("gama", 0.9, TypeError, "did you mean gamma"),
    ("num_timesteps", 5, TypeError, "is not an argument of"),
    ("policy_kwargs", {"net_arch": [99]}, ValueError, "the saved model"),
    ("policy", "CnnPolicy", TypeError, "is not an argument of"),
    ("env", 5, TypeError, "environment of Gymnasium"),
    ("env", "Pendulum-v1", ValueError, "Action spaces do not match"),
    ("device", "gpu", ValueError, "'cpu'"),
]
for number, (name, value, error, words) in enumerate(LOAD):
    said = f"{name}={value!r}" if value != "Pendulum-v1" else "env"
    each(ALGORITHMS, f"load-{name}-{number}", lambda a, p, n=name, v=value: load(a, p, **{n: v}), error, said, words)
if not th.cuda.is_available():
    each(ALGORITHMS, "load-cuda", lambda a, p: load(a, p, device="cuda"), ValueError, "device='cuda'", "'cpu'")
each(
    ALGORITHMS,
    "load-custom-objects",
    lambda a, p: load(a, p, custom_objects={"gamma": "x"}),
    TypeError,
    "gamma='x'",
    "model.zip",
)


def edit(path, change):
    """Change the parts of a zip, by their names."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with open(path, "r+b") as file:
        seal(file)
    return path


def swapped(algorithm, path, part, **kwargs):
    """A zip with one part of another model's."""
    (path / "other").mkdir()
    other = saved(algorithm, path / "other", **kwargs)
    with zipfile.ZipFile(other) as archive:
        content = archive.read(part)
    return edit(saved(algorithm, path), lambda parts: parts.update({part: content}))


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


def write(path, content):
    path.write_bytes(content)
    return path


def set_json(path, old, new):
    return edit(path, lambda parts: parts.update(data=re.sub(old, new, parts["data"].decode()).encode()))


for share in (0.01, 0.3, 0.5, 0.7, 0.9, 0.999):
    each(
        ALGORITHMS,
        f"zip-cut-{share}",
        lambda a, p, share=share: a.load(cut(saved(a, p), share)),
        ValueError,
        "model.zip",
        "cut off",
        "complete copy",
    )
each(ALGORITHMS, "zip-of-nothing", lambda a, p: a.load(write(p / "model.zip", b"")), ValueError, "model.zip", "complete copy")
each(
    ALGORITHMS,
    "zip-of-text",
    lambda a, p: a.load(write(p / "model.zip", b"text" * 99)),
    ValueError,
    "model.zip",
    "complete copy",
)
each(
    ALGORITHMS,
    "zip-without-optimizer",
    lambda a, p: a.load(edit(saved(a, p), lambda parts: parts.pop("critic.optimizer.pth"))),
    ValueError,
    "critic.optimizer.pth is missing",
    "model.zip",
)
each(
    ALGORITHMS,
    "zip-without-weights",
    lambda a, p: a.load(edit(saved(a, p), lambda parts: parts.pop("policy.pth"))),
    ValueError,
    "policy.pth is missing",
    "model.zip",
)
each(
    ALGORITHMS,
    "zip-without-data",
    lambda a, p: a.load(edit(saved(a, p), lambda parts: parts.pop("data"))),
    ValueError,
    "holds no model",
    "model.zip",
)
each(
    ALGORITHMS,
    "zip-with-other-sizes",
    lambda a, p: a.load(swapped(a, p, "policy.pth", policy_kwargs={"net_arch": [9]})),
    ValueError,
    "policy.pth does not fit",
    "size mismatch",
    "model.zip",
)
each(
    ALGORITHMS,
    "zip-with-negative-buffer",
    lambda a, p: a.load(set_json(saved(a, p), r'"buffer_size": \d+', '"buffer_size": -4')),
    ValueError,
    "buffer_size=-4",
    "at least 1",
    "model.zip",
)
each(
    ALGORITHMS,
    "zip-with-text-for-gamma",
    lambda a, p: a.load(set_json(saved(a, p), r'"gamma": [\d.]+', '"gamma": "abc"')),
    TypeError,
    "gamma='abc'",
    "must be a number",
    "model.zip",
)


def trained_zip(algorithm, path, width):
    env = Walk()
    path.mkdir(exist_ok=True)
    model = make(algorithm, env, policy_kwargs={"net_arch": [width]}, learning_starts=5, compile=False).learn(12)
    model.save(path / "model.zip")
    return path / "model.zip"


def with_moments_of(path):
    with zipfile.ZipFile(trained_zip(SAVO, path / "other", 9)) as archive:
        moments = archive.read("critic.optimizer.pth")
    return edit(trained_zip(SAVO, path, 8), lambda parts: parts.update({"critic.optimizer.pth": moments}))


add(
    "zip-with-other-moments", lambda p: SAVO.load(with_moments_of(p)), ValueError, "critic.optimizer.pth does not fit", "shape"
)
each(
    ALGORITHMS,
    "zip-of-td3",
    lambda a, p: a.load(td3_zip(p)),
    TypeError,
    "policy=TD3Policy is not a",
    "model.zip",
)
for one, other in permutations(ALGORITHMS, 2):
    add(
        f"zip-of-{other.__name__}-for-{one.__name__}",
        lambda p, one=one, other=other: one.load(saved(other, p)),
        TypeError,
        f"a model of {other.__name__}",
        f"{one.__name__}.load cannot",
        "model.zip",
    )
add("zip-not-there", lambda p: SAVO.load(p / "nothing"), FileNotFoundError, "nothing")
add("load-n_actors", lambda p: load(SAVO, p, n_actors=5), ValueError, "policy.pth does not fit", "size mismatch")
add("load-n_elites", lambda p: load(GreedyAC, p, n_elites=31), ValueError, "n_samples=30", "at least 31")
add("load-n_elites-cem", lambda p: load(CEM, p, n_elites=31), ValueError, "n_samples=30", "at least 31")


def td3_zip(path):
    TD3("MlpPolicy", Task(), buffer_size=10, policy_kwargs=NETWORKS, device="cpu").save(path / "model.zip")
    return path / "model.zip"


def load_items(algorithm, path, env):
    return algorithm.load(saved(algorithm, path, items()), env=env, device="cpu")


each(
    WITH_ITEMS,
    "load-unwrapped",
    lambda a, p: load_items(a, p, Task(spaces.Discrete(6))),
    ValueError,
    "Discrete(6)",
    "ActionEmbedding(env, embeddings)",
    "action_space.embeddings",
)
each(
    WITH_ITEMS,
    "load-moved-embeddings",
    lambda a, p: load_items(a, p, items(EMBEDDINGS + 1e-6)),
    ValueError,
    "the embeddings of",
    "largest difference is",
    "custom_objects",
)
each(
    WITH_ITEMS,
    "load-fewer-items",
    lambda a, p: load_items(a, p, items(EMBEDDINGS[:4])),
    ValueError,
    "4 items",
    "instead of 6 items",
)
each(
    WITH_ITEMS,
    "load-other-dimensions",
    lambda a, p: load_items(a, p, items(EMBEDDINGS[:, :2])),
    ValueError,
    "2 numbers instead of",
)
each(
    ALGORITHMS,
    "load-observations",
    lambda a, p: load(a, p, env=Task(BOX, spaces.Box(-1, 1, (5,)))),
    ValueError,
    "that of env",
    "(5,) instead of (3,)",
)


def load_buffer(algorithm, path, env=None, other=None, **kwargs):
    """A model gets the replay buffer of another environment."""
    make(algorithm, other).save_replay_buffer(path / "buffer.pkl")
    model = make(algorithm, env)
    before = model.replay_buffer
    try:
        model.load_replay_buffer(path / "buffer.pkl")
    finally:
        assert model.replay_buffer is before


each(
    ALGORITHMS,
    "buffer-of-two",
    lambda a, p: load_buffer(a, p, other=DummyVecEnv([Task, Task])),
    ValueError,
    "of 2 environments",
    "the model is for 1",
    "buffer.pkl",
)
each(
    ALGORITHMS,
    "buffer-of-other-observations",
    lambda a, p: load_buffer(a, p, other=Task(BOX, spaces.Box(-1, 1, (5,)))),
    ValueError,
    "another environment",
    "(3,)",
    "buffer.pkl",
)
each(
    ALGORITHMS,
    "buffer-of-other-actions",
    lambda a, p: load_buffer(a, p, other=Task(spaces.Box(-1, 1, (4,)))),
    ValueError,
    "another environment",
    "buffer.pkl",
)
each(
    WITH_ITEMS,
    "buffer-of-more-items",
    lambda a, p: load_buffer(a, p, items(), items(np.concatenate([EMBEDDINGS, EMBEDDINGS + 3]))),
    ValueError,
    "another environment",
    "buffer.pkl",
)
each(
    WITH_ITEMS,
    "buffer-of-items-in-another-order",
    lambda a, p: load_buffer(a, p, items(), items(EMBEDDINGS[::-1])),
    ValueError,
    "another environment",
    "the embeddings of",
    "buffer.pkl",
)
each(
    ALGORITHMS,
    "buffer-of-other-bounds",
    lambda a, p: load_buffer(a, p, other=Task(spaces.Box(-5, 5, BOX.shape))),
    ValueError,
    "another environment",
    "low[0] is -5.0 instead of",
    "buffer.pkl",
)


for name in ("q_smoothing", "joint_action", "nearest"):
    add(
        f"savosac-policy-{name}",
        lambda path, name=name: make(SAVOSAC, policy_kwargs={name: True}),
        TypeError,
        f"{name}=True is not an argument of SAVOSACPolicy",
    )


def load_something(path):
    (path / "buffer.pkl").write_bytes(pickle.dumps([1, 2]))
    make(SAVO).load_replay_buffer(path / "buffer.pkl")


add("buffer-of-nothing", load_something, ValueError, "buffer.pkl", "ReplayBuffer")


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_bad_input(case, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(case.error) as caught:
            case.call(tmp_path)
    message = str(caught.value)
    missing = [words for words in case.words if words not in message]
    assert not missing, f"{missing} not in: {message}"


def test_the_catalogue_is_large():
    assert len(CASES) >= 200 and len({case.id for case in CASES}) == len(CASES)


# What is only strange is told by a warning


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_without_a_gradient_step_says_so(algorithm):
    model = make(algorithm, Walk(), learning_starts=12)
    with pytest.warns(UserWarning, match=r"total_timesteps=12 and learning_starts=12: this run makes no gradient step"):
        model.learn(12)
    assert model._n_updates == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(13)
    assert model._n_updates > 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_continuing_without_the_replay_buffer_says_so(algorithm, tmp_path):
    make(algorithm, Walk()).learn(22).save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=Walk())
    with pytest.warns(UserWarning, match=r"continues after 22 environment steps, but the replay buffer is empty"):
        loaded.learn(2, reset_num_timesteps=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded.learn(2, reset_num_timesteps=False)


# What is right stays right


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("low, high", [(-0.3, 0.1), (-0.1, 0.1), (5.0, 7.3), (-1e4, 3e4), (-1e-3, 2e-3)])
def test_actions_are_of_the_space(algorithm, dtype, low, high):
    space = spaces.Box(low, high, (2,), dtype)
    model = make(algorithm, Task(space))
    for saturated in (-50.0, 50.0):
        if "actor" in model.policy._modules:
            with th.no_grad():
                for name, parameter in model.policy.actor.named_parameters():
                    if name.endswith("output.bias"):
                        parameter.fill_(saturated)
        for observation in (np.zeros(3, np.float32), np.zeros((4, 3), np.float32)):
            actions = model.predict(observation, deterministic=True)[0]
            for action in actions.reshape(-1, 2):
                assert action.dtype == dtype and space.contains(action), (action, space)
    edges = model.policy.unscale_action(np.array([[-1.0, 1.0]], np.float32))
    assert edges.dtype == dtype and all(space.contains(action) for action in edges)


def test_duplicates_can_be_allowed():
    space = EmbeddedDiscrete(changed(3, ROWS[1]), allow_duplicates=True)
    model = make(Wolpertinger, Task(space), k=2)
    only_second = np.array([False, False, False, True])
    assert model.predict(GOOD, action_masks=only_second)[0] == 3


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_good_observations_pass(algorithm):
    for observation in ([0.0, 0.0, 0.0], np.zeros(3, int), np.float64([9, -9, 1])):
        assert continuous(algorithm).predict(observation)[0].shape == (2,)
    assert of_dict(algorithm).predict({"a": GOOD, "b": 1})[0].shape == (2,)
    assert unbounded(algorithm).predict(np.float32([1e15, 0, 0]))[0].shape == (2,)


@pytest.mark.parametrize("algorithm", WITH_ITEMS)
def test_masks_of_integers_pass(algorithm):
    masks = np.eye(6, dtype=np.int8)[2]
    assert discrete(algorithm).predict(GOOD, action_masks=masks)[0] == 2
    assert (discrete(algorithm).predict(np.zeros((3, 3)), action_masks=masks)[0] == 2).all()


def test_a_model_of_the_zoo_loads_with_a_learning_rate_of_0(tmp_path):
    model = load(SAVO, tmp_path, custom_objects={"learning_rate": 0.0, "lr_schedule": lambda _: 0.0}, buffer_size=1)
    assert model.learning_rate == 0.0


def test_load_changes_what_it_is_told(tmp_path):
    model = load(SAVO, tmp_path, env=Task(), stats_window_size=7, batch_size=None, gamma=0.5)
    assert model._stats_window_size == 7 and model.batch_size == 256 and model.gamma == 0.5


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_class_shows_the_signature_of_its_constructor(algorithm):
    """In Python 3.11.2, ``inspect.signature`` prefers a parent's ``__new__`` to a parent's ``__init__``."""
    model = algorithm("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, device="cpu")
    for part in (model, model.policy, *model.policy.learners.values()):
        assert "__init__" in vars(type(part))
        assert "args" not in inspect.signature(type(part)).parameters
