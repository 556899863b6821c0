"""``learn(…, checkpoints=folder)``: a run that was interrupted again and again is bit for bit one that was not."""

import csv
import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import closing, suppress
from functools import partial
from itertools import cycle

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnvWrapper, VecNormalize
from torch import nn

from benchmarks.resume import Case, all_cases, learn, special_cases
from sb3_savo import SAVO, SAVOSAC, WatchedSubprocVecEnv
from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.common.checkpoints import environments, run
from tests.checkpoints.runs import Interrupted, count_rollouts, interrupt_and_go_on, interrupted_at
from tests.models import SMALL

ENV_ID = "InvertedPendulumRestricted-v4"
CASES = [
    *(Case(algorithm, "Pendulum-v1", algorithm, n_envs) for algorithm, n_envs in zip(ALGORITHMS, cycle([1, 2]), strict=False)),
    *(
        Case(f"{task}, {algorithm}", task, algorithm, n_envs=2)
        for task in ("Mining", "RecSimVecEnv")
        for algorithm in ("savo", "wolpertinger")
    ),
    *(case for case in special_cases() if "process" not in case.name and case.name != "compiled"),
]
PROCESSES = [case for case in special_cases() if "process" in case.name]


def small(env=ENV_ID, algorithm=SAVO, **kwargs):
    return algorithm("MlpPolicy", env, **{**SMALL, **kwargs})


def weights(network):
    return network.parameter_vector.vector.detach().numpy()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_interrupted_run_is_an_uninterrupted_one(case, tmp_path, monkeypatch):
    expected = learn(case, tmp_path / "whole", None)
    assert interrupt_and_go_on(case, tmp_path, monkeypatch) == expected


@pytest.mark.parametrize("case", PROCESSES, ids=lambda case: case.name)
def test_environments_in_processes(case, tmp_path, monkeypatch):
    expected = learn(case, tmp_path / "whole", None)
    assert interrupt_and_go_on(case, tmp_path, monkeypatch, stops=(190,)) == expected


@pytest.mark.expensive
def test_compiled_losses(tmp_path, monkeypatch):
    """They take over at step 252, after the first break and before the second."""
    (case,) = (case for case in all_cases() if case.name == "compiled")
    expected = learn(case, tmp_path / "whole", None)
    assert interrupt_and_go_on(case, tmp_path, monkeypatch, stops=(190, 350)) == expected


def test_checkpoints_change_nothing(tmp_path):
    case = Case("plain", ENV_ID)
    assert learn(case, tmp_path / "a", tmp_path / "checkpoints") == learn(case, tmp_path / "b", None)


def test_a_finished_run_does_nothing(tmp_path):
    first = small().learn(100, checkpoints=tmp_path)
    again = small()
    steps = []
    again.learn(100, callback=lambda *_: steps.append(1) or True, checkpoints=tmp_path / "other")
    again = small().learn(100, checkpoints=tmp_path)
    assert steps and again.num_timesteps == 100 and again._n_updates == first._n_updates
    np.testing.assert_array_equal(
        again.policy.actor.parameter_vector.vector.detach(), first.policy.actor.parameter_vector.vector.detach()
    )


def test_a_finished_run_is_not_called_too_short(tmp_path):
    """Steps that are fewer than ``learning_starts``, in a run that has learned already."""
    small().learn(100, checkpoints=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert small().learn(30, checkpoints=tmp_path).num_timesteps == 100


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path):
    expected = small().learn(160)
    small().learn(100, checkpoints=tmp_path)
    longer = small().learn(160, checkpoints=tmp_path)
    assert longer.num_timesteps == 160
    np.testing.assert_array_equal(*(weights(model.policy.critic) for model in (longer, expected)))


def test_a_run_that_a_callback_has_ended_stays_ended(tmp_path):
    def learn_until_stopped():
        return small().learn(1000, callback=StopTrainingOnMaxEpisodes(3), checkpoints=tmp_path)

    first = learn_until_stopped()
    assert first.num_timesteps < 1000 and learn_until_stopped().num_timesteps == first.num_timesteps


