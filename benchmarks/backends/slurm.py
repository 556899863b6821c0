"""
Runs as jobs of SLURM, through submitit. Without SLURM, submitit runs them as processes of this machine.

Every machine of the cluster needs this checkout and the results folder under the same paths. ``SBATCH_TIMELIMIT``,
``SBATCH_PARTITION`` and SLURM's other variables choose what a job may use.
"""

from pathlib import Path

from benchmarks.backends import Outcome
from benchmarks.backends.local import do_run
from benchmarks.suite import Run
from sb3_savo.extras import needs_extra

with needs_extra("benchmarks", "--backend slurm"):
    import submitit

# Folder of submitit's files in the folder of a run
FILES = "slurm"


class SlurmJob:
    """
    A run as a job of SLURM.

    :param job: The job
    """

    def __init__(self, job: submitit.Job):
        self.job = job

    def outcome(self) -> Outcome | None:
        if not self.job.done():
            return None
        error = self.job.exception()
        if error is None:
            return Outcome(*self.job.result())
        return Outcome(1, str(error).strip().splitlines()[-1])

    def cancel(self) -> None:
        self.job.cancel(check=False)


class SlurmBackend:
    """
    Runs as jobs of SLURM.

    :param cluster: ``slurm`` or ``local``; None for SLURM if it is installed, else ``local``
    """

    def __init__(self, cluster: str | None = None):
        self.cluster = cluster

    def start(self, run: Run, folder: Path, threads: int) -> SlurmJob:
        executor = submitit.AutoExecutor(folder / FILES, cluster=self.cluster)
        executor.update_parameters(name=f"{run.task}-{run.method}-{run.seed}", cpus_per_task=threads)
        return SlurmJob(executor.submit(do_run, run, folder, threads))

    def close(self) -> None:
        pass
