"""Replay buffers and the statistics of VecNormalize, each in one zip of JSON and arrays; SB3's pickles are read too."""

import hashlib
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import IO, Any

from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_savo.files import atomic, pickles
from sb3_savo.files.archives import DIGEST, FORMAT_ENTRY, Archive, reading, seal
from sb3_savo.files.arrays import SUFFIX, ArraysOf, write_array
from sb3_savo.files.codec import Decoder, Encoder
from sb3_savo.files.errors import FileError, UnsafeFileError, explain
from sb3_savo.files.models import check_format, format_text
from sb3_savo.files.paths import writing

OBJECT_ENTRY = "object.json"


def write_object(path: str | os.PathLike[str] | IO[bytes], value: Any, suffix: str = "") -> None:
    """
    :param path: Where to write it
    :param value: A replay buffer or a ``VecNormalize``
    :param suffix: Added to a name without one
    :raises TypeError: if it holds something that cannot be written without pickle
    """
    encoder = Encoder((type(value),))
    described = encoder.encode(value, type(value).__name__)
    with writing(path, suffix) as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in encoder.arrays.items():
                with archive.open(name + SUFFIX, "w", force_zip64=True) as entry:
                    write_array(entry, array)
            archive.writestr(OBJECT_ENTRY, json.dumps(described))
        seal(file, {FORMAT_ENTRY: format_text()})


def read_object(path: str | os.PathLike[str] | IO[bytes], base: type, suffix: str = "", allow_pickle: bool = False) -> Any:
    """
    :param path: The file: ours, or SB3's pickle
    :param base: The class of the object, or a parent of it
    :param suffix: Added where there is no file without it
    :param allow_pickle: Whether a pickle may execute anything
    :return: The object
    :raises FileNotFoundError: if there is no such file
    :raises UnsafeFileError: if loading would execute code
    :raises FileError: if the file is damaged, lies about its sizes, or holds something else
    """
    with reading(path, suffix) as file:
        try:
            is_zip = file.read(2) == b"PK"
            file.seek(0)
            if is_zip:
                value = read_zip(Archive(file, f"file of a {base.__name__}"), base)
            else:
                value = read_pickle(unsealed(file.read()), base, allow_pickle)
            if not isinstance(value, base):
                raise FileError(f"it holds a {type(value).__name__}: it must hold a {base.__name__}.")
        except FileError as error:
            raise explain(path, error) from error.__cause__
    return value


def read_zip(archive: Archive, base: type) -> Any:
    """
    :param archive: The zip
    :param base: See :func:`read_object`, as for the result
    """
    if FORMAT_ENTRY in archive.infos:
        check_format(archive.read(FORMAT_ENTRY))
    try:
        described = json.loads(archive.read(OBJECT_ENTRY))
        module, name = described["class"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise archive.damaged(f"its entry {OBJECT_ENTRY!r} describes no object: {error}") from error
    cls = class_of(module, name, base)
    return Decoder(ArraysOf(archive), (cls,)).decode(described)


def read_pickle(content: bytes, base: type, allow_pickle: bool) -> Any:
    """
    :param content: A pickle
    :param base: See :func:`read_object`, as for the others
    """
    if allow_pickle:
        return pickle.loads(content)
    try:
        return pickles.loads(content, pickles.subclasses(base))
    except UnsafeFileError as error:
        raise UnsafeFileError(
            f"it may execute code, so nothing of it was loaded: {error} If you trust whoever made the file, load it by "
            "allow_pickle=True. Classes of your own must be imported before."
        ) from error


def seal_pickle(path: str | os.PathLike[str]) -> None:
    """
    Append its SHA-256 to a pickle, so that every flipped bit is found. Other programs unpickle the file all the same, since
    they read no further than to the pickle's end.

    :param path: The file
    """
    content = Path(path).read_bytes()
    atomic.write(path, content + DIGEST + digest_of(content))


def unsealed(content: bytes) -> bytes:
    """
    :param content: The bytes of a file with a pickle
    :return: The pickle
    :raises FileError: if it does not have the SHA-256 that follows it
    """
    if content.endswith(pickle.STOP):
        return content
    length = content.rfind(DIGEST)
    if length < 0 or content[length + len(DIGEST) :] != digest_of(content[:length]):
        raise FileError(
            "it is damaged or cut off: its bytes do not have its SHA-256. It must be a complete copy of such a file."
        )
    return content[:length]


def digest_of(content: bytes) -> bytes:
    """:return: The SHA-256 of some bytes, in hexadecimal digits"""
    return hashlib.sha256(content).hexdigest().encode()


def class_of(module: str, name: str, base: type) -> type:
    """
    :return: An imported class that a file names
    :raises FileError: if there is none, or it is no such class
    """
    for cls in pickles.subclasses(base):
        if (cls.__module__, cls.__qualname__) == (module, name):
            return cls
    raise FileError(f"it names the class {module}.{name}: it must be {base.__name__}, or a subclass of it that is imported.")


def save_vec_normalize(env: VecNormalize, path: str | os.PathLike[str]) -> None:
    """
    Save the statistics of a ``VecNormalize``, without pickle.

    :param env: The environment
    :param path: Where to write them
    """
    write_object(path, env)


def load_vec_normalize(path: str | os.PathLike[str] | IO[bytes], venv: VecEnv, allow_pickle: bool = False) -> VecNormalize:
    """
    ``VecNormalize.load`` that executes nothing, for files of :func:`save_vec_normalize` and for SB3's.

    :param path: The file
    :param venv: The environment to normalize
    :param allow_pickle: Whether a pickle may execute anything
    :return: The environment, normalized
    :raises FileNotFoundError: if there is no such file
    :raises UnsafeFileError: if loading would execute code
    :raises FileError: if the file is damaged, or of another environment
    """
    env = read_object(path, VecNormalize, allow_pickle=allow_pickle)
    try:
        env.set_venv(venv)
    except (AssertionError, ValueError, AttributeError, TypeError) as error:
        raise explain(path, FileError(f"it does not fit the environment: {error}")) from error
    return env
