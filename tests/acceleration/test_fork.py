"""What runs in a fork of this process."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch as th

from sb3_savo.acceleration import fork as module
from sb3_savo.acceleration.fork import run_in_fork

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


def test_it_runs_in_a_daemonic_process():
    """As a worker of ``multiprocessing.Pool`` is, which may start no process of multiprocessing's own."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(run_in_fork, (os.getppid,)) != os.getpid()


def test_no_orphan_outlives_a_killed_parent():
    script = "import os, sys, time; from sb3_savo.acceleration.fork import run_in_fork; " + (
        "run_in_fork(lambda: (print(os.getpid(), flush=True), time.sleep(3600)))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "State:\tZ" in Path(f"/proc/{child}/status").read_text():
            return
        time.sleep(0.1)
    pytest.fail("the child outlived its parent")
