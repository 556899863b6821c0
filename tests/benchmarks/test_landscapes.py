"""The top of a landscape by dense search, and the benchmark that measures how well each method maximizes."""

import re
import sys
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch as th
from torch import nn

from benchmarks import landscapes as benchmark
from benchmarks import surrogates
from benchmarks.landscapes import METHODS, LandscapeQ, assess, frozen, report, run
from sb3_savo import SAVO
from sb3_savo.analysis import highest_q
from sb3_savo.envs.landscapes import CONTEXT_DIM, make_landscape
from tests.envs.test_landscapes import FIGURES, embeddings_of, made, random_actions, random_contexts, reference, references

# The dense search


SMALL = {
    "buffer_size": 500,
    "learning_starts": 20,
    "batch_size": 16,
    "policy_delay": 1,
    "policy_kwargs": {"net_arch": [16]},
    "seed": 0,
    "device": "cpu",
}


def on_landscape(env, algorithm=SAVO, **kwargs):
    """:return: An untrained model whose critic is the landscape"""
    model = algorithm("MlpPolicy", env, **SMALL, **kwargs)
    model.critic.q_networks = LandscapeQ(env.landscape)
    return model


def landscape_model(task, algorithm=SAVO, **kwargs):
    env = made(task)
    return on_landscape(env, algorithm, **kwargs), env


@pytest.mark.parametrize("task", ["Peaks1D", "Peaks8D", "Ackley", "Items"])
def test_a_critic_that_is_the_landscape(task):
    model, env = landscape_model(task)
    contexts, actions = random_contexts(5), random_actions(5, 7, env.landscape.action_dim)
    expected = references(env.landscape, contexts, actions)
    np.testing.assert_allclose(model.critic.q1(contexts, actions), expected, atol=2e-5)
    np.testing.assert_allclose(model.critic.evaluate(contexts, actions), np.stack([expected, expected]), atol=2e-5)


def test_the_critic_sees_an_item_where_the_environment_does():
    """What Q says of an item is its reward."""
    model, env = landscape_model("Items")
    obs, _ = env.reset(seed=0)
    items = th.arange(0, 1000, 50)
    q_values = model.critic.q1(th.tensor(obs)[None], model.policy.items.embed(items)[None])[0]
    np.testing.assert_allclose(q_values, [env.step(item)[1] for item in items.tolist()], atol=1e-5)


@pytest.mark.parametrize("task", ["Peaks1D", "Peaks2D", "Rastrigin"])
def test_highest_q(task):
    model, _ = landscape_model(task)
    found = highest_q(model.policy, random_contexts(50))
    assert found.shape == (50,) and not found.requires_grad
    assert found.min() > 0.99 and found.max() <= 1 + 1e-6


def test_highest_q_of_items():
    model, env = landscape_model("Items")
    contexts = random_contexts(4)
    expected = [max(reference(env.landscape, context, item) for item in embeddings_of(env)) for context in contexts]
    np.testing.assert_allclose(highest_q(model.policy, contexts), expected, atol=1e-5)


def test_highest_q_is_not_below_what_a_policy_proposes():
    model, _ = landscape_model("Peaks2D", frozen(SAVO), n_actors=8, surrogate=None)
    contexts = random_contexts(40)
    model.learn(60)
    with th.no_grad():
        proposals = th.cat([model.policy.propose(contexts), random_actions(40, 2_000, 2)], dim=1)
    assert (highest_q(model.policy, contexts) >= model.critic.q1(contexts, proposals).amax(dim=1) - 5e-3).all()


def test_highest_q_by_refinement():
    """Of few random actions: without steps it is the best of these, and no step that is too long makes it less."""
    model, _ = landscape_model("Peaks2D")
    contexts = random_contexts(40)

    def found(**kwargs):
        th.manual_seed(0)
        return highest_q(model.policy, contexts, n_actions=50, n_refined=50, **kwargs)

    th.manual_seed(0)
    sampled = th.empty(50, 2).uniform_(-1, 1).expand(40, -1, -1)
    start = found(n_steps=0)
    np.testing.assert_allclose(start, model.critic.q1(contexts, sampled).amax(dim=1), atol=1e-6)
    assert (found() >= start).all() and found().mean() > start.mean() + 0.1
    assert (found(n_steps=1, step_size=3.0) >= start).all()


