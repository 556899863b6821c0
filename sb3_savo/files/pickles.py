"""Reading pickles without executing what they name: they may only name what is known to be harmless."""

import inspect
import io
import pickle
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch as th
from torch import nn

from sb3_savo.files.errors import FileError, UnsafeFileError
from sb3_savo.files.harmless import (
    CLASSES,
    FUNCTIONS,
    KEYS,
    MENTIONED,
    WITHOUT_CONSTRUCTOR,
    check_dtype,
    mentioned_class,
    qualified,
    zoo_schedule,
)

# Values in a pickle; nested ones count as often as they are reached, so that small pickles cannot be large objects
MAX_VALUES = 200_000
MAX_DEPTH = 64

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
    :raises FileError: if it is nested too deeply, or has more values than anybody could print or copy
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
