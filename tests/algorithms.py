"""All our algorithms, over which the tests by feature run."""

from sb3_savo import SAVO, SAVOSAC
from sb3_savo.algorithms import ALGORITHMS as TABLE

ALGORITHMS = list(TABLE.values())
BASELINES = [algorithm for algorithm in ALGORITHMS if algorithm not in (SAVO, SAVOSAC)]
