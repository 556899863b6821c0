from sb3_savo.cem.cem import CEM
from sb3_savo.cem.policies import CEMPolicy, CnnPolicy, MlpPolicy, MultiInputPolicy

__all__ = ["CEM", "CEMPolicy", "CnnPolicy", "MlpPolicy", "MultiInputPolicy"]
