"""A critic of a user's own: the one of ``examples/tqc_critic.py``."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch as th

import sb3_savo
from tests.models import BATCH, SMALL, sample
from tests.reference import spread_out

EXAMPLE = Path(sb3_savo.__file__).parent.parent / "examples" / "tqc_critic.py"

pytestmark = pytest.mark.skipif(not EXAMPLE.exists(), reason="not a checkout")


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


@pytest.fixture
def model(example):
    model = example["QuantileSAVO"](example["QuantilePolicy"], "Pendulum-v1", **SMALL).learn(80)
    spread_out(model)
    return model


def test_it_has_the_loss_of_tqc(example, model):
    """One transition, one quantile and one target at a time."""
    n_quantiles, n_dropped = example["N_QUANTILES"], example["N_DROPPED"]
    batch = sample(model)
    loss, metrics = model.critic_loss(batch)
    total = 0.0
    for k in range(BATCH):
        s, a, s_next = (field[k : k + 1] for field in (batch.observations, batch.actions, batch.next_observations))
        proposals = model.policy.propose_targets(s_next)[0]
        values = [model.critic.quantiles(s_next, proposal[None]).mean().item() for proposal in proposals]
        best = proposals[int(np.argmax(values))][None]
        kept = sorted(model.critic_target.quantiles(s_next, best).flatten().tolist())[: 2 * (n_quantiles - n_dropped)]
        targets = [batch.rewards[k].item() + (1 - batch.dones[k].item()) * model.gamma * value for value in kept]
        for network in model.critic.quantiles(s, a)[0].tolist():
            for j, quantile in enumerate(network):
                for target in targets:
                    error = target - quantile
                    huber = 0.5 * error**2 if abs(error) <= 1 else abs(error) - 0.5
                    total += abs((j + 0.5) / n_quantiles - (error < 0)) * huber
    assert loss.item() == pytest.approx(total / (BATCH * 2 * n_quantiles * len(targets)), rel=1e-4)
    assert metrics["q_mean"].item() == pytest.approx(
        model.critic.quantiles(batch.observations, batch.actions).mean().item(), rel=1e-5
    )


def test_every_value_is_the_mean_of_all_quantiles(model):
    """Choice, actors and search look at it."""
    batch = sample(model)
    proposals = model.policy.propose(batch.observations)
    quantiles = [model.critic.quantiles(batch.observations, proposals[:, i]) for i in range(3)]
    expected = th.stack([values.mean(dim=(1, 2)) for values in quantiles], dim=1)
    th.testing.assert_close(model.policy.maximize(batch.observations, proposals)[2], expected)
    th.testing.assert_close(model.policy.actor_objective(batch.observations, proposals), expected)
    th.testing.assert_close(model.search(batch).proposal_q_values, expected)
    best = proposals[th.arange(BATCH), expected.argmax(dim=1)]
    found = model.policy.predict(batch.observations.numpy(), deterministic=True)[0]
    np.testing.assert_allclose(found, model.policy.unscale_action(best.detach().numpy()), rtol=1e-4, atol=1e-5)


def test_it_is_saved_and_loaded(example, model, tmp_path):
    obs = model.observation_space.sample()
    with pytest.warns(UserWarning, match="allow_pickle"):
        model.save(tmp_path / "model")
    loaded = example["QuantileSAVO"].load(tmp_path / "model", allow_pickle=True)
    np.testing.assert_array_equal(loaded.predict(obs)[0], model.predict(obs)[0])
