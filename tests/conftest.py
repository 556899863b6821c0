import pytest
import torch as th

# The networks here are tiny: one thread is as fast as several, and does not wait for the others on a busy machine
th.set_num_threads(1)

# Tests learn in few steps, and continue without the replay buffer; the tests of these two warnings expect them
EXPECTED = ("ignore:total_timesteps=.* makes no gradient step", "ignore:reset_num_timesteps=False continues after")


def pytest_collection_modifyitems(items):
    for item in items:
        for warning in EXPECTED:
            item.add_marker(pytest.mark.filterwarnings(warning), append=False)