class Uphill(nn.Module):
    def forward(self, inputs, nets):
        return inputs[..., CONTEXT_DIM:].sum(dim=-1, keepdim=True)


def test_highest_q_stays_in_the_action_space():
    model, _ = landscape_model("Peaks2D")
    model.critic.q_networks = Uphill()
    assert th.equal(highest_q(model.policy, random_contexts(3)), th.full((3,), 2.0))


class Ordinal(nn.Module):
    """The context's first number, wherever the action is: highest in its own state only. (The second critic: uphill.)"""

    def forward(self, inputs, nets):
        first = inputs[:1, ..., :1] + 0 * inputs[:1, ..., -1:]
        return th.cat([first, Uphill()(inputs[1:], nets)])


def test_highest_q_is_of_the_own_state_and_the_first_critic():
    model, _ = landscape_model("Peaks2D")
    model.critic.q_networks = Ordinal()
    contexts = random_contexts(6)
    np.testing.assert_allclose(highest_q(model.policy, contexts, n_actions=32), contexts[:, 0])


@pytest.mark.parametrize("task", ["Peaks2D", "Items"])
def test_highest_q_leaves_the_policy_alone(task):
    """Of learned networks, which could have gradients."""
    model = SAVO("MlpPolicy", made(task), **SMALL)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    for grad_enabled in (True, False):
        with th.set_grad_enabled(grad_enabled):
            found = highest_q(model.policy, random_contexts(3), n_actions=64)
            assert th.is_grad_enabled() == grad_enabled
        assert not found.requires_grad
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.policy.parameters())
    assert all(th.equal(value, before[name]) for name, value in model.policy.state_dict().items())


# The benchmark


def changed(network, before):
    return any(not th.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    "task, method, learners",
    [
        ("Peaks2D", "td3", {"actor"}),
        ("Peaks2D", "savo_hybrid", {"actor", "surrogates"}),
        ("Peaks2D", "greedyac", {"actor", "proposal"}),
        ("Items", "savo", {"actor", "surrogates", "smooth_critic"}),
        ("Items", "cem", {"smooth_critic"}),
    ],
)
def test_frozen(task, method, learners):
    """Only the critic does not learn."""
    algorithm, kwargs = METHODS[method]
    for is_frozen in (True, False):
        model = (frozen(algorithm) if is_frozen else algorithm)("MlpPolicy", made(task), **SMALL, **kwargs)
        before = {name: deepcopy(network.state_dict()) for name, network in model.policy.learners.items()}
        model.learn(40)
        assert model._n_updates == 20
        learned = {name for name, network in model.policy.learners.items() if changed(network, before[name])}
        assert before.keys() == learners | {"critic"}
        assert learned == (learners if is_frozen else learners | {"critic"})


def test_the_name_of_what_is_frozen():
    assert frozen(SAVO).__name__ == "FrozenSAVO" and issubclass(frozen(SAVO), SAVO)


@pytest.mark.parametrize("method", ["td3", "savo_exact"])
def test_actors_climb_a_frozen_landscape(method):
    """Of one peak, where the first actor must get to the top."""
    algorithm, kwargs = METHODS[method]
    model = on_landscape(make_landscape(n_peaks=1), frozen(algorithm), learning_rate=1e-2, **kwargs)
    landscape, contexts = model.critic.q_networks.landscape, random_contexts(100)

    def mean_value():
        with th.no_grad():
            return landscape(contexts, model.policy.propose(contexts)[:, :1]).mean()

    before = mean_value()
    model.learn(70)
    assert mean_value() > before + 0.1


