"""
How often does each method evaluate Q? Share of the optimum against updates flatters methods that evaluate Q often per update.

    python -m benchmarks.q_evaluations

An evaluation is one action in one state, by however many critics, with or without a gradient. Counted are the calls of Q and
of Q̂ on frozen landscapes, where Q learns nothing: so all of them serve to find or to choose an action, or to fit Q̂.
``per_update``: mean per gradient step, and what collects the transitions belongs to it. ``per_decision``: evaluations that the
trained policy needs for one action. The report reads the CSV file, and draws the score against the number of evaluations.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import torch as th

from benchmarks.command_line import output_file
from benchmarks.landscape_tasks import make_model, steps_until
from benchmarks.recording import write_durably
from benchmarks.results import Q_EVALUATIONS
from benchmarks.suite import Run, list_runs
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.envs.landscapes import CONTEXT_DIM

SUITES = ("study_a", "new_landscapes", "held_out_landscapes", "restricted_landscapes", "restricted_actors")
# After the first updates, since the first one comes after the random actions of learning_starts
N_WARMUP, N_UPDATES = 16, 64
N_CONTEXTS = 16


class Count:
    """Number of evaluations so far."""

    def __init__(self) -> None:
        self.n = 0

    def see(self, module: th.nn.Module, arguments: tuple[th.Tensor, slice]) -> None:
        """
        :param module: The networks of a critic
        :param arguments: Their inputs, (n_networks, n_actions, batch, ...), and which of them are evaluated
        """
        inputs = arguments[0]
        self.n += inputs.shape[1] * inputs.shape[2]


@contextmanager
def counting(model: MaximizerAlgorithm) -> Iterator[Count]:
    """
    :param model: An agent whose losses are not compiled
    :return: The number of evaluations of its Q and Q̂ in this context
    """
    count = Count()
    critics = [critic for critic in (model.critic, model.smooth_critic) if critic is not None]
    hooks = [critic.q_networks.register_forward_pre_hook(count.see) for critic in critics]
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


def count_evaluations(run: Run) -> dict[str, float]:
    """
    :param run: A run on a frozen landscape
    :return: Evaluations ``per_update`` and ``per_decision``
    """
    settings = run.settings
    arguments = {**settings["arguments"], "compile": False}
    task, algorithm = settings["env"], settings["algorithm"]
    model, _ = make_model(task, algorithm, arguments, run.seed, run.steps, frozen=True, env_kwargs=settings["env_kwargs"])
    model.learn(steps_until(model, N_WARMUP), log_interval=None)
    updates = model._n_updates
    with counting(model) as learning:
        model.learn(steps_until(model, N_WARMUP + N_UPDATES), reset_num_timesteps=False, log_interval=None)
    updates = model._n_updates - updates
    with counting(model) as acting:
        model.policy(th.zeros(N_CONTEXTS, CONTEXT_DIM), deterministic=True)
    return {"per_update": learning.n / updates, "per_decision": acting.n / N_CONTEXTS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=output_file, default=str(Q_EVALUATIONS), help="CSV to write")
    args = parser.parse_args()
    planned = [run for suite in SUITES for run in list_runs(suite)]
    runs = {(run.task, run.method): run for run in reversed(planned) if run.task.endswith("-frozen")}
    rows = [{"task": task, "method": method, **count_evaluations(run)} for (task, method), run in sorted(runs.items())]
    table = pd.DataFrame(rows)
    write_durably(args.output, table.to_csv(index=False, float_format="%.6g"))
    for name in ("per_update", "per_decision"):
        print(f"{name}\n{table.pivot(index='method', columns='task', values=name).to_string()}\n")


if __name__ == "__main__":
    main()
