"""
Runs as tasks of Ray: on the cluster of ``RAY_ADDRESS``, else on this machine.

Every machine of the cluster needs this checkout and the results folder under the same paths. A Ray without a token obeys
whoever reaches its ports, so there must be one: ``RAY_AUTH_MODE=token``, with the token in ``RAY_AUTH_TOKEN`` or in the file
of ``RAY_AUTH_TOKEN_PATH``.
"""

import logging
import os
import secrets
from pathlib import Path

from benchmarks.backends import Outcome
from benchmarks.backends.local import CHECKOUT, do_run
from benchmarks.suite import Run
from sb3_savo.extras import needs_extra

# Ray reads both when it is imported. A Ray of this command alone has a token of its own
os.environ.setdefault("RAY_AUTH_MODE", "token")
if "RAY_ADDRESS" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

with needs_extra("benchmarks", "--backend ray"):
    import ray


class RayJob:
    """
    A run as a task of Ray, which Ray starts again elsewhere if its worker or its machine dies.

    :param run: The run
    :param folder: Its folder
    :param threads: Number of threads that it may use, and of processors that it takes
    """

    def __init__(self, run: Run, folder: Path, threads: int):
        self.task = ray.remote(num_cpus=threads, max_retries=3)(do_run).remote(run, folder, threads)

    def outcome(self) -> Outcome | None:
        done, _ = ray.wait([self.task], timeout=0)
        if not done:
            return None
        try:
            return Outcome(*ray.get(self.task))
        except ray.exceptions.RayError as error:
            return Outcome(1, str(error).strip().splitlines()[-1])

    def cancel(self) -> None:
        ray.cancel(self.task, force=True)


class RayBackend:
    """Runs as tasks of Ray."""

    def __init__(self) -> None:
        if os.environ["RAY_AUTH_MODE"] != "token":
            raise ValueError(f"RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']!r} must be 'token': anybody could use this Ray.")
        ray.init(
            runtime_env={"env_vars": {"PYTHONPATH": str(CHECKOUT)}},
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )

    def start(self, run: Run, folder: Path, threads: int) -> RayJob:
        return RayJob(run, folder, threads)

    def close(self) -> None:
        ray.shutdown()
