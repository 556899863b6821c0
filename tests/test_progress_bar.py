"""SB3's progress bar: it counts the environment steps that the run makes, and is closed whatever happens."""

import io

import pytest
from stable_baselines3.common import callbacks
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.env_util import make_vec_env
from tqdm import tqdm

from sb3_savo import SAVO
from tests.models import SMALL


class Bar(tqdm):
    """A bar that keeps its last state, of which there is one at a time, as of ``tqdm.rich``."""

    open_bars = 0

    def __init__(self, total):
        super().__init__(total=total, disable=False, file=io.StringIO())
        assert Bar.open_bars == 0, "Only one live display may be active at once"
        Bar.open_bars = 1

    def close(self):
        if not self.disable:
            Bar.open_bars = 0
        super().close()


@pytest.fixture
def bars(monkeypatch):
    made = []
    monkeypatch.setattr(callbacks, "tqdm", lambda total: made.append(Bar(total)) or made[-1])
    monkeypatch.setattr(Bar, "open_bars", 0)
    return made


def make(n_envs=1, train_freq=1):
    env = make_vec_env("Pendulum-v1", n_envs)
    return SAVO("MlpPolicy", env, **SMALL, train_freq=train_freq, gradient_steps=0)


@pytest.mark.parametrize("n_envs, train_freq, steps", [(1, 1, 50), (3, 1, 51), (1, 20, 60), (3, 7, 63), (2, (10, "step"), 60)])
@pytest.mark.parametrize("progress_bar", [True, False], ids=["argument", "callback"])
def test_the_bar_ends_at_100_percent(n_envs, train_freq, steps, progress_bar, bars):
    model = make(n_envs, train_freq)
    # The RL Zoo passes SB3's callback
    arguments = {"progress_bar": True} if progress_bar else {"callback": [ProgressBarCallback()]}
    for i, reset_num_timesteps in enumerate([True, False, True]):
        model.learn(50, reset_num_timesteps=reset_num_timesteps, **arguments)
        assert (bars[i].total, bars[i].n) == (steps, steps)
    assert Bar.open_bars == 0


def test_the_bar_of_whole_episodes(bars):
    """Their length is not known before: the bar begins at what was asked for."""
    make(train_freq=(1, "episode")).learn(50, progress_bar=True)
    assert (bars[0].total, bars[0].n) == (50, 200)


class Failing(BaseCallback):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def _on_step(self):
        if self.n_calls == 30:
            if self.error is None:
                return False
            raise self.error
        return True


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, None], ids=["error", "Ctrl-C", "stop"])
def test_the_bar_of_a_run_that_ends_early_is_closed(error, bars):
    model = make()
    if error is None:
        model.learn(50, callback=Failing(None), progress_bar=True)
    else:
        with pytest.raises(error):
            model.learn(50, callback=Failing(error), progress_bar=True)
    assert bars[0].n in (29, 30) and bars[0].total == 50 and Bar.open_bars == 0
    model.learn(50, progress_bar=True)
    assert bars[1].n == 50


def test_a_run_with_the_real_bar_after_one_that_failed(capsys):
    model = make()
    bar = ProgressBarCallback()
    with pytest.raises(RuntimeError):
        model.learn(50, callback=[bar, Failing(RuntimeError)])
    bar.on_training_end()  # as the RL Zoo does
    model.learn(50, progress_bar=True)
    assert "50/50" in capsys.readouterr().out
