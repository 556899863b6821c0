"""What runs in a fork of this process."""

import os
import sys
import time

import pytest
import torch as th

from sb3_savo.acceleration import fork as module
from sb3_savo.acceleration.fork import forked

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks are for Linux")


def test_it_runs_elsewhere_and_leaves_nothing_here():
    values = [1]

    def function():
        values.append(2)
        return os.getpid(), values

    pid, found = forked(function)
    assert pid != os.getpid() and found == [1, 2] and values == [1]


def test_it_computes_after_threads_have_run_here():
    """The pool of threads is not in the fork."""
    matrix = th.ones(600, 600)
    (matrix @ matrix).sum()
    expected = (matrix @ matrix).sum().item(), th.ones(10**6).add(1).sum().item()
    assert forked(lambda: ((matrix @ matrix).sum().item(), th.ones(10**6).add(1).sum().item())) == expected


def test_errors_come_through():
    def fail():
        raise KeyError("what is missing")

    with pytest.raises(RuntimeError, match=r"^KeyError: 'what is missing'$"):
        forked(fail)
    with pytest.raises(RuntimeError, match=r"^AttributeError: Can't pickle local object"):
        forked(lambda: lambda: None)
    with pytest.raises(RuntimeError, match="a forked process ended without an answer"):
        forked(lambda: os._exit(3))


def test_one_that_hangs_is_given_up(monkeypatch):
    children = []
    monkeypatch.setattr(os, "fork", lambda fork=os.fork: children.append(fork()) or children[-1])
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with pytest.raises(RuntimeError, match="a forked process did not answer within 0 seconds"):
        forked(lambda: time.sleep(3600))
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)
