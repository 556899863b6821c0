"""
Where does the time of a gradient step go? The number of floating-point operations, a table of the phases, and a table of the
most expensive operations.

    python -m benchmarks.phases
    python -m benchmarks.phases --compile --precision medium --threads 2 --n-actors 10

The profiler slows the step down, above all its short operations. ``benchmarks.speed`` measures the time of a whole step.
"""

import argparse
import warnings
from functools import partial

import pandas as pd
import torch as th
from torch.profiler import ProfilerActivity, profile

from benchmarks.command_line import at_least
from benchmarks.timing import SHAPES, count_flops, machine, make_model, take_over
from sb3_savo import SAVO

PHASES = ("sample", "search", "gradient", "optimizer", "targets")


def table(events: list[th.autograd.profiler_util.FunctionEvent], n_steps: int, by: str) -> pd.DataFrame:
    """
    :param events: Averages by name, from the profiler
    :param n_steps: Number of gradient steps
    :param by: Attribute of an event that holds its time in microseconds
    :return: One row per event, the longest first: time and number of calls per gradient step
    """
    rows = [{"what": e.key, "us": getattr(e, by) / n_steps, "calls": e.count / n_steps} for e in events]
    return pd.DataFrame(rows).sort_values("us", ascending=False)


def flops(model: SAVO) -> float:
    """
    :param model: A model whose losses are not compiled
    :return: Floating-point operations in the matrix products of a gradient step; a delayed update counts as its share
    """
    return count_flops(partial(model.train, model.policy_delay, 256)) / model.policy_delay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=list(SHAPES), default="Hopper")
    parser.add_argument("--n-actors", type=at_least(1), default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--precision", choices=("highest", "medium"), default="highest")
    parser.add_argument("--threads", type=at_least(1), default=1)
    parser.add_argument("--n-steps", type=at_least(1), default=100, help="number of profiled gradient steps")
    args = parser.parse_args()

    th.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    settings = {"n_actors": args.n_actors, "precision": args.precision}
    n_flops = flops(make_model(SAVO, SHAPES[args.shapes], compile=False, **settings))
    model = make_model(SAVO, SHAPES[args.shapes], compile=args.compile, **settings)
    take_over(model)
    model.train(gradient_steps=10, batch_size=256)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        model.train(gradient_steps=args.n_steps, batch_size=256)
    events = profiler.key_averages()
    phases = [e for e in events if e.key in PHASES or e.key.partition(": ")[2].startswith("loss")]
    print(f"{machine(args.threads)}\n\n{n_flops / 1e6:.0f} MFLOP in matrix products, per gradient step")
    print("\nPhases, per gradient step")
    print(table(phases, args.n_steps, "cpu_time_total").round(1).to_string(index=False))
    print("\nOperations, per gradient step")
    print(table(events, args.n_steps, "self_cpu_time_total").head(20).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
