"""
One run in a process of its own: ``python -m benchmarks.worker FOLDER RUN``, as ``benchmarks.run`` starts it. RUN is JSON.

Doing a run again does no harm: a finished one is left alone, and one that another process does just now, too.
"""

import ctypes
import errno
import importlib
import json
import os
import platform
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import filelock

from benchmarks.recording import LOG, Recorder, is_finished, lock
from benchmarks.suite import Run

FAILED = 1
# Codes of sysexits.h: try again later; input or output failed
BUSY, DISK_FULL = os.EX_TEMPFAIL, os.EX_IOERR
PACKAGES = ("sb3-savo", "stable-baselines3", "torch", "numpy", "gymnasium", "mujoco", "gymnasium-robotics")
PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """
    End this process and all that it started when its parent dies, however that dies (Linux).

    :param parent: Process ID of the parent
    """

    def end(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    if os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, end)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def describe(run: Run, seconds: float) -> dict[str, Any]:
    """
    :param run: A finished run
    :param seconds: How long it took
    :return: What is to be known of it: the run, versions, command, machine and commit
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    command = [Path(sys.executable).name, "-m", "benchmarks.worker", f"benchmarks/results/runs/{run.name}", run.as_json()]
    return {
        "run": json.loads(run.as_json()),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_time": round(seconds, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "versions": {"python": platform.python_version(), **versions},
        "machine": {"system": platform.platform(), "processor": processor(), "cores": os.cpu_count()},
        "commit": commit(),
        "command": shlex.join(command),
    }


def processor() -> str:
    """:return: Name of the processor"""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def commit() -> str | None:
    """:return: The commit of the checkout, with a mark if the code that decides results has changed since; None without git"""
    # Without the lock that "git status" takes to note what it has found: a killed run would leave the checkout locked
    git = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", ":/sb3_savo", ":/hyperparams", ":/benchmarks/*.py"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}, with changes" if changed else head


def do(run: Run, folder: Path) -> int:
    """
    :param run: The run
    :param folder: Its folder
    :return: Exit code
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder).acquire(blocking=False):
            if not is_finished(folder):
                redirect_output(folder / LOG)
                do_locked(run, folder)
    except filelock.Timeout:
        return BUSY
    except OSError as error:
        traceback.print_exc()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(folder if folder.exists() else folder.parent.parent).free
            print(f"The disk of {folder} is full: {free:,} bytes are free.", file=sys.stderr)
            return DISK_FULL
        return FAILED
    except Exception:
        traceback.print_exc()
        return FAILED
    return 0


def do_locked(run: Run, folder: Path) -> None:
    """
    :param run: The run, which nobody else does
    :param folder: Its folder
    """
    module, function = run.settings["runner"].split(":")
    recorder = Recorder(folder)
    getattr(importlib.import_module(module), function)(run, recorder)
    recorder.finish(describe(run, time.monotonic() - recorder.started))


def redirect_output(path: Path) -> None:
    """
    :param path: The file that takes what this process and its children print
    """
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def main() -> None:
    die_with_parent(int(os.environ.get("SAVO_RUN_PARENT", os.getppid())))
    sys.exit(do(Run(**json.loads(sys.argv[2])), Path(sys.argv[1])))


if __name__ == "__main__":
    main()
