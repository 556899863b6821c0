"""
Is there always a checkpoint that loads, and is every damage found?

    python -m benchmarks.durability
    python -m benchmarks.durability --kills 50 --full-disks 5 --damages 50

- ``kills``: a run that writes checkpoints all the time is killed by SIGKILL at a random moment. There must be a checkpoint.
- ``full disks``: a run may write no more than a random number of bytes to a file. There must be a checkpoint, and learning
  must go on.
- ``damages``: a bit of a file of the newest checkpoint is flipped, or the file is cut off. The message must name the file, and
  the checkpoint before must be used.

The exit code is 1 if anything else happens.
"""

import argparse
import random
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path

import pandas as pd
import torch as th

from benchmarks.command_line import at_least, output_file
from benchmarks.processes import in_process
from benchmarks.recording import write_durably
from sb3_savo import SAVO
from sb3_savo.common.checkpoints import run as checkpointed_run
from sb3_savo.common.checkpoints.store import Store
from sb3_savo.files.errors import FileError


def learn(folder: Path, n_steps: int, file_bytes: int | None = None, period: float = 0) -> str:
    """
    Learn, and write a checkpoint after every rollout.

    :param folder: For the checkpoints
    :param n_steps: Environment steps of this run in all
    :param file_bytes: The largest file that may be written from the 60th step on; None for any
    :param period: Checkpoints are due when so many times the duration of the last one have passed
    :return: What was warned of
    """
    th.set_num_threads(1)
    checkpointed_run.PERIOD = period  # type: ignore[assignment]
    model = SAVO(
        "MlpPolicy",
        "Pendulum-v1",
        buffer_size=20_000,
        learning_starts=50,
        batch_size=16,
        policy_kwargs={"net_arch": [16]},
        seed=0,
    )

    def limit(*_: object) -> bool:
        if file_bytes is not None and model.num_timesteps == 60:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))
        return True

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.learn(n_steps, callback=limit, checkpoints=folder)
        except OSError as error:  # at the end of the run, nothing is left to go on with
            caught.append(warnings.WarningMessage(str(error), UserWarning, "", 0))
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return f"{model.num_timesteps} " + " ".join(str(warning.message) for warning in caught)


def newest_step(folder: Path) -> int | None:
    """
    :param folder: A folder of checkpoints
    :return: The step of the newest one that can be read; None if there is none
    """
    try:
        store = Store(folder)
        checkpoint = store.newest()
        store.close()
    except FileError:
        return None
    return None if checkpoint is None else checkpoint.about["num_timesteps"]


def kills(n: int, folder: Path, rng: random.Random) -> int:
    """:return: How often there was a checkpoint after SIGKILL"""
    learn(folder / "run", 60)
    good = 0
    for _ in range(n):
        in_process(lambda: learn(folder / "run", 10**6), folder, lambda: rng.uniform(0.1, 0.6))
        good += newest_step(folder / "run") is not None
    return good


def full_disks(n: int, folder: Path, rng: random.Random) -> int:
    """:return: How often learning went on, the disk was named, and there was a checkpoint"""
    good = 0
    for i in range(n):
        run = folder / f"full{i}"
        limit = rng.randrange(60_000)
        said = in_process(lambda run=run, limit=limit: learn(run, 200, limit, period=1), folder) or ""  # type: ignore[misc]
        went_on = said.startswith("200 ") and "bytes are free" in said and str(run) in said
        good += went_on and newest_step(run) is not None
    return good


def damages(n: int, folder: Path, rng: random.Random) -> int:
    """:return: How often the damage was found, its file was named, and the checkpoint before was used"""
    learn(folder / "damaged", 2_000, period=20)
    store = Store(folder / "damaged")
    newest, before = store.folders()
    blocks = [
        [store.blocks.path(digest) for array in store.read(path).about["arrays"].values() for digest in array["blocks"]]
        for path in (newest, before)
    ]
    files = [*newest.iterdir(), *(path for path in blocks[0] if path not in blocks[1])]
    good = 0
    for i in range(n):
        path = files[i % len(files)]
        content = path.read_bytes()
        position = rng.randrange(len(content))
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged if i % 2 else content[:position])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            checkpoint = store.newest()
        is_named = any(path.name in str(warning.message) and newest.name in str(warning.message) for warning in caught)
        good += checkpoint is not None and checkpoint.folder == before and is_named
        path.write_bytes(content)
    store.close()
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=at_least(0), default=500)
    parser.add_argument("--full-disks", type=at_least(0), default=20)
    parser.add_argument("--damages", type=at_least(0), default=200)
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the random moments, bytes and bits")
    parser.add_argument("--output", type=output_file, default="benchmarks/results/durability.csv", help="CSV to write")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    folder = Path(tempfile.mkdtemp(prefix="durability-"))
    rows = []
    for name, attempt, n in (
        ("damages", damages, args.damages),
        ("full disks", full_disks, args.full_disks),
        ("kills", kills, args.kills),
    ):
        rows.append({"test": name, "number": n, "passed": attempt(n, folder, rng)})
        print(f"{name}: {rows[-1]['passed']} of {n} passed", flush=True)
        write_durably(args.output, pd.DataFrame(rows).to_csv(index=False))
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(any(row["passed"] != row["number"] for row in rows))


if __name__ == "__main__":
    main()
