"""
Pictures and numbers of what a saved model's critic looks like over the action.

    python -m sb3_savo.analysis landscape MODEL.zip --env HopperRestricted-v4 --state 20 --dims 0 1 -o landscape.png
    python -m sb3_savo.analysis strip MODEL.zip --env InvertedPendulumRestricted-v4 --state 20 -o strip.pdf
    python -m sb3_savo.analysis animation logs/*_steps.zip --env InvertedPendulumRestricted-v4 --state 20 -o training.gif
    python -m sb3_savo.analysis numbers MODEL.zip --env HopperRestricted-v4 -o numbers.csv
    python -m sb3_savo.analysis valid-set --env HopperRestricted-v4 -o valid.png

landscape: Q, min(Q, Q_2), and each surrogate, exact (Eq. 7) and learned, with all proposed actions. strip: the chain of
surrogates with the anchors so far. animation: the strip over checkpoints, which are sorted by their steps. numbers: the number
of local maxima and the suboptimality (Eq. 4) of each state. valid-set: the valid actions of a restricted task.

Without --dims and --projection, an action of one or two dimensions is drawn along them, items are sorted by Q, and an action
of more dimensions is projected by UMAP.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import gymnasium as gym
import numpy as np
import pandas as pd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_savo.actions.spaces import EmbeddedDiscrete, proposal_space
from sb3_savo.algorithms import ALGORITHMS
from sb3_savo.analysis.actions import Projection, load_umap
from sb3_savo.analysis.animation import animate_strip
from sb3_savo.analysis.figures import plot_landscape, plot_strip
from sb3_savo.analysis.numbers import landscape_numbers
from sb3_savo.analysis.runs import (
    algorithms_of,
    load_on_cpu,
    read_observations,
    read_settings,
    to_vec_env,
    visited_observations,
)
from sb3_savo.analysis.state_landscape import (
    StateLandscape,
    check_dims,
    landscape_along,
    landscape_of_items,
    landscape_projected,
)
from sb3_savo.analysis.valid_set import check_dims_of_set, plot_valid_set
from sb3_savo.analysis.validity import restriction_of, validity_of
from sb3_savo.common.maximizer import MaximizerAlgorithm
from sb3_savo.extras import needs_extra

PICTURES = (".png", ".pdf", ".svg")
SUFFIXES = {"animation": (".gif",), "numbers": (".csv",)}
N_LINE, N_PLANE = 1001, 101


class Run:
    """
    A model's zips, its environment and the states to look at. All arguments are checked here, before anything is computed.

    :param args: The command's arguments
    :raises ValueError: if one of them is wrong; the error names it
    """

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.paths = [Path(path) for path in args.models]
        self.settings = [named("MODEL", read_settings, path) for path in self.paths]
        self.algos = [self._algo(path, settings) for path, settings in zip(self.paths, self.settings, strict=True)]
        self.env = named("--env", gym.make, args.env)
        self._check_spaces()
        if args.command != "numbers":
            self._check_picture()
        self.vec_env = self._vec_env()
        self.step, self.observations = self._state()

    def _algo(self, path: Path, settings: dict[str, Any]) -> str:
        found = algorithms_of(settings)
        if self.args.algo is None and len(found) == 1:
            return found[0]
        if self.args.algo is None:
            raise ValueError(f"--algo: {path} does not say which algorithm it is of: name {' or '.join(found or ALGORITHMS)}.")
        if found and self.args.algo not in found:
            raise ValueError(f"--algo {self.args.algo}: the policy in {path} is that of {' or '.join(found)}.")
        return self.args.algo

    def _check_spaces(self) -> None:
        # As the models get them, with the channels of images first
        wrapped = MaximizerAlgorithm._wrap_env(self.env, verbose=0)
        for path, settings in zip(self.paths, self.settings, strict=True):
            for name in ("observation_space", "action_space"):
                wanted, given = settings.get(name), getattr(wrapped, name)
                if wanted is not None and wanted != given:
                    raise ValueError(f"--env {self.args.env}: its {name} is {given}, but {path} learned with {wanted}.")

    def _check_picture(self) -> None:
        args, space = self.args, self.env.action_space
        action_dim = int(np.prod(proposal_space(space).shape))
        if args.dims is not None and args.projection is not None:
            raise ValueError(f"--dims {args.dims} and --projection {args.projection} exclude each other: give one of them.")
        if args.dims is not None:
            named("--dims", check_dims, args.dims, action_dim)
        elif args.projection is None and not isinstance(space, EmbeddedDiscrete):
            if action_dim <= 2:
                args.dims = list(range(action_dim))
            else:
                args.projection = "umap"
        if args.projection == "umap":
            named("--projection", load_umap)

    def _vec_env(self) -> VecEnv:
        path = self.args.normalize
        if path is not None and not Path(path).is_file():
            raise ValueError(f"--normalize {path} is not there: it must be the file that VecNormalize saved.")
        try:
            return to_vec_env(self.env, path)
        except Exception as error:  # whatever a pickle of something else raises
            raise ValueError(f"--normalize {path} does not hold VecNormalize's statistics of this task: {error}") from error

    def _state(self) -> tuple[int | None, np.ndarray | None]:
        given = self.args.state
        if given.isdigit():
            return int(given), None
        normalize = self.vec_env if isinstance(self.vec_env, VecNormalize) else None
        observations = named("--state", read_observations, given, self.env.observation_space, normalize)
        if len(observations) > 1 and self.args.command != "numbers":
            raise ValueError(f"--state {given} holds {len(observations)} observations: a picture shows one.")
        return None, observations

    def load(self, i: int) -> MaximizerAlgorithm:
        """:return: The model of the i-th zip, with the environment"""
        return named("MODEL", load_on_cpu, self.paths[i], self.algos[i], self.vec_env)

    def observe(self, model: MaximizerAlgorithm) -> Any:
        """:return: All states until the chosen one that the model visits, or those of the file; (batch, ...)"""
        if self.observations is not None:
            return self.observations
        assert self.step is not None
        return visited_observations(model, self.step, self.args.seed)

    def landscape(self, model: MaximizerAlgorithm, observation: Any) -> StateLandscape:
        """:return: The landscape of one state under a model"""
        args, policy = self.args, model.policy
        validity = validity_of(self.env)
        if args.dims is not None:
            return landscape_along(policy, observation, args.dims, N_LINE if len(args.dims) == 1 else N_PLANE, validity)
        if args.projection is not None:
            return landscape_projected(policy, observation, args.projection, args.points, args.seed, validity)
        return landscape_of_items(policy, observation)

    def title(self, i: int, actor: int | None = None) -> str:
        """
        :param i: Which model
        :param actor: Which model visited the state, if it is another one
        :return: The model, the state and the seeds
        """
        settings = self.settings[i]
        model = f"{ALGORITHMS[self.algos[i]].__name__} on {self.args.env}, {settings['num_timesteps']:,} steps"
        state = f"state: {self.args.state}"
        if self.step is not None:
            state = f"state: step {self.step} of an episode with seed {self.args.seed}"
            if actor is not None:
                state += f", visited after {self.settings[actor]['num_timesteps']:,} steps"
        projected = "" if self.args.projection is None else f", projection's seed {self.args.seed}"
        return f"{model}, model's seed {settings.get('seed')}\n{state}{projected}"


def named(argument: str, function: Callable[..., Any], *values: Any) -> Any:
    """
    :param argument: An argument of the command
    :param function: What to do with its value
    :param values: The function's arguments
    :return: What the function returns
    :raises ValueError: if the function finds the value wrong; the message names the argument
    """
    try:
        return function(*values)
    except (ValueError, TypeError, KeyError, AssertionError, ImportError, OSError, gym.error.Error) as error:
        raise ValueError(f"{argument}: {error}") from error


def last(observations: Any) -> Any:
    """:return: The last of a batch of observations"""
    return {name: part[-1] for name, part in observations.items()} if isinstance(observations, dict) else observations[-1]


def draw(args: argparse.Namespace) -> None:
    """The commands ``landscape`` and ``strip``"""
    run = Run(args)
    model = run.load(0)
    landscape = run.landscape(model, last(run.observe(model)))
    plot = plot_landscape if args.command == "landscape" else plot_strip
    plot(landscape, run.title(0)).savefig(args.output)


def animate(args: argparse.Namespace) -> None:
    """The command ``animation``: the state is one that the last checkpoint visits"""
    run = Run(args)
    order = sorted(range(len(run.paths)), key=lambda i: run.settings[i]["num_timesteps"])
    newest = order[-1]
    observation = last(run.observe(run.load(newest)))
    landscapes = [run.landscape(run.load(i), observation) for i in order]
    animate_strip(landscapes, [run.title(i, newest) for i in order], args.output)


def count(args: argparse.Namespace) -> None:
    """The command ``numbers``"""
    run = Run(args)
    model = run.load(0)
    numbers = landscape_numbers(model.policy, run.observe(model), n_points=args.points)
    surrogates = {f"n_optima_psi_{i}": column for i, column in enumerate(numbers.n_surrogate_optima.T, start=1)}
    table = pd.DataFrame(
        {
            "n_optima": numbers.n_optima,
            **surrogates,
            "highest_q": numbers.highest,
            "suboptimality": numbers.suboptimality,
            "suboptimality_of_first": numbers.suboptimality_of_first,
        }
    )
    table.index.name = "state"
    print(run.title(0))
    print(table.describe().loc[["mean", "min", "max"]].to_string(float_format="{:.4g}".format))
    if args.output is not None:
        table.to_csv(args.output)


def show_valid_set(args: argparse.Namespace) -> None:
    """The command ``valid-set``"""
    env = named("--env", gym.make, args.env)
    restriction = restriction_of(env)
    if restriction is None:
        raise ValueError(f"--env {args.env} is not restricted: no wrapper of it is a RestrictedAction.")
    named("--dims", check_dims_of_set, args.dims, restriction.low.size)
    plot_valid_set(env, args.dims, f"Valid actions of {args.env}").savefig(args.output)


def parse_arguments() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        prog="python -m sb3_savo.analysis", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in {
        "landscape": draw,
        "strip": draw,
        "animation": animate,
        "numbers": count,
        "valid-set": show_valid_set,
    }.items():
        command = commands.add_parser(name)
        command.set_defaults(function=function, dims=None, projection=None)
        command.add_argument("--env", required=True, metavar="ID", help="the environment; MODULE:ID imports a module before")
        command.add_argument("-o", "--output", type=Path, required=name != "numbers", metavar="FILE", help="file to write")
        if name != "numbers":
            command.add_argument(
                "--dims", type=int, nargs="+", metavar="D", help="one or two dimensions of the action to draw"
            )
        if name == "valid-set":
            continue
        command.add_argument("models", nargs="+" if name == "animation" else 1, metavar="MODEL", help="a saved model's zip")
        command.add_argument("--algo", choices=ALGORITHMS, help="the model's algorithm, if the zip does not say")
        what, step = ("the states until that step are assessed", "99") if name == "numbers" else ("its state is drawn", "0")
        command.add_argument(
            "--state",
            default=step,
            metavar="N|FILE",
            help=f"number of a step of the model's own episodes ({what}), or a .npy file of observations; {step} by default",
        )
        command.add_argument("--seed", type=int, default=0, help="seed of the episode, of the sampled actions and of UMAP")
        command.add_argument("--normalize", metavar="FILE", help="statistics that VecNormalize saved (vecnormalize.pkl)")
        command.add_argument("--points", type=int, default=10_000, help="number of actions of a grid or a projection")
        if name != "numbers":
            command.add_argument("--projection", choices=get_args(Projection), help="draw all dimensions in a plane")
    return parser, parser.parse_args()


def check_output(args: argparse.Namespace) -> None:
    """
    :param args: The command's arguments
    :raises ValueError: if the output's folder is missing, or its ending says no format that the command writes
    """
    if args.output is None:
        return
    suffixes = SUFFIXES.get(args.command, PICTURES)
    if args.output.suffix.lower() not in suffixes:
        raise ValueError(f"--output {args.output}: its ending must be {' or '.join(suffixes)}.")
    if not args.output.parent.is_dir():
        raise ValueError(f"--output {args.output}: the folder {args.output.parent} is not there.")


def check_ranges(args: argparse.Namespace) -> None:
    """
    :param args: The command's arguments
    :raises ValueError: if a number is out of its range
    """
    for name, low, high in (("seed", 0, 2**32 - 1), ("points", 9, 10**7)):
        value = getattr(args, name, low)
        if not low <= value <= high:
            raise ValueError(f"--{name} {value} is out of range: it must be from {low} to {high}.")


def main() -> None:
    """:raises SystemExit: if an argument is wrong"""
    parser, args = parse_arguments()
    try:
        check_output(args)
        check_ranges(args)
        if args.command != "numbers":
            with needs_extra("plots", "A picture"):
                import matplotlib  # noqa: F401
        args.function(args)
    except (ValueError, ImportError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