@pytest.fixture
def few_contexts(monkeypatch):
    monkeypatch.setattr(benchmark, "N_CONTEXTS", 200)


@pytest.mark.usefixtures("few_contexts")
@pytest.mark.parametrize("task, method", [("Peaks2D", "savo"), ("Shubert", "ensemble"), ("Items", "savo"), ("Peaks1D", "cem")])
def test_assess(task, method):
    algorithm, kwargs = METHODS[method]
    model, env = landscape_model(task, algorithm, **kwargs)
    figures = assess(model, env.landscape, learned=False)
    candidates = [value for name, value in figures.items() if name.startswith("candidate_")]
    assert list(figures) == [*FIGURES, *(f"candidate_{i}" for i in range(model.n_candidates))]
    assert figures["chosen"] >= max(candidates) - 1e-6
    assert 0 <= figures["within_1"] <= figures["within_10"] <= 1
    assert 0 <= min(candidates) and figures["chosen"] <= 1 + 1e-6
    assert figures["gap"] >= -1e-6


@pytest.mark.usefixtures("few_contexts")
@pytest.mark.parametrize("task", ["Peaks2D", "Items"])
def test_assess_by_predictions(task):
    """The same contexts, one at a time: ``predict``, a reward, its share of the greatest."""
    model, env = landscape_model(task)
    shares, gaps = [], []
    for context in random_contexts(200):
        env.reset()
        env.context = context.numpy()
        reward = env.step(model.predict(context.numpy(), deterministic=True)[0])[1]
        greatest = reference(env.landscape, context, env.landscape.best(context[None])[0])
        shares.append(reward / greatest)
        gaps.append(greatest - reward)
    figures = assess(model, env.landscape, learned=False)
    expected = [np.mean(shares), np.mean(np.array(shares) > 0.99), np.mean(np.array(shares) > 0.9), np.mean(gaps)]
    np.testing.assert_allclose([figures[name] for name in FIGURES], expected, atol=1e-4)


@pytest.mark.usefixtures("few_contexts")
@pytest.mark.parametrize("task", ["Peaks8D", "Shubert", "Items"])
def test_assess_of_the_best_policy(monkeypatch, task):
    model, env = landscape_model(task)
    monkeypatch.setattr(model.policy, "propose", lambda contexts, **_: env.landscape.best(contexts).unsqueeze(1))
    figures = assess(model, env.landscape, learned=False)
    assert figures == pytest.approx({"chosen": 1, "within_1": 1, "within_10": 1, "gap": 0, "candidate_0": 1}, abs=1e-5)


@pytest.mark.usefixtures("few_contexts")
def test_assess_of_a_mixed_policy(monkeypatch):
    """In each quarter of the states its second candidate is at another height of a peak, beside the thresholds."""
    env = make_landscape("peaks", action_dim=2, n_peaks=1)
    env.landscape.width[:] = 0.1
    model = on_landscape(env)
    heights = np.array([0.995, 0.985, 0.905, 0.895])

    def propose(contexts, **_):
        distances = th.tensor(0.1 * np.sqrt(-2 * np.log(heights)), dtype=th.float32).repeat(50)
        good = env.landscape.best(contexts)
        good[:, 0] -= distances
        return th.stack([th.full_like(good, 5.0), good], dim=1)

    monkeypatch.setattr(model.policy, "propose", propose)
    share = heights.mean()
    expected = {"chosen": share, "within_1": 0.25, "within_10": 0.75, "gap": 1 - share, "candidate_0": 0, "candidate_1": share}
    assert assess(model, env.landscape, learned=False) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("task", ["Peaks2D", "Items"])
