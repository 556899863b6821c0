"""All our algorithms, over which the tests by feature run."""

from sb3_savo import CEM, SAVO, SAVOSAC, Ensemble, GreedyAC, GreedyTD3, MultiStart, Wolpertinger

BASELINES = [Ensemble, Wolpertinger, CEM, MultiStart, GreedyAC, GreedyTD3]
ALGORITHMS = [SAVO, *BASELINES, SAVOSAC]
