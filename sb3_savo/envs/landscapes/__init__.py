"""
Landscapes: one-step tasks whose reward is a known, differentiable function of context and action with many local optima.

A return curve cannot say why a method wins. Here the optimum is known in every state. The function itself can also stand in
for the critic, so that a benchmark measures the maximization alone (``python -m benchmarks.run study_a``).
"""

from sb3_savo.envs.landscapes.env import LandscapeEnv, make_item_landscape, make_landscape
from sb3_savo.envs.landscapes.functions import CONTEXT_DIM, ItemPeaks, Landscape, Peaks, RestrictedHill

__all__ = [
    "CONTEXT_DIM",
    "ItemPeaks",
    "Landscape",
    "LandscapeEnv",
    "Peaks",
    "RestrictedHill",
    "make_item_landscape",
    "make_landscape",
]
