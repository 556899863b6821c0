"""Successive Actors for Value Optimization (SAVO), a Stable-Baselines3 plugin."""

from importlib.metadata import version

from sb3_savo import envs
from sb3_savo.common.resets import ResetCallback
from sb3_savo.common.spaces import EmbeddedDiscrete
from sb3_savo.envs import ActionEmbedding
from sb3_savo.savo import SAVO

__version__ = version("sb3-savo")
__all__ = ["SAVO", "ActionEmbedding", "EmbeddedDiscrete", "ResetCallback", "__version__", "envs"]
