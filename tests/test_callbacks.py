"""Resets: which weights are new, which are kept, and that learning goes on from the old replay buffer."""

from copy import deepcopy

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC, TD3

from sb3_savo import CEM, SAVO, SAVOSAC, GreedyTD3, ResetCallback, Wolpertinger
from sb3_savo.common.callbacks import last_layers
from tests.models import SMALL

MODELS = {
    "td3": lambda: TD3("MlpPolicy", "Pendulum-v1", **deepcopy(SMALL)),  # SB3 writes into policy_kwargs
    "savo": lambda: SAVO("MlpPolicy", "Pendulum-v1", surrogate="approximate", **SMALL),
    "savo-memory": lambda: SAVO("MlpPolicy", "Pendulum-v1", **SMALL),
    "savo-1": lambda: SAVO("MlpPolicy", "Pendulum-v1", n_actors=1, **SMALL),
    "savo-lstm": lambda: SAVO(
        "MlpPolicy", "Pendulum-v1", surrogate="approximate", summarizer="lstm", modulation="mlp", **SMALL
    ),
    "savo-discrete": lambda: SAVO("MlpPolicy", "MiningExpedition-v0", surrogate="approximate", **SMALL),
    "savosac": lambda: SAVOSAC("MlpPolicy", "Pendulum-v1", ent_coef=0.2, **SMALL),
    "wolpertinger": lambda: Wolpertinger("MlpPolicy", "Pendulum-v1", **SMALL),
    "greedytd3": lambda: GreedyTD3("MlpPolicy", "Pendulum-v1", **SMALL),
    "cem": lambda: CEM("MlpPolicy", "Pendulum-v1", **SMALL),
}
NO_TARGET = {"savosac", "cem"}
ACTORS = {"td3": ["mu.4"], "savo-1": ["mu.output"], "wolpertinger": ["mu.output"], "greedytd3": ["mu.output"], "cem": []}
WITH_SURROGATES = {"savo", "savo-lstm", "savo-discrete"}


def learn_until_a_reset(name, reset):
    """All weights before and after the reset, in which the last step ends."""
    model = MODELS[name]()
    model.learn(79)
    model.gradient_steps = 0
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    model.learn(1, callback=ResetCallback(reset, 80), reset_num_timesteps=False)
    return model, before


@pytest.mark.parametrize("name", MODELS)
def test_a_full_reset_gives_all_weights_anew(name):
    model, before = learn_until_a_reset(name, "full")
    after = model.policy.state_dict()
    kept = {key for key, value in after.items() if th.equal(value, before[key])} - {"ent_coef"}
    assert all(key.endswith("bias") or ".norms." in key for key in kept)  # those that start from zero may be zero still
    for network in ["critic", *(["actor"] if name not in NO_TARGET else [])]:
        online, target = (dict(getattr(model, which).named_parameters()) for which in (network, f"{network}_target"))
        assert all(th.equal(parameter, target[key]) for key, parameter in online.items())
    learners = [model.actor, model.critic] if name == "td3" else list(model.policy.learners.values())
    assert all(not learner.optimizer.state for learner in learners)
    assert name != "savosac" or model.policy.ent_coef.item() == pytest.approx(0.2)


@pytest.mark.parametrize("name", MODELS)
def test_last_layers(name):
    model = MODELS[name]()
    critics = ["qf0.4", "qf1.4"] if name == "td3" else ["q_networks.output"]
    expected = {f"{critic}.{layer}" for critic in ("critic", "critic_target") for layer in critics}
    for actor in ("actor", "actor_target")[: 1 if name in NO_TARGET else 2]:
        expected |= {f"{actor}.{layer}" for layer in ACTORS.get(name, ["mu.output", "nu.net.output"])}
    expected |= {"surrogates.psi.net.output"} if name in WITH_SURROGATES else set()
    expected |= {"proposal.mu.output"} if name == "greedytd3" else set()
    expected |= {"smooth_critic.q_networks.output"} if name == "savo-discrete" else set()
    assert set(last_layers(model.policy)) == {f"{layer}.{kind}" for layer in expected for kind in ("weight", "bias")}


@pytest.mark.parametrize("name", MODELS)
def test_a_last_layer_reset_leaves_the_rest(name):
    model, before = learn_until_a_reset(name, "last_layer")
    names = set(last_layers(model.policy))
    changed = {key for key, value in model.policy.state_dict().items() if not th.equal(value, before[key])}
    assert changed <= names and {key for key in names if key.endswith("weight")} <= changed
    of_critic = dict(model.policy.critic.named_parameters())
    state = model.critic.optimizer.state
    if name == "td3":
        remembered = {key for key, parameter in of_critic.items() if parameter in state}
        assert remembered == {key for key in of_critic if f"critic.{key}" not in names}
    else:
        assert not state  # the moments of all its weights are in one vector


@pytest.mark.parametrize("name", ["td3", "savo", "savo-discrete"])
def test_learning_goes_on_from_the_old_buffer(name, capsys):
    model = MODELS[name]()
    model.learn(200, callback=ResetCallback("full", 70, verbose=1))
    assert capsys.readouterr().out.splitlines() == [f"Reset (full) after {steps} steps" for steps in (70, 140)]
    assert model.replay_buffer.size() == 200 and model._n_updates == 160
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())
    assert model.actor.optimizer.param_groups[0]["lr"] > 0 and model.actor.optimizer.state
    model.learn(30, callback=ResetCallback("last_layer", 220), reset_num_timesteps=False)
    obs = model.observation_space.sample()
    assert model.action_space.contains(model.predict(obs)[0][()])


def test_resuming_does_not_reset_at_once():
    model = MODELS["savo"]()
    model.learn(75)
    weights = [parameter.clone() for parameter in model.policy.parameters()]
    model.gradient_steps = 0
    model.learn(20, callback=ResetCallback("full", 50), reset_num_timesteps=False)
    assert all(th.equal(p, q) for p, q in zip(weights, model.policy.parameters(), strict=True))


def test_other_algorithms_of_sb3():
    model = SAC("MlpPolicy", "Pendulum-v1", **deepcopy(SMALL)).learn(100, callback=ResetCallback("last_layer", 60))
    critics = {f"{critic}.{layer}" for critic in ("critic", "critic_target") for layer in ("qf0.4", "qf1.4")}
    assert {name.rsplit(".", 1)[0] for name in last_layers(model.policy)} == critics | {"actor.mu", "actor.log_std"}
    assert np.isfinite(model.predict(np.zeros(3))[0]).all()


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (("half",), ValueError, "reset='half' is not known: it must be one of 'full', 'last_layer'"),
        (("full", 0), ValueError, "reset_interval=0 is too small"),
        (("full", 2e5), TypeError, "reset_interval=200000.0 is a float"),
    ],
)
def test_bad_argument(arguments, error, message):
    with pytest.raises(error, match=message):
        ResetCallback(*arguments)
