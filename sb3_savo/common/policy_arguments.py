"""Checks of the arguments of a policy that need to know networks, features extractors or optimizers."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from torch import nn

from sb3_savo.arguments import MAX_UNITS, check_integer, check_type


def check_net_arch(name: str, value: Any) -> None:
    """
    :param name: The argument
    :param value: Sizes of the hidden layers, or two such lists by the names ``pi`` and ``qf``
    :raises TypeError: if it is neither a list nor a dictionary, or a size is not an integer
    :raises ValueError: if a size is out of range, or the names are others
    """
    if isinstance(value, dict):
        if value.keys() != {"pi", "qf"}:
            raise ValueError(
                f"{name}={value!r} has other keys than it must have: 'pi' for the actors and 'qf' for the critics."
            )
        for key, sizes in value.items():
            check_type(f"{name}[{key!r}]", sizes, (list, tuple), "a list of integers")
            check_net_arch(f"{name}[{key!r}]", list(sizes))
        return
    check_type(name, value, list, "a list of integers, or a dictionary of two: {'pi': […], 'qf': […]}")
    for i, size in enumerate(value):
        check_integer(f"{name}[{i}]", size, low=1, high=MAX_UNITS)


def check_features_extractor(
    extractor_class: type[BaseFeaturesExtractor], observation_space: spaces.Space, normalize_images: bool
) -> None:
    """
    :param extractor_class: A features extractor
    :param observation_space: What it is to extract features from
    :param normalize_images: Whether images are bytes, which are divided by 255
    :raises ValueError: if it is one of SB3's for another kind of observation
    """
    is_dict = isinstance(observation_space, spaces.Dict)
    problem = None
    if issubclass(extractor_class, CombinedExtractor) and not is_dict:
        problem = "a Dict observation space: it must be 'MlpPolicy' here, or 'CnnPolicy' for images"
    elif issubclass(extractor_class, (FlattenExtractor, NatureCNN)) and is_dict:
        problem = "a single observation: it must be 'MultiInputPolicy' for a Dict observation space"
    elif issubclass(extractor_class, NatureCNN) and not is_image_space(
        observation_space, check_channels=False, normalized_image=not normalize_images
    ):
        problem = "images of bytes from 0 to 255 (or normalize_images=False): it must be 'MlpPolicy' for other observations"
    if problem is not None:
        raise ValueError(
            f"policy: features_extractor_class={extractor_class.__name__} is for {problem}. The observation space is "
            f"{observation_space}."
        )


def check_optimizer(optimizer_class: type[th.optim.Optimizer], optimizer_kwargs: dict[str, Any]) -> None:
    """
    :param optimizer_class: An optimizer
    :param optimizer_kwargs: Its arguments besides the parameters and the learning rate
    :raises TypeError: if it does not take them
    :raises ValueError: if it cannot take a step with a gradient alone, or a value is out of range
    """
    if "lr" in optimizer_kwargs:
        raise ValueError(f"optimizer_kwargs={optimizer_kwargs!r} holds 'lr': it must be given as learning_rate.")
    parameter = nn.Parameter(th.zeros(2))
    parameter.grad = th.zeros(2)
    try:
        optimizer_class([parameter], lr=1e-3, **optimizer_kwargs).step()  # type: ignore[call-arg]
    except Exception as error:
        kind = TypeError if isinstance(error, TypeError) and optimizer_kwargs else ValueError
        raise kind(
            f"optimizer_class={optimizer_class.__name__}, optimizer_kwargs={optimizer_kwargs!r}: it must be an optimizer that "
            f"takes a step with a dense gradient and these arguments, such as Adam: {type(error).__name__}: {error}"
        ) from error
