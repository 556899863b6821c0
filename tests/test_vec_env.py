"""Workers that raise, die or hang: the error names the worker, ``close`` returns, and nobody is left behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_savo import SAVO, WatchedSubprocVecEnv
from sb3_savo.vec_env import WorkerError
from tests.models import SMALL
from tests.waiting import wait_until

# Far above what the test needs on a busy machine, far below what would pass for a hang
HANG_SECONDS = 60


class Failing(gym.Env):
    """Fails when an action is above 0.5, or where it is told to."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, how="raise", where="step"):
        self.how, self.where = how, where
        self.fail("init")

    def fail(self, where):
        if where != self.where:
            return
        if self.how == "raise":
            raise KeyError(f"the {where} is broken")
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "exit":
            os._exit(3)
        while True:
            time.sleep(0.1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.fail("reset")
        return np.zeros(2, np.float32), {}

    def step(self, action):
        if action[0] > 0.5:
            self.fail("step")
        return np.zeros(2, np.float32), 0.0, False, False, {}

    def call(self):
        self.fail("call")
        return 7


EXPECTED = {
    "raise": r"The environment in worker 1 raised an error:\n(.|\n)*KeyError: 'the {} is broken'",
    "kill": "The environment in worker 1 has ended by signal SIGKILL",
    "exit": "The environment in worker 1 has ended with exit code 3",
    "hang": r"The environment in worker 1 has not answered for 2 seconds(.|\n)*in fail",
}


def make(how, where, start_method="fork"):
    return WatchedSubprocVecEnv([Failing, lambda: Failing(how, where)], start_method, timeout=2 if how == "hang" else 60)


def run(how, where, start_method="fork"):
    env = make(how, where, start_method)
    try:
        env.reset()
        env.step(np.zeros((2, 1)))
        assert env.env_method("call") == [7, 7]
        env.step(np.array([[0.0], [1.0]]))
    finally:
        started = time.monotonic()
        env.close()
        assert time.monotonic() - started < HANG_SECONDS
        assert not any(process.is_alive() for process in env.processes)


@pytest.mark.parametrize("where", ["reset", "step", "call"])
@pytest.mark.parametrize("how", list(EXPECTED))
def test_a_failing_worker(how, where):
    with pytest.raises(WorkerError, match=EXPECTED[how].format(where)):
        run(how, where)


class Misshapen(gym.Env):
    """Every episode has two steps. The n-th observation is of another shape."""

    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, space, wrong, n):
        self.observation_space, self.wrong, self.n = space, wrong, n

    def observe(self):
        self.n -= 1
        return self.wrong if self.n == 0 else self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        return self.observe(), 0.0, self.steps == 2, False, {}


BOX = gym.spaces.Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    "space, wrong, difference",
    [
        (BOX, np.zeros(1, np.float32), r"its shape is \(1,\), and must be \(2,\)"),
        (BOX, 0.0, r"its shape is \(\), and must be \(2,\)"),
        (gym.spaces.Discrete(3), [1, 2], r"its shape is \(2,\), and must be \(\)"),
        (gym.spaces.Dict(a=BOX), {"a": np.zeros(3)}, r"entry 'a': its shape is \(3,\), and must be \(2,\)"),
        (gym.spaces.Dict(a=BOX), {"b": np.zeros(2)}, "it has no entry 'a'"),
        (gym.spaces.Tuple((BOX, BOX)), (np.zeros(2),), "it has no entry 1"),
    ],
)
@pytest.mark.parametrize("n", [1, 2, 3, 4], ids=["reset", "step", "last", "next"])
@pytest.mark.parametrize("n_envs", [1, 2])
def test_an_observation_of_another_shape(space, wrong, difference, n, n_envs):
    """At the reset, after a step, at the end of an episode, and at the start of the next: where all stack, too."""
    env = WatchedSubprocVecEnv(
        [lambda: Misshapen(space, None, 0)] * (n_envs - 1) + [lambda: Misshapen(space, wrong, n)], "fork"
    )
    with pytest.raises(
        WorkerError, match=f"The environment in worker {n_envs - 1} has returned .* fit its space: {difference}"
    ):
        env.reset()
        for _ in range(3):
            env.step(np.zeros((n_envs, 1)))
    env.close()


