"""
Runs on landscapes, one-step tasks that are known, which measure how well a method maximizes. Networks, batches, updates and
noise are equal for all methods, except that GreedyAC explores by its own samples. The seed of a run is also the seed of its
landscape, and the steps of a run are updates.

Every run is assessed on the same 1,000 contexts. ``return_mean``: value of the chosen action, as a share of the greatest
value. ``candidate_i``: the value of candidate i alone, as such a share. ``within_1`` and ``within_10``: share of contexts in
which the chosen action is within 1 % or 10 % of the greatest value. ``gap``: suboptimality of Eq. 4 under the landscape.
``q_gap``, in a learned run: suboptimality under the learned Q, by dense search.
"""

import torch as th

from benchmarks.landscape_tasks import make_model, steps_until
from benchmarks.recording import Recorder
from benchmarks.suite import Run
from sb3_savo.analysis import highest_q
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.envs.landscapes import CONTEXT_DIM, Landscape

N_CONTEXTS = 1_000


def run_frozen(run: Run, recorder: Recorder) -> None:
    """
    The landscape replaces the critic: measures the maximization alone.

    :param run: The run
    :param recorder: Takes its evaluations
    """
    learn(run, recorder, frozen=True)


def run_learned(run: Run, recorder: Recorder) -> None:
    """
    The whole algorithm learns from interaction.

    :param run: The run
    :param recorder: Takes its evaluations
    """
    learn(run, recorder, frozen=False)


def learn(run: Run, recorder: Recorder, frozen: bool) -> None:
    """
    :param run: The run
    :param recorder: Takes its evaluations
    :param frozen: Whether the landscape replaces the critic
    """
    settings = run.settings
    task, algorithm, arguments = settings["env"], settings["algorithm"], settings["arguments"]
    model, landscape = make_model(task, algorithm, arguments, run.seed, run.steps, frozen, settings["env_kwargs"])
    for index in range(1, run.evaluations + 1):
        updates = run.steps * index // run.evaluations
        model.learn(steps_until(model, updates), reset_num_timesteps=False, log_interval=None)
        with th.random.fork_rng(devices=[]):
            figures = assess(model, landscape, learned=not frozen)
        recorder.add(updates, model._n_updates, figures.pop("chosen"), **figures)


def contexts() -> th.Tensor:
    """:return: The contexts on which every run is assessed, (N_CONTEXTS, CONTEXT_DIM)"""
    generator = th.Generator().manual_seed(0)
    return th.rand(N_CONTEXTS, CONTEXT_DIM, generator=generator) * 2 - 1


def assess(model: MaximizerAlgorithm, landscape: Landscape, learned: bool) -> dict[str, float]:
    """
    :param model: The agent
    :param landscape: The landscape that the agent maximized
    :param learned: Whether the critic was learned
    :return: The figures of this benchmark, by name
    """
    states = contexts()
    with th.no_grad():
        proposals = model.policy.propose(states, deterministic=True)
        actions, _ = model.policy.snap(proposals)
        chosen, _, _ = model.policy.maximize(states, actions)
        # The maximizer does not evaluate a single candidate, so ask the critic
        q_values = model.critic.q1(states, actions)
        greatest = landscape(states, landscape.best(states).unsqueeze(1))
        values = landscape(states, th.cat([chosen.unsqueeze(1), actions], dim=1))
    shares = values / greatest
    figures = {
        "chosen": shares[:, 0].mean().item(),
        "within_1": (shares[:, 0] > 0.99).float().mean().item(),
        "within_10": (shares[:, 0] > 0.9).float().mean().item(),
        "gap": (greatest[:, 0] - values[:, 0]).mean().item(),
    }
    if learned:
        top = th.cat([highest_q(model.policy, part) for part in states.split(100)])
        figures["q_gap"] = (top - q_values.amax(dim=1)).clamp(min=0).mean().item()
    return figures | {f"candidate_{i}": share.mean().item() for i, share in enumerate(shares[:, 1:].T)}
