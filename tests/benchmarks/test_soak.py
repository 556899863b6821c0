"""The soak: how the growth of memory is found, and that too much of it is an error."""

import csv
import mmap
import sys
import warnings
from contextlib import closing

import pytest

from benchmarks import soak
from benchmarks.soak import Sample


def test_growth_is_counted_from_the_full_buffer_to_the_largest_memory_after_it():
    samples = [Sample(10, 50.0, 0), Sample(20, 60.0, 0), Sample(30, 67.0, 0), Sample(40, 62.0, 0)]
    assert soak.growth(samples, buffer_size=15) == 7
    assert soak.growth(samples, buffer_size=40) == 0


def test_resident_memory_counts_what_is_written_to():
    before = soak.resident_memory()
    # Memory of its own: an object of Python could take what another one has left
    with closing(mmap.mmap(-1, 50 * soak.MB)) as block:
        block.write(b"\1" * len(block))
        assert soak.resident_memory() - before > 0.9 * len(block) / soak.MB


@pytest.mark.parametrize(("limit", "code"), [("1000", 0), ("-1000", 1)])
def test_command(limit, code, monkeypatch, tmp_path, capsys):
    output = tmp_path / "soak.csv"
    monkeypatch.setattr(soak, "in_process", lambda work, folder: work())
    arguments = ["soak", "--modes", "eager", "--steps", "2000", "--buffer-size", "1000", "--limit", limit]
    monkeypatch.setattr(sys, "argv", [*arguments, "--output", str(output)])
    with pytest.raises(SystemExit) as ended:
        soak.main()
    assert ended.value.code == code
    assert "eager: resident memory grew by" in capsys.readouterr().out
    about, *rows = output.read_text().splitlines()
    assert "torch" in about and about.endswith(f"python -m benchmarks.{' '.join(arguments)} --output {output}")
    samples = list(csv.DictReader(rows))
    assert len(samples) == soak.N_SAMPLES and int(samples[-1]["step"]) == 2000
    assert all(float(row["resident_mb"]) > 0 and int(row["checkpoint"]) <= int(row["step"]) for row in samples)


def test_a_loss_that_cannot_be_compiled_ends_the_run(monkeypatch, tmp_path):
    def warn(model, *args, **kwargs):
        warnings.warn("compile: critic_loss cannot be compiled here", stacklevel=1)

    monkeypatch.setattr(soak.SAVO, "learn", warn)
    with pytest.raises(UserWarning, match="critic_loss"):
        soak.learn(tmp_path, True, 100, 64)


def test_a_run_that_fails_is_an_error(monkeypatch):
    monkeypatch.setattr(soak, "in_process", lambda work, folder: None)
    with pytest.raises(RuntimeError, match="The eager run has failed"):
        soak.soak("eager", 100, 50)


def test_a_buffer_that_is_never_full_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["soak", "--steps", "100", "--buffer-size", "200"])
    with pytest.raises(SystemExit):
        soak.main()
    assert "--buffer-size 200" in capsys.readouterr().err
