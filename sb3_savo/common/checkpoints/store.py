"""
The folder of a run's checkpoints::

    checkpoints/
        lock                        held by the process that writes
        blocks/SHA-256.block        pieces of large arrays, shared by the checkpoints
        step-000000012000/
            model.zip               what ``save`` writes: SB3 and the RL Zoo read it
            state.json              everything else that is no array
            arrays.zip              small arrays
            manifest.json           format, versions, and the size and SHA-256 of everything above

A checkpoint is written aside, synced and renamed. Then the oldest of three is deleted.
"""

import hashlib
import io
import json
import os
import re
import shutil
import warnings
import zipfile
from collections import ChainMap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from sb3_savo.common.checkpoints.blocks import BLOCK_BYTES, ArraysIn, Blocks
from sb3_savo.files.archives import Archive
from sb3_savo.files.arrays import SUFFIX, ArraysOf, write_array
from sb3_savo.files.atomic import PARTIAL, full_disk_explained, sync, sync_folder
from sb3_savo.files.errors import FileError, explain
from sb3_savo.files.models import check_format, format_text

KEPT = 2
MANIFEST, MODEL, STATE, ARRAYS = "manifest.json", "model.zip", "state.json", "arrays.zip"
FILES = (MODEL, STATE, ARRAYS)


class Checkpoint(NamedTuple):
    """
    A checkpoint that was read and found undamaged.

    :param folder: Its folder
    :param state: Everything that is no array, as JSON
    :param arrays: The arrays, by name
    :param about: What its manifest tells of it
    """

    folder: Path
    state: Any
    arrays: Mapping[str, np.ndarray]
    about: dict[str, Any]

    @property
    def model(self) -> Path:
        """The zip of the model."""
        return self.folder / MODEL


