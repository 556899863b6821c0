"""Objects as JSON and arrays: numbers, containers, spaces, noise, random generators. Nothing else can be written or read."""

import base64
import enum
import math
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th

from sb3_savo.files.errors import FileError
from sb3_savo.files.harmless import CLASSES, WITHOUT_CONSTRUCTOR, check_dtype, make_bit_generator, mentioned_class, qualified

PLAIN = (bool, int, str, type(None))


class Encoder:
    """
    Writes objects as JSON, and puts their arrays aside.

    :param instances: Further classes of which there may be instances
    """

    def __init__(self, instances: tuple[type, ...] = ()):
        self.arrays: dict[str, np.ndarray] = {}
        self.instances = instances

    def encode(self, value: Any, where: str) -> Any:
        """
        :param value: An object
        :param where: Its name, after which its arrays are called, and which errors tell
        :return: JSON
        :raises TypeError: if it is of a kind that cannot be written
        """
        kind = type(value)
        if kind in PLAIN or (kind is float and math.isfinite(value)):
            return value
        if kind is float:
            return {"float": str(value)}
        if kind is list:
            return [self.encode(part, f"{where}.{i}") for i, part in enumerate(value)]
        if kind in (dict, OrderedDict):
            pairs = [[self.encode(key, where), self.encode(part, f"{where}.{key}")] for key, part in value.items()]
            return {"dict" if kind is dict else "ordered": pairs}
        if isinstance(value, enum.Enum):
            return {"enum": list(qualified(kind)), "value": value.value}
        if kind is tuple:
            return {"tuple": self.encode(list(value), where)}
        if kind is deque:
            return {"deque": self.encode(list(value), where), "maxlen": value.maxlen}
        return self._encode_numbers(value, where) or self._encode_object(value, where)

    def _encode_numbers(self, value: Any, where: str) -> dict[str, Any] | None:
        if isinstance(value, bytes):
            return {"bytes": base64.b64encode(value).decode()}
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            return {"objects": self.encode(value.ravel().tolist(), where), "shape": list(value.shape)}
        if isinstance(value, np.ndarray):
            return {"array": self._keep(value, where), "writable": bool(value.flags.writeable)}
        if isinstance(value, np.generic):
            return {"scalar": value.dtype.str, "bytes": base64.b64encode(value.tobytes()).decode()}
        if isinstance(value, np.dtype):
            return {"dtype": value.str}
        if isinstance(value, type) and issubclass(value, np.generic):
            return {"scalar_type": np.dtype(value).str}
        if isinstance(value, th.Tensor):
            return {"tensor": self._keep(value.detach().cpu().numpy(), where)}
        if isinstance(value, th.device):
            return {"device": str(value)}
        if isinstance(value, np.random.Generator):
            return {"generator": self.encode(value.bit_generator.state, where)}
        if isinstance(value, np.random.RandomState):
            return {"random_state": self.encode(value.get_state(legacy=False), where)}
        return None

    def _keep(self, array: np.ndarray, where: str) -> str:
        """:return: The name of the array, which is the path to it if no other array has the same path"""
        name = where if where not in self.arrays else f"{where}~{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def _encode_object(self, value: Any, where: str) -> dict[str, Any]:
        kind = type(value)
        if isinstance(value, type) and mentioned_class(*qualified(value)) is value:
            return {"mention": list(qualified(value))}
        if qualified(kind) in CLASSES or kind in self.instances:
            if isinstance(value, tuple):
                return {"named": list(qualified(kind)), "values": self.encode(list(value), where)}
            state = value.__getstate__() if kind in self.instances else vars(value)
            return {"class": list(qualified(kind)), "state": self.encode(dict(state), where)}
        raise TypeError(f"{where} is a {kind.__module__}.{kind.__qualname__}, which is not written without pickle.")


class Decoder:
    """
    Reads what :class:`Encoder` has written.

    :param arrays: The arrays, by name
    :param instances: Further classes of which there may be instances
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], instances: tuple[type, ...] = ()):
        self.arrays = arrays
        self.classes = {**CLASSES, **{qualified(cls): cls for cls in instances}}

    def decode(self, value: Any) -> Any:
        """
        :param value: JSON
        :return: The object
        :raises FileError: if there is no such object
        """
        try:
            return self._decode(value)
        except FileError:
            raise
        except Exception as error:
            raise FileError(f"it describes an object that there is not: {type(error).__name__}: {error}") from error

    def _decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._decode(part) for part in value]
        if not isinstance(value, dict):
            return value
        kind = next(iter(value))
        content = value[kind]
        if kind in ("dict", "ordered"):
            pairs = [(self._decode(key), self._decode(part)) for key, part in content]
            return dict(pairs) if kind == "dict" else OrderedDict(pairs)
        if kind in ("tuple", "deque"):
            parts = self._decode(content)
            return tuple(parts) if kind == "tuple" else deque(parts, value["maxlen"])
        if kind == "float":
            return float(content)
        if kind in ("enum", "named", "class"):
            return self._decode_object(kind, self.classes[tuple(content)], value)
        if kind == "mention":
            found = mentioned_class(*content)
            if found is None:
                raise FileError(f"it names {'.'.join(content)}, which is not imported, or not known to be harmless.")
            return found
        return self._decode_numbers(kind, content, value)

    def _decode_numbers(self, kind: str, content: Any, value: dict[str, Any]) -> Any:
        if kind == "bytes":
            return base64.b64decode(content)
        if kind == "objects":
            array = np.empty(len(content), dtype=object)
            array[:] = self._decode(content)
            return array.reshape(value["shape"])
        if kind == "array":
            array = self.arrays[content]
            array.setflags(write=value["writable"])
            return array
        if kind == "scalar":
            dtype = np.dtype(content)
            check_dtype(dtype)
            return np.frombuffer(base64.b64decode(value["bytes"]), dtype=dtype, count=1)[0]
        if kind == "dtype":
            return np.dtype(content)
        if kind == "scalar_type":
            return np.dtype(content).type
        if kind == "tensor":
            return th.from_numpy(self.arrays[content])
        if kind == "device":
            return th.device(content)
        if kind == "generator":
            state = self._decode(content)
            bit_generator = make_bit_generator(state["bit_generator"])
            bit_generator.state = state
            return np.random.Generator(bit_generator)
        if kind == "random_state":
            random_state = np.random.RandomState()
            random_state.set_state(self._decode(content))
            return random_state
        raise FileError(f"it describes something of the unknown kind {kind!r}.")

    def _decode_object(self, kind: str, cls: type, value: dict[str, Any]) -> Any:
        if kind == "enum":
            return cls(value["value"])
        if kind == "named":
            return cls(*self._decode(value["values"]))
        state = self._decode(value["state"])
        made = object.__new__(cls) if issubclass(cls, WITHOUT_CONSTRUCTOR) else cls.__new__(cls)
        if hasattr(made, "__setstate__"):
            made.__setstate__(state)
        else:
            made.__dict__.update(state)
        return made
