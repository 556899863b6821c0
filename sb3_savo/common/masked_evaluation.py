"""Evaluation during learning keeps to the action masks of the evaluation's environment."""

from typing import Any

import numpy as np
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_savo.common.before_learning import callbacks_in


class MaskedModel:
    """
    A model as an evaluation sees it, whose predictions keep to the masks of the environment. Everything else is the model's.

    :param model: The model
    :param env: The environment in which it is evaluated
    """

    def __init__(self, model: BaseAlgorithm, env: VecEnv):
        self.model = model
        self.env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predict(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        :param args: The model's arguments
        :param kwargs: The model's arguments, by name
        :return: The actions that the environment's masks allow, and the state
        """
        return self.model.predict(*args, **{"action_masks": get_action_masks(self.env), **kwargs})  # type: ignore[call-arg]


def mask_evaluations(callback: BaseCallback, model: BaseAlgorithm) -> None:
    """
    SB3's ``EvalCallback`` hands ``predict`` no masks, so here it gets a :class:`MaskedModel`. sb3-contrib's
    ``MaskableEvalCallback`` hands the masks over itself.

    :param callback: The callbacks of a run, after they were given the model
    :param model: The model, whose actions are items
    """
    for part in callbacks_in(callback):
        if (
            isinstance(part, EvalCallback)
            and not isinstance(part, MaskableEvalCallback)
            and is_masking_supported(part.eval_env)
        ):
            part.model = MaskedModel(model, part.eval_env)  # type: ignore[assignment]
