"""A run's folder: its results while they grow, and the two files of a finished run. Nothing here imports torch."""

import csv
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import filelock

from benchmarks.suite import Run

EVALUATIONS, RECORD, LOG = "evaluations.csv", "run.json", "log.txt"
UNFINISHED, CHECKPOINTS = "evaluations.partial", "checkpoints"
REPEAT = "Restore the file, or delete the folder of the run: python -m benchmarks.run then repeats it."


def is_finished(folder: Path) -> bool:
    """
    :param folder: Folder of the run
    :return: Whether the run is finished; its ``run.json`` is written last
    """
    return (folder / RECORD).exists()


def read_record(folder: Path, run: Run) -> dict[str, Any]:
    """
    :param folder: Folder of a finished run
    :param run: The run as it is planned
    :return: What its ``run.json`` holds
    :raises ValueError: If the file is damaged, or is of another run. The folder's name covers all but the evaluations
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text())
        stored, _ = dict(record["run"]), dict(record["versions"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}). {REPEAT}") from error
    planned = json.loads(run.as_json())
    differing = [name for name in planned if stored.get(name) != planned[name]]
    if differing:
        found, wanted = (", ".join(f"{name}={values.get(name)!r}" for name in differing) for values in (stored, planned))
        raise ValueError(
            f"{path} is of a run with {found}, and the suite has {wanted}. Choose another --folder, or delete the "
            "folder of the run: python -m benchmarks.run then repeats it."
        )
    return record


def lock(folder: Path) -> filelock.BaseFileLock:
    """
    :param folder: Folder of the run
    :return: The lock of whoever does this run
    """
    return filelock.FileLock(folder / "lock")


def share_done(folder: Path, steps: int) -> float:
    """
    :param folder: Folder of the run
    :param steps: Steps of the whole run
    :return: Share of the steps up to the last evaluation, from 0 to 1; 0 up to the second, since the first one may come after
        one step, from which the time left cannot be told
    """
    try:
        with (folder / UNFINISHED).open(newline="") as file:
            rows = list(csv.DictReader(file))
        return min(float(rows[-1]["step"]) / steps, 1.0) if len(rows) > 1 else 0.0
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def write_durably(path: Path, text: str) -> None:
    """
    Write a file aside and rename it, so that a kill at any time leaves the whole file or none.

    :param path: The file
    :param text: Its text
    """
    aside = path.with_name(f"{path.name}.partial")
    with aside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


class Recorder:
    """
    Records the evaluations of one run.

    :param folder: Folder of the run
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self.started = time.monotonic()

    def add(self, step: int, updates: int, return_mean: float, **figures: float) -> None:
        """
        :param step: Environment steps so far; for a landscape, updates
        :param updates: Gradient steps so far
        :param return_mean: Mean return of the evaluation
        :param figures: What else the evaluation found, by name; the first evaluation names all that there will be
        """
        wall_time = time.monotonic() - self.started
        self.rows.append({"step": step, "return_mean": return_mean, "wall_time": wall_time, "updates": updates, **figures})
        (self.folder / UNFINISHED).write_text(as_csv(self.rows))

    def finish(self, record: dict[str, Any]) -> None:
        """
        :param record: What is to be known of the run, for ``run.json``
        """
        write_durably(self.folder / EVALUATIONS, as_csv(self.rows))
        write_durably(self.folder / RECORD, json.dumps(record, indent=1) + "\n")
        (self.folder / UNFINISHED).unlink(missing_ok=True)
        # Last, since a run that is killed before goes on from them
        shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)


def as_csv(rows: list[dict[str, Any]]) -> str:
    """
    :param rows: Rows of a table; the first one names its columns
    :return: Its text, with six significant digits
    """
    lines = [",".join(rows[0])] if rows else []
    lines += [
        ",".join("" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for v in row.values()) for row in rows
    ]
    return "\n".join(lines) + "\n"
