"""The file of a policy or a network alone, as SB3's ``policy.save`` writes it."""

import os
from contextlib import nullcontext
from typing import IO, Any, Self

import torch as th
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.utils import get_device

from sb3_savo.arguments import check_device, check_flag
from sb3_savo.files import tensors
from sb3_savo.files.allocation import LimitedTensors, size_in_bytes
from sb3_savo.files.archives import reading, seal
from sb3_savo.files.atomic import in_memory
from sb3_savo.files.errors import FileError, UnsafeFileError, explain
from sb3_savo.files.paths import writing


def write_policy(policy: BaseModel, path: str | os.PathLike[str] | IO[bytes]) -> None:
    """
    :param policy: A policy or a network
    :param path: Where to write it
    """
    content = in_memory(th.save, {"state_dict": policy.state_dict(), "data": policy._get_constructor_parameters()})
    with writing(path, "") as file:
        file.write(content)
        seal(file)


def read_policy(path: str | os.PathLike[str] | IO[bytes], allow_pickle: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    :param path: The file
    :param allow_pickle: Whether its pickle may execute anything
    :return: The state of the policy, and its constructor's arguments
    :raises FileNotFoundError: if there is no such file
    :raises UnsafeFileError: if loading would execute code
    :raises FileError: if the file is damaged, or holds no policy
    """
    try:
        with reading(path, "") as file:
            if allow_pickle:
                content = th.load(file, map_location="cpu", weights_only=False)
            else:
                content = tensors.loads(file.read())
        if not isinstance(content, dict) or not isinstance(content.get("data"), dict) or "state_dict" not in content:
            raise FileError("it holds no policy: it must be a file that policy.save() wrote.")
    except UnsafeFileError as error:
        hint = "If you trust whoever made the file, load it by allow_pickle=True. Classes of your own must be imported before."
        raise UnsafeFileError(
            f"it may execute code, so nothing of it was loaded: {error} {hint} (path={str(path)!r})"
        ) from error
    except FileError as error:
        raise explain(path, error) from error
    return content["state_dict"], content["data"]


class SavedAlone(BaseModel):
    """A policy or a network whose file is written whole or not at all, and loaded without executing anything."""

    def save(self, path: str | os.PathLike[str] | IO[bytes]) -> None:  # type: ignore[override]
        """
        Save the policy or network alone.

        :param path: Where to write it
        :raises OSError: if it cannot be written; a file that was there before is then unchanged
        """
        write_policy(self, path)

    @classmethod
    def load(  # type: ignore[override]
        cls, path: str | os.PathLike[str] | IO[bytes], device: th.device | str = "auto", allow_pickle: bool = False
    ) -> Self:
        """
        Load what :meth:`save` wrote, and execute nothing that the file names.

        :param path: The file
        :param device: Device to put it on; auto: on the GPU if possible
        :param allow_pickle: Whether the file may execute code. Needed for functions and classes of your own that were defined
            in the program itself; only for files of people you trust
        :return: The policy or network
        :raises FileNotFoundError: if there is no such file
        :raises TypeError: if the file is of another class
        :raises ValueError: if there is no such device, or the file is damaged, or would execute code
        """
        check_device("device", device)
        check_flag("allow_pickle", allow_pickle)
        state, arguments = read_policy(path, allow_pickle)
        try:
            with nullcontext() if allow_pickle else LimitedTensors(size_in_bytes(state)):
                model = cls(**arguments)
            model.load_state_dict(state)
        except (TypeError, ValueError, RuntimeError) as error:
            kind = TypeError if isinstance(error, TypeError) else FileError
            raise kind(f"{error} (path={str(path)!r})") from error
        return model.to(get_device(device))