@pytest.mark.parametrize("start_method", [None, "spawn"])
def test_other_start_methods(start_method):
    with pytest.raises(WorkerError, match=EXPECTED["raise"].format("step")):
        run("raise", "step", start_method)


@pytest.mark.parametrize("how", ["raise", "exit"])
def test_an_environment_that_cannot_be_made(how):
    with pytest.raises(WorkerError, match=EXPECTED[how].format("init")):
        make(how, "init")


def test_many_workers_share_the_processors_while_they_start(monkeypatch):
    """16 environments of ``RecSimData-v0`` on two busy processors need more than the time of one worker."""
    monkeypatch.setattr("sb3_savo.vec_env.STARTUP_SECONDS", 1.0)
    monkeypatch.setattr("os.cpu_count", lambda: 1)

    def make_slowly():
        time.sleep(2)
        return Failing()

    with closing(WatchedSubprocVecEnv([make_slowly] + [Failing] * 15, "fork", timeout=0.5)) as env:
        assert env.num_envs == 16
    with pytest.raises(WorkerError, match="worker 0 has not answered for 1 seconds"):
        WatchedSubprocVecEnv([make_slowly], "fork", timeout=0.5)


def test_learn_ends_with_the_workers_error():
    env = WatchedSubprocVecEnv([lambda: Failing("raise", "step")] * 2, "fork", timeout=20)
    with pytest.raises(WorkerError, match="the step is broken"):
        SAVO("MlpPolicy", env, **SMALL).learn(200)
    env.close()


def test_it_is_a_subproc_vec_env():
    """Seeds, resets, infos, attributes and rendering are those of SB3's."""
    ours, theirs = (
        make_vec_env(
            "CartPole-v1",
            2,
            seed=3,
            vec_env_cls=kind,
            vec_env_kwargs={"start_method": "fork"},
            env_kwargs={"render_mode": "rgb_array"},
        )
        for kind in (WatchedSubprocVecEnv, SubprocVecEnv)
    )
    assert np.array_equal(ours.reset(), theirs.reset())
    for _ in range(30):
        actions = np.array([0, 1])
        for mine, other in zip(ours.step(actions), theirs.step(actions), strict=True):
            assert len(mine) == len(other) == 2
            if isinstance(mine, np.ndarray):
                assert np.array_equal(mine, other)
    assert ours.get_attr("length") == theirs.get_attr("length")
    assert np.array_equal(ours.render(), theirs.render())
    assert ours.env_is_wrapped(gym.wrappers.TimeLimit) == theirs.env_is_wrapped(gym.wrappers.TimeLimit)
    for env in (ours, theirs):
        env.close()
        env.close()


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "soon", ""])
def test_a_timeout_of_the_environment_that_is_none(monkeypatch, text):
    monkeypatch.setenv("SB3_SAVO_WORKER_TIMEOUT", text)
    with pytest.raises(ValueError, match=f"SB3_SAVO_WORKER_TIMEOUT='{text}' must be a number of seconds above 0"):
        WatchedSubprocVecEnv([Failing])


def test_a_timeout_of_the_environment(monkeypatch):
    monkeypatch.setenv("SB3_SAVO_WORKER_TIMEOUT", "0.5")
    env = WatchedSubprocVecEnv([lambda: Failing("hang", "reset")], "fork")
    try:
        with pytest.raises(WorkerError, match=r"for 0\.5 seconds.*SB3_SAVO_WORKER_TIMEOUT=SECONDS"):
            env.reset()
    finally:
        env.close()


def test_a_timeout_of_zero():
    with pytest.raises(ValueError, match="timeout=0"):
        WatchedSubprocVecEnv([Failing], timeout=0)


@pytest.mark.parametrize("start_method", ["fork", "forkserver", "spawn"])
def test_no_orphans_of_a_killed_trainer(start_method):
    code = f"""
import sys
from tests.test_vec_env import Failing, WatchedSubprocVecEnv
if __name__ == "__main__":
    env = WatchedSubprocVecEnv([lambda: Failing("hang", "reset")] * 2, {start_method!r}, timeout=100)
    print(*[process.pid for process in env.processes], flush=True)
    env.reset()
"""
    trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    workers = [int(number) for number in trainer.stdout.readline().split()]
    assert len(workers) == 2
    time.sleep(0.3)
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    wait_until(lambda: not any(is_running(worker) for worker in workers), HANG_SECONDS)


