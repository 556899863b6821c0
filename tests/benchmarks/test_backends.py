"""The other backends do the same runs with the same command line: Ray on this machine, and submitit's local executor."""

import gc
import importlib.util
import os
import signal
import sys

import pytest

from benchmarks import backends
from benchmarks import run as runner
from benchmarks.recording import RECORD
from benchmarks.suite import list_runs
from tests.benchmarks import toy
from tests.benchmarks.test_run import assert_ended, do, folders, n_starts, old_handler  # noqa: F401
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


def skip_without(module):
    # Ray must not be imported before its backend has set the token
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"--backend needs {module}: pip install 'sb3-savo[benchmarks]'")


@pytest.fixture
def local_submitit(monkeypatch):
    skip_without("submitit")
    from benchmarks.backends.slurm import SlurmBackend

    monkeypatch.setattr(runner, "make_backend", lambda name: SlurmBackend("local"))


@pytest.mark.usefixtures("local_submitit")
def test_slurm(tmp_path, capsys):
    suite = toy.write_suite(tmp_path, seeds=2, seconds=0, broken=[1])
    assert do(suite, "--backend", "slurm") == 1
    assert f"failed: {list_runs(str(suite))[1].name}: RuntimeError: the toy is broken" in capsys.readouterr().err
    assert [(folder / RECORD).exists() for folder in folders(suite)] == [True, False]


@pytest.mark.usefixtures("local_submitit")
@pytest.mark.expensive
def test_slurm_ends_its_jobs(tmp_path, monkeypatch):
    """When the command is interrupted."""
    suite = toy.write_suite(tmp_path, seeds=1, seconds=600)

    def interrupt(supervisor, *args):
        if n_starts(folders(suite)[0]) > 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(runner, "REFRESH", 0.0)
    monkeypatch.setattr(runner.Supervisor, "_show", interrupt)
    assert do(suite, "--backend", "slurm") == 130
    wait_until(lambda: not toy.processes_of(tmp_path))


@pytest.mark.expensive
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ray(tmp_path, monkeypatch, capsys):
    """A killed worker of Ray takes its run along, which Ray starts again: every run ends, and in one process at a time."""
    skip_without("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    suite = toy.write_suite(tmp_path, seeds=3, seconds=6)
    killed = []

    def kill_a_worker(supervisor, *args):
        running = toy.processes_of(tmp_path)
        have_started = len(running) <= sum(n_starts(folder) for folder in folders(suite))
        if running and have_started and not killed:
            # The worker of Ray is the parent of the run
            killed.append(os.popen(f"ps -o ppid= -p {running[0]}").read().strip())
            assert "ray::" in os.popen(f"ps -o args= -p {killed[0]}").read()
            os.kill(int(killed[0]), signal.SIGKILL)

    monkeypatch.setattr(runner, "REFRESH", 1.0)
    monkeypatch.setattr(runner.Supervisor, "_show", kill_a_worker)
    assert do(suite, "--backend", "ray") == 0
    assert killed
    assert_ended(suite, 3)
    assert sorted(n_starts(folder) for folder in folders(suite)) == [1, 1, 2]
    # Ray leaves the logs of its workers open
    gc.collect()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ValueError, match="RAY_AUTH_MODE='disabled' must be 'token'"):
        backends.make_backend("ray")


@pytest.mark.parametrize("name", ["ray", "slurm"])
def test_a_backend_that_is_not_installed(tmp_path, monkeypatch, capsys, name):
    module = {"ray": "ray", "slurm": "submitit"}[name]
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"benchmarks.backends.{name}", raising=False)
    assert do(toy.write_suite(tmp_path, seeds=1), "--backend", name) == 2
    assert f"--backend {name} needs {module}: pip install 'sb3-savo[benchmarks]'" in capsys.readouterr().err
