"""Successive Actors for Value Optimization (SAVO), a Stable-Baselines3 plugin."""

from importlib.metadata import version

from sb3_savo import envs
from sb3_savo.cem import CEM
from sb3_savo.common.resets import ResetCallback
from sb3_savo.common.spaces import EmbeddedDiscrete
from sb3_savo.ensemble import Ensemble
from sb3_savo.envs import ActionEmbedding
from sb3_savo.greedyac import GreedyAC, GreedyTD3
from sb3_savo.multistart import MultiStart
from sb3_savo.savo import SAVO
from sb3_savo.savosac import SAVOSAC
from sb3_savo.wolpertinger import Wolpertinger

__version__ = version("sb3-savo")
__all__ = [
    "CEM",
    "SAVO",
    "SAVOSAC",
    "ActionEmbedding",
    "EmbeddedDiscrete",
    "Ensemble",
    "GreedyAC",
    "GreedyTD3",
    "MultiStart",
    "ResetCallback",
    "Wolpertinger",
    "__version__",
    "envs",
]
