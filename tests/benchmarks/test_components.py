"""The speed of simulated users and of the search for the nearest items."""

import sys

import pandas as pd
import pytest

from benchmarks import components


def test_command(monkeypatch, tmp_path):
    pytest.importorskip("faiss")
    monkeypatch.setattr(sys, "argv", ["components", "--repeats", "1", "--n-items", "2000", "--folder", str(tmp_path)])
    components.main()
    users = pd.read_csv(tmp_path / "recsim-1.csv", comment="#")
    assert users["scalar / batched"][0] == pytest.approx(users.scalar_ms[0] / users.batched_ms[0], rel=0.05)
    nearest = pd.read_csv(tmp_path / "nearest-1.csv", comment="#")
    assert nearest.n_items.tolist() == [2_000, 2_000] and nearest.n_queries.tolist() == [48, 768]
    assert (nearest[["faiss_flat_ms", "exact_ms", "approximate_ms"]] > 0).all(axis=None)
    assert nearest.recall.between(0.9, 1).all()
