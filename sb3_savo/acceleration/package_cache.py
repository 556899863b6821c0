"""The folder of compiled packages: it belongs to the user alone, and a package is loaded only if its checksum is right."""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

# A package takes about 2 MB
MAX_PACKAGES = 256
MAX_BYTES = 2**30
# Other processes hold the lock for a few file operations only
LOCK_SECONDS = 30.0


def packages_folder() -> Path:
    """:return: The folder ``sb3_savo`` of ``TORCHINDUCTOR_CACHE_DIR`` if that is set, otherwise one in the user's cache"""
    if folder := os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        # torch itself sets the variable, to a folder in the temporary one, when its compiler is first used in a process
        is_default = Path(folder).name.startswith("torchinductor_") and Path(folder).parent == Path(tempfile.gettempdir())
        if not is_default:
            return Path(folder, "sb3_savo").absolute()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if os.path.isabs(cache) else Path.home() / ".cache") / "sb3-savo" / "compiled"


class PackageCache:
    """
    Compiled packages, each under the name ``KEY.CHECKSUM.pt2``. The key stands for the graph, the SHA-256 checksum for the
    file's content. Other files are not looked at.

    :param folder: Where packages are kept; it is made if it does not exist
    :raises RuntimeError: if other users can write to the folder, or it cannot be made
    """

    def __init__(self, folder: Path):
        make_private(folder)
        self.folder = folder

    def _lock(self) -> FileLock:
        return FileLock(self.folder / "lock", timeout=LOCK_SECONDS)

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """
        A folder for the files of one compilation. It is removed at the end; if this process is killed before, by the next one
        that compiles.
        """
        with self._lock():
            self._remove_abandoned()
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            in_use = FileLock(folder / "in_use")
            in_use.acquire()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            in_use.release()

    def _remove_abandoned(self) -> None:
        """Remove the work folders of processes that have ended: nobody holds their lock."""
        for folder in self.folder.glob("tmp*"):
            in_use = FileLock(folder / "in_use")
            with suppress(Timeout, OSError):
                in_use.acquire(blocking=False)
                shutil.rmtree(folder, ignore_errors=True)
                in_use.release()

    def fetch(self, key: str, path: Path) -> bool:
        """
        Copy a package. One that is damaged is removed.

        :param key: The graph's
        :param path: Where to copy it to; what is copied is what was checked
        :return: Whether there is a package with the right checksum
        """
        for package in self.folder.glob(f"{key}.*.pt2"):
            with suppress(FileNotFoundError):  # another process has removed it
                if is_private(package.lstat()):
                    content = package.read_bytes()
                    if package.name == package_name(key, content):
                        path.write_bytes(content)
                        os.utime(package)  # its last use
                        return True
                package.unlink()
        return False

    def store(self, key: str, path: Path) -> None:
        """
        Keep a copy of a package. Nobody sees a part of it, and two processes may store the same one.

        :param key: The graph's
        :param path: The package, in a work folder
        """
        content = path.read_bytes()
        copy = path.with_suffix(".copy")
        copy.write_bytes(content)
        copy.chmod(0o600)
        os.replace(copy, self.folder / package_name(key, content))
        self.prune()

    def prune(self) -> None:
        """Remove the packages that were not used for longest, beyond ``MAX_PACKAGES`` and ``MAX_BYTES``."""
        with self._lock():
            found = []
            for package in self.folder.glob("*.pt2"):
                with suppress(FileNotFoundError):
                    status = package.lstat()
                    found.append((status.st_mtime_ns, status.st_size, package))
            size = 0
            for i, (_, package_size, package) in enumerate(sorted(found, reverse=True)):
                size += package_size
                if i >= MAX_PACKAGES or size > MAX_BYTES:
                    package.unlink(missing_ok=True)


def package_name(key: str, content: bytes) -> str:
    """
    :param key: The graph's
    :param content: The package's
    :return: The package's name in the cache
    """
    return f"{key}.{hashlib.sha256(content).hexdigest()}.pt2"


def is_private(status: os.stat_result) -> bool:
    """
    :param status: Of a file or a folder, and not of what a link points to
    :return: Whether it is one, belongs to the user, and nobody else can write to it
    """
    is_own = status.st_uid == os.geteuid() and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) == 0
    return is_own and (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


def make_private(folder: Path) -> None:
    """
    Make a folder that only the user can read and write.

    :param folder: The folder; it may exist
    :raises RuntimeError: if it is not the user's own, others can write to it, or it cannot be made
    """
    remedy = "remove it, or set TORCHINDUCTOR_CACHE_DIR to a folder of your own"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise RuntimeError(f"the folder of compiled code, {folder}, is a symbolic link: {remedy}.")
        if status.st_uid != os.geteuid():
            raise RuntimeError(f"the folder of compiled code, {folder}, belongs to another user ({status.st_uid}): {remedy}.")
        if not is_private(status):
            mode = stat.S_IMODE(status.st_mode)
            raise RuntimeError(f"other users can write to the folder of compiled code, {folder} (mode {mode:o}): {remedy}.")
        folder.chmod(0o700)
    except OSError as error:
        raise RuntimeError(f"the folder of compiled code, {folder}, cannot be made ({error}): {remedy}.") from error
