"""
What a file may name without harm.

A pickle is a program that may call any function. Here it may call the few that make spaces, arrays, schedules and random
generators, with arguments that are checked. Classes of policies, networks and optimizers it may only mention.
"""

import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common import noise, running_mean_std, type_aliases, utils
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.policies import BaseModel, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.her import GoalSelectionStrategy
from torch import nn

from sb3_savo.actions.spaces import EmbeddedDiscrete
from sb3_savo.files.errors import FileError, UnsafeFileError

# Types of the keys of a dictionary, and of the values of a set
KEYS = (str, int, float, bool, bytes, type(None))


def qualified(value: Any) -> tuple[str, str]:
    """:return: Module and name by which a pickle knows a class or function"""
    return value.__module__, value.__qualname__


def make_array(kind: type, shape: Any, code: bytes) -> np.ndarray:
    """An array that is filled afterwards (``numpy._core.multiarray._reconstruct``)."""
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise FileError(f"an array begins with the shape {shape!r}: it must be (0,).")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def array_from_bytes(content: Any, dtype: np.dtype, shape: Any, order: str, axis_order: Any = None) -> np.ndarray:
    """An array of given bytes, whose axes lie in another order in memory (``numpy._core.numeric._frombuffer``)."""
    check_dtype(dtype)
    numbers = np.frombuffer(content, dtype=dtype)
    if axis_order is not None:
        return numbers.reshape(shape).transpose(axis_order).copy()
    return numbers.reshape(shape, order=order).copy()  # type: ignore[call-overload]


def make_scalar(dtype: np.dtype, content: bytes) -> Any:
    """A scalar of given bytes (``numpy._core.multiarray.scalar``)."""
    check_dtype(dtype)
    return np.frombuffer(content, dtype=dtype, count=1)[0]


def make_dtype(name: Any, *flags: Any) -> np.dtype:
    """A data type (``numpy.dtype``)."""
    if not isinstance(name, str):
        raise FileError(f"a data type is {name!r}: it must be text.")
    dtype = np.dtype(name)
    if not dtype.hasobject:
        check_dtype(dtype)
    return dtype


def check_dtype(dtype: Any) -> None:
    """:raises FileError: if a data type is not one of numbers, truth values or short text"""
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biufcUS" or dtype.itemsize > 1024:
        raise FileError(f"a data type is {dtype!r}: it must be one of numbers.")


def bytes_of_text(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes in old pickles (``_codecs.encode``)."""
    if not isinstance(text, str) or encoding != "latin1":
        raise FileError(f"bytes in the encoding {encoding!r}: it must be latin1.")
    return text.encode("latin1")


def no_bytes() -> bytes:
    """The empty bytes in old pickles (``__builtin__.bytes``)."""
    return b""


def make_set(values: Any = ()) -> set[Any]:
    """A set of plain values (``builtins.set``)."""
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, KEYS) for value in values):
        raise FileError("a set holds other values than numbers and text.")
    return set(values)


def dummy_schedule(owner: Any, name: Any) -> Callable[[float], float]:
    """The schedule of a policy that was saved alone (``getattr(BasePolicy, "_dummy_schedule")``)."""
    if owner is not BasePolicy or name != "_dummy_schedule":
        raise UnsafeFileError(f"it asks for the attribute {name!r} of {owner!r}.")
    return BasePolicy._dummy_schedule


def make_bit_generator(kind: Any = "MT19937") -> Any:
    """A random generator of NumPy (``numpy.random._pickle.__bit_generator_ctor``)."""
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", None)
    if name not in BIT_GENERATORS:
        raise FileError(f"a random generator is {kind!r}: it must be one of {', '.join(BIT_GENERATORS)}.")
    return BIT_GENERATORS[name]()


def make_generator(bit_generator: Any = "MT19937", constructor: Any = None) -> np.random.Generator:
    """A random generator of NumPy (``numpy.random._pickle.__generator_ctor``)."""
    made = bit_generator if isinstance(bit_generator, np.random.BitGenerator) else make_bit_generator(bit_generator)
    return np.random.Generator(made)


def make_random_state(bit_generator: Any = "MT19937", constructor: Any = None) -> np.random.RandomState:
    """A random generator of NumPy's older kind (``numpy.random._pickle.__randomstate_ctor``)."""
    made = bit_generator if isinstance(bit_generator, np.random.BitGenerator) else make_bit_generator(bit_generator)
    return np.random.RandomState(made)


BIT_GENERATORS = {cls.__name__: cls for cls in (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox)}
_unpickle_seed_sequence = np.random.bit_generator.__dict__["__pyx_unpickle_SeedSequence"]

# What a pickle may call. Some functions are replaced by ours, which check their arguments.
FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): bytes_of_text,
    ("__builtin__", "bytes"): no_bytes,
    ("__builtin__", "getattr"): dummy_schedule,
    ("builtins", "getattr"): dummy_schedule,
    ("__builtin__", "set"): make_set,
    ("builtins", "set"): make_set,
    ("numpy", "dtype"): make_dtype,
    ("numpy.random._pickle", "__bit_generator_ctor"): make_bit_generator,
    ("numpy.random._pickle", "__generator_ctor"): make_generator,
    ("numpy.random._pickle", "__randomstate_ctor"): make_random_state,
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"): _unpickle_seed_sequence,
    ("torch", "device"): th.device,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): make_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): make_scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): array_from_bytes for core in ("core", "_core")},
}

