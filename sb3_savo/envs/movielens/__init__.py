"""RecSim-Data (paper, §5 and Table 2): recommend movies to the users of MovieLens."""

try:
    from sb3_savo.envs.movielens.env import RecSimData
except ImportError as error:
    raise ImportError(f"RecSimData-v0 needs {error.name}: pip install sb3-savo[movielens]", name=error.name) from error

__all__ = ["RecSimData"]
