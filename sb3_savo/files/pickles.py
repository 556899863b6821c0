"""
Reading pickles without executing what they name.

A pickle is a program that may call any function. Here it may call the few that make spaces, arrays, schedules and random
generators, with arguments that are checked. Classes of policies, networks and optimizers it may only mention.
"""

import inspect
import io
import pickle
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, ClassVar

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

# Values in a pickle; nested ones count as often as they are reached, so that small pickles cannot be large objects
MAX_VALUES = 200_000
MAX_DEPTH = 64
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


# Its methods for single instructions are unknown to type checkers
Unpickler: Any = pickle._Unpickler  # type: ignore[attr-defined]


class SafeUnpickler(Unpickler):
    """
    Reads a pickle, and executes nothing that it names.

    :param content: The pickle
    :param instances: Further classes of which there may be instances
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(Unpickler.dispatch)
    stack: list[Any]
    read: Callable[[int], bytes]

    def __init__(self, content: bytes, instances: tuple[type, ...] = ()):
        super().__init__(io.BytesIO(content))
        self.instances = instances

    def find_class(self, module: str, name: str) -> Any:
        """:raises UnsafeFileError: if the name is not known to be harmless"""
        key = (module, name)
        if key in FUNCTIONS:
            return FUNCTIONS[key]
        if key in CLASSES:
            return CLASSES[key]
        if key in MENTIONED:
            return MENTIONED[key]
        found = zoo_schedule(module, name) or self._further_class(module, name) or mentioned_class(module, name)
        if found is None:
            raise UnsafeFileError(f"it names {module}.{name}, which is not known to be harmless.")
        return found

    def _further_class(self, module: str, name: str) -> type | None:
        return next((cls for cls in self.instances if qualified(cls) == (module, name)), None)

    def persistent_load(self, pid: Any) -> Any:
        raise FileError("it refers to something outside of itself.")

    def may_make(self, called: Any) -> bool:
        """:return: Whether instances of a class may be made"""
        return any(called is cls for cls in (*CLASSES.values(), *self.instances)) or (
            isinstance(called, type) and called is zoo_schedule(called.__module__, called.__name__)
        )

    def may_call(self, called: Any) -> bool:
        """:return: Whether a function or a class may be called"""
        if any(called is function for function in FUNCTIONS.values()):
            return True
        return self.may_make(called) and not (isinstance(called, type) and issubclass(called, WITHOUT_CONSTRUCTOR))

    def load_reduce(self) -> None:
        called, args = self.stack[-2:]
        if not self.may_call(called):
            raise UnsafeFileError(f"it calls {called!r}.")
        if not isinstance(args, tuple):
            raise FileError("it calls a function with something else than arguments.")
        self.stack[-2:] = [called(*args)]

    def load_newobj(self) -> None:
        cls, args = self.stack[-2:]
        self.stack[-2:] = [self._new(cls, args, {})]

    def load_newobj_ex(self) -> None:
        cls, args, kwargs = self.stack[-3:]
        self.stack[-3:] = [self._new(cls, args, kwargs)]

    def _new(self, cls: Any, args: Any, kwargs: Any) -> Any:
        if not self.may_make(cls):
            raise UnsafeFileError(f"it makes an instance of {cls!r}.")
        if issubclass(cls, WITHOUT_CONSTRUCTOR) and (args or kwargs):
            raise FileError(f"it makes an instance of {cls!r} with arguments.")
        if issubclass(cls, WITHOUT_CONSTRUCTOR) or cls in (OrderedDict, deque):
            # The checks of a constructor's arguments come later, when the model is made
            return object.__new__(cls) if issubclass(cls, WITHOUT_CONSTRUCTOR) else cls(*args)
        return cls.__new__(cls, *args, **kwargs)

    def load_build(self) -> None:
        state, instance = self.stack[-1], self.stack[-2]
        if isinstance(instance, np.dtype):
            # The byte order and alignment of numbers, which the data type has by its name
            self.stack.pop()
            return
        if isinstance(instance, np.ndarray):
            if not isinstance(state, tuple) or len(state) != 5:
                raise FileError("the state of an array is not that of NumPy.")
            # An array of objects holds what this pickle holds
            if not (
                isinstance(state[2], np.dtype) and state[2].hasobject and not state[2].fields and isinstance(state[4], list)
            ):
                check_dtype(state[2])
        elif not self._has_state(instance):
            raise UnsafeFileError(f"it changes {instance!r}.")
        if isinstance(state, tuple) and not isinstance(
            instance, (np.ndarray, np.random.BitGenerator, np.random.SeedSequence, np.random.Generator, np.random.RandomState)
        ):
            raise FileError(f"it gives {type(instance).__name__} a state of another kind than attributes.")
        if isinstance(instance, nn.Module):
            check_module_state(state)
        super().load_build()

    def _has_state(self, instance: Any) -> bool:
        if isinstance(instance, type):
            return False
        random = (np.random.BitGenerator, np.random.SeedSequence, np.random.Generator, np.random.RandomState)
        return isinstance(instance, random) or self.may_make(type(instance))

    def load_setitem(self) -> None:
        self._check_items(self.stack[-3], [self.stack[-2]])
        super().load_setitem()

    def load_setitems(self) -> None:
        self._check_items(self.metastack[-1][-1], self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        self._check_items({}, self.stack[::2])
        super().load_dict()

    def _check_items(self, mapping: Any, keys: list[Any]) -> None:
        if type(mapping) not in (dict, OrderedDict) or not all(isinstance(key, KEYS) for key in keys):
            raise FileError("it holds a dictionary whose keys are neither numbers nor text.")

    def load_append(self) -> None:
        self._check_list(self.stack[-2])
        super().load_append()

    def load_appends(self) -> None:
        self._check_list(self.metastack[-1][-1])
        super().load_appends()

    def _check_list(self, values: Any) -> None:
        if type(values) not in (list, deque):
            raise UnsafeFileError(f"it appends to {type(values).__name__}.")

    def load_bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        content = self.read(length)
        if len(content) != length:
            raise FileError("it is cut off.")
        self.stack.append(bytearray(content))

    def load_refused(self) -> None:
        raise UnsafeFileError("it holds an instruction that no file of ours needs.")


SafeUnpickler.dispatch |= {
    pickle.REDUCE[0]: SafeUnpickler.load_reduce,
    pickle.NEWOBJ[0]: SafeUnpickler.load_newobj,
    pickle.NEWOBJ_EX[0]: SafeUnpickler.load_newobj_ex,
    pickle.BUILD[0]: SafeUnpickler.load_build,
    pickle.BYTEARRAY8[0]: SafeUnpickler.load_bytearray8,
    pickle.SETITEM[0]: SafeUnpickler.load_setitem,
    pickle.SETITEMS[0]: SafeUnpickler.load_setitems,
    pickle.DICT[0]: SafeUnpickler.load_dict,
    pickle.APPEND[0]: SafeUnpickler.load_append,
    pickle.APPENDS[0]: SafeUnpickler.load_appends,
}
for _code in (
    *(pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4),
    *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),
):
    SafeUnpickler.dispatch[_code[0]] = SafeUnpickler.load_refused


def check_module_state(state: Any) -> None:
    """
    :param state: The attributes of a network in a pickle
    :raises UnsafeFileError: if the network would call something
    """
    if not isinstance(state, dict):
        raise FileError("the state of a network is no dictionary.")
    for name, value in state.items():
        is_network = name == "_modules" and isinstance(value, dict) and all(map(is_network_or_none, value.values()))
        if name == "_modules" and not is_network:
            raise UnsafeFileError("it holds a network of something else than networks.")
        if ("hook" in str(name) and value) or (callable(value) and not isinstance(value, type)):
            raise UnsafeFileError(f"it holds a network with the function {name!r}.")


def is_network_or_none(value: Any) -> bool:
    """:return: Whether a value is a network or None"""
    return value is None or isinstance(value, nn.Module)


def check_extent(value: Any) -> None:
    """
    :param value: What a pickle holds
    :raises FileError: if it is nested too deeply, or has so many values that nobody could print or copy it
    """
    waiting, count = [(value, 0)], 0
    while waiting:
        current, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES or depth > MAX_DEPTH:
            raise FileError("it holds values that are nested too often.")
        if isinstance(current, dict):
            waiting += [(part, depth + 1) for part in current.values()]
        elif isinstance(current, (list, tuple, deque)):
            waiting += [(part, depth + 1) for part in current]
        elif hasattr(current, "__dict__") and not inspect.isroutine(current) and not isinstance(current, (type, th.Tensor)):
            waiting += [(part, depth + 1) for part in vars(current).values()]


def subclasses(base: type) -> tuple[type, ...]:
    """:return: A class and all imported subclasses of it"""
    children: list[type] = type.__subclasses__(base)
    return (base, *(cls for child in children for cls in subclasses(child)))


def loads(content: bytes, instances: tuple[type, ...] = ()) -> Any:
    """
    :param content: A pickle
    :param instances: Further classes of which there may be instances
    :return: What it holds
    :raises UnsafeFileError: if it names a function or a class that is not known to be harmless
    :raises FileError: if it is damaged
    """
    return read(SafeUnpickler(content, instances))


def read(unpickler: SafeUnpickler) -> Any:
    """
    :param unpickler: Reads a pickle
    :return: What it holds
    :raises FileError: see :func:`loads`
    """
    try:
        value = unpickler.load()
        check_extent(value)
    except FileError:
        raise
    except Exception as error:
        raise FileError(f"its pickle is damaged: {type(error).__name__}: {error}") from error
    return value
