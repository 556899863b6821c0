"""Types of the commands' options. A wrong count or path is an error before any work. Nothing here imports torch."""

import argparse
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path


def at_least(low: int) -> Callable[[str], int]:
    """
    :param low: The smallest count
    :return: The type of an option that takes an integer of at least ``low``
    """
    return partial(integer, low=low)


def integer(text: str, low: int) -> int:
    """
    :param text: What the user wrote
    :param low: The smallest count
    :return: The count
    :raises argparse.ArgumentTypeError: If it is none
    """
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer of at least {low}")
    return value


def number(text: str) -> float:
    """
    :param text: What the user wrote
    :return: The number
    :raises argparse.ArgumentTypeError: If it is none, or not finite
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} must be a finite number")
    return value


def positive(text: str) -> float:
    """
    :param text: What the user wrote
    :return: The number
    :raises argparse.ArgumentTypeError: If it is not above 0 and finite
    """
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be above 0")
    return value


def share(text: str) -> float:
    """
    :param text: What the user wrote
    :return: The share
    :raises argparse.ArgumentTypeError: If it is not from 0 to 1
    """
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be from 0 to 1")
    return value


def input_file(text: str) -> Path:
    """
    :param text: What the user wrote
    :return: A file to read
    :raises argparse.ArgumentTypeError: If it is none
    """
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text!r} must be a file that exists")
    return path


def output_file(text: str) -> Path:
    """
    :param text: What the user wrote
    :return: A file to write
    :raises argparse.ArgumentTypeError: If it is something else, or no file can be written there
    """
    path = Path(text)
    check_folder(text, path.parent)
    # A device such as /dev/null would be replaced by a file
    if path.exists() and not path.is_file():
        raise argparse.ArgumentTypeError(f"{text!r} must be a file, or the name of a new one")
    return path


def output_folder(text: str) -> Path:
    """
    :param text: What the user wrote
    :return: A folder to write to, which need not exist yet
    :raises argparse.ArgumentTypeError: If it is something else, or nothing can be written there
    """
    folder = Path(text)
    check_folder(text, next(path for path in (folder, *folder.absolute().parents) if path.exists()))
    return folder


def check_folder(text: str, folder: Path) -> None:
    """
    :param text: What the user wrote
    :param folder: The folder to write to
    :raises argparse.ArgumentTypeError: If no file can be written there
    """
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        message = f"{text!r} can not be written: {folder} must be a folder that can be written to ({error.strerror})"
        raise argparse.ArgumentTypeError(message) from error
