"""The demo of the README."""

import re
import sys
from pathlib import Path

import gymnasium as gym
import pandas as pd
import pytest
import torch as th

from sb3_savo import SAVO, demo
from sb3_savo.zoo.hyperparams import hyperparams_file


class Perfect:
    """Takes the best action in the first half of the states, and a corner in the others."""

    def __init__(self, landscape, n_states):
        self.landscape, self.n_best = landscape, n_states // 2

    def predict(self, states, deterministic):
        actions = self.landscape.best(th.as_tensor(states))
        actions[self.n_best :] = 1.0
        return actions.numpy(), None


def test_score():
    landscape = gym.make(demo.ENV_ID, landscape_seed=demo.LANDSCAPE_SEED).unwrapped.landscape
    states = th.rand(100, 4, generator=th.Generator().manual_seed(0)) * 2 - 1
    score, heights = demo.assess(Perfect(landscape, 100), landscape, states)
    assert th.allclose(heights[:50], th.ones(50))
    assert score.within_5 == pytest.approx(0.5, abs=0.05)
    assert score.share == pytest.approx(heights.mean().item())


def test_both_methods_have_the_same_settings(tmp_path):
    commands = {algo: demo.command(algo, tmp_path, demo.N_STEPS, landscape_seed=5) for algo in demo.CLASSES}
    shared = {algo: [word for word in words if word != algo] for algo, words in commands.items()}
    assert shared["td3"] == [*shared["savo"], *demo.OWN_HYPERPARAMETERS["td3"]]
    assert all(words[words.index("--env-kwargs") + 1] == "landscape_seed:5" for words in commands.values())
    assert f"{demo.ENV_ID}:" in hyperparams_file("savo").read_text()


def test_the_readme_quotes_the_stored_scores():
    root = Path(demo.__file__).parent.parent
    if not (root / "README.md").exists():
        pytest.skip("not a checkout")
    table = pd.read_csv(root / "benchmarks" / "results" / "demo.csv", index_col="method")
    assert demo.in_words(table) in (root / "README.md").read_text()


def test_a_missing_extra_is_named_before_the_training(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(demo, "train", lambda *arguments: pytest.fail("it trains"))
    with pytest.raises(ImportError, match=r"The demo needs matplotlib: pip install 'sb3-savo\[plots\]'"):
        demo.main(["--folder", str(tmp_path)])


@pytest.mark.expensive
def test_it_trains_and_draws(tmp_path, capsys):
    demo.main(["--folder", str(tmp_path), "--n-timesteps", "8224"])
    output = capsys.readouterr().out
    assert re.search(r"of 1: TD3 0\.\d{3} \(right peak in \d+% of the states\), SAVO 0\.\d{3} ", output)
    # The README shows all lines
    readme = (Path(demo.__file__).parent.parent / "README.md").read_text()
    shown = [
        line.replace(f"{demo.N_STEPS:,}", "8,224")
        for line in re.search(r"```text\n(.*?)```", readme, re.DOTALL)[1].splitlines()
    ]
    assert len(output.splitlines()) == len(shown) and output.splitlines()[0] == shown[0]
    assert pd.read_csv(tmp_path / "demo.csv", index_col="method").index.to_list() == ["TD3", "SAVO"]
    assert (tmp_path / "demo.png").stat().st_size > 10_000 and (tmp_path / "demo.gif").stat().st_size > 10_000
    model = SAVO.load(tmp_path / "savo" / f"{demo.ENV_ID}_1" / f"{demo.ENV_ID}.zip")
    assert model.gradient_steps == 4 and model.lr_schedule(1.0) == 0.001