# Classes of which a pickle may make instances. Their constructors are harmless; so is the state that a pickle may give them.
CLASSES: dict[tuple[str, str], type] = {
    qualified(cls): cls
    for cls in (
        OrderedDict,
        deque,
        *BIT_GENERATORS.values(),
        spaces.Box,
        spaces.Dict,
        spaces.Discrete,
        spaces.MultiBinary,
        spaces.MultiDiscrete,
        spaces.Tuple,
        EmbeddedDiscrete,
        type_aliases.TrainFreq,
        type_aliases.TrainFrequencyUnit,
        utils.ConstantSchedule,
        utils.FloatSchedule,
        utils.LinearSchedule,
        noise.NormalActionNoise,
        noise.OrnsteinUhlenbeckActionNoise,
        noise.VectorizedActionNoise,
        running_mean_std.RunningMeanStd,
        GoalSelectionStrategy,
        FlattenExtractor,
        NatureCNN,
        nn.Flatten,
        nn.Sequential,
        nn.Linear,
        nn.Conv2d,
        nn.ReLU,
    )
}
# What it may only mention
MENTIONED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    # The data type of SB3's action noise
    **{("numpy", kind.__name__): kind for kind in (np.float16, np.float32, np.float64)},
    ("numpy.random.bit_generator", "SeedSequence"): np.random.SeedSequence,
    (BasePolicy.__module__, "BasePolicy._dummy_schedule"): BasePolicy._dummy_schedule,
}
# Instances are made without their constructors: a pickle gives them their attributes
WITHOUT_CONSTRUCTOR = (spaces.Space, BaseBuffer, VecNormalize, nn.Module)


def mentioned_class(module: str, name: str) -> type | None:
    """
    :param module: Its module
    :param name: Its name
    :return: A class that a pickle may mention, but not call: policies, networks, activation functions, optimizers and buffers,
        of modules that are imported already; None for all others
    """
    if "." in name or module not in sys.modules or module == "__main__":
        return None
    found = vars(sys.modules[module]).get(name)
    if not isinstance(found, type) or found.__module__ != module:
        return None
    if issubclass(found, (BaseModel, BaseFeaturesExtractor, BaseBuffer, th.optim.Optimizer)):
        return found
    if issubclass(found, nn.Module) and (not module.startswith("torch.") or module.startswith("torch.nn.modules.")):
        return found
    return None


def zoo_schedule(module: str, name: str) -> type | None:
    """:return: The RL Zoo's schedule of learning rates, if the RL Zoo is imported and a pickle names it"""
    if (module, name) != ("rl_zoo3.utils", "SimpleLinearSchedule") or module not in sys.modules:
        return None
    return vars(sys.modules[module]).get(name)
