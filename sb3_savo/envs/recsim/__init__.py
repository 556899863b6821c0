"""RecSim (paper, §11.2): recommend items to simulated users whose interests change with their clicks."""

from sb3_savo.envs.recsim.env import RecSim, RecSimVecEnv

__all__ = ["RecSim", "RecSimVecEnv"]
