"""Models on landscapes: the landscape as the critic, and the critic that does not learn."""

from copy import deepcopy

import numpy as np
import pytest
import torch as th

from benchmarks.landscape_tasks import make_model, steps_until, with_frozen_critic
from benchmarks.schema import load_methods
from benchmarks.suite import list_runs
from sb3_savo import SAVO
from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.envs.landscapes import make_landscape
from tests.benchmarks.models import SMALL, landscape_model, on_landscape
from tests.envs.test_landscapes import made, random_actions, random_contexts, references


@pytest.mark.parametrize("task", ["Peaks1D", "Peaks8D", "Ackley", "Items"])
def test_a_critic_that_is_the_landscape(task):
    model, env = landscape_model(task)
    contexts, actions = random_contexts(5), random_actions(5, 7, env.landscape.action_dim)
    expected = references(env.landscape, contexts, actions)
    np.testing.assert_allclose(model.critic.q1(contexts, actions), expected, atol=2e-5)
    np.testing.assert_allclose(model.critic.evaluate(contexts, actions), np.stack([expected, expected]), atol=2e-5)


def test_the_value_of_an_item_is_its_reward():
    model, env = landscape_model("Items")
    obs, _ = env.reset(seed=0)
    items = th.arange(0, 1000, 50)
    q_values = model.critic.q1(th.tensor(obs)[None], model.policy.items.embed(items)[None])[0]
    np.testing.assert_allclose(q_values, [env.step(item)[1] for item in items.tolist()], atol=1e-5)


def changed(network, before):
    return any(not th.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    "task, method, learners",
    [
        ("Peaks2D", "savo_1_actor", {"actor"}),
        ("Peaks2D", "savo_hybrid", {"actor", "surrogates"}),
        ("Peaks2D", "greedyac", {"actor", "proposal"}),
        ("Items", "savo_approximate", {"actor", "surrogates", "smooth_critic"}),
        ("Items", "cem", {"smooth_critic"}),
    ],
)
def test_with_frozen_critic(task, method, learners):
    """All networks but the critic learn."""
    name, kwargs = load_methods()[method]["algorithm"], load_methods()[method].get("arguments", {})
    algorithm = ALGORITHMS[name]
    for frozen in (True, False):
        model = (with_frozen_critic(algorithm) if frozen else algorithm)("MlpPolicy", made(task), **SMALL, **kwargs)
        before = {name: deepcopy(network.state_dict()) for name, network in model.policy.learners.items()}
        model.learn(40)
        assert model._n_updates == 20
        learned = {name for name, network in model.policy.learners.items() if changed(network, before[name])}
        assert before.keys() == learners | {"critic"}
        assert learned == (learners if frozen else learners | {"critic"})


def test_the_name_of_a_frozen_algorithm():
    frozen = with_frozen_critic(SAVO)
    assert frozen.__name__ == "FrozenSAVO" and issubclass(frozen, SAVO)


@pytest.mark.parametrize("method", ["savo_1_actor", "savo_exact"])
def test_actors_climb_a_frozen_landscape(method):
    """The landscape has one peak, so the first actor must reach the top."""
    name, kwargs = load_methods()[method]["algorithm"], load_methods()[method].get("arguments", {})
    model = on_landscape(make_landscape(n_peaks=1), with_frozen_critic(ALGORITHMS[name]), learning_rate=1e-2, **kwargs)
    landscape, contexts = model.critic.q_networks.landscape, random_contexts(100)

    def mean_value():
        with th.no_grad():
            return landscape(contexts, model.policy.propose(contexts)[:, :1]).mean()

    before = mean_value()
    model.learn(70)
    assert mean_value() > before + 0.1


def test_every_algorithm_is_a_method():
    """An algorithm that is new in the package's table competes too."""
    assert ALGORITHMS.keys() <= {method["algorithm"] for method in load_methods().values()}


@pytest.mark.parametrize("task, n_steps", [("Peaks1D-frozen", 100), ("Peaks1D-learned", 400)])
def test_make_model(task, n_steps):
    frozen = task.endswith("-frozen")
    run = next(run for run in list_runs("study_a") if (run.task, run.method) == (task, "savo_exact"))
    model, landscape = make_model("LandscapePeaks1D-v0", "savo", run.settings["arguments"], 3, 100, frozen)
    contexts, actions = random_contexts(2), random_actions(2, 3, 1)
    values = landscape(contexts, actions)
    assert th.equal(values, made("Peaks1D", landscape_seed=3).landscape(contexts, actions))
    assert th.equal(model.critic.q1(contexts, actions), values) == frozen
    assert model.seed == 3 and model.surrogate == "exact" and model.n_envs == 16
    assert model.exploration_noise_scale == (1.0, 0.1, n_steps)
    assert steps_until(model, 100) == 512 + n_steps
