"""The cost of checkpoints: how shares follow from times, and that checkpoints of both runs are timed."""

import math
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from benchmarks import checkpoint_cost
from sb3_savo.common.checkpoints import run as checkpointed_run


def test_shares():
    run = SimpleNamespace(began=0.0, ended=400.0, seconds=10.0, written=[(0, 2), (100, 101), (199, 202), (396, 400)])
    shares = checkpoint_cost.shares(run)
    assert shares["n_checkpoints"] == 4 and shares["first_s"] == 2 and shares["median_s"] == 3
    assert shares["whole_pct"] == 2.5 and shares["due_pct"] == pytest.approx(100 * 4 / 200)


def test_no_share_without_a_checkpoint_that_became_due():
    run = SimpleNamespace(began=0.0, ended=5.0, seconds=2.0, written=[(0, 1), (4, 5)])
    assert math.isnan(checkpoint_cost.shares(run)["due_pct"])


def test_command(monkeypatch, tmp_path, capsys):
    output = tmp_path / "cost.csv"
    monkeypatch.setattr(checkpointed_run, "PERIOD", 2)
    monkeypatch.setattr(checkpoint_cost, "recording_seconds", lambda env_id: 1e-6)
    arguments = ["checkpoint_cost", "--env", "Pendulum-v1", "--seconds", "1", "--buffer-size", "100000"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--output", str(output)])
    checkpoint_cost.main()
    table = pd.read_csv(output, comment="#")
    assert len(table) == 2 and (table.n_checkpoints >= 2).all() and table.transitions[1] == 100_000
    # All rows of a full buffer are written, and of large arrays none that is empty
    assert table.files_mb[1] > table.files_mb[0]
    assert table.whole_pct.between(0, 100).all() and "whole_pct" in capsys.readouterr().out


def test_recording_seconds_is_that_of_noting_an_action(monkeypatch):
    """The environment that is recorded takes ten times as long, by its process's clock."""
    monkeypatch.setattr(checkpoint_cost, "time_interleaved", lambda calls, *_: {"plain": [1.0], "recorded": [10.0]})
    assert checkpoint_cost.recording_seconds("Pendulum-v1", n_steps=3) == pytest.approx(9e-3 / 3)
