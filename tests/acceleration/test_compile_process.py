"""The compiler's process ends in time, and with the process that waits for it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch as th
from torch import nn

from sb3_savo.acceleration import compile_process
from sb3_savo.acceleration.ahead_of_time import load
from sb3_savo.acceleration.compile_process import CompileProcess
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")

# As the real one, but its compiler hangs
HANGING = """
import subprocess, sys
from sb3_savo.acceleration.compile_process import end_with
end_with(int(sys.argv[1]))
subprocess.run(["sleep", "3600"])
"""


class Doubled(nn.Module):
    def forward(self, x):
        return x + x


def runs(process):
    """:return: Whether a process exists and is no zombie"""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def children_in(folder):
    """:return: The processes, in a folder's temporary directory, of a compiler"""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"\0TMPDIR={folder}\0".encode() in b"\0" + path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [process for process in found if runs(process)]


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "hanging.py"
    path.write_text(HANGING)
    return path


def begin(folder):
    """:return: A process that compiles a graph in a folder"""
    return CompileProcess(folder / "graph.pt2", folder / "package.pt2", folder / "inductor", {})


def test_a_time_limit(tmp_path, script, monkeypatch):
    monkeypatch.setattr(compile_process, "__file__", str(script))
    monkeypatch.setattr(compile_process, "COMPILER_SECONDS", 0.5)
    with pytest.raises(RuntimeError, match="the compiler did not end within 0 seconds"):
        begin(tmp_path).wait()
    assert not children_in(tmp_path)


def test_the_end_of_a_process_that_nobody_waits_for(tmp_path, script, monkeypatch):
    monkeypatch.setattr(compile_process, "__file__", str(script))
    process = begin(tmp_path)
    wait_until(lambda: len(children_in(tmp_path)) == 2)
    process.kill()
    assert not children_in(tmp_path)
    process.kill()


@pytest.mark.parametrize("text, message", [("import sys; sys.exit('last\\nwords')", "^words$"), ("exit(7)", "exit code 7")])
def test_failures(tmp_path, script, monkeypatch, text, message):
    script.write_text(text)
    monkeypatch.setattr(compile_process, "__file__", str(script))
    with pytest.raises(RuntimeError, match=message):
        begin(tmp_path).wait()


def test_no_orphans(tmp_path, script):
    """The parent is killed: neither the process nor its compiler goes on."""
    code = (
        "import sys; from pathlib import Path; from sb3_savo.acceleration import compile_process as m; "
        "m.__file__ = sys.argv[1]; folder = Path(sys.argv[2]); "
        "m.CompileProcess(folder / 'graph', folder / 'package', folder / 'inductor', {}).wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(script), str(tmp_path)]) as parent:
        wait_until(lambda: len(children_in(tmp_path)) == 2)
        parent.kill()
    wait_until(lambda: not children_in(tmp_path))


def test_a_parent_that_ended_before(tmp_path):
    """The compiler's process may begin after its parent was killed."""
    arguments = [str(os.getpid() + 10**7), "no graph", "no package", json.dumps({})]
    done = subprocess.run([sys.executable, compile_process.__file__, *arguments], start_new_session=True)
    assert done.returncode == -signal.SIGKILL


def test_a_compiler_that_does_not_know_the_processor(tmp_path, monkeypatch):
    """Where inductor was told wrongly that the compiler knows all vector instructions, it asks, and the loss is compiled."""
    compiler = tmp_path / "g++"
    compiler.write_text(f'#!/bin/sh\ncase "$*" in *-mavx*) echo >> {tmp_path}/refused; exit 1;; esac\nexec g++ "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    graph, package = tmp_path / "graph.pt2", tmp_path / "sb3_savo.pt2"
    th.export.save(th.export.export(Doubled(), (th.ones(64),)), graph)
    CompileProcess(graph, package, tmp_path / "inductor", {}).wait()
    if "AVX" in th.backends.cpu.get_cpu_capability():
        assert (tmp_path / "refused").exists()
    (result,) = load(package)([th.ones(64)])
    assert th.equal(result, th.full((64,), 2.0))


@pytest.mark.expensive
def test_no_orphans_of_a_whole_run(tmp_path):
    """A run is killed while g++ hangs. Neither a process nor, after the next run, a folder is left."""
    compiler = tmp_path / "g++"
    compiler.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec g++ --version\necho $$ > {tmp_path}/hangs; exec sleep 3600\n'
    )
    compiler.chmod(0o755)
    environment = {**os.environ, "CXX": str(compiler), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    code = """
from sb3_savo import SAVO
from tests.models import SMALL
# One loss is compiled, that of the critics
SAVO("MlpPolicy", "InvertedDoublePendulumRestricted-v5", compile=True, n_actors=1, policy_delay=1000, **SMALL).learn(200)
"""
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], env=environment) as run:
        wait_until(lambda: (tmp_path / "hangs").exists())
        (folder,) = (tmp_path / "cache" / "sb3_savo").glob("tmp*/tmp*")
        assert len(children_in(folder)) >= 2
        run.kill()
    wait_until(lambda: not children_in(folder))
    assert folder.exists()
    environment["CXX"] = "none"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, check=True)
    assert [path.name for path in (tmp_path / "cache" / "sb3_savo").iterdir()] == ["lock"]
