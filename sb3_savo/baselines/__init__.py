"""The methods that SAVO is compared with (paper, §6.1), one file each: policy first, then algorithm."""

from sb3_savo.baselines.cem import CEM
from sb3_savo.baselines.ensemble import Ensemble
from sb3_savo.baselines.greedyac import GreedyAC, GreedyTD3
from sb3_savo.baselines.multistart import MultiStart
from sb3_savo.baselines.wolpertinger import Wolpertinger

__all__ = ["CEM", "Ensemble", "GreedyAC", "GreedyTD3", "MultiStart", "Wolpertinger"]
