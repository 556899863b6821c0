"""What runs in a fork of this process."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch as th

from sb3_savo.acceleration import fork as module
from sb3_savo.acceleration.fork import run_in_fork
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks are for Linux")


def test_it_runs_elsewhere_and_leaves_nothing_here():
    values = [1]

    def function():
        values.append(2)
        return os.getpid(), values

    pid, found = run_in_fork(function)
    assert pid != os.getpid() and found == [1, 2] and values == [1]


def test_it_computes_after_threads_have_run_here():
    """The pool of threads is not in the fork."""
    matrix = th.ones(600, 600)
    (matrix @ matrix).sum()
    expected = (matrix @ matrix).sum().item(), th.ones(10**6).add(1).sum().item()
    assert run_in_fork(lambda: ((matrix @ matrix).sum().item(), th.ones(10**6).add(1).sum().item())) == expected


def test_errors_come_through():
    def fail():
        raise KeyError("what is missing")

    with pytest.raises(RuntimeError, match=r"^KeyError: 'what is missing'$"):
        run_in_fork(fail)
    with pytest.raises(RuntimeError, match=r"^AttributeError: Can't pickle local object"):
        run_in_fork(lambda: lambda: None)
    with pytest.raises(RuntimeError, match="a forked process ended without an answer"):
        run_in_fork(lambda: os._exit(3))


@pytest.mark.parametrize(
    "limit, function, message",
    [
        ("STALL_SECONDS", lambda: time.sleep(3600), "a forked process stalled for 0 seconds"),
        ("TIMEOUT_SECONDS", lambda: [None for _ in iter(int, 1)], "a forked process did not answer within 0 seconds"),
    ],
    ids=["stall", "timeout"],
)
def test_one_that_hangs_is_given_up(limit, function, message, monkeypatch):
    children = []
    monkeypatch.setattr(os, "fork", lambda fork=os.fork: children.append(fork()) or children[-1])
    monkeypatch.setattr(module, limit, 0.2)
    with pytest.raises(RuntimeError, match=message):
        run_in_fork(function)
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def wait_for(lock):
    """As what another thread holds: the child asks for it again and again, or just waits."""
    with lock:
        return os.getpid()


@pytest.fixture
def held():
    """:return: A function that makes another thread hold a lock until the end of the test or an event"""
    over, threads = threading.Event(), []

    def hold(lock, until=over):
        is_held = threading.Event()

        def run():
            with lock:
                is_held.set()
                until.wait()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        is_held.wait()

    yield hold
    over.set()
    for thread in threads:
        thread.join()


def numpys_lock():
    return np.random.mtrand._rand._bit_generator.lock


@pytest.mark.parametrize("lock", [threading.Lock(), numpys_lock()], ids=["lock", "NumPy"])
def test_a_lock_that_is_never_free(lock, held, monkeypatch):
    monkeypatch.setattr(module, "STALL_SECONDS", 0.2)
    held(lock)
    with pytest.raises(RuntimeError, match="a forked process stalled"):
        run_in_fork(lambda: np.random.rand() if lock is numpys_lock() else wait_for(lock))


def test_polling_for_a_lock_is_a_stall(held, monkeypatch):
    """It uses a little processor time."""
    monkeypatch.setattr(module, "STALL_SECONDS", 1.5)
    lock = threading.Lock()
    held(lock)
    with pytest.raises(RuntimeError, match="a forked process stalled"):
        run_in_fork(lambda: [None for _ in iter(lambda: lock.acquire(timeout=0.05), True)])


def test_a_lock_that_is_soon_free(held, monkeypatch):
    """It is free in a second fork."""
    monkeypatch.setattr(module, "STALL_SECONDS", 0.2)
    lock, until, children = threading.Lock(), threading.Event(), []
    monkeypatch.setattr(os, "fork", lambda fork=os.fork: children.append(fork()) or until.set() or children[-1])
    held(lock, until)
    assert run_in_fork(lambda: wait_for(lock)) == children[1]


def test_a_hook_that_waits_before_the_fork(held, monkeypatch):
    """The fork may happen after it was given up: its child does nothing, and is gone."""
    monkeypatch.setattr(module, "FORK_SECONDS", 0.2)
    children, until = [], threading.Event()
    monkeypatch.setattr(os, "fork", lambda fork=os.fork: children.append(fork()) or children[-1])
    held(logging._lock, until)
    with pytest.raises(RuntimeError, match="a fork waited 0 seconds for a lock that another thread holds"):
        run_in_fork(lambda: os.kill(os.getppid(), signal.SIGKILL))
    assert not children
    until.set()
    wait_until(lambda: children and not Path(f"/proc/{children[0]}").exists())
    assert len(children) == 1 and run_in_fork(lambda: 1) == 1


def test_all_waits_for_locks_take_less_than_a_minute():
    assert 2 * (module.FORK_SECONDS + module.STALL_SECONDS) < 60


def test_pythons_warning_is_not_shown(monkeypatch):
    """Since Python 3.12, of a fork in a process that has threads."""

    def fork(fork=os.fork):
        child = fork()
        if child:
            warnings.warn("use of fork() may lead to deadlocks in the child", DeprecationWarning, stacklevel=2)
        return child

    monkeypatch.setattr(os, "fork", fork)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run_in_fork(lambda: 1) == 1


def test_it_runs_in_a_daemonic_process():
    """As a worker of ``multiprocessing.Pool`` is, which may start no process of multiprocessing's own."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(run_in_fork, (os.getppid,)) != os.getpid()


def test_no_orphan_outlives_a_killed_parent():
    script = "import os, sys, time; from sb3_savo.acceleration.fork import run_in_fork; " + (
        "run_in_fork(lambda: (print(os.getpid(), flush=True), time.sleep(3600)))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    status = Path(f"/proc/{child}/status")
    wait_until(lambda: not status.exists() or "State:\tZ" in status.read_text())
