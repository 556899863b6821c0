"""The speed of learning and acting: the command writes the figures of every part."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import speed, timing


def test_command(monkeypatch, tmp_path, capsys):
    arguments = ["--parts", "acting", "collection", "--actors", "2", "--repeats", "1", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["speed", *arguments])
    speed.main()
    assert capsys.readouterr().out.splitlines()[0] == timing.machine(1)
    for part, n_rows in (("acting", 6), ("collection", 4)):
        assert (tmp_path / f"{part}-1.csv").read_text().startswith(f"# {timing.machine(1)}\n")
        table = pd.read_csv(tmp_path / f"{part}-1.csv", comment="#")
        assert len(table) == n_rows and (table.median_ms > 0).all() and (table.ratio[table.what == "TD3"] == 1).all()
    assert not list(tmp_path.glob("*.partial"))


def test_operations(monkeypatch, tmp_path):
    """One actor of SAVO is the network of TD3. With more actors, a critic comes for every proposal."""
    monkeypatch.setattr(sys, "argv", ["speed", "--parts", "operations", "--actors", "1", "3", "--folder", str(tmp_path)])
    speed.main()
    table = pd.read_csv(tmp_path / "operations-1.csv", comment="#")
    assert table.what.tolist() == ["TD3", "SAVO 1", "SAVO 3"]
    assert table.flop[0] == table.flop[1] == 2 * (11 * 256 + 256 * 256 + 256 * 3)
    critics = 3 * 2 * (14 * 256 + 256 * 256 + 256)
    assert table.flop[2] > 3 * table.flop[0] + critics
    assert table.ratio.tolist() == pytest.approx((table.flop / table.flop[0]).tolist(), abs=1e-3)


def test_compilation(monkeypatch, tmp_path):
    """A second process finds what the first one has compiled, and the seconds are those of its lines."""
    folders = []

    def run(command, env, **kwargs):
        folders.append(env["TORCHINDUCTOR_CACHE_DIR"])
        return subprocess.CompletedProcess(command, 0, "a line of a library\n" + "1.0 3.0 8.0 18.0\n")

    monkeypatch.setattr(subprocess, "run", run)
    arguments = ["--parts", "compilation", "--actors", "1", "3", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["speed", *arguments])
    speed.main()
    assert folders[0] == folders[1] != folders[2] == folders[3] and not Path(folders[0]).exists()
    table = pd.read_csv(tmp_path / "compilation-1.csv", comment="#")
    assert table.what.tolist() == ["SAVO 1 cold", "SAVO 1 warm", "SAVO 3 cold", "SAVO 3 warm"]
    assert (table.takeover_s == 15).all() and (table.waited_s == 10).all() and (table.eager_s == 2).all()


def test_device(monkeypatch, tmp_path):
    """The models are where ``--device`` says, and so is the name of the file."""
    devices, waits = [], []

    def make_model(algorithm, shapes, device, **kwargs):
        devices.append(device)
        return timing.make_model(algorithm, shapes, **kwargs)

    monkeypatch.setattr(speed, "make_model", make_model)
    monkeypatch.setattr(speed, "synchronize", waits.append)
    monkeypatch.setattr(timing, "machine", lambda threads, device: device)
    arguments = ["--parts", "collection", "--actors", "2", "--repeats", "1", "--folder", str(tmp_path), "--device", "cuda"]
    monkeypatch.setattr(sys, "argv", ["speed", *arguments])
    speed.main()
    assert set(devices) == set(waits) == {"cuda"}
    assert (tmp_path / "collection-cuda.csv").read_text().startswith("# cuda\n")
