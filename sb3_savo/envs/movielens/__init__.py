"""RecSim-Data (paper, §5 and Table 2): recommend movies to the users of MovieLens."""

from sb3_savo.extras import needs_extra

with needs_extra("movielens", "RecSimData"):
    from sb3_savo.envs.movielens.env import RecSimData

__all__ = ["RecSimData"]