def test_checkpoints_are_zips_of_models_and_two_are_kept(tmp_path, monkeypatch):
    count_rollouts(monkeypatch, 5)
    model = small().learn(100, checkpoints=tmp_path)
    folders = sorted(path.name for path in tmp_path.glob("step-*"))
    assert len(folders) == 2 and folders[-1] == "step-000000000100"
    loaded = SAVO.load(tmp_path / folders[-1] / "model.zip")
    obs = model.observation_space.sample()
    np.testing.assert_array_equal(loaded.predict(obs)[0], model.predict(obs)[0])


def test_a_fresh_interpreter_goes_on_after_sigterm(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pathlib\n"
        "from sb3_savo import SAVO\n"
        "def started(*_):\n"
        "    pathlib.Path('started').touch()\n"
        "    return True\n"
        f"model = SAVO('MlpPolicy', {ENV_ID!r}, seed=0, learning_starts=50, policy_kwargs={{'net_arch': [16, 16]}})\n"
        "model.learn(int(sys.argv[1]), callback=started, checkpoints='checkpoints')\n"
        "print(model.num_timesteps)\n"
    )
    process = subprocess.Popen([sys.executable, script, "100000000"], cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    newest = max(path.name for path in (tmp_path / "checkpoints").glob("step-*"))
    step = int(newest.removeprefix("step-"))
    assert step > 0
    result = subprocess.run([sys.executable, script, str(step + 10)], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(step + 10)


def test_sigterm_is_handled_as_before_afterwards(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    small().learn(60, checkpoints=tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("step", [1, 60])
def test_sigterm_at_any_step_ends_the_program(tmp_path, step):
    """Also in the last rollout, after the last checkpoint: the script must not go on to its next run."""

    def terminate(locals_, _):
        if locals_["self"].num_timesteps == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return True

    with pytest.raises(SystemExit) as error:
        small().learn(60, callback=terminate, checkpoints=tmp_path)
    assert error.value.code == 128 + signal.SIGTERM


def test_no_row_is_lost_or_doubled(tmp_path, monkeypatch):
    """Of every log: the CSV and JSON of the logger, TensorBoard's, the monitor's, the evaluations', and the best model."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    count_rollouts(monkeypatch, 50)

    def script(folder, checkpoints=None, stop=None):
        folder.mkdir(exist_ok=True)
        env = make_vec_env("Pendulum-v1", seed=1, monitor_dir=str(folder))
        model = SAVO("MlpPolicy", env, tensorboard_log=str(folder / "tensorboard"), **SMALL)
        evaluation = EvalCallback(
            make_vec_env("Pendulum-v1", seed=2), None, None, 1, 100, str(folder), best_model_save_path=str(folder), verbose=0
        )
        with interrupted_at(monkeypatch, stop), closing(env):
            model.learn(700, callback=evaluation, log_interval=1, checkpoints=checkpoints)

    def rows(folder):
        (events,) = (folder / "tensorboard").iterdir()
        found = EventAccumulator(str(events)).Reload()
        scalars = {
            tag: [(event.step, event.value) for event in found.Scalars(tag)]
            for tag in found.Tags()["scalars"]
            if tag not in ("time/fps", "time/time_elapsed")
        }
        monitor = [line.rpartition(",")[0] for line in (folder / "0.monitor.csv").read_text().splitlines()[1:]]
        evaluations = np.load(folder / "evaluations.npz")
        return scalars, monitor, {name: evaluations[name].tolist() for name in evaluations}

    script(tmp_path / "whole")
    for stop in (350, 550):
        with pytest.raises(Interrupted):
            script(tmp_path / "cut", tmp_path / "checkpoints", stop)
    script(tmp_path / "cut", tmp_path / "checkpoints")
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    best = [SAVO.load(tmp_path / name / "best_model.zip") for name in ("cut", "whole")]
    np.testing.assert_array_equal(*(weights(model.policy.actor) for model in best))


def test_rows_of_all_formats(tmp_path, monkeypatch):
    count_rollouts(monkeypatch, 50)

    def script(folder, checkpoints=None, stop=None):
        model = small("Pendulum-v1")
        model.set_logger(configure(str(folder), ["csv", "json", "log"]))
        with interrupted_at(monkeypatch, stop), closing(model.logger):
            model.learn(450, log_interval=1, checkpoints=checkpoints)

    script(tmp_path / "whole")
    with pytest.raises(Interrupted):
        script(tmp_path / "cut", tmp_path / "checkpoints", 350)
    script(tmp_path / "cut", tmp_path / "checkpoints")

    def table(folder):
        with open(tmp_path / folder / "progress.csv") as file:
            return [
                {name: value for name, value in row.items() if not name.startswith("time/")} for row in csv.DictReader(file)
            ]

    assert table("cut") == table("whole")
    for name in ("progress.json", "log.txt"):
        n_lines = [len((tmp_path / folder / name).read_text().splitlines()) for folder in ("cut", "whole")]
        assert n_lines[0] == n_lines[1]


class Counter(BaseCallback):
    def __init__(self, limit):
        super().__init__()
        self.limit = limit
        self.n_seen = 0
        self.seen = []

    def _on_step(self):
        self.n_seen += 1
        self.seen.append(self.num_timesteps)
        return True


@pytest.mark.parametrize("place", ["callback_after_eval", "callback_on_new_best"])
def test_callbacks_in_an_evaluation_go_on(tmp_path, monkeypatch, place):
    def run(stop=None, **kwargs):
        counter = Counter(1)
        evaluation = EvalCallback(
            make_vec_env("Pendulum-v1", seed=0), n_eval_episodes=1, eval_freq=10, verbose=0, **{place: counter}
        )
        with interrupted_at(monkeypatch, stop):
            small("Pendulum-v1").learn(100, callback=evaluation, **kwargs)
        return counter.seen

    count_rollouts(monkeypatch, 5)
    expected = run()
    assert len(expected) > 1
    with pytest.raises(Interrupted):
        run(stop=70, checkpoints=tmp_path)
    assert run(checkpoints=tmp_path) == expected


class Holder(BaseCallback):
    """A user's callback that calls others, kept in its attributes."""

    def __init__(self, make):
        super().__init__()
        self.single, self.several, self.named = make(), (make(), [make()]), {"last": make()}
        self.single.holder = self  # a circle

    @property
    def parts(self):
        return [self.single, self.several[0], self.several[1][0], self.named["last"]]

    def _init_callback(self):
        for part in self.parts:
            part.init_callback(self.model)

    def _on_step(self):
        return all([part.on_step() for part in self.parts])


def test_callbacks_in_a_users_own_go_on(tmp_path, monkeypatch):
    count_rollouts(monkeypatch, 5)
    with interrupted_at(monkeypatch, 70), pytest.raises(Interrupted):
        small().learn(100, callback=Holder(lambda: Counter(1)), checkpoints=tmp_path)
    callback = Holder(lambda: Counter(2))
    small().learn(100, callback=callback, checkpoints=tmp_path)
    for part in callback.parts:
        assert part.n_seen == 100 and part.seen == list(range(1, 101)) and part.limit == 2


def test_callbacks_of_a_users_own_go_on(tmp_path, monkeypatch):
    count_rollouts(monkeypatch, 5)
    with interrupted_at(monkeypatch, 70), pytest.raises(Interrupted):
        small().learn(100, callback=Counter(1), checkpoints=tmp_path)
    callback = Counter(2)
    small().learn(100, callback=callback, checkpoints=tmp_path)
    assert callback.n_seen == 100 and callback.seen == list(range(1, 101)) and callback.limit == 2


class Unsaved(BaseCallback):
    def __init__(self):
        super().__init__()
        self.file = open(os.devnull, "w")

    def _on_step(self):
        return True

    def _on_training_end(self):
        self.file.close()


def test_what_no_checkpoint_holds_is_named(tmp_path):
    with pytest.warns(UserWarning, match=r"Unsaved\.file is a TextIOWrapper"):
        small().learn(60, callback=Unsaved(), checkpoints=tmp_path)


class ForeignRandomness(gym.ObservationWrapper):
    """An environment that draws from NumPy's global generator."""

    generator = np.random.default_rng(0)

    def observation(self, observation):
        return observation + ForeignRandomness.generator.normal(size=observation.shape)


class KnownRandomness(ForeignRandomness):
    """The same, which says so."""

    def __init__(self, env):
        super().__init__(env)
        env.unwrapped.get_state = lambda: ForeignRandomness.generator.bit_generator.state
        env.unwrapped.set_state = lambda state: setattr(ForeignRandomness.generator.bit_generator, "state", state)


def noisy(wrapper):
    return DummyVecEnv([lambda: wrapper(gym.make("Pendulum-v1"))])


class TaskWithOtherState(gym.Env):
    """Its two methods have the names, but not the arguments, of those that a checkpoint calls; MuJoCo's are such."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    seconds = 0.0

    def get_state(self):
        return [0.0]

    def set_state(self, position, velocity):
        raise AssertionError("it is called by the environment alone")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        time.sleep(self.seconds)
        return self.observe(), 0.0, False, False, {}

    def observe(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


class SlowTask(TaskWithOtherState):
    seconds = 0.1


def test_methods_of_other_arguments_are_no_state(tmp_path, monkeypatch):
    count_rollouts(monkeypatch, 5)
    expected = small(TaskWithOtherState()).learn(100).replay_buffer.observations
    with interrupted_at(monkeypatch, 70), pytest.raises(Interrupted):
        small(TaskWithOtherState()).learn(100, checkpoints=tmp_path)
    np.testing.assert_array_equal(
        small(TaskWithOtherState()).learn(100, checkpoints=tmp_path).replay_buffer.observations, expected
    )


def test_repeating_an_episode_may_take_longer_than_a_worker_may(tmp_path, monkeypatch):
    """Sixty steps of 0.1 seconds, where every answer of a worker must come within four seconds."""

    def learn():
        env = WatchedSubprocVecEnv([SlowTask], "fork", timeout=4)
        try:
            return small(env).learn(66, checkpoints=tmp_path)
        finally:
            env.close()

    count_rollouts(monkeypatch, 5)
    with interrupted_at(monkeypatch, 65), pytest.raises(Interrupted):
        learn()
    assert learn().num_timesteps == 66


@pytest.mark.parametrize("vec_env", [SubprocVecEnv, WatchedSubprocVecEnv])
def test_a_class_that_cannot_be_sent_from_its_worker_is_named(tmp_path, vec_env):
    class Local(TaskWithOtherState):
        pass

    env = vec_env([Local], "fork")
    with pytest.raises(ValueError, match=r"the class of environment 0 cannot be sent.*Monitor"):
        small(env).learn(100, checkpoints=tmp_path)
    # The worker of SB3's own has ended
    with suppress(OSError, EOFError):
        env.close()


def test_an_episode_without_an_end_warns(tmp_path, monkeypatch):
    count_rollouts(monkeypatch, 5)
    monkeypatch.setattr(environments, "LONG_EPISODE", 30)
    with pytest.warns(UserWarning, match="an episode has taken more than 30 steps.*TimeLimit"):
        small(TaskWithOtherState()).learn(100, checkpoints=tmp_path)


def test_an_environment_that_does_not_repeat_is_named(tmp_path, monkeypatch):
    count_rollouts(monkeypatch, 5)
    with interrupted_at(monkeypatch, 70), pytest.raises(Interrupted):
        small(noisy(ForeignRandomness)).learn(100, checkpoints=tmp_path)
    with pytest.raises(ValueError, match=r"environment 0 of env does not do again what it did.*last observation.*get_state"):
        small(noisy(ForeignRandomness)).learn(100, checkpoints=tmp_path)


def test_an_environment_may_tell_its_state(tmp_path, monkeypatch):
    count_rollouts(monkeypatch, 5)
    KnownRandomness.generator.bit_generator.state = np.random.default_rng(0).bit_generator.state
    expected = small(noisy(KnownRandomness)).learn(100).replay_buffer.observations
    KnownRandomness.generator.bit_generator.state = np.random.default_rng(0).bit_generator.state
    with interrupted_at(monkeypatch, 70), pytest.raises(Interrupted):
        small(noisy(KnownRandomness)).learn(100, checkpoints=tmp_path)
    model = small(noisy(KnownRandomness)).learn(100, checkpoints=tmp_path)
    np.testing.assert_array_equal(model.replay_buffer.observations, expected)


def test_environments_are_themselves_again(tmp_path):
    env = make_vec_env(ENV_ID)
    before = type(env.envs[0])
    small(env).learn(60, checkpoints=tmp_path)
    assert type(env.envs[0]) is before and not any("savo" in name for name in vars(env.envs[0]))


def test_a_second_run_in_one_process(tmp_path):
    """``reset_num_timesteps=False`` goes on from a model, and the folder is of the second run."""
    model = small()
    model.learn(60)
    model.learn(60, reset_num_timesteps=False, checkpoints=tmp_path)
    assert model.num_timesteps == 120
    with pytest.raises(ValueError, match="began at step 60, and this one begins at step 0"):
        small().learn(120, checkpoints=tmp_path)


class StrangeVecEnv(VecEnvWrapper):
    @property
    def unwrapped(self):
        return self

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        return self.venv.step_wait()


OTHERS = {
    "another class": (partial(small, algorithm=SAVOSAC), {}, "holds a run of SAVO, and this is a SAVOSAC"),
    "another argument": (partial(small, gamma=0.9), {}, r"other arguments than gamma=0\.9"),
    "other networks": (partial(small, policy_kwargs={"net_arch": [8]}), {}, "other arguments than policy_kwargs"),
    "other callbacks": (small, {"callback": StopTrainingOnMaxEpisodes(9)}, "callback: .*StopTrainingOnMaxEpisodes"),
    "no folder": (small, {"checkpoints": 3}, "checkpoints=3 is a int|checkpoints"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_run_is_refused(kind, tmp_path):
    make, arguments, message = OTHERS[kind]
    small().learn(60, checkpoints=tmp_path)
    with pytest.raises((ValueError, TypeError), match=message):
        make().learn(100, **{"checkpoints": tmp_path, **arguments})


class MyExtractor(FlattenExtractor):
    pass


def normalized(**kwargs):
    return VecNormalize(make_vec_env(ENV_ID), **kwargs)


NOISE = partial(OrnsteinUhlenbeckActionNoise, np.zeros(1), np.ones(1))
EXTRACTOR = {"features_extractor_class": MyExtractor, "net_arch": [16]}
CHANGES = {
    "a function": ({"learning_rate": lambda left: 1e-3 * left}, {"learning_rate": lambda left: 2e-3 * left}, "learning_rate"),
    "another function": (
        {"qf_learning_rate": lambda left: 1e-3 * left},
        {"qf_learning_rate": lambda left: 2e-3 * left},
        "qf_learning_rate",
    ),
    "an object": (
        {"learning_rate": LinearSchedule(1e-3, 0, 1)},
        {"learning_rate": LinearSchedule(1e-3, 0, 0.5)},
        "learning_rate",
    ),
    "noise": ({"action_noise": NOISE(theta=0.15)}, {"action_noise": NOISE(theta=0.3)}, "action_noise"),
    "no noise": ({"action_noise": NOISE()}, {}, "action_noise"),
    "beside a class": ({"policy_kwargs": EXTRACTOR}, {"policy_kwargs": {**EXTRACTOR, "net_arch": [8]}}, "policy_kwargs"),
    "a wrapper": (
        {"env": {"gamma": 0.99}},
        {"env": {"gamma": 0.9, "clip_obs": 5.0}},
        r"VecNormalize.*clip_obs=5\.0, gamma=0\.9",
    ),
}


def made(env=None, **kwargs):
    return small(normalized(**env or {}), **kwargs)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.filterwarnings("ignore:.*will need allow_pickle=True")
def test_a_change_in_an_argument_that_is_an_object_is_found(change, tmp_path, monkeypatch):
    before, after, message = CHANGES[change]
    count_rollouts(monkeypatch, 5)
    with interrupted_at(monkeypatch, 70), pytest.raises(Interrupted):
        made(**before).learn(100, checkpoints=tmp_path)
    with pytest.raises(ValueError, match=f"other arguments than {message}|{message}"):
        made(**after).learn(100, checkpoints=tmp_path)
    assert made(**before).learn(100, checkpoints=tmp_path).num_timesteps == 100


class Curriculum(VecEnvWrapper):
    """Its argument is its state."""

    def __init__(self, venv, level=0):
        super().__init__(venv)
        self.level = level

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        self.level += 1
        return self.venv.step_wait()


def test_an_argument_of_a_wrapper_may_change_meanwhile(tmp_path, monkeypatch):
    count_rollouts(monkeypatch, 5)
    with interrupted_at(monkeypatch, 70), pytest.raises(Interrupted):
        small(Curriculum(make_vec_env(ENV_ID))).learn(100, checkpoints=tmp_path)
    env = Curriculum(make_vec_env(ENV_ID))
    small(env).learn(100, checkpoints=tmp_path)
    assert env.level == 100
    small(env).learn(120, checkpoints=tmp_path)
    assert env.level == 120


@pytest.mark.filterwarnings("ignore:.*will need allow_pickle=True")
def test_a_value_that_cannot_be_written_is_left_out_alone(tmp_path, monkeypatch):
    """It comes up after the first checkpoint, in a dictionary of the model."""
    count_rollouts(monkeypatch, 5)

    def spoil(locals_, _):
        locals_["self"].ep_info_buffer.append({"r": 0.0, "l": 1, "t": 0.0, "object": object()})
        return True

    with pytest.warns(UserWarning, match=r"SAVO\.ep_info_buffer is a deque, which no checkpoint holds"):
        small().learn(100, callback=spoil, checkpoints=tmp_path)
    assert (tmp_path / "step-000000000100").is_dir()


@pytest.mark.filterwarnings("ignore:.*will need allow_pickle=True")
def test_a_network_that_is_not_saved_is_named(tmp_path):
    """It can be called, as a function can, but it has a state."""
    model = small()
    model.predictor = nn.Linear(2, 2)
    with pytest.warns(UserWarning, match=r"SAVO\.predictor is a Linear, which no checkpoint holds"):
        model.learn(60, checkpoints=tmp_path)


def test_a_relative_path_when_the_working_directory_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "PERIOD", 0)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)

    def change(*_):
        os.chdir(tmp_path / "other")
        return True

    small().learn(50, callback=change, checkpoints="run")
    assert (tmp_path / "run" / "step-000000000050").is_dir() and not list((tmp_path / "other").iterdir())


def test_an_empty_path_is_no_folder():
    with pytest.raises(ValueError, match="checkpoints='' is no path"):
        small().learn(60, checkpoints="")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file: it must be a folder"):
        small().learn(60, checkpoints=tmp_path / "file")


def test_an_unknown_vectorized_environment_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the state of a StrangeVecEnv cannot be restored"):
        small(StrangeVecEnv(make_vec_env(ENV_ID))).learn(60, checkpoints=tmp_path)


def test_another_machine_is_a_warning(tmp_path, monkeypatch):
    small().learn(60, checkpoints=tmp_path)
    monkeypatch.setattr("sb3_savo.common.checkpoints.snapshot.th.get_num_threads", lambda: 7)
    with pytest.warns(UserWarning, match="threads 1 there, 7 here"):
        small().learn(80, checkpoints=tmp_path)


def test_the_folder_is_free_after_an_error(tmp_path, monkeypatch):
    with interrupted_at(monkeypatch, 50), pytest.raises(Interrupted):
        small().learn(60, checkpoints=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small().learn(60, checkpoints=tmp_path)
