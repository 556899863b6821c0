"""The extrapolation to the size of the paper's runs."""

import sys

import pandas as pd
import pytest

from benchmarks import scale


def test_command(monkeypatch, tmp_path, capsys):
    arguments = ["--tasks", "MiningExpedition-v0", "--repeats", "1", "--no-compile", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["scale", *arguments])
    scale.main()
    assert "an extrapolation" in capsys.readouterr().out
    dqn, savo = pd.read_csv(tmp_path / "scale-1.csv", comment="#").itertuples()
    assert (dqn.algorithm, savo.algorithm) == ("DQN", "SAVO") and savo.ratio == pytest.approx(savo.hours / dqn.hours, rel=0.01)
    for row in (dqn, savo):
        # 20 environments collect 2,000 transitions between 20 gradient steps
        assert (row.measured_steps, row.steps, row.updates) == (2_000, 10_000_000, 100_000)
        assert row.hours == pytest.approx((row.steps * row.collect_ms + row.updates * row.update_ms) / 3.6e6, rel=0.02)
