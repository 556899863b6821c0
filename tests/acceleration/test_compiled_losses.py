"""Compiled losses take over at a fixed gradient step, and whatever ends `learn` before ends the compiler too."""

import gc
import pickle

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes

from benchmarks.resume import all_cases, learn
from sb3_savo import SAVO
from sb3_savo.acceleration import compile_process, compiled_losses
from sb3_savo.acceleration.ahead_of_time import AheadOfTimeCompiler
from tests.acceleration import stand_in
from tests.acceleration.test_compile_process import HANGING, children_in
from tests.checkpoints.runs import Interrupted, count_rollouts, interrupt_and_go_on, interrupted_at
from tests.models import SMALL
from tests.waiting import wait_until

ENV_ID = "InvertedPendulumRestricted-v4"
# The critics' loss is the only one
ONE_LOSS = {"n_actors": 1, "policy_delay": 100}


def make_model(**kwargs):
    # Adam would hardly notice half a gradient
    policy_kwargs = {"net_arch": [16], "optimizer_class": th.optim.SGD}
    return SAVO("MlpPolicy", ENV_ID, **{**SMALL, "n_actors": 2, "compile": True, "policy_kwargs": policy_kwargs, **kwargs})


def set_eager_steps(monkeypatch, n):
    monkeypatch.setattr(compiled_losses, "EAGER_STEPS", n)


def weights(model):
    return np.concatenate([network.parameter_vector.vector.detach() for network in model.policy.learners.values()])


@pytest.fixture
def quick_compiler(monkeypatch):
    monkeypatch.setattr(AheadOfTimeCompiler, "begin", stand_in.begin)
    set_eager_steps(monkeypatch, 6)


@pytest.fixture
def compiler_folder(tmp_path, monkeypatch):
    """The folder of compiled code; the compiler hangs."""
    script = tmp_path / "hanging.py"
    script.write_text(HANGING)
    monkeypatch.setattr(compile_process, "__file__", str(script))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    return tmp_path / "sb3_savo"


@pytest.mark.usefixtures("quick_compiler")
def test_when_they_take_over(monkeypatch):
    """All losses at the same gradient step, which is the seventh here."""

    def switched_after(n):
        model = make_model()

        def switch(*_):
            set_eager_steps(monkeypatch, 10**6 if model._n_updates < n else 0)
            return True

        model.learn(60, callback=switch)
        assert set(model.updater.compiled_losses.losses) == {("critic", 16), ("actor", 16)}
        return weights(model)

    expected = weights(make_model().learn(60))
    assert np.array_equal(switched_after(6), expected)
    assert not np.array_equal(switched_after(5), expected) and not np.array_equal(switched_after(7), expected)


@pytest.mark.usefixtures("quick_compiler")
def test_every_call_of_learn_begins_anew():
    model = make_model().learn(60)
    model.learn(5, reset_num_timesteps=False)
    assert model._n_updates == 25 and not model.updater.compiled_losses.losses
    model.learn(10, reset_num_timesteps=False)
    assert len(model.updater.compiled_losses.losses) == 2


@pytest.mark.usefixtures("quick_compiler")
def test_a_loss_that_is_first_needed_later():
    """It is compiled when it is needed: the actors', which are seldom updated, and that of another size of the batch."""
    model = make_model(policy_delay=10).learn(49)
    assert list(model.updater.compiled_losses.losses) == [("critic", 16)]
    model.train(1, batch_size=16)
    assert list(model.updater.compiled_losses.losses) == [("critic", 16), ("actor", 16)]
    model.train(1, batch_size=8)
    assert list(model.updater.compiled_losses.losses)[2:] == [("critic", 8)]


def test_a_run_that_goes_on_from_a_checkpoint(tmp_path, monkeypatch):
    """They take over at step 252, after the first break and before the second."""
    monkeypatch.setattr(AheadOfTimeCompiler, "begin", stand_in.begin)
    (case,) = (case for case in all_cases() if case.name == "compiled")
    expected = learn(case, tmp_path / "whole", None)
    assert interrupt_and_go_on(case, tmp_path, monkeypatch, stops=(190, 350)) == expected


@pytest.mark.usefixtures("quick_compiler")
def test_the_interrupted_model_itself_goes_on(tmp_path, monkeypatch):
    """Its gradient steps count from the start of the run, whatever it has done since the checkpoint."""
    expected = weights(make_model().learn(60))
    count_rollouts(monkeypatch, 5)
    model = make_model()
    with interrupted_at(monkeypatch, 55), pytest.raises(Interrupted):
        model.learn(60, checkpoints=tmp_path)
    model.learn(60, checkpoints=tmp_path)
    assert np.array_equal(weights(model), expected)


