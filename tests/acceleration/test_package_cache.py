"""The folder of compiled packages."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sb3_savo.acceleration import package_cache as module
from sb3_savo.acceleration.package_cache import PackageCache, package_name, packages_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders have owners on POSIX systems")


@pytest.fixture
def cache(tmp_path):
    return PackageCache(tmp_path / "compiled")


def store(cache, key, content):
    with cache.work_folder() as folder:
        (folder / "package.pt2").write_bytes(content)
        cache.store(key, folder / "package.pt2")
    return cache.folder / package_name(key, content)


def names(cache):
    return {path.name for path in cache.folder.iterdir() if path.name != "lock"}


def test_a_package_is_found_again(cache, tmp_path):
    package = store(cache, "key", b"content")
    assert cache.fetch("key", tmp_path / "copy") and (tmp_path / "copy").read_bytes() == b"content"
    assert not cache.fetch("ke", tmp_path / "other") and not cache.fetch("key2", tmp_path / "other")
    assert not (tmp_path / "other").exists() and names(cache) == {package.name}
    # Stored by two processes at once
    assert store(cache, "key", b"content") == package and names(cache) == {package.name}


@pytest.mark.parametrize("how", ["damaged", "cut", "planted", "unlisted", "link", "written by others"])
def test_a_wrong_package_is_not_found(cache, tmp_path, how):
    package = store(cache, "key", b"content")
    if how == "damaged":
        package.write_bytes(b"c0ntent")
    elif how == "cut":
        package.write_bytes(b"cont")
    elif how == "planted":
        package.rename(cache.folder / package_name("other", b"content"))
        package.write_bytes(b"planted")
    elif how == "unlisted":
        package.rename(cache.folder / "key.pt2")
    elif how == "link":
        package.rename(tmp_path / "target")
        package.symlink_to(tmp_path / "target")
    else:
        package.chmod(0o666)
    assert not cache.fetch("key", tmp_path / "copy") and not (tmp_path / "copy").exists()
    assert not package.exists() and not package.is_symlink()
    # It is compiled and found again
    store(cache, "key", b"content")
    assert cache.fetch("key", tmp_path / "copy")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702])
def test_a_folder_that_others_write_to_is_refused(tmp_path, mode):
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled").chmod(mode)
    with pytest.raises(RuntimeError, match=rf"other users can write to the folder of compiled code, .* \(mode {mode:o}\)"):
        PackageCache(tmp_path / "compiled")


def test_a_link_is_refused(tmp_path):
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "compiled").symlink_to(tmp_path / "target")
    with pytest.raises(RuntimeError, match="is a symbolic link: remove it, or set TORCHINDUCTOR_CACHE_DIR"):
        PackageCache(tmp_path / "compiled")
    (tmp_path / "target").rmdir()
    with pytest.raises(RuntimeError, match="the folder of compiled code, "):
        PackageCache(tmp_path / "compiled")


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    (tmp_path / "compiled").mkdir(mode=0o700)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(RuntimeError, match="belongs to another user"):
        PackageCache(tmp_path / "compiled")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match=r"cannot be made .*set TORCHINDUCTOR_CACHE_DIR"):
        PackageCache(tmp_path / "file" / "compiled")


def test_nobody_else_reads_it(tmp_path):
    for name in ("new", "old"):
        if name == "old":
            (tmp_path / name).mkdir(mode=0o755)
        cache = PackageCache(tmp_path / name)
        assert cache.folder.stat().st_mode & 0o777 == 0o700
        assert store(cache, "key", b"content").stat().st_mode & 0o777 == 0o600


def test_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # torch writes its own default into the variable
    for value in ("", str(Path(tempfile.gettempdir()) / "torchinductor_somebody")):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", value)
        assert packages_folder() == tmp_path / "sb3-savo" / "compiled"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "own"))
    assert packages_folder() == tmp_path / "own" / "sb3_savo"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert packages_folder() == tmp_path / ".cache" / "sb3-savo" / "compiled"


@pytest.mark.parametrize("limit, value", [("MAX_PACKAGES", 3), ("MAX_BYTES", 35)])
def test_what_was_not_used_for_long_is_removed(cache, tmp_path, monkeypatch, limit, value):
    packages = [store(cache, f"key{i}", bytes([i]) * 10) for i in range(4)]
    for i, package in enumerate(packages):
        os.utime(package, (i, i))
    assert cache.fetch("key0", tmp_path / "copy")
    monkeypatch.setattr(module, limit, value)
    new = store(cache, "new", b"a" * 10)
    assert names(cache) == {packages[0].name, packages[3].name, new.name}


def test_folders_of_killed_processes_are_removed(cache):
    script = f"""
import os, signal
from pathlib import Path
from sb3_savo.acceleration.package_cache import PackageCache
with PackageCache(Path({str(cache.folder)!r})).work_folder() as folder:
    (folder / "graph.pt2").touch()
    print(folder.name, flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        theirs = process.stdout.readline().strip()
        with cache.work_folder() as own, cache.work_folder() as another:
            assert names(cache) == {theirs, own.name, another.name}
            process.kill()
            process.wait()
            assert names(cache) == {theirs, own.name, another.name}
            with cache.work_folder() as third:
                assert names(cache) == {own.name, another.name, third.name}
    assert names(cache) == set()
