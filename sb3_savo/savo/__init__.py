from sb3_savo.savo.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SAVOPolicy
from sb3_savo.savo.savo import SAVO

__all__ = ["SAVO", "CnnPolicy", "MlpPolicy", "MultiInputPolicy", "SAVOPolicy"]
