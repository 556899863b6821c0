"""
The process that compiles a traced graph, and the wait for it.

It runs this file: ``python compile_process.py PARENT GRAPH.pt2 PACKAGE.pt2 OPTIONS``. torch is imported after the process has
begun to watch its parent.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from zipfile import ZipFile

COMPILER_SECONDS = 600.0


class CompileProcess:
    """
    Compile a graph in a process of its own, which begins at once. It leaves files in two folders only, and ends with this
    process, as do the C++ compilers that it starts.

    :param graph: The file of an exported graph
    :param package: Where to write the compiled graph, in a folder that is the user's own
    :param cache: A folder of the user's own that several such processes may share, for what inductor needs more than once
    :param options: Options of torch's inductor
    """

    def __init__(self, graph: Path, package: Path, cache: Path, options: dict[str, Any]):
        command = [sys.executable, "-W", "ignore", __file__, str(os.getpid()), str(graph), str(package), json.dumps(options)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            # Inductor loads code from its cache, which by default is a folder that another user may have made
            "TORCHINDUCTOR_CACHE_DIR": str(cache),
            "TMPDIR": str(package.parent),
            # No pool of processes
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
        self.errors = package.parent / "errors.txt"
        with self.errors.open("w") as output:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def wait(self) -> None:
        """
        Wait until the package is written.

        :raises RuntimeError: if the graph cannot be compiled, or that takes longer than ``COMPILER_SECONDS`` from here on
        """
        try:
            self.process.wait(COMPILER_SECONDS)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the compiler did not end within {COMPILER_SECONDS:.0f} seconds") from None
        finally:
            kill_group(self.process)
        if self.process.returncode != 0:
            last_line = self.errors.read_text(errors="replace").strip().rpartition("\n")[2]
            raise RuntimeError(last_line or f"the compiler ended with exit code {self.process.returncode}")

    def kill(self) -> None:
        """Kill the process and its children, unless somebody has waited for their end."""
        # A number of a process that was waited for may be another's by now
        if self.process.returncode is None:
            kill_group(self.process)


def kill_group(leader: subprocess.Popen) -> None:
    """
    :param leader: A process that was started in a session of its own; it and its children are killed, if they still run
    """
    try:
        os.killpg(leader.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    leader.wait()


def end_with(parent: int) -> None:
    """
    Kill this process and its children when its parent has ended, also by SIGKILL.

    :param parent: The parent's process number
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    # Where native code hangs and holds Python's lock, no thread runs, but the alarm ends this process
    signal.alarm(int(COMPILER_SECONDS) + 60)


def compile_graph(graph: str, package: str, options: dict[str, Any]) -> None:
    """
    :param graph: The file of an exported graph
    :param package: Where to write the compiled graph
    :param options: Options of torch's inductor
    :raises Exception: if the graph cannot be compiled, or what was compiled cannot be loaded
    """
    import torch as th

    import sb3_savo.actions.nearest  # noqa: F401 (whose operator the graph may hold)

    th._inductor.aoti_compile_and_package(th.export.load(graph), package_path=package, inductor_configs=options)
    with ZipFile(package) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                # A function that torch's library lacks would otherwise be missed at the first gradient step
                ctypes.CDLL(archive.extract(name, Path(package).parent), mode=os.RTLD_NOW)


def main(parent: str, graph: str, package: str, options: str, known: str = "") -> None:
    """
    :param parent: The process that waits for the package
    :param graph: The file of an exported graph
    :param package: Where to write the compiled graph
    :param options: Options of torch's inductor, in JSON
    :param known: ``"ask"`` to let inductor find out by compiling trials, which of the processor's vector instructions the C++
        compiler and torch's library know; otherwise all are taken for known
    """
    end_with(int(parent))
    if known == "ask":
        compile_graph(graph, package, json.loads(options))
        return
    try:
        compile_graph(graph, package, {**json.loads(options), "cpp.vec_isa_ok": True})
    except Exception:
        # Inductor keeps what it took for known, so this process is replaced by a new one
        os.execv(sys.executable, [sys.executable, "-W", "ignore", __file__, parent, graph, package, options, "ask"])


if __name__ == "__main__":
    main(*sys.argv[1:])
