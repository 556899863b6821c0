from sb3_savo.savosac.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SAVOSACPolicy
from sb3_savo.savosac.savosac import SAVOSAC

__all__ = ["SAVOSAC", "CnnPolicy", "MlpPolicy", "MultiInputPolicy", "SAVOSACPolicy"]
