"""All our algorithms: the one table from which the RL Zoo, the tests, the benchmarks and the documentation read."""

from sb3_savo.baselines.cem import CEM
from sb3_savo.baselines.ensemble import Ensemble
from sb3_savo.baselines.greedyac import GreedyAC, GreedyTD3
from sb3_savo.baselines.multistart import MultiStart
from sb3_savo.baselines.q3c import Q3C
from sb3_savo.baselines.wolpertinger import Wolpertinger
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.savo import SAVO
from sb3_savo.savosac import SAVOSAC

__all__ = ["CEM", "Q3C", "SAVO", "SAVOSAC", "Ensemble", "GreedyAC", "GreedyTD3", "MultiStart", "Wolpertinger"]

# By the RL Zoo's name, the class's in small letters
ALGORITHMS: dict[str, type[MaximizerAlgorithm]] = {
    algorithm.__name__.lower(): algorithm
    for algorithm in (SAVO, SAVOSAC, Ensemble, Wolpertinger, CEM, MultiStart, GreedyAC, GreedyTD3, Q3C)
}
