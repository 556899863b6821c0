"""Toy runs for the tests of the runner. A toy notes in its folder when it starts, and sees when it is not alone there."""

import os
import subprocess
import sys
import time
from pathlib import Path

STARTS, ALONE, NOT_ALONE = "starts.txt", "running.txt", "not-alone.txt"
# While this file is in the results folder, the runs that the suite holds do not end
HOLD = "hold.txt"


def run(run, recorder):
    """Do a run of some seconds, which fails where its arguments say so."""
    arguments, folder = run.settings["arguments"], recorder.folder
    note_start(folder)
    if arguments.get("child"):
        # Its arguments let the test find it
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", str(folder)])
    for step in range(1, run.steps + 1):
        time.sleep(arguments["seconds"] / run.steps)
        recorder.add(step, step, float(step))
    while run.seed in arguments.get("held", []) and (folder.parents[3] / HOLD).exists():
        time.sleep(0.02)
    if run.seed in arguments.get("broken", []):
        raise RuntimeError("the toy is broken")
    (folder / ALONE).unlink()


def note_start(folder):
    if (folder / ALONE).exists() and is_alive(int((folder / ALONE).read_text())):
        (folder / NOT_ALONE).touch()
    (folder / ALONE).write_text(str(os.getpid()))
    with (folder / STARTS).open("a") as file:
        file.write(f"{os.getpid()}\n")


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def write_suite(folder, seeds, **arguments):
    """:return: Path of a suite of as many toy runs"""
    (folder / "tasks.yml").write_text("Toy-v0: {env: LandscapePeaks1D-v0, runner: tests.benchmarks.toy:run}\n")
    (folder / "methods.yml").write_text("savo: {algorithm: savo}\n")
    budget = {"seeds": seeds, "steps": 3, "arguments": {"seconds": 0.1, **arguments}}
    path = folder / "toys.yml"
    path.write_text(f"parts: [{{tasks: [Toy-v0], methods: [savo], budgets: {{small: {budget}}}}}]\n")
    return path


def processes_of(folder):
    """:return: Process IDs of the workers of runs in a results folder, and of what they have started"""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        is_worker = b"benchmarks.worker" in arguments or b"-c" in arguments
        if is_worker and any(argument.startswith(bytes(folder) + b"/") for argument in arguments):
            found.append(int(path.parent.name))
    return found
