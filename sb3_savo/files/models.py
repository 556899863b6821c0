"""
The zip of a model: SB3's, which SB3 itself and the RL Zoo read, and an entry that tells its format.

``data`` holds the attributes as JSON, those that JSON does not know as pickles; each ``.pth`` the state of a network or of an
optimizer. What a strange zip says is believed only after it was checked.
"""

import base64
import io
import json
import os
from importlib.metadata import version
from typing import IO, Any, TypeVar

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.save_util import data_to_json, load_from_zip_file, save_to_zip_file

from sb3_savo.actions.spaces import EmbeddedDiscrete, check_embeddings
from sb3_savo.files import pickles, tensors
from sb3_savo.files.archives import FORMAT_ENTRY, UNREADABLE, Archive, reading, seal
from sb3_savo.files.errors import FileError, UnsafeFileError, explain
from sb3_savo.files.paths import writing

SelfAlgorithm = TypeVar("SelfAlgorithm", bound=BaseAlgorithm)

FORMAT = 1
"""The number of today's layout. Zips of SB3 and of former versions, which do not tell it, are read too."""
KIND = "zip that save() wrote"
VARIABLES = ("pytorch_variables.pth", "tensors.pth")
ENTRIES = ("data", "_stable_baselines3_version", "system_info.txt", FORMAT_ENTRY)
# Schedules are made anew from ``learning_rate``
REMADE = ("lr_schedule", "qf_lr_schedule")

Contents = tuple[dict[str, Any] | None, dict[str, Any], dict[str, Any] | None]


def write_model(
    path: str | os.PathLike[str] | IO[bytes], data: dict[str, Any], states: dict[str, Any], variables: dict[str, Any]
) -> None:
    """
    :param path: Where to write it
    :param data: The model's attributes
    :param states: The states of its networks and optimizers, by name
    :param variables: Its other tensors
    """
    with writing(path, "zip") as file:
        save_to_zip_file(file, data, states, variables)
        seal(file, {FORMAT_ENTRY: format_text()})


def format_text() -> str:
    """:return: What a file says of its format"""
    return json.dumps({"format": FORMAT, "version": version("sb3-savo")})


def check_format(text: bytes) -> None:
    """
    :param text: What a file says of its format
    :raises FileError: if this version does not know the format
    """
    try:
        described = json.loads(text)
        number, written_by = int(described["format"]), str(described["version"])
    except (ValueError, TypeError, KeyError) as error:
        raise FileError(f"its entry {FORMAT_ENTRY!r} is damaged: {error}") from error
    if number > FORMAT:
        raise FileError(
            f"sb3-savo {written_by[:40]} wrote it, in format {number}, and this is sb3-savo {version('sb3-savo')}, which "
            f"reads formats up to {FORMAT}: sb3-savo {written_by[:40]} or a later version can read it."
        )


def read_model(
    path: str | os.PathLike[str] | IO[bytes], custom_objects: dict[str, Any] | None = None, allow_pickle: bool = False
) -> Contents:
    """
    :param path: The zip
    :param custom_objects: Attributes that replace those in the zip
    :param allow_pickle: Whether pickles are loaded as SB3 does, and may execute anything
    :return: The attributes, the states of networks and optimizers, and other tensors; None for what is missing
    :raises FileNotFoundError: if there is no such file
    :raises UnsafeFileError: if loading would execute code
    :raises FileError: if the file is damaged, lies about its sizes, or another version is needed to read it
    """
    with reading(path, "zip") as file:
        try:
            archive = Archive(file, KIND)
            if FORMAT_ENTRY in archive.infos:
                check_format(archive.read(FORMAT_ENTRY))
            if allow_pickle:
                file.seek(0)
                try:
                    return load_from_zip_file(file, custom_objects=custom_objects, device="cpu")  # type: ignore[arg-type]
                except (*UNREADABLE, KeyError, AttributeError, ImportError) as error:
                    raise archive.damaged(f"{type(error).__name__}: {error}") from error
            return read_archive(archive, custom_objects or {})
        except FileError as error:
            raise explain(path, error) from error.__cause__


def read_archive(archive: Archive, custom_objects: dict[str, Any]) -> Contents:
    """
    :param archive: A model's zip
    :param custom_objects: See :func:`read_model`, as for the result
    """
    for name in archive.names:
        if name not in ENTRIES and not name.endswith(".pth"):
            raise archive.damaged(f"it holds {name!r}, which save() does not write")
    data = read_data(archive.read("data"), custom_objects) if "data" in archive.infos else None
    states, variables = {}, None
    for name in archive.names:
        if not name.endswith(".pth"):
            continue
        try:
            content = tensors.loads(archive.read(name))
        except FileError as error:
            raise type(error)(f"entry {name!r}: {error}") from error
        if not isinstance(content, dict):
            raise archive.damaged(f"its entry {name!r} holds no dictionary")
        if name in VARIABLES:
            variables = content
        else:
            states[name.removesuffix(".pth")] = content
    return data, states, variables


