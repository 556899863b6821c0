"""The files of hyperparameters that the RL Zoo reads, and checks of what is in them, before it makes anything of it."""

from pathlib import Path
from typing import Any

import yaml

import sb3_savo
from sb3_savo.arguments import check_flag, check_integer, check_number


def hyperparams_file(algo: str) -> Path:
    """
    :param algo: The RL Zoo's name of one of our algorithms
    :return: The file of its hyperparameters, in the installed package or, in a checkout, beside the package
    """
    package = Path(sb3_savo.__file__).parent
    folder = package / "hyperparams"
    return (folder if folder.is_dir() else package.parent / "hyperparams") / f"{algo}.yml"


def check_hyperparams(hyperparams: dict[str, Any], config: str) -> None:
    """
    :param hyperparams: The hyperparameters of one task, from the file and from the command line
    :param config: The file
    :raises TypeError: if one has the wrong type
    :raises ValueError: if one is out of its range, or another one is missing
    """
    for name in ("learning_rate", "qf_learning_rate"):
        check_learning_rate_text(name, hyperparams.get(name), config)
    if "n_envs" in hyperparams:
        check_integer("n_envs", hyperparams["n_envs"], low=1)
    if "n_timesteps" in hyperparams:
        check_number("n_timesteps", hyperparams["n_timesteps"], above=True)
    if "checkpoints" in hyperparams:
        check_flag("checkpoints", hyperparams["checkpoints"])
    noise = hyperparams.get("noise_type")
    if noise is not None:
        if noise not in ("normal", "ornstein-uhlenbeck"):
            raise ValueError(f"noise_type={noise!r} is not known: it must be 'normal' or 'ornstein-uhlenbeck'.")
        if "noise_std" not in hyperparams:
            raise ValueError(f"noise_type={noise!r} needs noise_std, a number of at least 0 ({config}, or --hyperparams).")
        check_number("noise_std", hyperparams["noise_std"])


def check_learning_rate_text(name: str, value: Any, config: str) -> None:
    """
    :param name: The hyperparameter
    :param value: A number, or e.g. ``lin_0.001`` for a line to zero
    :param config: The file
    :raises ValueError: if it is text of another kind, such as ``1e-3``, which YAML reads as text
    """
    if not isinstance(value, str):
        return
    try:
        kind, number = value.split("_")
        is_schedule = kind == "lin" and float(number) > 0
    except ValueError:
        is_schedule = False
    if not is_schedule:
        raise ValueError(
            f"{name}={value!r} is text: it must be a number or lin_NUMBER ({config}, or --hyperparams). YAML reads 1e-3 as "
            "text: write 1.0e-3 or 0.001."
        )


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML without keys that occur twice, of which only the last one would count."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """:raises ValueError: if a key occurs twice"""
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # the keys of a merged mapping ("<<") may occur again
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ValueError(f"{key!r} occurs twice, the second time in line {key_node.start_mark.line + 1}.")
            seen.add(key)
        return super().construct_mapping(node, deep)


def check_unique_keys(path: str) -> None:
    """
    :param path: A file of hyperparameters
    :raises ValueError: if it is YAML and a key occurs twice
    """
    if path.endswith((".yml", ".yaml")) and Path(path).exists():
        try:
            yaml.load(Path(path).read_text(), UniqueKeyLoader)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
