"""The RL Zoo's own command lines, in an empty folder, with no extra flag; and each seam on which they depend."""

import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import gymnasium as gym
import pytest
import yaml

import sb3_savo
from sb3_savo import SAVO
from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.zoo.hyperparams import hyperparams_file
from sb3_savo.zoo.samplers import CONVERTERS, SAMPLERS

ENV_ID = "InvertedPendulumRestricted-v4"
QUICK = ["--hyperparams", "learning_starts:40", "n_envs:2", "train_freq:5", "gradient_steps:2", "buffer_size:5000"]


def python(*arguments, cwd, check=True):
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "SDL_VIDEODRIVER": "dummy"},
        capture_output=True,
        text=True,
    )
    output = result.stdout + result.stderr
    if check:
        assert result.returncode == 0, output
        assert "could not add its algorithms" not in output
    return output


@pytest.fixture
def zoo(monkeypatch, capsys):
    """
    Runs commands of the RL Zoo in this process, which saves the time that a new one needs for its imports. What depends on a
    process of its own is tested by ``python``.
    """
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def run(command, *arguments, cwd):
        module = importlib.import_module(f"rl_zoo3.{command}")
        monkeypatch.chdir(cwd)
        monkeypatch.setattr("sys.argv", [command, *map(str, arguments)])
        capsys.readouterr()
        getattr(module, "main" if command == "cli" else command.rpartition(".")[2])()
        captured = capsys.readouterr()
        return captured.out + captured.err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty folder in which an agent was trained."""
    path = tmp_path_factory.mktemp("zoo")
    train = ["-m", "rl_zoo3.train", "--algo", "savo", "--env", ENV_ID, "-n", 200, "--eval-freq", 100, "--eval-episodes", 2]
    output = python(*train, "--progress", *QUICK, cwd=path)
    assert str(hyperparams_file("savo")) in output
    return path


def test_train(folder):
    run = folder / "logs" / "savo" / f"{ENV_ID}_1"
    assert zipfile.is_zipfile(run / f"{ENV_ID}.zip")
    assert (run / "evaluations.npz").exists() and (run / "best_model.zip").exists()
    config = yaml.unsafe_load((run / ENV_ID / "config.yml").read_text())
    assert config["exploration_noise_scale"] == [1.0, 0.01, 500000]
    model = SAVO.load(run / f"{ENV_ID}.zip")
    assert (model.n_actors, model.learning_starts, model._n_updates) == (3, 40, 32)


# The RL Zoo's window shows as many frames a second as the environment asks for (8 and 4), so full episodes take long
WATCHED = [pytest.param(env_id, marks=pytest.mark.expensive) for env_id in ("MiningExpedition-v0", "RecSim-v0")]


@pytest.mark.parametrize("env_id", ["AdroitHandDoor-v1", *WATCHED])
def test_train_in_processes(tmp_path, env_id):
    train = ["-m", "rl_zoo3.train", "--algo", "savo", "--env", env_id, "-n", 60, "--eval-freq", -1]
    python(*train, "--vec-env", "subproc", *QUICK, cwd=tmp_path)
    assert (tmp_path / "logs" / "savo" / f"{env_id}_1" / f"{env_id}.zip").exists()
    if env_id != "AdroitHandDoor-v1":
        enjoy = ["-m", "rl_zoo3.enjoy", "--algo", "savo", "--env", env_id, "-f", "logs", "-n", 110]
        output = python(*enjoy, cwd=tmp_path)
        assert "Mean reward" in output


@pytest.mark.filterwarnings("ignore:.*HumanRendering")  # enjoy asks for a window
@pytest.mark.parametrize("env_id", ["MiningExpedition-v0", "RecSim-v0"])
def test_train_with_items(tmp_path, zoo, env_id):
    """And watch the agent in a window for an episode of five steps."""
    zoo("train", "--algo", "savo", "--env", env_id, "-n", 60, "--eval-freq", -1, *QUICK, cwd=tmp_path)
    assert (tmp_path / "logs" / "savo" / f"{env_id}_1" / f"{env_id}.zip").exists()
    enjoy = ["--algo", "savo", "--env", env_id, "-f", "logs", "-n", 6, "--env-kwargs", "max_episode_steps:5"]
    output = zoo("enjoy", *enjoy, cwd=tmp_path)
    assert "Episode Length 5" in output and "Mean reward" in output


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "savo"])
def test_train_every_algorithm(tmp_path, zoo, name):
    train = ["--algo", name, "--env", "LandscapePeaks2D-v0", "-n", 600, "--eval-freq", -1]
    assert str(hyperparams_file(name)) in zoo("train", *train, cwd=tmp_path)
    enjoy = ["--algo", name, "--env", "LandscapePeaks2D-v0", "-f", "logs", "-n", 30, "--no-render"]
    assert "Mean reward" in zoo("enjoy", *enjoy, cwd=tmp_path)


def test_train_on_an_environment_without_a_section(tmp_path, zoo):
    train = ["--algo", "savo", "--env", "Reacher-v5", "-n", 60, "--eval-freq", -1]
    output = zoo("train", *train, "--hyperparams", "learning_starts:40", cwd=tmp_path)
    assert "Using 'default' hyperparameters" in output


def test_continue_training(folder, zoo):
    zipped = folder / "logs" / "savo" / f"{ENV_ID}_1" / f"{ENV_ID}.zip"
    train = ["--algo", "savo", "--env", ENV_ID, "-n", 60, "--eval-freq", -1, "-f", "continued"]
    zoo("train", *train, "-i", zipped, *QUICK, cwd=folder)
    assert (folder / "continued" / "savo" / f"{ENV_ID}_1" / f"{ENV_ID}.zip").exists()


ENJOY = ["--algo", "savo", "--env", ENV_ID, "-f", "logs", "--no-render", "-n", 300, "--load-best"]


@pytest.mark.parametrize("command", [["rl_zoo3.enjoy"], ["sb3_savo", "enjoy"]])
def test_enjoy(folder, command):
    assert "Mean reward" in python("-m", *command, *ENJOY, cwd=folder)


def test_enjoy_by_the_command_line_interface(folder, zoo):
    assert "Mean reward" in zoo("cli", "enjoy", *ENJOY, cwd=folder)


@pytest.mark.filterwarnings("ignore:No artists with labels")  # of a plot of the RL Zoo without curves
def test_plots(folder, zoo):
    runs = folder / "logs" / "savo"
    shutil.copytree(runs / f"{ENV_ID}_1", runs / f"{ENV_ID}_2")  # the statistics want several runs
    zoo("plots.plot_train", "--algo", "savo", "--env", ENV_ID, "-f", "logs", cwd=folder)
    all_plots = ["-m", "rl_zoo3.plots.all_plots", "--algos", "savo", "--env", ENV_ID, "-f", "logs", "--no-million"]
    output = python(*all_plots, "-o", "results", cwd=folder)
    assert "SAVO" in output and (folder / "results.pkl").exists()
    zoo("plots.plot_from_file", "-i", "results.pkl", "--skip-timesteps", cwd=folder)


def test_optimize(tmp_path, zoo):
    train = ["--algo", "savo", "--env", ENV_ID, "-n", 120, "-optimize", "--n-trials", 2, "--seed", 1]
    storage = ["--storage", "study.log", "--study-name", "study", "--no-optim-plots", "--n-evaluations", 1]
    output = zoo("train", *train, *storage, "--eval-episodes", 1, *QUICK, cwd=tmp_path)
    assert "Number of finished trials:  2" in output
    load = ["--algo", "savo", "--env", ENV_ID, "-n", 60, "--storage", "study.log"]
    output = zoo("train", *load, "--study-name", "study", "--trial-id", 1, "--eval-freq", -1, *QUICK, cwd=tmp_path)
    assert "Loading from Optuna study" in output


def test_push_to_hub_can_be_imported(tmp_path):
    assert "--organization" in python("-m", "rl_zoo3.push_to_hub", "--help", cwd=tmp_path)


def can_render(backend, cwd):
    code = f"import os; os.environ['MUJOCO_GL'] = '{backend}'; import gymnasium as gym, sb3_savo; "
    code += f"env = gym.make('{ENV_ID}', render_mode='rgb_array'); env.reset(); print(env.render().shape)"
    return "(480, 480, 3)" in python("-c", code, cwd=cwd, check=False)


def test_record_video(folder, tmp_path, monkeypatch):
    backend = next((name for name in ("egl", "osmesa", "glfw") if can_render(name, tmp_path)), None)
    if backend is None:
        pytest.skip("MuJoCo cannot render here: it needs one of the OpenGL libraries libegl1, libosmesa6, or a display")
    monkeypatch.setenv("MUJOCO_GL", backend)
    python("-m", "rl_zoo3.record_video", "--algo", "savo", "--env", ENV_ID, "-f", "logs", "-n", 30, cwd=folder)
    assert list(folder.glob("logs/savo/*/videos/*.mp4"))


def test_a_failing_hook_leaves_the_zoo_alone(tmp_path):
    code = (
        "import sys, warnings; sys.modules['sb3_savo.zoo.extensions'] = None; warnings.simplefilter('always'); "
        "import rl_zoo3; assert 'savo' not in rl_zoo3.ALGOS and 'td3' in rl_zoo3.ALGOS"
    )
    output = python("-c", code, cwd=tmp_path, check=False)
    assert "sb3_savo could not add its algorithms to rl_zoo3.utils" in output and "AssertionError" not in output


def test_nothing_is_imported_before_the_zoo(tmp_path):
    code = (
        "import sys; assert '_sb3_savo_startup' in sys.modules; "
        "assert not {'sb3_savo', 'torch', 'numpy', 'rl_zoo3'} & set(sys.modules); "
        "import sb3_savo; assert 'rl_zoo3' not in sys.modules"
    )
    python("-c", code, cwd=tmp_path)


def test_an_unknown_command(tmp_path):
    assert "command='play' is not one of the RL Zoo's" in python("-m", "sb3_savo", "play", cwd=tmp_path, check=False)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_commands_are_listed(tmp_path, option):
    output = python("-m", "sb3_savo", option, cwd=tmp_path)
    assert "train, enjoy, record_video" in output and "sb3_savo.analysis" in output


PEAKS = ("Peaks1D", "Peaks2D", "Peaks4D", "Peaks8D")
LANDSCAPES = (*PEAKS, "Ackley", "Rastrigin", "Shubert", "Restricted2D", "Restricted4D", "Items")
# Table 3: steps, environments, and updates per transition
MUJOCO = (3_000_000, 10, 50 / 375)
RECSIM = (10_000_000, 16, 20 / 1_000)
BUDGETS = {"MiningExpedition-v0": (10_000_000, 20, 20 / 2_000)}
BUDGETS |= {f"Landscape{name}-v0": (10_000, 16, 1 / 4) for name in LANDSCAPES}
BUDGETS |= {f"RecSim{size}-v0": RECSIM for size in ("", "100k", "500k", "Data")}
# Of the RL Zoo's td3.yml, or less where less is enough
BUDGETS |= {"Pendulum-v1": (10_000, 1, 1), "MountainCarContinuous-v0": (50_000, 1, 1 / 4)}
BUDGETS |= {"LunarLanderContinuous-v3": (300_000, 1, 1), "BipedalWalker-v3": (1_000_000, 1, 1)}
BUDGETS |= {f"Swimmer-{version}": (1_000_000, 1, 1) for version in ("v4", "v5")}
BUDGETS |= {f"Humanoid-{version}": (2_000_000, 1, 1) for version in ("v4", "v5")}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_hyperparameters(name):
    """Each section belongs to an environment that exists, and its arguments to the algorithm."""
    assert ALGORITHMS[name].__name__.lower() == name
    sections = yaml.safe_load(hyperparams_file(name).read_text())
    import gymnasium_robotics

    gym.register_envs(gymnasium_robotics)
    assert "default" in sections
    for env_id, section in sections.items():
        section = dict(section)
        assert "noise_type" not in section
        n_timesteps, n_envs = section.pop("n_timesteps"), section.pop("n_envs", 1)
        assert isinstance(n_timesteps, int)
        if env_id != "default":
            assert env_id in gym.registry
            updates_per_transition = section["gradient_steps"] / (n_envs * section["train_freq"])
            assert (n_timesteps, n_envs, updates_per_transition) == pytest.approx(BUDGETS.get(env_id, MUJOCO))
        ALGORITHMS[name](env="Pendulum-v1", **section)


# What is the method's own, or of no use to it
OWN_SETTINGS = {"n_actors", "k", "sample_std", "n_iterations", "n_samples", "n_elites", "n_starts", "n_ascent_steps"}
OWN_SETTINGS |= {"entropy_coef", "n_points", "n_nearest", "summarizer", "exploration_noise_std", "exploration_noise_scale"}
OWN_SETTINGS |= {"noise_per_candidate"}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_hyperparameters_are_shared(name):
    """All methods are compared on equal terms: networks, batches, schedules."""

    def shared(sections):
        for section in sections.values():
            section.get("policy_kwargs", {}).pop("summary_dim", None)
        return {
            env_id: {key: value for key, value in section.items() if key not in OWN_SETTINGS}
            for env_id, section in sections.items()
        }

    own, savo = (shared(yaml.safe_load(hyperparams_file(algo).read_text())) for algo in (name, "savo"))
    assert own == {env_id: section for env_id, section in savo.items() if env_id in own}
    missing = {"MiningExpedition-v0", "LandscapeItems-v0", *(f"RecSim{size}-v0" for size in ("", "100k", "500k", "Data"))}
    assert savo.keys() - own.keys() == (missing if name == "savosac" else set())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_samplers(name):
    """What -optimize suggests, the algorithm takes; and the converter makes it of a finished trial."""
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask()
        sampled = SAMPLERS[name](trial, 1, 1, {"using_her_replay_buffer": False})
        ALGORITHMS[name]("MlpPolicy", "Pendulum-v1", buffer_size=10_000, **sampled)
        assert CONVERTERS[name](trial.params) == sampled


def test_the_package_list_is_the_tree():
    root = Path(sb3_savo.__file__).parent
    if not (root.parent / "setup.cfg").exists():
        pytest.skip("not a checkout")
    listed = (root.parent / "setup.cfg").read_text().split("packages =")[1].split("package_dir")[0].split()
    folders = {path.parent.relative_to(root.parent) for path in root.rglob("*.py")}
    startup = Path("sb3_savo/zoo/startup")
    found = {".".join(folder.parts) for folder in folders if folder != startup}
    assert set(listed) == found | {"_sb3_savo_startup", "sb3_savo.hyperparams"}
