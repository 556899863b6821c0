from sb3_savo.wolpertinger.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, WolpertingerPolicy
from sb3_savo.wolpertinger.wolpertinger import Wolpertinger

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy", "Wolpertinger", "WolpertingerPolicy"]