@pytest.mark.usefixtures("quick_compiler")
def test_progress(capsys):
    make_model(verbose=1).learn(60)
    lines = [line for line in capsys.readouterr().out.splitlines() if "ompil" in line]
    assert lines[0] == "Compiling the losses (compile=True, 20 gradient steps) while training goes on"
    assert lines[1] == "Gradient step 7 waits for the compiled losses (critic, actor)"
    assert lines[2].startswith("They take over, ") and lines[2].endswith(" s after their compilation began")
    assert len(lines) == 3
    make_model().learn(60)
    assert not capsys.readouterr().out


class ErrorInCallback(Exception):
    pass


def fail(locals_, _):
    if locals_["self"].num_timesteps == 45:
        raise ErrorInCallback
    return True


def test_learn_that_ends_before(compiler_folder):
    """Neither a process nor a file is left, and the next call may compile again."""
    seen = []

    def look(locals_, _):
        if locals_["self"].num_timesteps == 50:
            seen.append(len(list(compiler_folder.glob("tmp*/tmp*"))))
        return True

    model = make_model(**ONE_LOSS).learn(55, callback=look)
    assert seen == [1] and model._n_updates == 15 and model.updater.is_compiled
    assert [path.name for path in compiler_folder.iterdir()] == ["lock"]
    with pytest.raises(ErrorInCallback):
        make_model(**ONE_LOSS).learn(55, callback=fail)
    assert [path.name for path in compiler_folder.iterdir()] == ["lock"]
    model.learn(1000, callback=StopTrainingOnMaxEpisodes(1), reset_num_timesteps=False)
    assert [path.name for path in compiler_folder.iterdir()] == ["lock"]


@pytest.mark.parametrize("n_processors, n_threads, n_beside", [(1, 2, 1), (2, 2, 1), (4, 1, 1), (4, 4, 2), (16, 4, 4)])
@pytest.mark.usefixtures("quick_compiler")
def test_threads_beside_compilers(monkeypatch, n_processors, n_threads, n_beside):
    """Torch leaves two processors to the compilers until the losses take over, or an error ends `learn` before."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(n_processors)), raising=False)
    before = th.get_num_threads()
    th.set_num_threads(n_threads)
    seen = {}

    def look(*_):
        seen[model._n_updates] = th.get_num_threads()
        return True

    try:
        model = make_model()
        model.learn(60, callback=look)
        assert [seen[n] for n in (0, 1, 6, 7, 19)] == [n_threads, n_beside, n_beside, n_threads, n_threads]
        with pytest.raises(ErrorInCallback):
            make_model().learn(60, callback=fail)
        assert th.get_num_threads() == n_threads
    finally:
        th.set_num_threads(before)


def test_a_model_that_is_dropped_before(compiler_folder):
    model = make_model(**ONE_LOSS).learn(40)
    model.train(1, batch_size=16)
    (folder,) = compiler_folder.glob("tmp*/tmp*")
    wait_until(lambda: children_in(folder))
    del model
    gc.collect()
    assert not children_in(folder)
    assert [path.name for path in compiler_folder.iterdir()] == ["lock"]


def test_a_compiler_that_fails_meanwhile(compiler_folder, monkeypatch):
    """There is one warning, at the gradient step of the takeover. All others are eager."""
    (compiler_folder.parent / "hanging.py").write_text("import sys; sys.exit('no such luck')")
    set_eager_steps(monkeypatch, 6)
    model = make_model()

    def check(*_):
        assert model.updater.is_compiled == (model._n_updates < 7)
        return True

    with pytest.warns(UserWarning, match="without compilation: RuntimeError: no such luck") as warned:
        model.learn(60, callback=check)
    assert len([warning for warning in warned if "compil" in str(warning.message)]) == 1
    assert np.array_equal(weights(model), weights(make_model(compile=False).learn(60)))
    assert [path.name for path in compiler_folder.iterdir()] == ["lock"]


@pytest.mark.usefixtures("quick_compiler")
def test_a_copy_of_a_model_compiles_anew():
    model = make_model(**ONE_LOSS).learn(60)
    assert model.updater.compiled_losses.losses
    copied = pickle.loads(pickle.dumps(model))
    assert not copied.updater.compiled_losses.losses
    copied.learn(20, reset_num_timesteps=False)
    assert copied.updater.compiled_losses.losses
