"""
Zips that lie neither about their sizes nor about their content.

The sizes are summed before anything is read. The comment of a zip that is written here holds the SHA-256 of all its bytes
(with zeros in the place of the digest), so that every flipped bit is found. Zips of others are checked entry by entry.
"""

import hashlib
import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sb3_savo.files.errors import FileError

# A zip may unpack to MAX_UNPACKED bytes, or to MAX_RATIO times its own size. SB3 and torch do not compress at all.
MAX_UNPACKED, MAX_RATIO = 2**24, 8
# Of a zip, the list of its entries; a file of torch has one per tensor
MAX_DIRECTORY = 2**22
# The entry that tells the format of a zip of ours, which has a digest
FORMAT_ENTRY = "_sb3_savo_format"
DIGEST = b"sha256:"
NO_DIGEST = b"0" * 64
CHUNK = 2**20
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, struct.error, ValueError, RuntimeError)


class Archive:
    """
    A zip that is read.

    :param file: The open file
    :param kind: What the file should be, for messages
    :raises FileError: if it is no zip, is damaged, or unpacks to too much
    """

    def __init__(self, file: IO[bytes], kind: str):
        self.kind = kind
        try:
            length = file.seek(0, os.SEEK_END)
            file.seek(0)
            self._check_directory(file)
            self.archive = zipfile.ZipFile(file)
        except UNREADABLE as error:
            raise self.damaged(f"{type(error).__name__}: {error}") from error
        infos = self.archive.infolist()
        self.infos = {info.filename: info for info in infos}
        if len(self.infos) < len(infos):
            raise self.damaged("two of its entries have the same name")
        for info in infos:
            if info.flag_bits & 1:
                raise self.damaged(f"its entry {info.filename!r} is encrypted")
        unpacked = sum(info.file_size for info in infos)
        if unpacked > max(MAX_UNPACKED, MAX_RATIO * length):
            raise FileError(f"it unpacks from {length:,} to {unpacked:,} bytes, which no {kind} does: nothing of it is read.")
        self._check_digest(file, length)

    @staticmethod
    def _check_directory(file: IO[bytes]) -> None:
        end: Any = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if end is not None and end[5] > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"the list of its entries takes {end[5]:,} bytes")
        if end is not None and end[7] != len(end[8]):
            raise zipfile.BadZipFile("its comment is cut off")
        file.seek(0)

    def damaged(self, reason: str) -> FileError:
        """
        :param reason: What is wrong
        :return: The error
        """
        return FileError(f"it is damaged or cut off, or no {self.kind}. It must be a complete copy of such a file: {reason}")

    def _check_digest(self, file: IO[bytes], length: int) -> None:
        comment = self.archive.comment
        if not re.fullmatch(DIGEST + b"[0-9a-f]{64}", comment):
            # No other program writes a comment
            if comment or FORMAT_ENTRY in self.infos:
                raise self.damaged("its SHA-256 is missing")
            return
        if digest_of_zip(file, length) != comment[len(DIGEST) :]:
            for info in self.infos.values():
                for _ in self.chunks(info.filename):
                    pass
            raise self.damaged("its bytes do not have its SHA-256; the damage is outside of the entries' content")

    @property
    def names(self) -> list[str]:
        return list(self.infos)

    def read(self, name: str) -> bytes:
        """
        :param name: Name of an entry
        :return: Its content
        :raises FileError: if it is missing or damaged
        """
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """
        :param name: Name of an entry
        :return: Its content, in pieces
        :raises FileError: if it is missing or damaged
        """
        with self.open(name) as entry:
            while chunk := entry.read(CHUNK):
                yield chunk

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """
        :param name: Name of an entry
        :return: The entry, to be read to its end; only then its checksum is compared
        :raises FileError: if it is missing or damaged
        """
        if name not in self.infos:
            raise self.damaged(f"its entry {name!r} is missing")
        try:
            with self.archive.open(name) as entry:
                yield entry
        except FileError:
            raise
        except UNREADABLE as error:
            raise self.damaged(f"its entry {name!r}: {type(error).__name__}: {error}") from error


@contextmanager
def reading(path: str | os.PathLike[str] | IO[bytes], suffix: str) -> Iterator[IO[bytes]]:
    """
    :param path: A file, its path, or its path without the suffix
    :param suffix: Added where there is no file without it, as SB3 does
    :return: The open file
    :raises FileNotFoundError: if there is none
    """
    if not isinstance(path, (str, os.PathLike)):
        position = path.tell()
        yield path
        path.seek(position)
        return
    path = Path(path)
    if not path.exists() and Path(f"{path}.{suffix}").exists():
        path = Path(f"{path}.{suffix}")
    with path.open("rb") as file:
        yield file


def digest_of_zip(file: IO[bytes], length: int) -> bytes:
    """
    :param file: An open zip that ends with a digest
    :param length: Its size
    :return: The SHA-256 of its bytes, with zeros in place of the digest, in hexadecimal digits
    """
    sha = hashlib.sha256()
    file.seek(0)
    left = length - len(NO_DIGEST)
    while left > 0 and (chunk := file.read(min(CHUNK, left))):
        sha.update(chunk)
        left -= len(chunk)
    sha.update(NO_DIGEST)
    return sha.hexdigest().encode()


def seal(file: IO[bytes], entries: dict[str, str] | None = None) -> None:
    """
    Add entries and the digest to a zip.

    :param file: The zip, open for reading and writing
    :param entries: Text to add, by the name of the entry
    """
    with zipfile.ZipFile(file, "a") as archive:
        for name, text in (entries or {}).items():
            archive.writestr(name, text)
        archive.comment = DIGEST + NO_DIGEST
    length = file.seek(0, io.SEEK_END)
    digest = digest_of_zip(file, length)
    file.seek(length - len(NO_DIGEST))
    file.write(digest)
    file.seek(0, io.SEEK_END)
