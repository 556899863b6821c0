"""The phases of a gradient step, and its floating-point operations."""

import sys

from benchmarks import phases
from benchmarks.timing import SHAPES, make_model
from sb3_savo import SAVO


def test_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["phases", "--shapes", "RecSim", "--n-actors", "2", "--n-steps", "4"])
    phases.main()
    rows = {" ".join(line.split()[:-2]) for line in capsys.readouterr().out.splitlines()}
    assert rows >= {"critic: loss", "actor: loss", *phases.PHASES}


def test_flops():
    """One actor with RecSim's shapes has the operations of TD3, counted by hand."""
    actor = 30 * 64 + 64 * 32 + 32 * 32 + 32 * 16 + 16 * 45
    critic = 75 * 64 + 64 * 32 + 32 * 1
    # The critic's gradient ends at its first layer; the actor's loss has no gradient for the critic's weights
    critic_loss = actor + 2 * critic + 2 * (3 * critic - 75 * 64)
    actor_loss = (3 * actor - 30 * 64) + 2 * critic
    model = make_model(SAVO, SHAPES["RecSim"], n_actors=1)
    assert phases.flops(model) == 2 * 256 * (critic_loss + actor_loss / 2)
