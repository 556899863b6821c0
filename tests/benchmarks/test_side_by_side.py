"""The stored actions of every method on one landscape are where the picture shows them."""

import pandas as pd
import pytest
import torch as th
from PIL import Image

from benchmarks import side_by_side
from benchmarks.landscapes import contexts
from benchmarks.suite import list_runs
from sb3_savo.envs.landscapes import make_landscape
from tests.benchmarks.models import landscape_model


def test_actions_of_a_model():
    model, env = landscape_model("Peaks2D", n_actors=3)
    table = side_by_side.actions_of(model, env.landscape, contexts()[5])
    assert table.kind.tolist() == ["candidate"] * 3 + ["taken"]
    best = table[table.kind == "candidate"].share.idxmax()
    assert table.loc[3, ["x", "y", "share"]].tolist() == table.loc[best, ["x", "y", "share"]].tolist()


def test_stored_shares_are_those_of_the_landscape():
    table = pd.read_csv(side_by_side.RESULTS)
    assert list(dict.fromkeys(table.method)) == list(side_by_side.METHODS)
    landscape, state = make_landscape(landscape_seed=side_by_side.SEED).landscape, contexts()[:1]
    top = landscape(state, landscape.best(state)[:, None]).item()
    for row in table.itertuples():
        value = landscape(state, th.tensor([[[row.x, row.y]]])).item()
        assert row.share == pytest.approx(value / top, abs=1e-4)
    taken, candidates = table[table.kind == "taken"], table[table.kind == "candidate"]
    highest = candidates.groupby("method").share.max()
    assert taken.set_index("method").share.to_dict() == highest.to_dict()


def test_training_ends_at_the_budget():
    run = next(run for run in list_runs("study_a") if (run.task, run.method) == ("Peaks2D-frozen", "savo_1_actor"))
    model, landscape = side_by_side.train(run, 32)
    assert model._n_updates == 32 and model.critic.q_networks.landscape is landscape


def test_draw(tmp_path):
    pytest.importorskip("matplotlib")
    side_by_side.draw(pd.read_csv(side_by_side.RESULTS), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as new, Image.open(side_by_side.PICTURE) as stored:
        assert new.size == stored.size
