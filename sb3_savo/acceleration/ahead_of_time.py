"""Compilation for the processor, in separate processes; what was compiled is kept in a folder of the user's own."""

import hashlib
import os
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch as th

from sb3_savo.acceleration.compile_process import CompileProcess
from sb3_savo.acceleration.fork import run_in_fork
from sb3_savo.acceleration.graph import Graph, tensors_in, trace
from sb3_savo.acceleration.package_cache import PackageCache, packages_folder
from sb3_savo.files.atomic import in_memory, write

# The first folder in every package
ARCHIVE = "sb3_savo"
# One thread at a time loads a package and looks where it was unpacked
LOADING = threading.Lock()
# Processors that compilers use side by side
N_COMPILERS = 2


class AheadOfTimeCompiler:
    """
    Compiles several functions side by side, each in processes of its own, so that the compiler's memory is freed when they
    end. The processes and their files end with :meth:`close`, and with this object. Until then torch computes on fewer threads
    in this process: threads that wait for one whose processor a compiler has got spin, and so slow the compilers down, too.

    :raises RuntimeError: if other users can write to the folder of compiled code, or it cannot be made
    """

    def __init__(self) -> None:
        # Precompiled headers, which inductor would use once, take longer than they save
        self.options = {
            "cpp.threads": th.get_num_threads(),
            "fallback_random": True,
            "aot_inductor.precompile_headers": False,
        }
        self.cache = PackageCache(packages_folder())
        with ExitStack() as stack:
            stack.callback(th.set_num_threads, th.get_num_threads())
            th.set_num_threads(n_threads_beside_compilers())
            self.folder = stack.enter_context(self.cache.work_folder())
            self._processes = stack.enter_context(ExitStack())
            self._close = weakref.finalize(self, stack.pop_all().close)

    def begin(self, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Callable[[], Graph], Any]:
        """
        Trace a function, and begin to compile it unless it was compiled before.

        :param function: As for :func:`~sb3_savo.acceleration.graph.trace`
        :param args: Example arguments
        :return: A function that waits for the compiler and returns the compiled function; and, in the structure of the
            original result, the index of each output
        :raises RuntimeError: if it cannot be compiled; also where the returned function waits
        """
        # The package's name is the first folder in it; see :func:`load`
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        graph, package = folder / "graph.pt2", folder / f"{ARCHIVE}.pt2"
        key, indices = run_in_fork(partial(export, function, args, self.options, self.cache, graph, package))
        if package.exists():
            return partial(load, package), indices
        # All processes share inductor's cache, where the first one leaves what it finds out about the processor
        process = CompileProcess(graph, package, self.folder / "inductor", self.options)
        self._processes.callback(process.kill)
        cache = self.cache

        def finish() -> Graph:
            process.wait()
            cache.store(key, package)
            return load(package)

        return finish, indices

    def close(self) -> None:
        """End the processes that still compile, and remove all files but those that were kept."""
        self._close()


def n_threads_beside_compilers() -> int:
    """:return: On how many threads torch computes while compilers run, so that these have processors of their own"""
    n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(th.get_num_threads(), n_processors - N_COMPILERS))


def load(package: Path) -> Graph:
    """
    :param package: A compiled graph, which nobody else can have written
    :return: The compiled function
    """
    with LOADING:
        # torch._inductor.aoti_load_package would import the compiler
        loader = th._C._aoti.AOTIModelPackageLoader(str(package), "model", True, 1, -1)
        # torch has unpacked the library into a temporary folder, which a kill would leave behind. It stays mapped without.
        if sys.platform.startswith("linux"):
            for line in Path("/proc/self/maps").read_text().splitlines():
                if line.endswith(".so") and f"/{ARCHIVE}/data/aotinductor/" in line:
                    root, _, _ = line[line.index("/") :].rpartition(f"/{ARCHIVE}/data/")
                    shutil.rmtree(Path(root, ARCHIVE), ignore_errors=True)
                    with suppress(OSError):
                        os.rmdir(root)
    return loader.boxed_run


def export(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    options: dict[str, Any],
    cache: PackageCache,
    graph_path: Path,
    package_path: Path,
) -> tuple[str, Any]:
    """
    Trace a function, and get the package of its graph if it was compiled before; otherwise write the graph to a file.

    :param function: As for :func:`trace`
    :param args: Example arguments
    :param options: Options of the compiler
    :param cache: Compiled graphs
    :param graph_path: Where to write the graph
    :param package_path: Where to copy the package to
    :return: The graph's key in the cache, which is a checksum of all that the package depends on; and, in the structure of
        the original result, the index of each output
    :raises OSError: if a file cannot be written
    :raises RuntimeError: if there is no C++ compiler
    """
    check_compiler()
    graph, indices = trace(function, args)
    inputs = tensors_in(args)
    shapes = [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in inputs]
    constants = [(name, tensor.tolist()) for name, tensor in graph.named_buffers()]
    ingredients = (graph.code, constants, shapes, options, th.__version__, th.backends.cpu.get_cpu_capability())
    key = hashlib.sha256(repr(ingredients).encode()).hexdigest()
    if not cache.fetch(key, package_path):
        write(graph_path, in_memory(th.export.save, th.export.export(graph, tuple(inputs))))
    return key, indices


def check_compiler() -> None:
    """
    Tracing takes a minute or more, so ask first.

    :raises RuntimeError: if the C++ compiler that torch's inductor would call in a new process does not run
    """
    from torch._inductor.cpp_builder import cpp_compiler_search
    from torch._inductor.exc import InvalidCxxCompiler

    # Inductor's setting of this process may be older than the variable
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    try:
        cpp_compiler_search((None, name))
    except (InvalidCxxCompiler, OSError):
        raise RuntimeError(
            f"the C++ compiler {name!r} was not found or does not run: install g++ (for example by apt install g++), "
            "or set CXX to a C++ compiler."
        ) from None
