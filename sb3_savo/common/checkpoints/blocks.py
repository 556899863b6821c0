"""Large arrays in blocks that are named by their content: a block that did not change is neither written nor stored again."""

import hashlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sb3_savo.files.arrays import KINDS, bytes_in
from sb3_savo.files.atomic import PARTIAL, sync
from sb3_savo.files.errors import FileError

BLOCK_BYTES = 2**20
SUFFIX = ".block"
# Of a block, and of one whose write was interrupted
BLOCK_NAME = re.compile(f"[0-9a-f]{{64}}({re.escape(SUFFIX)}|{re.escape(PARTIAL)})")


class Blocks:
    """
    A folder of blocks.

    :param folder: The folder, which is made with the first block
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, digest: str) -> Path:
        """
        :param digest: The SHA-256 of a block
        :return: Its file
        """
        return self.folder / f"{digest}{SUFFIX}"

    def write(self, array: np.ndarray, n_rows: int | None = None) -> dict[str, Any]:
        """
        :param array: An array of numbers
        :param n_rows: How many rows to write, where all others are zero; None for all
        :return: What :meth:`read` needs to know: the array's data type, its shape, how many bytes are written, their blocks
        :raises OSError: if a block cannot be written
        """
        self.folder.mkdir(exist_ok=True)
        array = np.asarray(array, order="C")
        content = bytes_in(array if n_rows is None else array[:n_rows])
        digests = []
        for start in range(0, len(content), BLOCK_BYTES):
            block = content[start : start + BLOCK_BYTES]
            digest = hashlib.sha256(block).hexdigest()
            if not self.path(digest).exists():
                self._write_block(digest, block)
            digests.append(digest)
        return {"dtype": array.dtype.str, "shape": list(array.shape), "bytes": len(content), "blocks": digests}

    def _write_block(self, digest: str, block: memoryview) -> None:
        aside = self.folder / f"{digest}{PARTIAL}"
        with aside.open("wb") as file:
            file.write(block)
            sync(file)
        os.replace(aside, self.path(digest))

    def read(self, described: Mapping[str, Any]) -> np.ndarray:
        """
        :param described: What :meth:`write` has returned
        :return: The array
        :raises FileError: if a block is missing or damaged
        """
        dtype, shape, n_bytes = np.dtype(described["dtype"]), tuple(described["shape"]), described["bytes"]
        if dtype.kind not in KINDS or n_bytes > math.prod(shape) * dtype.itemsize:
            raise FileError(f"an array of the type {dtype} and the shape {shape} does not have {n_bytes:,} bytes.")
        array = np.zeros(shape, dtype)
        content = bytes_in(array)
        start = 0
        for block in self._read_blocks(described):
            content[start : start + len(block)] = block
            start += len(block)
        return array

    def _read_blocks(self, described: Mapping[str, Any]) -> Iterator[bytes]:
        n_bytes, digests = described["bytes"], described["blocks"]
        if len(digests) != -(-n_bytes // BLOCK_BYTES):
            raise FileError(f"an array of {n_bytes:,} bytes does not consist of {len(digests)} blocks.")
        for i, digest in enumerate(digests):
            yield self.read_block(digest, min(BLOCK_BYTES, n_bytes - i * BLOCK_BYTES))

    def read_block(self, digest: str, n_bytes: int) -> bytes:
        """
        :param digest: The SHA-256 of a block
        :param n_bytes: Its size
        :return: The block
        :raises FileError: if it is missing or damaged
        """
        path = self.path(digest)
        try:
            found = os.path.getsize(path)
            content = path.read_bytes() if found == n_bytes else b""
        except OSError as error:
            raise FileError(f"{path.name} cannot be read: {error}") from error
        if found != n_bytes:
            raise FileError(f"{path.name} has {found:,} bytes: it must have {n_bytes:,}.")
        if hashlib.sha256(content).hexdigest() != digest:
            raise FileError(f"{path.name} is damaged: its SHA-256 is not its name.")
        return content

    def check(self, described: Mapping[str, Any]) -> None:
        """
        :param described: What :meth:`write` has returned
        :raises FileError: if a block is missing or damaged
        """
        for _ in self._read_blocks(described):
            pass

    def keep(self, digests: set[str]) -> None:
        """
        Delete all other blocks, and what an interrupted write has left. Files of another kind stay.

        :param digests: The blocks to keep
        """
        names = {self.path(digest).name for digest in digests}
        for path in self.folder.glob("*"):
            if path.name not in names and BLOCK_NAME.fullmatch(path.name):
                path.unlink(missing_ok=True)


class ArraysIn(Mapping[str, np.ndarray]):
    """
    Arrays by name, each read when it is asked for.

    :param blocks: Where they are
    :param described: What :meth:`Blocks.write` has returned, by name
    """

    def __init__(self, blocks: Blocks, described: Mapping[str, Any]):
        self.blocks = blocks
        self.described = described

    def __getitem__(self, name: str) -> np.ndarray:
        return self.blocks.read(self.described[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.described)

    def __len__(self) -> int:
        return len(self.described)
