"""
The IDs of our environments, for Gymnasium's registry.

The startup hook runs this file in every process that imports Gymnasium, the workers of ``SubprocVecEnv`` among them, so an ID
works without ``import sb3_savo``. Nothing is imported here: ``sb3_savo`` and torch are imported where one of the environments
is made.
"""

from types import ModuleType
from typing import Any

RESTRICTED_TASKS = ("Hopper", "Walker2d", "InvertedPendulum", "InvertedDoublePendulum", "HalfCheetah", "Ant")
VERSIONS = ("v4", "v5")
N_ITEMS = {"RecSim-v0": 10_000, "RecSim100k-v0": 100_000, "RecSim500k-v0": 500_000}
LANDSCAPES: dict[str, dict[str, Any]] = {
    "Peaks1D": {"landscape": "peaks", "action_dim": 1, "n_peaks": 8},
    "Peaks2D": {"landscape": "peaks", "action_dim": 2},
    "Peaks4D": {"landscape": "peaks", "action_dim": 4},
    "Peaks8D": {"landscape": "peaks", "action_dim": 8},
    "Ackley": {"landscape": "ackley", "action_dim": 2},
    "Rastrigin": {"landscape": "rastrigin", "action_dim": 2},
    "Shubert": {"landscape": "shubert", "action_dim": 2},
    "Restricted2D": {"landscape": "restricted", "action_dim": 2},
    "Restricted4D": {"landscape": "restricted", "action_dim": 4},
}


def environments() -> dict[str, dict[str, Any]]:
    """:return: The arguments of ``gymnasium.register`` for each of our environments, by ID"""
    found: dict[str, dict[str, Any]] = {}
    for task in RESTRICTED_TASKS:
        for version in VERSIONS:
            found[f"{task}Restricted-{version}"] = {
                "entry_point": "sb3_savo.envs.restricted:make_restricted",
                "kwargs": {"env_id": f"{task}-{version}"},
                "max_episode_steps": 1000,
            }
    found["MiningExpedition-v0"] = {"entry_point": "sb3_savo.envs.mining:MiningExpedition", "max_episode_steps": 100}
    for env_id, n_items in N_ITEMS.items():
        found[env_id] = {"entry_point": "sb3_savo.envs.recsim:RecSim", "kwargs": {"n_items": n_items}, "max_episode_steps": 20}
    found["RecSimData-v0"] = {"entry_point": "sb3_savo.envs.movielens:RecSimData", "max_episode_steps": 80}
    for name, kwargs in LANDSCAPES.items():
        found[f"Landscape{name}-v0"] = {"entry_point": "sb3_savo.envs.landscapes:make_landscape", "kwargs": kwargs}
    found["LandscapeItems-v0"] = {"entry_point": "sb3_savo.envs.landscapes:make_item_landscape"}
    return found


def register_environments(registration: ModuleType) -> None:
    """
    Register our environments, unless their IDs are taken.

    :param registration: ``gymnasium.envs.registration``
    """
    for env_id, arguments in environments().items():
        if env_id not in registration.registry:
            spec = registration.EnvSpec(id=env_id, **arguments)
            if "Restricted-" in env_id:
                # The paper's tasks are the v4 ones. Gymnasium compares this attribute of all versions, and would tell
                # everybody who makes a v4 task that it is out of date.
                spec.version = None
            registration.registry[env_id] = spec
