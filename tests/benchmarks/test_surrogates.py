"""Learned surrogates beside the exact ones."""

import sys

import numpy as np
import torch as th

from benchmarks import surrogates
from benchmarks.landscape_tasks import make_model
from benchmarks.suite import load_hyperparameters


def test_compare_surrogates(monkeypatch):
    """Surrogates that equal the exact ones correlate with them fully, and spread like them."""
    arguments = {**load_hyperparameters("savo", "LandscapePeaks2D-v0")}
    del arguments["n_timesteps"]
    arguments["surrogate"] = "approximate"
    model, landscape = make_model("LandscapePeaks2D-v0", "savo", arguments, 0, 10, frozen=True)
    model.actor.nu.net.output.weight.data.normal_()  # so that the proposals differ

    def exact(contexts, anchors, actions):
        thresholds = landscape(contexts, anchors).cummax(dim=1).values
        values = th.stack([landscape(contexts, own) for own in actions.unbind(dim=1)], dim=1)
        return th.maximum(values, thresholds[:, :, None])

    monkeypatch.setattr(model.surrogates, "forward", exact)
    table = surrogates.compare(model, landscape)
    assert table.surrogate.tolist() == [1, 2]
    np.testing.assert_allclose(table.correlation, 1, atol=1e-3)
    np.testing.assert_allclose(table.spread, table.learned_spread)
    assert (table.above.diff()[1:] <= 0).all() and table.above.between(0, 1).all() and table.flat.between(0, 1).all()


def test_command(monkeypatch, capsys):
    """The learned surrogates take and return the shapes that the benchmark assumes."""
    monkeypatch.setattr(surrogates, "N_CONTEXTS", 12)
    monkeypatch.setattr(surrogates, "N_ACTIONS", 9)
    monkeypatch.setattr(sys, "argv", ["surrogates", "--task", "Peaks1D-frozen", "--seeds", "1", "--n-updates", "16"])
    surrogates.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["above", "spread", "learned_spread", "correlation", "flat"]
    assert [row[:-5] for row in rows[2:]] == [["savo_approximate", "1"], ["2"], ["savo_hybrid", "1"], ["2"]]
