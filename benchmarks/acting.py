"""
Could the compiler of losses replace the NumPy policy? The time of ``predict`` with three actors on Hopper's shapes: in NumPy,
in torch, and compiled ahead of time for this number of observations.

    python -m benchmarks.acting
"""

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import torch as th

from benchmarks.command_line import at_least
from benchmarks.timing import SHAPES, compare_to, machine, make_model, time_interleaved
from sb3_savo import SAVO
from sb3_savo.acceleration import numpy_policy
from sb3_savo.acceleration.ahead_of_time import AheadOfTimeCompiler
from sb3_savo.acceleration.compiled_loss import FunctionalLoss, names_of_parameters


def compile_predict(policy: Any, obs: th.Tensor) -> Any:
    """
    :param policy: The policy
    :param obs: Observations, (n, obs_dim)
    :return: A function of as many observations that returns scaled actions, (n, action_dim), compiled
    """
    names = names_of_parameters(policy)
    tensors = {f"policy.{name}": parameter.detach() for parameter, places in names.items() for name in places}
    tensors |= {f"policy.{name}": buffer for name, buffer in policy.named_buffers()}
    functional = FunctionalLoss(policy, policy._predict)

    def predict(tensors: dict[str, th.Tensor], obs: th.Tensor) -> th.Tensor:
        return th.func.functional_call(functional, tensors, (obs,), tie_weights=False)

    with closing(AheadOfTimeCompiler()) as compiler:
        finish, _ = compiler.begin(predict, (tensors, obs))
        graph = finish()
    own_tensors = list(tensors.values())
    return lambda obs: graph([*own_tensors, obs])[0]


def act_in_numpy(twin: Any, obs: np.ndarray) -> np.ndarray:
    """:return: The actions of a policy in NumPy, without their Q-values"""
    actions, _ = twin.predict(obs)
    return actions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-observations", type=at_least(1), nargs="+", default=[1, 16])
    parser.add_argument("--repeats", type=at_least(1), default=1_000)
    args = parser.parse_args()
    th.set_num_threads(1)
    print(machine(threads=1))
    policy = make_model(SAVO, SHAPES["Hopper"], n_actors=3).policy
    policy.set_training_mode(False)
    for n in args.n_observations:
        obs = np.random.default_rng(0).uniform(-1, 1, (n, SHAPES["Hopper"].obs_dim)).astype(np.float32)
        start = time.perf_counter()
        compiled = compile_predict(policy, th.from_numpy(obs))
        seconds = time.perf_counter() - start

        def act(predict: Any, obs: np.ndarray = obs) -> np.ndarray:
            with th.no_grad():
                return policy.unscale_action(predict(th.from_numpy(obs)).numpy())

        twin = numpy_policy(policy)
        assert twin is not None
        candidates: dict[str, Callable[[], Any]] = {
            "numpy": partial(act_in_numpy, twin, obs),
            "torch": partial(act, policy._predict),
            "compiled": partial(act, compiled),
        }
        np.testing.assert_allclose(candidates["compiled"](), candidates["numpy"](), rtol=1e-4, atol=1e-5)
        table = compare_to("numpy", time_interleaved(candidates, args.repeats), n_per_call=1)
        print(f"\n{n} observations (compiled in {seconds:.0f} s, unless the cache of packages had it)")
        print(table.round(3).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