class Store:
    """
    A folder of checkpoints, which one process at a time may use.

    :param folder: The folder, which is made if it is missing
    :raises OSError: if it cannot be made
    :raises ValueError: if it is a file, or another process uses it
    """

    def __init__(self, folder: str | os.PathLike[str]):
        # The working directory may change while the run learns
        self.folder = Path(folder).absolute()
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"checkpoints={str(folder)!r} is a file: it must be a folder, which may be missing.")
        with full_disk_explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.blocks = Blocks(self.folder / "blocks")
        self._lock = FileLock(self.folder / "lock")
        # Checkpoints that newest() has passed over
        self._damaged: list[Path] = []
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"checkpoints={str(folder)!r} is in use by another process: it must end first, or this run must have a folder "
                "of its own."
            ) from None
        for path in self.folder.glob(f"step-*{PARTIAL}"):
            shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Let other processes use the folder."""
        self._lock.release()

    def folders(self) -> list[Path]:
        """:return: The folders of the checkpoints, the newest first"""
        return sorted((path for path in self.folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name)), reverse=True)

    def newest(self) -> Checkpoint | None:
        """
        :return: The newest undamaged checkpoint; None if there is none at all. A damaged one is named in a warning, and the
            one before is taken.
        :raises FileError: if all are damaged
        """
        damage = []
        self._damaged = []
        for folder in self.folders():
            try:
                return self.read(folder)
            except FileError as error:
                damage.append(str(error))
                self._damaged.append(folder)
                if folder != self.folders()[-1]:
                    warnings.warn(f"A checkpoint is damaged, and the one before it is used: {error}", stacklevel=5)
        if damage:
            raise FileError(
                f"checkpoints={str(self.folder)!r}: none of its checkpoints can be read. To begin anew, delete the folder."
                + "".join(f" {reason}" for reason in damage)
            )
        return None

    def read(self, folder: Path) -> Checkpoint:
        """
        :param folder: The folder of a checkpoint
        :return: The checkpoint
        :raises FileError: if a file of it is missing or damaged; the message names it
        """
        try:
            about = self._read_manifest(folder / MANIFEST)
            contents = {}
            for name in FILES:
                contents[name] = read_checked(folder / name, about["files"][name])
            for described in about["arrays"].values():
                self.blocks.check(described)
            small = ArraysOf(Archive(io.BytesIO(contents[ARRAYS]), "zip of arrays"))
        except FileError as error:
            raise explain(folder, error) from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise explain(folder, FileError(f"{MANIFEST} is damaged: {type(error).__name__}: {error}")) from error
        arrays = ChainMap[str, np.ndarray](ArraysIn(self.blocks, about["arrays"]), small)  # type: ignore[arg-type]
        return Checkpoint(folder, json.loads(contents[STATE]), arrays, about)

    @staticmethod
    def _read_manifest(path: Path) -> dict[str, Any]:
        try:
            digest, _, text = path.read_text(encoding="utf-8").partition("\n")
        except (OSError, ValueError) as error:
            raise FileError(f"{path.name} cannot be read: {error}") from error
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            raise FileError(f"{path.name} is damaged: its first line is not the SHA-256 of the others.")
        about = json.loads(text)
        check_format(json.dumps(about["format"]).encode())
        return about

    def write(
        self,
        step: int,
        save_model: Callable[[Path], None],
        state: Any,
        arrays: dict[str, tuple[np.ndarray, int | None]],
        about: dict[str, Any],
    ) -> None:
        """
        :param step: The number of the checkpoint: environment steps so far
        :param save_model: Writes the model's zip to a path
        :param state: Everything that is no array, as JSON
        :param arrays: The arrays, by name, and how many of their rows are not zero; None for all
        :param about: What the manifest tells besides
        :raises OSError: if it cannot be written. The undamaged checkpoints that were there before are unchanged.
        """
        folder = self.folder / f"step-{step:012}"
        aside = self.folder / f"{folder.name}{PARTIAL}"
        shutil.rmtree(aside, ignore_errors=True)
        if self._damaged:
            self._prune()
        with full_disk_explained(folder):
            try:
                aside.mkdir()
                described = self._write_arrays(aside / ARRAYS, arrays)
                save_model(aside / MODEL)
                write_synced(aside / STATE, json.dumps(state).encode())
                files = {name: describe_file(aside / name) for name in FILES}
                manifest = {"format": json.loads(format_text()), "files": files, "arrays": described, **about}
                text = json.dumps(manifest, indent=1)
                write_synced(aside / MANIFEST, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}".encode())
                sync_folder(aside)
                os.rename(aside, folder)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                self._prune()  # on a full disk, its blocks would leave no space for logs
                raise
        sync_folder(self.folder)
        self._prune()

    def _write_arrays(self, path: Path, arrays: dict[str, tuple[np.ndarray, int | None]]) -> dict[str, Any]:
        """
        :param path: Where to write the small arrays
        :param arrays: See :meth:`write`
        :return: How to read the large ones, by name
        """
        small = io.BytesIO()
        described = {}
        with zipfile.ZipFile(small, "w") as archive:
            for name, (array, n_rows) in arrays.items():
                if array.nbytes >= BLOCK_BYTES:
                    described[name] = self.blocks.write(array, n_rows)
                else:
                    with archive.open(name + SUFFIX, "w") as entry:
                        write_array(entry, array)
        write_synced(path, small.getvalue())
        if described:
            sync_folder(self.blocks.folder)
        return described

    def _prune(self) -> None:
        """Delete all checkpoints but the newest undamaged ones, and all blocks that these do not have."""
        kept = [folder for folder in self.folders() if folder not in self._damaged][:KEPT]
        try:
            manifests = [self._read_manifest(folder / MANIFEST) for folder in kept]
        except FileError:
            return  # nobody knows which blocks it has
        self._damaged = []
        digests = {digest for about in manifests for described in about["arrays"].values() for digest in described["blocks"]}
        # Before the folders, since a kill in between must leave no damaged block that a later checkpoint takes for its own
        self.blocks.keep(digests)
        for folder in self.folders():
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def write_synced(path: Path, content: bytes) -> None:
    """
    :param path: A new file
    :param content: Its bytes, which are on the disk afterwards
    """
    with path.open("wb") as file:
        file.write(content)
        sync(file)


def describe_file(path: Path) -> dict[str, Any]:
    """:return: The size and the SHA-256 of a file"""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def read_checked(path: Path, described: dict[str, Any]) -> bytes:
    """
    :param path: A file
    :param described: What :func:`describe_file` has returned
    :return: Its content
    :raises FileError: if it is missing or damaged
    """
    try:
        size = path.stat().st_size
        if size != described["bytes"]:
            raise FileError(f"{path.name} has {size:,} bytes: it must have {described['bytes']:,}.")
        content = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path.name} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != described["sha256"]:
        raise FileError(f"{path.name} is damaged: its SHA-256 is not that of {MANIFEST}.")
    return content
