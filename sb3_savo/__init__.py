"""Successive Actors for Value Optimization (SAVO), a Stable-Baselines3 plugin."""

from importlib.metadata import version

from sb3_savo import algorithms, envs
from sb3_savo.actions.embedding import ActionEmbedding
from sb3_savo.actions.spaces import EmbeddedDiscrete
from sb3_savo.algorithms import *  # noqa: F403 (an algorithm is added there, at one place)
from sb3_savo.common.callbacks import ResetCallback
from sb3_savo.vec_env import WatchedSubprocVecEnv

__version__ = version("sb3-savo")
__all__ = ["ActionEmbedding", "EmbeddedDiscrete", "ResetCallback", "WatchedSubprocVecEnv", "__version__", "envs"]
__all__ += algorithms.__all__
