"""Logs of a run that goes on: no row is lost, and none is there twice."""

import time
from pathlib import Path
from typing import IO, Any

import numpy as np
from stable_baselines3.common.logger import CSVOutputFormat, Logger, TensorBoardOutputFormat
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor

EVENTS = "events.out.tfevents.*"


def read_log(file: IO[str]) -> np.ndarray | None:
    """
    :param file: An open file that is written row by row
    :return: Its bytes; None if it was closed, or is no file
    """
    if file.closed or not is_file(file):
        return None
    file.flush()
    return np.frombuffer(Path(file.name).read_bytes(), dtype=np.uint8)


def write_log(file: IO[str], content: np.ndarray) -> None:
    """
    :param file: An open file, whose next row follows this content
    :param content: What :func:`read_log` has returned
    """
    if file.closed or not is_file(file):
        return
    file.flush()
    file.seek(0)
    file.truncate()
    buffer: Any = file.buffer  # type: ignore[attr-defined]
    buffer.write(content.tobytes())
    buffer.flush()
    file.seek(0, 2)


def monitor_log_state(monitor: Monitor | VecMonitor) -> dict[str, Any]:
    """:return: The time since a monitor began, and the content of its file"""
    writer = monitor.results_writer
    return {
        "elapsed": time.time() - monitor.t_start,
        "log": None if writer is None else read_log(writer.file_handler),
    }


def set_monitor_log_state(monitor: Monitor | VecMonitor, state: dict[str, Any]) -> None:
    """
    :param monitor: A monitor
    :param state: A state with what :func:`monitor_log_state` has returned
    """
    monitor.t_start = time.time() - state["elapsed"]
    if monitor.results_writer is not None and state["log"] is not None:
        write_log(monitor.results_writer.file_handler, state["log"])


def is_file(file: IO[str]) -> bool:
    """:return: Whether something that is written to is a file with a path"""
    return isinstance(getattr(file, "name", None), str) and Path(file.name).is_file() and hasattr(file, "buffer")


def logger_state(logger: Logger) -> dict[str, Any]:
    """
    :param logger: The logger of a run
    :return: The values recorded since its last rows, and the files that it writes
    """
    formats = []
    for output in logger.output_formats:
        state: dict[str, Any] = {"type": type(output).__name__}
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.flush()
            state["events"] = {path.name: path.stat().st_size for path in events_in(Path(output.writer.log_dir))}
        elif hasattr(output, "file"):
            state["log"] = read_log(output.file)
            state["keys"] = list(output.keys) if isinstance(output, CSVOutputFormat) else None
        formats.append(state)
    values = {name: value for name, value in logger.name_to_value.items() if isinstance(value, (int, float, str, np.generic))}
    return {
        "folder": logger.dir,
        "formats": formats,
        "values": values,
        "counts": dict(logger.name_to_count),
        "excluded": {name: logger.name_to_excluded.get(name) for name in values},
    }


def set_logger_state(logger: Logger, state: dict[str, Any]) -> None:
    """
    :param logger: The logger of a run
    :param state: What :func:`logger_state` has returned. Files of other kinds than the logger's are left as they are.
    """
    for recorded, saved in (
        (logger.name_to_value, state["values"]),
        (logger.name_to_count, state["counts"]),
        (logger.name_to_excluded, state["excluded"]),
    ):
        recorded.clear()
        recorded.update(saved)
    saved_formats = list(state["formats"])
    for output in logger.output_formats:
        saved = next((part for part in saved_formats if part["type"] == type(output).__name__), None)
        if saved is None:
            continue
        saved_formats.remove(saved)
        if isinstance(output, CSVOutputFormat):
            output.keys = list(saved["keys"])
        if saved.get("log") is not None:
            write_log(output.file, saved["log"])  # type: ignore[attr-defined]


def cut_events(folder: Path, sizes: dict[str, int]) -> None:
    """
    Cut TensorBoard's files where they ended at a checkpoint.

    :param folder: Their folder
    :param sizes: Their sizes then, by name
    """
    for path in events_in(folder):
        if path.name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[path.name]:
            with path.open("r+b") as file:
                file.truncate(sizes[path.name])


def events_in(folder: Path) -> list[Path]:
    """:return: TensorBoard's files in a folder"""
    return sorted(folder.glob(EVENTS))