def read_data(text: bytes, custom_objects: dict[str, Any]) -> dict[str, Any]:
    """
    :param text: The entry ``data``
    :param custom_objects: See :func:`read_model`
    :return: The attributes
    """
    try:
        described = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"it is damaged or cut off, or no {KIND}: its entry 'data' is no JSON: {error}") from error
    if not isinstance(described, dict):
        raise FileError(f"it is damaged, or no {KIND}: its entry 'data' is no table of attributes.")
    data = {}
    for name, value in described.items():
        if name in custom_objects:
            data[name] = custom_objects[name]
        elif name in REMADE:
            continue
        elif isinstance(value, dict) and ":serialized:" in value:
            data[name] = read_attribute(name, value[":serialized:"])
        else:
            data[name] = value
    for name in ("observation_space", "action_space"):
        if name in data and name not in custom_objects:
            check_space(name, data[name])
    return data


def read_attribute(name: str, text: Any) -> Any:
    """
    :param name: Name of an attribute
    :param text: Its pickle, in the base 64
    :return: Its value
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (ValueError, TypeError) as error:
        raise FileError(f"attribute {name!r} in its entry 'data' is damaged: {error}") from error
    try:
        return pickles.loads(content, pickles.subclasses(BaseBuffer))
    except UnsafeFileError as error:
        raise UnsafeFileError(
            f"attribute {name!r} in its entry 'data' may execute code, so nothing of it was loaded: {error} Replace it by "
            f"custom_objects={{{name!r}: …}}, or, if you trust whoever made the file, load it by allow_pickle=True. Classes "
            "of your own must be imported before."
        ) from error
    except FileError as error:
        raise FileError(f"attribute {name!r} in its entry 'data': {error}") from error


def check_space(name: str, space: Any) -> None:
    """
    :param name: Its name
    :param space: A space that was read: its attributes are whatever the file says
    :raises FileError: if they do not fit together
    """
    try:
        if isinstance(space, spaces.Dict):
            for key, part in space.spaces.items():
                check_space(f"{name}[{key!r}]", part)
        elif isinstance(space, spaces.Tuple):
            for i, part in enumerate(space.spaces):
                check_space(f"{name}[{i}]", part)
        elif isinstance(space, spaces.Box):
            bounds = (np.asarray(space.low), np.asarray(space.high))
            if any(bound.shape != space._shape or bound.dtype != space.dtype for bound in bounds):
                raise ValueError("its bounds have another shape or data type than the space")
        elif isinstance(space, spaces.Discrete):
            if not 0 < int(space.n) <= np.iinfo(np.int64).max or space._shape != ():
                raise ValueError(f"n={space.n!r} must be a positive integer")
            if isinstance(space, EmbeddedDiscrete) and len(check_embeddings(space.embeddings)) != space.n:
                raise ValueError(f"it has {space.n} items, and embeddings of {len(space.embeddings)}")
        elif isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
            if isinstance(space, spaces.MultiDiscrete) and np.asarray(space.nvec).shape != space._shape:
                raise ValueError("nvec has another shape than the space")
        else:
            raise ValueError(f"it is a {type(space).__name__}")
    except (ValueError, TypeError, AttributeError) as error:
        raise FileError(f"{name} in its entry 'data' is no space: {error}.") from error


def load_safely(algorithm: type[SelfAlgorithm], path: str | os.PathLike[str] | IO[bytes], **kwargs: Any) -> SelfAlgorithm:
    """
    ``load`` of Stable-Baselines3's own algorithms, for zips of strangers: nothing that the zip names is executed.

    :param algorithm: TD3, SAC, PPO, DQN, …
    :param path: The zip
    :param kwargs: See ``load``
    :return: The model
    :raises FileNotFoundError: if there is no such file
    :raises UnsafeFileError: if loading would execute code
    :raises FileError: if the file is damaged or lies about its sizes
    """
    data, states, variables = read_model(path, kwargs.get("custom_objects"))
    checked = io.BytesIO()
    save_to_zip_file(checked, data, states, variables)
    checked.seek(0)
    return algorithm.load(checked, **kwargs)


def needs_pickle(data: dict[str, Any]) -> list[str]:
    """
    :param data: The attributes of a model that is saved
    :return: The names of the attributes that will not be loaded without ``allow_pickle``
    """
    refused = []
    for name, value in json.loads(data_to_json(data)).items():
        if name not in REMADE and isinstance(value, dict) and ":serialized:" in value:
            try:
                read_attribute(name, value[":serialized:"])
            except FileError:
                refused.append(name)
    return refused
