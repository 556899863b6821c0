"""The tuned hyperparameters in ``hyperparams/*.yml``."""

from pathlib import Path
from typing import Any

import yaml


def load_hyperparameters(algorithm: str) -> dict[str, dict[str, Any]]:
    """
    :param algorithm: Name of an algorithm, in small letters
    :return: Its hyperparameters for each environment, by the environment's name
    """
    return yaml.safe_load((Path(__file__).parent.parent / "hyperparams" / f"{algorithm}.yml").read_text())
