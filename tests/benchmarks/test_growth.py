"""The growth of time and memory: the exponents, the files, and the figure."""

import sys

import numpy as np
import pandas as pd
import pytest

from benchmarks import growth


def test_exponents():
    value = np.array([1, 2, 5, 10])
    powers = {"act_ms": 3 * value**0.0, "update_ms": 2 * value**1.5, "memory_MiB": 0.1 * value**1.0}
    table = pd.concat([pd.DataFrame({"size": size, "value": value, **powers}) for size in ("n_actors", "n_items")])
    found = growth.exponents(table)
    assert list(found["size"]) == ["n_actors", "n_items"]
    for name, power in (("act_ms", 0), ("update_ms", 1.5), ("memory_MiB", 1)):
        np.testing.assert_allclose(found[name], power, atol=1e-9)


@pytest.mark.expensive
def test_command(monkeypatch, tmp_path):
    monkeypatch.setitem(growth.SIZES, "n_items", (100, 200))
    monkeypatch.setattr(sys, "argv", ["growth", "--sizes", "n_items", "--repeats", "1", "--folder", str(tmp_path)])
    growth.main()
    table = pd.read_csv(tmp_path / "growth-1.csv", comment="#")
    assert list(table.value) == [100, 200] and (table[list(growth.QUANTITIES)] > 0).all(axis=None)
    slopes = pd.read_csv(tmp_path / "exponents-1.csv")
    assert slopes.update_ms[0] == pytest.approx(growth.exponents(table).update_ms[0], abs=0.01)
    assert (tmp_path / "growth-1.png").stat().st_size > 10_000
