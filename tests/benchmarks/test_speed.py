"""The speed of learning and acting: the command writes the figures of every part."""

import sys

import pandas as pd

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
