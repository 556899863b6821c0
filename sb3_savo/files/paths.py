"""Where ``save`` writes: SB3's rules for suffixes and missing folders, and files that are replaced as a whole."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sb3_savo.files.atomic import replacing


def path_to_write(path: str | os.PathLike[str], suffix: str) -> Path:
    """
    :param path: Where a user wants to save
    :param suffix: Added to a name without one
    :return: The file. A missing folder is made; in place of a folder of this name, the name with ``_2`` is taken.
    """
    path = Path(path)
    if path.suffix == "" and suffix:
        path = Path(f"{path}.{suffix}")
    if path.is_dir():
        warnings.warn(f"Path '{path}' is a folder. Will save instead to {path}_2", stacklevel=4)
        path = Path(f"{path}_2")
    if not path.parent.exists():
        warnings.warn(f"Path '{path.parent}' does not exist. Will create it.", stacklevel=4)
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def writing(path: str | os.PathLike[str] | IO[bytes], suffix: str) -> Iterator[Any]:
    """
    :param path: A file, or where to write it
    :param suffix: Added to a name without one
    :return: The open file, for reading and writing. At a path, it replaces the former file once it is complete.
    """
    if not isinstance(path, (str, os.PathLike)):
        yield path
        return
    with replacing(path_to_write(path, suffix)) as file:
        # SB3 asks for the file itself
        yield getattr(file, "file", file)
