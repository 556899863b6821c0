"""
How well does each method maximize? On one-step tasks whose landscape is known, at equal networks, batches, updates and noise
(GreedyAC explores by its own samples).

    python -m benchmarks.landscapes frozen             # the critic is the landscape itself: only the maximization is measured
    python -m benchmarks.landscapes learned            # the whole algorithm, from interaction
    python -m benchmarks.landscapes frozen --report    # only print the tables

Per method and task, over 1,000 contexts that are the same for all: ``chosen``, the value of the chosen action as a share of
the greatest one; ``candidate_i``, the same of each candidate alone; ``within_1`` and ``within_10``, the share of contexts in
which the chosen action is within 1 % or 10 % of the greatest value; ``gap``, the suboptimality of Eq. 4 under the landscape,
and in a learned run ``q_gap``, that under the learned Q by dense search. A run's seed is its landscape's, too. Finished runs
are skipped, so that the command can be stopped and run again.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import pandas as pd
import torch as th
from scipy import stats
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from benchmarks.runs import add_arguments, run_all
from sb3_savo import CEM, SAVO, Ensemble, GreedyAC, GreedyTD3, MultiStart, Wolpertinger
from sb3_savo.analysis import highest_q
from sb3_savo.common.maximizer import Batch, MaximizerAlgorithm
from sb3_savo.envs.landscapes import CONTEXT_DIM, Landscape

TASKS = ("Peaks2D", "Peaks8D", "Rastrigin", "Items", "Peaks1D", "Peaks4D", "Shubert", "Ackley")
WIDE = {"net_arch": [256, 256]}
METHODS: dict[str, tuple[type[MaximizerAlgorithm], dict[str, Any]]] = {
    "td3": (SAVO, {"n_actors": 1}),
    "ensemble": (Ensemble, {}),
    "wolpertinger": (Wolpertinger, {}),
    "wolpertinger_0.1": (Wolpertinger, {"sample_std": 0.1}),
    "cem": (CEM, {}),
    "greedyac": (GreedyAC, {}),
    "greedytd3": (GreedyTD3, {}),
    "multistart": (MultiStart, {}),
    "savo": (SAVO, {}),
    "savo_exact": (SAVO, {"surrogate": "exact"}),
    "savo_hybrid": (SAVO, {"surrogate": "hybrid"}),
    # Without Q-smoothing, which is the default where actions are items
    "td3_raw_q": (SAVO, {"n_actors": 1, "q_smoothing": False}),
    "ensemble_raw_q": (Ensemble, {"q_smoothing": False}),
    "wolpertinger_raw_q": (Wolpertinger, {"q_smoothing": False}),
    "savo_hybrid_raw_q": (SAVO, {"surrogate": "hybrid", "q_smoothing": False}),
    "savo_penalty": (SAVO, {"saturation_penalty": 1.0}),
    "savo_hybrid_penalty": (SAVO, {"surrogate": "hybrid", "saturation_penalty": 1.0}),
    # Networks that are large enough for bfloat16, without and with it
    "savo_hybrid_wide": (SAVO, {"surrogate": "hybrid", "policy_kwargs": WIDE}),
    "savo_hybrid_wide_medium": (SAVO, {"surrogate": "hybrid", "policy_kwargs": WIDE, "precision": "medium"}),
}
BEST = "savo_hybrid"
N_ENVS = 16
N_CONTEXTS = 1_000
SHARED: dict[str, Any] = {
    "learning_starts": 512,
    "gamma": 0.0,
    "buffer_size": 50_000,
    "policy_kwargs": {"net_arch": [64, 64]},
    "device": "cpu",
}
# Environment steps per update. (A frozen landscape has no critic to wait for: its actors learn at every update.)
FREQUENCIES: dict[str, dict[str, Any]] = {
    "frozen": {"train_freq": 1, "gradient_steps": N_ENVS, "policy_delay": 1},
    "learned": {"train_freq": 1, "gradient_steps": N_ENVS // 4},
}
CHECKPOINTS = (2_500, 10_000, 40_000)


class LandscapeQ(nn.Module):
    """
    The landscape in the place of the critics' networks.

    :param landscape: The landscape
    """

    def __init__(self, landscape: Landscape):
        super().__init__()
        self.landscape = landscape

    def forward(self, inputs: th.Tensor, nets: slice) -> th.Tensor:
        """
        :param inputs: For each network, contexts, each repeated for every one of its actions, and the actions;
            (n, n_actions, batch, …)
        :param nets: Which networks of the stack: all are the landscape
        :return: (n, n_actions, batch, 1)
        """
        contexts, actions = inputs[0, 0, :, :CONTEXT_DIM], inputs[0, ..., CONTEXT_DIM:].transpose(0, 1)
        return self.landscape(contexts, actions).T.expand(len(inputs), -1, -1).unsqueeze(3)


def frozen(algorithm: type[MaximizerAlgorithm]) -> type[MaximizerAlgorithm]:
    """
    :param algorithm: One of our algorithms
    :return: The same, whose critic does not learn (but Q̂, which imitates it, does)
    """

    def update_critics(self: MaximizerAlgorithm, batch: Batch) -> th.Tensor:
        if self.smooth_critic is not None:
            self.descend("smooth_critic", self.smoothing_loss, batch)
        return th.ones(())

    return type(f"Frozen{algorithm.__name__}", (algorithm,), {"update_critics": update_critics})


def assess(model: MaximizerAlgorithm, landscape: Landscape, learned: bool) -> dict[str, float]:
    """
    :param model: The agent
    :param landscape: What it was to maximize
    :param learned: Whether its critic has learned
    :return: The figures of this benchmark
    """
    generator = th.Generator().manual_seed(0)
    contexts = th.rand(N_CONTEXTS, CONTEXT_DIM, generator=generator) * 2 - 1
    with th.no_grad():
        proposals = model.policy.propose(contexts, deterministic=True)
        actions, _ = model.policy.snap(proposals)
        chosen, _, q_values = model.policy.maximize(contexts, actions)
        greatest = landscape(contexts, landscape.best(contexts).unsqueeze(1))
        values = landscape(contexts, th.cat([chosen.unsqueeze(1), actions], dim=1))
    shares = values / greatest
    figures = {
        "chosen": shares[:, 0].mean().item(),
        "within_1": (shares[:, 0] > 0.99).float().mean().item(),
        "within_10": (shares[:, 0] > 0.9).float().mean().item(),
        "gap": (greatest[:, 0] - values[:, 0]).mean().item(),
    }
    if learned:
        top = th.cat([highest_q(model.policy, those) for those in contexts.split(100)])
        figures["q_gap"] = (top - q_values.amax(dim=1)).clamp(min=0).mean().item()
    return figures | {f"candidate_{i}": share.mean().item() for i, share in enumerate(shares[:, 1:].T)}


def make_model(kind: str, task: str, method: str, seed: int, n_updates: int) -> tuple[MaximizerAlgorithm, Landscape]:
    """
    :param kind: ``frozen`` or ``learned``
    :param task: One of :data:`TASKS`
    :param method: One of :data:`METHODS`
    :param seed: Seed of the model and of the landscape
    :param n_updates: Number of updates that it is to learn for
    :return: An untrained model, and its landscape
    """
    env = make_vec_env(f"Landscape{task}-v0", n_envs=N_ENVS, env_kwargs={"landscape_seed": seed})
    landscape: Landscape = env.get_attr("landscape")[0]
    algorithm, own = METHODS[method]
    if kind == "frozen":
        algorithm = frozen(algorithm)
    scale = (1.0, 0.1, n_updates * steps_per_update(kind))
    kwargs = {**SHARED, **FREQUENCIES[kind], "exploration_noise_scale": scale, **own}
    model = algorithm("MlpPolicy", env, seed=seed, **kwargs)
    if kind == "frozen":
        model.critic.q_networks = LandscapeQ(landscape)  # type: ignore[assignment]
    return model, landscape


def steps_per_update(kind: str) -> int:
    """
    :param kind: ``frozen`` or ``learned``
    :return: Environment steps per update
    """
    return N_ENVS // FREQUENCIES[kind]["gradient_steps"]


def run(kind: str, task: str, method: str, seed: int, n_updates: int, folder: Path) -> None:
    """
    :param kind: ``frozen`` or ``learned``
    :param task: One of :data:`TASKS`
    :param method: One of :data:`METHODS`
    :param seed: Seed of the run and of the landscape
    :param n_updates: Number of updates
    :param folder: Where the results are
    """
    path = folder / f"{task}-{method}-{seed}-{n_updates}.csv"
    if path.exists():
        return
    th.set_num_threads(1)
    model, landscape = make_model(kind, task, method, seed, n_updates)
    rows = []
    for checkpoint in [c for c in CHECKPOINTS if c < n_updates] + [n_updates]:
        n_steps = SHARED["learning_starts"] + checkpoint * steps_per_update(kind) - model.num_timesteps
        model.learn(n_steps, reset_num_timesteps=False, log_interval=None)
        rows.append({"updates": checkpoint, **assess(model, landscape, kind == "learned")})
    unfinished = path.with_suffix(".partial")
    pd.DataFrame(rows).to_csv(unfinished, index=False, float_format="%.5f")
    os.replace(unfinished, path)


def collect(folder: Path) -> pd.DataFrame:
    """
    :param folder: Where the results are
    :return: One row per run and checkpoint
    """
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise SystemExit(f"There are no results in {folder}.")
    tables = []
    for path in paths:
        task, method, seed, n_updates = path.stem.split("-")
        own = {"task": task, "method": method, "seed": int(seed), "budget": int(n_updates)}
        tables.append(pd.read_csv(path).assign(**own))
    return pd.concat(tables)


def with_interval(values: pd.Series) -> str:
    """
    :param values: One per seed
    :return: Their mean and the half width of its 95 % interval by Student's t
    """
    if len(values) < 2:
        return f"{values.mean():.3f}"
    return f"{values.mean():.3f} ±{stats.t.ppf(0.975, len(values) - 1) * values.sem():.3f}"


def gains_over(results: pd.DataFrame, methods: list[str], tasks: list[str]) -> pd.DataFrame:
    """
    :param results: One row per run
    :param methods: The rows
    :param tasks: The columns
    :return: By how much more of the greatest value :data:`BEST` reaches than each method, per task, and as the mean over the
        tasks that both have done with a seed
    """
    chosen = results.set_index(["task", "seed", "method"]).chosen.unstack()
    if BEST not in chosen:
        return pd.DataFrame()
    columns = {}
    for method in methods:
        gain = (chosen[BEST] - chosen[method]).dropna()
        if method != BEST and not gain.empty:
            per_task = gain.groupby("task").agg(with_interval)
            columns[method] = {**per_task, "all": with_interval(gain.groupby("seed").mean())}
    return pd.DataFrame(columns).T.reindex(columns=[*tasks, "all"])


def report(folder: Path) -> None:
    """
    Print what was measured, per number of updates: the share of the greatest value per task and method, its difference from
    that of SAVO with the hybrid surrogate on the same landscapes, and the other figures.

    :param folder: Where the results are
    """
    everything = collect(folder)
    for (budget, updates), results in everything.groupby(["budget", "updates"]):
        methods = [method for method in METHODS if method in set(results.method)]
        tasks = [task for task in TASKS if task in set(results.task)]
        counts = results.groupby(["task", "method"]).seed.count()
        print(f"\n{updates} updates of {budget}; {counts.min()} to {counts.max()} runs per cell; 95 % intervals of the mean")
        chosen = results.pivot_table("chosen", ["method", "task"], aggfunc=with_interval).chosen.unstack()
        print(f"\nchosen action: share of the greatest value\n{chosen.loc[methods, tasks].to_string(na_rep='')}")
        gains = gains_over(results, methods, tasks)
        if not gains.empty:
            print(f"\n{BEST} minus each method, in pairs on the same landscape\n{gains.to_string(na_rep='')}")
        figures = [name for name in results if name not in ("task", "method", "seed", "budget", "updates", "chosen")]
        means = results.groupby(["task", "method"])[figures].mean().reindex(pd.MultiIndex.from_product([tasks, methods]))
        print(f"\n{means.dropna(how='all').to_string(float_format='{:.3f}'.format, na_rep='')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=FREQUENCIES)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    add_arguments(parser, "landscapes", seeds=5, n_steps=CHECKPOINTS[0], methods=tuple(METHODS))
    args = parser.parse_args()

    folder = args.folder / args.kind
    folder.mkdir(parents=True, exist_ok=True)
    if not args.report:
        runs = [
            (args.kind, task, method, seed, args.n_steps, folder)
            for task in args.tasks
            for seed in range(args.seeds)
            for method in args.methods
            if task == "Items" or not method.endswith("_raw_q")
        ]
        run_all(run, runs, args.jobs)
    report(folder)


if __name__ == "__main__":
    main()
