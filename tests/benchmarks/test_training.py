"""A run of a suite that was interrupted goes on from its last checkpoint."""

import dataclasses

import pytest

from benchmarks import training
from benchmarks.recording import Recorder
from benchmarks.suite import Run
from tests.checkpoints.runs import Interrupted, count_rollouts, interrupted_at

ARGUMENTS = {
    "policy": "MlpPolicy",
    "learning_starts": 20,
    "batch_size": 16,
    "policy_kwargs": {"net_arch": [8]},
    "buffer_size": 100,
    "n_envs": 2,
}


@pytest.mark.parametrize("task", ["InvertedPendulumRestricted-v4", "RecSim-v0"])
def test_an_interrupted_run_goes_on(task, tmp_path, monkeypatch):
    settings = {
        "env": task,
        "env_kwargs": {},
        "algorithm": "savo",
        "arguments": {**ARGUMENTS, "buffer_size": 100},
        "reset": None,
    }
    run = Run(task, "savo", 0, 120, settings, evaluations=4, episodes=2)

    def rows(name, stop=None, run=run):
        (tmp_path / name).mkdir(exist_ok=True)
        recorder = Recorder(tmp_path / name)
        with interrupted_at(monkeypatch, stop):
            training.run(run, recorder)
        return [{name: value for name, value in row.items() if name != "wall_time"} for row in recorder.rows]

    expected = rows("whole")
    count_rollouts(monkeypatch, 10)
    for stop in (50, 100):
        with pytest.raises(Interrupted):
            rows("cut", stop)
        assert list((tmp_path / "cut" / "checkpoints").glob("*/step-*"))
    assert [row["step"] for row in expected] == [2, 30, 60, 90, 120] and rows("cut") == expected
    assert expected[0]["updates"] == 0, "the untrained agent"
    # It was killed before its end was written: nothing is done again
    count_rollouts(monkeypatch, 10)
    assert rows("cut", stop=0) == expected
    # With other evaluations it is another run, although its folder is the same
    assert [row["step"] for row in rows("cut", run=dataclasses.replace(run, evaluations=2))] == [2, 60, 120]
    Recorder(tmp_path / "cut").finish({})
    assert not (tmp_path / "cut" / "checkpoints").exists()
