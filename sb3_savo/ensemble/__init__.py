from sb3_savo.ensemble.ensemble import Ensemble
from sb3_savo.ensemble.policies import CnnPolicy, EnsemblePolicy, MlpPolicy, MultiInputPolicy

__all__ = ["CnnPolicy", "Ensemble", "EnsemblePolicy", "MlpPolicy", "MultiInputPolicy"]
