from sb3_savo.multistart.multistart import MultiStart
from sb3_savo.multistart.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, MultiStartPolicy

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy", "MultiStart", "MultiStartPolicy"]
