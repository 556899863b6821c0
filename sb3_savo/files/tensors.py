"""
Files of ``torch.save``, read without executing what they hold.

``torch.load(weights_only=True)`` executes nothing either. But it believes the sizes that a file tells: a storage that is
larger than its bytes, a tensor that repeats one number a billion times, a zip inside the zip that unpacks to gigabytes.
"""

import io
import math
import sys
from typing import Any, NamedTuple

import torch as th
from torch import nn

from sb3_savo.files.archives import Archive
from sb3_savo.files.errors import FileError
from sb3_savo.files.pickles import SafeUnpickler, read

STORAGES: dict[str, th.dtype] = {
    "BoolStorage": th.bool,
    "ByteStorage": th.uint8,
    "CharStorage": th.int8,
    "ShortStorage": th.int16,
    "IntStorage": th.int32,
    "LongStorage": th.int64,
    "HalfStorage": th.float16,
    "BFloat16Storage": th.bfloat16,
    "FloatStorage": th.float32,
    "DoubleStorage": th.float64,
}
DTYPES: dict[str, th.dtype] = {str(dtype).removeprefix("torch."): dtype for dtype in STORAGES.values()}


class Storage(NamedTuple):
    """The numbers of one storage, in one dimension."""

    numbers: th.Tensor


def rebuild_tensor(
    storage: Storage, offset: int, size: Any, stride: Any, requires_grad: bool, hooks: Any = None, metadata: Any = None
) -> th.Tensor:
    """A tensor of a storage (``torch._utils._rebuild_tensor_v2``)."""
    if not isinstance(storage, Storage) or hooks or len(size) != len(stride):
        raise FileError("a tensor is described in another way than torch does.")
    numbers = storage.numbers
    sizes = [int(n) for n in (*size, *stride, offset)]
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    n_elements = math.prod(size)
    if min(sizes) < 0 or (n_elements > 0 and last >= len(numbers)) or n_elements > len(numbers):
        raise FileError(f"a tensor of the size {tuple(size)} lies in a storage of {len(numbers)} numbers.")
    return numbers.as_strided(tuple(size), tuple(stride), offset).requires_grad_(bool(requires_grad))


def rebuild_parameter(data: th.Tensor, requires_grad: bool, hooks: Any = None) -> nn.Parameter:
    """A parameter (``torch._utils._rebuild_parameter``)."""
    if not isinstance(data, th.Tensor) or hooks:
        raise FileError("a parameter is described in another way than torch does.")
    return nn.Parameter(data.detach(), requires_grad=bool(requires_grad))


FUNCTIONS = {
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
}


class TensorUnpickler(SafeUnpickler):
    """
    Reads the pickle in a file of torch.

    :param content: The pickle
    :param archive: The zip that also holds the storages
    :param folder: The folder in it
    """

    def __init__(self, content: bytes, archive: Archive, folder: str):
        super().__init__(content)
        self.archive = archive
        self.folder = folder
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in FUNCTIONS:
            return FUNCTIONS[module, name]
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        return super().find_class(module, name)

    def may_call(self, called: Any) -> bool:
        return called in FUNCTIONS.values() or super().may_call(called)

    def persistent_load(self, pid: Any) -> Storage:
        try:
            _, dtype, key, _, n = pid
        except (TypeError, ValueError) as error:
            raise FileError("a storage is described in another way than torch does.") from error
        if not isinstance(dtype, th.dtype) or not isinstance(key, str) or not isinstance(n, int):
            raise FileError("a storage is described in another way than torch does.")
        if key not in self.storages:
            content = self.archive.read(f"{self.folder}/data/{key}")
            if len(content) != n * dtype.itemsize:
                raise FileError(f"storage {key!r} has {len(content):,} bytes: it must have {n * dtype.itemsize:,}.")
            numbers = th.frombuffer(bytearray(content), dtype=dtype) if content else th.empty(0, dtype=dtype)
            self.storages[key] = Storage(numbers)
        if self.storages[key].numbers.dtype != dtype:
            raise FileError(f"storage {key!r} has two data types.")
        return self.storages[key]


def loads(content: bytes) -> Any:
    """
    :param content: A file of ``torch.save``
    :return: What it holds, with tensors on the CPU
    :raises UnsafeFileError: if it names a function or a class that is not known to be harmless
    :raises FileError: if it is damaged
    """
    archive = Archive(io.BytesIO(content), "file of torch.save (since torch 1.6)")
    pickles = [name for name in archive.names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise archive.damaged("its entry 'data.pkl' is missing")
    folder = pickles[0].removesuffix("/data.pkl")
    order = f"{folder}/byteorder"
    if order in archive.infos and archive.read(order).decode(errors="replace") != sys.byteorder:
        raise FileError(f"its numbers have another byte order than this machine's, {sys.byteorder}.")
    return read(TensorUnpickler(archive.read(pickles[0]), archive, folder))
