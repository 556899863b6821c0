from sb3_savo.greedyac.greedyac import GreedyAC, GreedyTD3
from sb3_savo.greedyac.policies import CnnPolicy, GreedyPolicy, MlpPolicy, MultiInputPolicy

__all__ = ["CnnPolicy", "GreedyAC", "GreedyPolicy", "GreedyTD3", "MlpPolicy", "MultiInputPolicy"]
