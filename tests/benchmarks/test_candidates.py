"""How good the candidates of a trained agent are."""

import sys

import numpy as np
import pytest
import torch as th

from benchmarks import candidates
from sb3_savo import SAVO
from tests.benchmarks.models import SMALL, landscape_model
from tests.envs.test_landscapes import made, random_contexts


@pytest.mark.parametrize("task", ["Peaks2D", "Items"])
def test_assess(task):
    model, _ = landscape_model(task)
    model.actor.nu.net.output.weight.data.normal_(std=3.0)  # so that outputs saturate
    table = candidates.assess(model, random_contexts(50).numpy())
    assert table.candidate.tolist() == [0, 1, 2, "best"]
    rows = table.iloc[:3]
    assert rows.picked.sum() == pytest.approx(1)
    assert (rows.gap >= table.gap.iloc[3]).all() and table.gap.iloc[3] >= 0
    with th.no_grad():
        pre_activations = model.actor.propose_detached(random_contexts(50))[1]
    np.testing.assert_allclose(rows.saturated, (pre_activations.abs() > 2).float().mean(dim=(0, 2)), atol=0.01)
    assert rows.saturated.max() > 0.1


def test_assess_of_one_actor():
    """The gap of a single candidate is the gap to the greatest value of the landscape."""
    model, env = landscape_model("Items", n_actors=1)
    contexts = random_contexts(50)
    table = candidates.assess(model, contexts.numpy())
    with th.no_grad():
        actions, _ = model.policy.snap(model.policy.propose(contexts))
        greatest = env.landscape(contexts, env.landscape.best(contexts).unsqueeze(1))
        gap = (greatest - env.landscape(contexts, actions)).mean().item()
    assert table.gap.tolist() == pytest.approx([gap, gap], abs=1e-5)


def test_command(monkeypatch, tmp_path, capsys):
    path = tmp_path / "agent.zip"
    SAVO("MlpPolicy", made("Items"), **SMALL).save(path)
    monkeypatch.setattr(sys, "argv", ["candidates", "--env", "LandscapeItems-v0", "--n-states", "20", str(path)])
    candidates.main()
    printed = capsys.readouterr().out.split()
    assert printed[:5] == ["agent.zip", "candidate", "saturated", "picked", "gap"] and "best" in printed
