"""Files that are there whole or not at all, whenever the process is killed, the machine stops or the disk is full."""

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

PARTIAL = ".partial"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """
    Write a file aside, sync it, and rename it to ``path`` at the end. An error leaves the file that was there before.

    :param path: The file, whose folder must exist
    :return: The open file
    :raises OSError: if it cannot be written; where the disk is full, the error names the file and the bytes
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL, delete=False)
    aside = Path(file.name)
    try:
        with full_disk_explained(path, file), file:
            yield file
            sync(file)
        # Files made by ``tempfile`` are their owner's alone
        aside.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~current_umask())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """
    :param path: The file, which is replaced as by :func:`replacing`
    :param content: Its bytes
    """
    with replacing(path) as file:
        file.write(content)


def in_memory(save: Callable[[Any, IO[bytes]], None], value: Any) -> bytes:
    """
    Where writing to a file fails, torch tells the positions in it and not the reason, or ends the program.

    :param save: ``torch.save`` or ``torch.export.save``
    :param value: What to save
    :return: The content of the file
    """
    content = io.BytesIO()
    save(value, content)
    return content.getvalue()


@contextmanager
def full_disk_explained(path: Path, file: IO[bytes] | None = None) -> Iterator[None]:
    """
    :param path: What is written in this context
    :param file: The open file of which the size is told
    :raises OSError: in place of the error of a full disk, one that names the file, how many bytes of it were written, and
        how many are free
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = shutil.disk_usage(path.parent).free
        written = ""
        if file is not None:
            with_position = getattr(file, "tell", lambda: 0)
            try:
                written = f" after {with_position():,} bytes"
            except (OSError, ValueError):
                written = ""
        raise OSError(
            error.errno,
            f"{os.strerror(error.errno)}{written}: {free:,} bytes are free. What was there before is unchanged",
            str(path),
        ) from error


def sync(file: IO[bytes]) -> None:
    """
    :param file: An open file, whose bytes are on the disk afterwards
    """
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """
    :param folder: A folder, whose list of files is on the disk afterwards; some systems do so by themselves
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def current_umask() -> int:
    """:return: The rights that new files do not get"""
    mask = os.umask(0)
    os.umask(mask)
    return mask
