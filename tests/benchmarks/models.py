"""Small models whose critic is a landscape."""

from benchmarks.landscape_tasks import LandscapeQ
from sb3_savo import SAVO
from tests.envs.test_landscapes import made

SMALL = {
    "buffer_size": 500,
    "learning_starts": 20,
    "batch_size": 16,
    "policy_delay": 1,
    "policy_kwargs": {"net_arch": [16]},
    "seed": 0,
    "device": "cpu",
}


def on_landscape(env, algorithm=SAVO, **kwargs):
    """:return: An untrained model whose critic is the landscape of the environment"""
    model = algorithm("MlpPolicy", env, **SMALL, **kwargs)
    model.critic.q_networks = LandscapeQ(env.landscape)
    return model


def landscape_model(task, algorithm=SAVO, **kwargs):
    """:return: An untrained model whose critic is the landscape of a task, and its environment"""
    env = made(task)
    return on_landscape(env, algorithm, **kwargs), env
