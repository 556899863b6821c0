"""Arrays in the format of ``numpy.save``, without pickle: as entries of a zip, or as files of their own."""

import io
import math
from collections.abc import Mapping
from typing import IO

import numpy as np
from numpy.lib import format as npy

from sb3_savo.files.archives import CHUNK, Archive
from sb3_savo.files.errors import FileError

SUFFIX = ".npy"
MAX_HEADER = 10_000
KINDS = "biufcSUV"


def write_array(file: IO[bytes], array: np.ndarray) -> None:
    """
    :param file: Takes the array
    :param array: An array of numbers
    :raises TypeError: if it is one of objects
    """
    if array.dtype.hasobject:
        raise TypeError(f"an array of {array.dtype} cannot be written without pickle.")
    array = np.asarray(array, order="C")
    npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(array))  # type: ignore[no-untyped-call]
    flat = bytes_in(array)
    for start in range(0, len(flat), CHUNK):
        file.write(flat[start : start + CHUNK])


def bytes_in(array: np.ndarray) -> memoryview:
    """
    :param array: An array, in one piece
    :return: Its bytes, of which changes change the array
    """
    return memoryview(array.reshape(-1).view(np.uint8).data) if array.size else memoryview(bytearray())


def read_array(file: IO[bytes], length: int) -> np.ndarray:
    """
    :param file: Holds the array and nothing else
    :param length: Its size, in bytes
    :return: The array
    :raises FileError: if it is none, or holds another number of bytes than its shape needs
    """
    try:
        version = npy.read_magic(file)  # type: ignore[no-untyped-call]
        if version != (1, 0):
            raise ValueError(f"version {version} of the format")
        shape, fortran, dtype = npy.read_array_header_1_0(file, max_header_size=MAX_HEADER)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise FileError(f"an array is damaged: {error}") from error
    if dtype.hasobject or dtype.kind not in KINDS or fortran:
        raise FileError(f"an array is of the type {dtype}: it must be one of numbers.")
    header = file.tell()
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes != length - header:
        raise FileError(f"an array of the shape {shape} has {length - header:,} bytes: it must have {n_bytes:,}.")
    array = np.empty(shape, dtype)
    flat = bytes_in(array)
    done = 0
    while done < n_bytes:
        chunk = file.read(min(CHUNK, n_bytes - done))
        if not chunk:
            raise FileError("an array is cut off.")
        flat[done : done + len(chunk)] = chunk
        done += len(chunk)
    file.read(1)  # at its end, an entry of a zip compares its checksum
    return array


def dumps(array: np.ndarray) -> bytes:
    """
    :param array: An array of numbers
    :return: Its file
    """
    file = io.BytesIO()
    write_array(file, array)
    return file.getvalue()


class ArraysOf(Mapping[str, np.ndarray]):
    """
    The arrays in a zip, each read when it is asked for.

    :param archive: The zip
    """

    def __init__(self, archive: Archive):
        self.archive = archive

    def __getitem__(self, name: str) -> np.ndarray:
        entry = name + SUFFIX
        if entry not in self.archive.infos:
            raise self.archive.damaged(f"its entry {entry!r} is missing")
        with self.archive.open(entry) as file:
            return read_array(file, self.archive.infos[entry].file_size)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return (name.removesuffix(SUFFIX) for name in self.archive.names if name.endswith(SUFFIX))

    def __len__(self) -> int:
        return sum(1 for _ in self)