def test_gap_under_q_is_that_under_the_landscape_where_these_are_the_same(monkeypatch, task):
    monkeypatch.setattr(benchmark, "N_CONTEXTS", 120)
    model, env = landscape_model(task)
    figures = assess(model, env.landscape, learned=True)
    assert figures["gap"] > 0.05
    assert figures["q_gap"] == pytest.approx(figures["gap"], abs=5e-3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with some short runs."""
    folder = tmp_path_factory.mktemp("frozen")
    for method in ("savo_hybrid", "td3"):
        run("frozen", "Peaks2D", method, 0, 30, folder)
    return folder


@pytest.mark.parametrize("method, n_candidates", [("savo_hybrid", 3), ("td3", 1)])
def test_frozen_run(finished, method, n_candidates):
    assert sorted(path.name for path in finished.iterdir()) == ["Peaks2D-savo_hybrid-0-30.csv", "Peaks2D-td3-0-30.csv"]
    table = pd.read_csv(finished / f"Peaks2D-{method}-0-30.csv")
    candidates = [f"candidate_{i}" for i in range(n_candidates)]
    assert list(table) == ["updates", *FIGURES, *candidates]
    assert table.updates.tolist() == [30]
    figures = table.drop(columns="updates")
    assert ((figures >= 0) & (figures <= 1)).all(axis=None)
    assert table.within_1[0] <= table.within_10[0]
    assert table.chosen[0] >= table[candidates].max(axis=None) - 1e-5


def test_a_finished_run_is_not_done_again(finished):
    path = finished / "Peaks2D-savo_hybrid-0-30.csv"
    before = path.stat().st_mtime_ns, path.read_text()
    run("frozen", "Peaks2D", "savo_hybrid", 0, 30, finished)
    assert (path.stat().st_mtime_ns, path.read_text()) == before


def test_an_interrupted_run_is_done_again(finished, tmp_path):
    """To the same result, whatever it left."""
    (tmp_path / "Peaks2D-td3-0-30.partial").write_text("updates,cho")
    run("frozen", "Peaks2D", "td3", 0, 30, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["Peaks2D-td3-0-30.csv"]
    assert (tmp_path / "Peaks2D-td3-0-30.csv").read_text() == (finished / "Peaks2D-td3-0-30.csv").read_text()


def test_a_run_that_fails_leaves_no_result(monkeypatch, tmp_path):
    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "assess", broken)
    with pytest.raises(KeyboardInterrupt):
        run("frozen", "Peaks1D", "td3", 0, 5, tmp_path)
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize("kind", ["frozen", "learned"])
def test_checkpoints(monkeypatch, tmp_path, kind):
    """The numbers of updates, up to those of one step of all environments; on the landscape of the run's seed."""
    updates, critics = [], []

    def record(model, landscape, learned):
        assert learned == (kind == "learned")
        assert model.exploration_noise_scale == (1.0, 0.1, 40 if kind == "frozen" else 160)
        contexts, actions = random_contexts(2), random_actions(2, 3, 1)
        values = made("Peaks1D", landscape_seed=3).landscape(contexts, actions)
        assert th.equal(landscape(contexts, actions), values)
        critics.append(th.equal(model.critic.q1(contexts, actions), values))
        updates.append(model._n_updates)
        return {"chosen": 0.5}

    monkeypatch.setattr(benchmark, "CHECKPOINTS", (4, 20, 1_000))
    monkeypatch.setattr(benchmark, "assess", record)
    run(kind, "Peaks1D", "savo_exact", 3, 40, tmp_path)
    assert pd.read_csv(tmp_path / "Peaks1D-savo_exact-3-40.csv").updates.tolist() == [4, 20, 40]
    per_step = 16 if kind == "frozen" else 4
    assert all(wanted <= done < wanted + per_step for done, wanted in zip(updates, (4, 20, 40), strict=True))
    assert critics == [kind == "frozen"] * 3


def test_learned_run(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "N_CONTEXTS", 50)
    run("learned", "Items", "wolpertinger", 1, 8, tmp_path)
    table = pd.read_csv(tmp_path / "Items-wolpertinger-1-8.csv")
    assert list(table)[:6] == ["updates", *FIGURES, "q_gap"]
    assert table.q_gap[0] >= 0 and table.updates.tolist() == [8]


# The report


def write(folder, task, method, seed, chosen, budget=40, updates=40, **figures):
    row = {"updates": updates, "chosen": chosen, "within_1": 0.1, "within_10": 0.2, "gap": 1 - chosen, "candidate_0": 0.0}
    pd.DataFrame([row | figures]).to_csv(folder / f"{task}-{method}-{seed}-{budget}.csv", index=False)


def test_report_of_runs(finished, capsys):
    report(finished)
    printed = capsys.readouterr().out
    chosen = {m: pd.read_csv(finished / f"Peaks2D-{m}-0-30.csv").chosen[0] for m in ("td3", "savo_hybrid")}
    assert "30 updates of 30; 1 to 1 runs per cell" in printed
    assert re.search(rf"^td3 +{chosen['td3']:.3f}$", printed, re.MULTILINE)
    assert re.search(rf"^savo_hybrid +{chosen['savo_hybrid']:.3f}$", printed, re.MULTILINE)
    gain = f"{chosen['savo_hybrid'] - chosen['td3']:.3f}"
    assert re.search(rf"^td3 +{gain} +{gain}$", printed, re.MULTILINE)
    assert "candidate_2" in printed


def test_report_in_numbers(tmp_path, capsys):
    for seed, (td3, hybrid) in enumerate([(0.5, 0.7), (0.6, 0.9)]):
        write(tmp_path, "Peaks2D", "td3", seed, td3)
        write(tmp_path, "Peaks2D", "savo_hybrid", seed, hybrid, candidate_1=0.25)
    write(tmp_path, "Items", "td3", 0, 0.25)
    report(tmp_path)
    first, *tables = capsys.readouterr().out.strip().split("\n\n")
    assert first == "40 updates of 40; 1 to 2 runs per cell; 95 % intervals of the mean"
    chosen, gains, others = (table.splitlines() for table in tables)
    # Student's t of one degree of freedom: 12.706 times half the difference of two numbers
    assert chosen[0] == "chosen action: share of the greatest value"
    assert chosen[1].split() == ["task", "Peaks2D", "Items"]
    assert [line.split() for line in chosen[3:]] == [["td3", "0.550", "±0.635", "0.250"], ["savo_hybrid", "0.800", "±1.271"]]
    assert gains[0] == "savo_hybrid minus each method, in pairs on the same landscape"
    assert [line.split() for line in gains[1:]] == [["Peaks2D", "Items", "all"], ["td3", "0.250", "±0.635", "0.250", "±0.635"]]
    assert not any(line.startswith("savo_hybrid ") for line in gains[1:])
    assert others[0].split() == ["within_1", "within_10", "gap", "candidate_0", "candidate_1"]
    rows = [line.split() for line in others[1:] if "0." in line]
    assert rows == [
        ["Peaks2D", "td3", "0.100", "0.200", "0.450", "0.000"],
        ["savo_hybrid", "0.100", "0.200", "0.200", "0.000", "0.250"],
        ["Items", "td3", "0.100", "0.200", "0.750", "0.000"],
    ]


def test_gains_are_averaged_over_tasks_within_a_seed(tmp_path):
    returns = [("Peaks2D", 0, 0.5, 0.7), ("Peaks2D", 1, 0.5, 0.6), ("Items", 0, 0.1, 0.2), ("Items", 1, 0.2, 0.3)]
    for task, seed, td3, hybrid in returns:
        write(tmp_path, task, "td3", seed, td3)
        write(tmp_path, task, "savo_hybrid", seed, hybrid)
    write(tmp_path, "Items", "cem", 7, 0.5)
    gains = benchmark.gains_over(benchmark.collect(tmp_path), ["td3", "cem", "savo_hybrid"], ["Peaks2D", "Items"])
    assert list(gains.index) == ["td3"] and list(gains) == ["Peaks2D", "Items", "all"]
    # Of 0.15 and 0.10; Student's t as above
    assert gains.loc["td3", "all"] == "0.125 ±0.318"
    assert gains.loc["td3", "Items"] == "0.100 ±0.000"


def test_a_folder_without_results(tmp_path):
    with pytest.raises(SystemExit, match="There are no results in"):
        report(tmp_path)


def test_report_keeps_budgets_and_checkpoints_apart(tmp_path, capsys):
    write(tmp_path, "Peaks2D", "td3", 0, 0.5)
    write(tmp_path, "Peaks2D", "td3", 1, 0.75, budget=90, updates=40)
    write(tmp_path, "Peaks2D", "td3", 2, 0.875, budget=90, updates=90)
    report(tmp_path)
    printed = capsys.readouterr().out
    assert re.findall(r"(\d+) updates of (\d+)", printed) == [("40", "40"), ("40", "90"), ("90", "90")]
    assert re.findall(r"^td3 +(\S+)$", printed, re.MULTILINE) == ["0.500", "0.750", "0.875"]


@pytest.mark.parametrize(
    "values, expected", [([0.5], "0.500"), ([0.1, 0.2, 0.6], "0.300 ±0.657"), ([1.0] * 3, "1.000 ±0.000")]
)
def test_interval(values, expected):
    """By hand: 4.3027 times the standard error 0.1528, in the second."""
    assert benchmark.with_interval(pd.Series(values)) == expected


def test_command(monkeypatch, tmp_path, capsys):
    started = []

    def run_all(function, runs, jobs):
        assert function is run and jobs == 1
        for arguments in runs:
            _, task, method, seed, n_updates, folder = arguments
            started.append(arguments[:-1])
            write(folder, task, method, seed, 0.5, n_updates, n_updates)

    monkeypatch.setattr(benchmark, "run_all", run_all)
    chosen = ["--tasks", "Items", "Shubert", "--methods", "cem", "--seeds", "2", "--n-steps", "7", "--jobs", "1"]
    monkeypatch.setattr(sys, "argv", ["landscapes", "learned", *chosen, "--folder", str(tmp_path)])
    benchmark.main()
    cells = [("Items", 0), ("Items", 1), ("Shubert", 0), ("Shubert", 1)]
    assert started == [("learned", task, "cem", seed, 7) for task, seed in cells]
    assert len(list((tmp_path / "learned").iterdir())) == 4
    printed = capsys.readouterr().out
    assert "7 updates of 7; 2 to 2 runs per cell" in printed

    monkeypatch.setattr(sys, "argv", [*sys.argv, "--report"])
    benchmark.main()
    assert len(started) == 4 and capsys.readouterr().out == printed


@pytest.mark.parametrize("argument", ["thawed", "--tasks=Hills", "--methods=ppo"])
def test_bad_command(monkeypatch, capsys, argument):
    monkeypatch.setattr(sys, "argv", ["landscapes", *([] if argument == "thawed" else ["frozen"]), argument])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "invalid choice" in capsys.readouterr().err


# Learned surrogates beside the exact ones


def test_compare_surrogates(monkeypatch):
    """If the learned surrogates are the exact ones, they correlate with them and spread like them."""
    model, landscape = benchmark.make_model("frozen", "Peaks2D", "savo", 0, 10)
    model.actor.nu.net.output.weight.data.normal_()  # proposals apart from one another

    def exact(contexts, anchors, actions):
        thresholds = landscape(contexts, anchors).cummax(dim=1).values
        return th.stack(
            [th.maximum(landscape(contexts, at), tau[:, None]) for at, tau in zip(actions, thresholds.T, strict=True)]
        )

    monkeypatch.setattr(model.surrogates, "forward", exact)
    table = surrogates.compare(model, landscape)
    assert table.surrogate.tolist() == [1, 2]
    np.testing.assert_allclose(table.correlation, 1, atol=1e-3)
    np.testing.assert_allclose(table.spread, table.learned_spread)
    assert (table.above.diff()[1:] <= 0).all() and table.above.between(0, 1).all() and table.flat.between(0, 1).all()