TERMINATED = """
import os, signal, sys
import gymnasium as gym
from sb3_savo import SAVO, WatchedSubprocVecEnv
from tests.models import SMALL

def terminate(locals_, _):
    if locals_["self"].num_timesteps == 80:
        os.killpg(0, signal.SIGTERM)
    return True

if __name__ == "__main__":
    env = WatchedSubprocVecEnv([lambda: gym.make("Pendulum-v1")] * 2, sys.argv[1])
    print(*[process.pid for process in env.processes], flush=True)
    SAVO("MlpPolicy", env, **SMALL).learn(10_000, callback=terminate, checkpoints=sys.argv[2])
"""


@pytest.mark.parametrize("start_method", ["fork", "forkserver", "spawn"])
def test_sigterm_to_all_processes_leaves_a_checkpoint(start_method, tmp_path):
    """As SLURM and containers send it: the workers must live until the checkpoint is written, and end then."""
    script = tmp_path / "script.py"
    script.write_text(TERMINATED)
    command = [sys.executable, script, start_method, tmp_path / "checkpoints"]
    result = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=HANG_SECONDS,
    )
    assert result.returncode == 128 + signal.SIGTERM, result.stderr
    assert (tmp_path / "checkpoints" / "step-000000000080").is_dir()
    assert not any(is_running(int(worker)) for worker in result.stdout.split())


@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
def test_a_program_ends_that_closes_nothing(start_method):
    code = f"""
from tests.test_vec_env import Failing, WatchedSubprocVecEnv
if __name__ == "__main__":
    env = WatchedSubprocVecEnv([lambda: Failing("hang", "step")], {start_method!r})
    env.step_async([[1.0]])
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=HANG_SECONDS).returncode == 0


class Answering(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, reward, terminated):
        self.answer = reward, terminated

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), *self.answer, False, {}


@pytest.mark.parametrize("reward", [None, "1", [1.0], np.zeros((1, 1)), 1j, {}])
def test_a_reward_that_is_no_number(reward):
    with closing(WatchedSubprocVecEnv([lambda: Answering(0.0, False), lambda: Answering(reward, False)], "fork")) as env:
        env.reset()
        with pytest.raises(WorkerError, match=r"The environment in worker 1 has returned the reward .* must be a number"):
            env.step(np.zeros((2, 1)))


@pytest.mark.parametrize("terminated", ["yes", 1.0, np.ones(1), [True]])
def test_an_end_that_is_neither_true_nor_false(terminated):
    with closing(WatchedSubprocVecEnv([lambda: Answering(0.0, terminated)], "fork")) as env:
        env.reset()
        with pytest.raises(WorkerError, match=r"The environment in worker 0 has returned terminated or .* True or False"):
            env.step(np.zeros((1, 1)))


@pytest.mark.parametrize("reward, terminated", [(1, np.bool_(False)), (np.float32(1), True), (np.array(1.0), False)])
def test_rewards_that_are_numbers(reward, terminated):
    with closing(WatchedSubprocVecEnv([lambda: Answering(reward, terminated)], "fork")) as env:
        env.reset()
        _, rewards, dones, _ = env.step(np.zeros((1, 1)))
        assert rewards == [1] and dones == [bool(terminated)]


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("reward", [None, "1", [2.0], np.zeros((1, 1)), 1j])
def test_a_reward_that_is_no_number_is_not_stored(reward, n_envs):
    """SB3's environments in workers let it through, and the replay buffer would hold NaN."""
    with closing(SubprocVecEnv([lambda: Answering(reward, False)] * n_envs, "fork")) as env:
        with pytest.raises(ValueError, match=rf"reward is .* in environment 0 at step {n_envs}: it must be a number"):
            SAVO("MlpPolicy", env, **SMALL).learn(200)


def test_none_is_no_reward():
    with pytest.raises(ValueError, match="reward is nan in environment 0 at step 1: it must be finite"):
        SAVO("MlpPolicy", DummyVecEnv([lambda: Answering(None, False)]), **SMALL).learn(200)


def test_an_end_that_is_no_number_is_not_stored():
    with closing(SubprocVecEnv([lambda: Answering(0.0, "no")], "fork")) as env:
        with pytest.raises(ValueError, match=r"done is .*'no'.* in environment 0 at step 1: it must be a number"):
            SAVO("MlpPolicy", env, **SMALL).learn(200)


def is_running(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
