"""Successive Actors for Value Optimization (SAVO), a Stable-Baselines3 plugin."""

from importlib.metadata import version

from sb3_savo import envs
from sb3_savo.actions.embedding import ActionEmbedding
from sb3_savo.actions.spaces import EmbeddedDiscrete
from sb3_savo.baselines import CEM, Ensemble, GreedyAC, GreedyTD3, MultiStart, Wolpertinger
from sb3_savo.common.callbacks import ResetCallback
from sb3_savo.savo import SAVO
from sb3_savo.savosac import SAVOSAC

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
