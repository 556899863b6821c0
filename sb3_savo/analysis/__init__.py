"""
What a landscape of values looks like, and how far a policy is below its top.

The functions return arrays or figures; ``python -m sb3_savo.analysis`` draws from a saved model.
"""

from sb3_savo.analysis.animation import animate_strip
from sb3_savo.analysis.figures import plot_landscape, plot_strip
from sb3_savo.analysis.landscape import highest_q
from sb3_savo.analysis.numbers import LandscapeNumbers, landscape_numbers
from sb3_savo.analysis.proposals import Proposals, Values, evaluate_at, propose_at
from sb3_savo.analysis.state_landscape import StateLandscape, landscape_along, landscape_of_items, landscape_projected
from sb3_savo.analysis.valid_set import plot_valid_set
from sb3_savo.analysis.validity import validity_of

__all__ = [
    "LandscapeNumbers",
    "Proposals",
    "StateLandscape",
    "Values",
    "animate_strip",
    "evaluate_at",
    "highest_q",
    "landscape_along",
    "landscape_numbers",
    "landscape_of_items",
    "landscape_projected",
    "plot_landscape",
    "plot_strip",
    "plot_valid_set",
    "propose_at",
    "validity_of",
]
