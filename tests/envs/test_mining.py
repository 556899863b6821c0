"""Mining Expedition, compared with the check values of its specification, the paper's Eq. 11, and a brute-force search."""

import copy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3 import DQN
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_savo.actions.spaces import EmbeddedDiscrete
from sb3_savo.envs.mining import FREE, GOAL, OFFSETS, START, WALL, MiningExpedition

ID = "MiningExpedition-v0"
RIGHT, DOWN, LEFT, UP = range(4)
BOTTOM, TOP = range(7), range(7, 15)
ROOM = [position for position, cell in enumerate(MiningExpedition().cells) if cell != WALL]


def make_env(seed=0, **kwargs):
    env = MiningExpedition(**kwargs)
    env.reset(seed=seed)
    return env


def empty_room(right=FREE, down=FREE):
    """
    :param right: Category of the mine to the right of the start, if any
    :param down: Category of the mine below the start, if any
    :return: An environment without other mines
    """
    env = make_env()
    for position in ROOM:
        env.cells[position] = FREE
    env.cells[START + OFFSETS[RIGHT]], env.cells[START + OFFSETS[DOWN]] = right, down
    return env


def copy_after(env, action):
    """:return: A copy of the environment after the action"""
    after = copy.copy(env)
    after.cells = env.cells.copy()
    after.step(action)
    return after


@pytest.mark.parametrize("kwargs", [{}, {"randomize_positions": False, "n_noise_dims": 0, "items_seed": 3}])
@pytest.mark.filterwarnings("error")
def test_checkers_and_spaces(kwargs):
    env = gym.make(ID, **kwargs)
    assert env.spec.max_episode_steps == 100
    assert isinstance(env.action_space, EmbeddedDiscrete)
    assert env.action_space.n == 54
    assert env.action_space.embeddings.shape == (54, 4 + kwargs.get("n_noise_dims", 5))
    assert env.observation_space == gym.spaces.Box(0, 1, (23,), np.float32)
    gymnasium_check_env(env.unwrapped)
    sb3_check_env(env)


@pytest.mark.parametrize("items_seed", range(20))
def test_tools(items_seed):
    tools = MiningExpedition(items_seed=items_seed).tools
    assert len(tools) == 50
    assert [source for source, _ in tools[:15]] == list(range(15))
    assert all(result in TOP for _, result in tools[:7])
    assert tools[7:15] == tuple((source, FREE) for source in TOP)
    assert all(source in BOTTOM and result in TOP for source, result in tools[15:])
    assert len(set(tools)) == 50


def test_embeddings():
    env = MiningExpedition()
    moves, tools = np.split(env.action_space.embeddings, [4])
    np.testing.assert_allclose(moves[:, :4], [[0, 0, 0, 0], [0, 1 / 3, 0, 0], [0, 2 / 3, 0, 0], [0, 1, 0, 0]], atol=1e-7)
    np.testing.assert_allclose(tools[:, :4], [[1, 0, source / 15, result / 15] for source, result in env.tools], atol=1e-7)
    noise = env.action_space.embeddings[:, 4:]
    assert -1 <= noise.min() < -0.9 and 0.9 < noise.max() <= 1


def test_items_seed():
    env, twin, less_noise, other = (MiningExpedition(**kwargs) for kwargs in ({}, {}, {"n_noise_dims": 1}, {"items_seed": 1}))
    assert env.action_space.embeddings is twin.action_space.embeddings
    assert not env.action_space.embeddings.flags.writeable
    assert less_noise.tools == env.tools != other.tools
    assert not np.array_equal(env.action_space.embeddings[:, 4:], other.action_space.embeddings[:, 4:])


def test_layouts():
    env = make_env()
    layouts = []
    for _ in range(500):
        env.reset()
        assert env.cells[START] == env.cells[GOAL] == FREE
        assert (env.position, env.direction) == (START, RIGHT)
        layouts.append([env.cells[position] for position in ROOM if position not in (START, GOAL)])
    assert np.shape(layouts) == (500, 62)
    mines = np.array(layouts)[np.array(layouts) != FREE]
    assert len(mines) / (500 * 62) == pytest.approx(0.7, abs=0.01)
    np.testing.assert_allclose(np.bincount(mines, minlength=15) / len(mines), np.full(15, 1 / 15), atol=0.007)


def test_randomize_positions():
    def positions_and_categories(**kwargs):
        layouts = []
        env = make_env(**kwargs)
        for _ in range(5):
            env.reset()
            layouts.append((tuple(cell < FREE for cell in env.cells), tuple(env.cells)))
        return [len(set(values)) for values in zip(*layouts, strict=True)]

    assert positions_and_categories() == [5, 5]
    assert positions_and_categories(randomize_positions=False) == [1, 5]
    first, noisier, other = (
        tuple(cell < FREE for cell in make_env(seed, randomize_positions=False, **kwargs).cells)
        for seed, kwargs in enumerate([{}, {"n_noise_dims": 9}, {"items_seed": 1}])
    )
    assert first == noisier != other


def test_seeding():
    def trajectory(seed):
        env = gym.make(ID)
        rng = np.random.default_rng(1)
        steps = [env.reset(seed=seed)[0]]
        for _ in range(150):
            obs, reward, terminated, truncated, _ = env.step(rng.integers(54))
            steps += [obs, reward]
            if terminated or truncated:
                steps.append(env.reset()[0])
        return np.hstack(steps)

    np.testing.assert_array_equal(trajectory(5), trajectory(5))
    assert not np.array_equal(trajectory(5), trajectory(6))


def test_observation():
    env = empty_room(down=4)
    obs, *_ = env.step(RIGHT)
    expected = np.zeros(23, dtype=np.float32)
    expected[[0, 3, 4, 5, 22]] = 1 / 7, 1, 1, 1, 1
    np.testing.assert_array_equal(obs, expected)

    obs, *_ = env.step(LEFT)
    expected[:] = 0
    expected[[2, 3, 22]] = 2 / 3, 1, 1
    np.testing.assert_allclose(obs, expected, atol=1e-7)

    obs, *_ = env.step(DOWN)
    expected[[2, 22, 7 + 4]] = 1 / 3, 0, 1
    np.testing.assert_allclose(obs, expected, atol=1e-7)

    for action in [RIGHT] + [DOWN] * 7 + [RIGHT] * 5:
        obs, *_ = env.step(action)
    expected[:] = 0
    expected[[0, 1, 3, 5, 6, 22]] = 6 / 7, 1, 1, 1, 1, 1
    np.testing.assert_allclose(obs, expected, atol=1e-7)


def test_rewards_of_a_whole_episode():
    """Eq. 11 term by term, with R_Step = R_Tool = R_Bonus = 0.1, R_Goal = 10 and λ = 0.9."""
    env = empty_room(right=0, down=8)
    to_top, break_right, break_down = 4, 4 + env.tools[0][1], 4 + 8
    script = [
        (UP, 0.0),  # Turns to the wall
        (to_top, 0.0),  # A tool has no effect on a wall
        (DOWN, 0.0),  # Only turns, because a mine is in the way
        (to_top, 0.0),  # The wrong tool for this mine
        (RIGHT, 0.0),
        (break_right, 0.0),  # For the top category, while the mine still has the bottom category
        (to_top, 0.1),
        (to_top, 0.0),
        (break_right, 0.2),  # Tool and bonus
        (break_right, 0.0),  # A tool has no effect on a free cell
        (RIGHT, 0.1),
        (LEFT, -0.1),
        (DOWN, 0.0),
        (break_down, 0.2),
        *[(DOWN, 0.1)] * 7,
        (DOWN, 0.0),
        (UP, -0.1),
        (DOWN, 0.1),
        *[(RIGHT, 0.1)] * 6,
    ]
    for action, expected in script:
        _, reward, terminated, truncated, info = env.step(action)
        assert reward == pytest.approx(expected, abs=1e-9)
        assert not terminated and not truncated
        assert info == {"is_success": False}
    _, reward, terminated, truncated, info = env.step(RIGHT)
    assert env.n_steps == len(script) + 1 == 31
    assert reward == pytest.approx(0.1 + 10 * (1 - 0.9 * 31 / 100))
    assert terminated and not truncated
    assert info == {"is_success": True}
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(RIGHT)


def test_a_tool_works_only_on_its_category():
    for action in range(4, 54):
        for category in range(15):
            env = empty_room(right=category)
            _, reward, *_ = env.step(action)
            source, result = env.tools[action - 4]
            worked = category == source
            assert env.cells[START + 1] == (result if worked else category)
            assert reward == pytest.approx(0.1 * worked + 0.1 * (worked and result == FREE))
            assert (env.position, env.direction) == (START, RIGHT)


def test_time_limit():
    env = gym.make(ID)
    env.reset(seed=0)
    ends = [env.step(UP)[2:] for _ in range(100)]
    assert ends[:-1] == [(False, False, {"is_success": False})] * 99
    # The RL Zoo, which another test may have imported, notes the time limit too
    terminated, truncated, info = ends[-1]
    assert not terminated and truncated and info["is_success"] is False


@pytest.mark.parametrize("randomize_positions", [True, False])
def test_the_solution_reaches_the_goal(randomize_positions):
    env = gym.make(ID, randomize_positions=randomize_positions)
    lengths, returns = [], []
    for seed in range(200):
        env.reset(seed=seed)
        actions = env.unwrapped.solution()
        steps = [env.step(action) for action in actions]
        assert [step[4]["is_success"] for step in steps] == [False] * (len(actions) - 1) + [True]
        assert env.unwrapped.solution() == []
        lengths.append(len(actions))
        returns.append(sum(step[1] for step in steps))
    assert 14 <= min(lengths) and max(lengths) <= 41
    if randomize_positions:
        assert np.mean(lengths) == pytest.approx(21.9, abs=0.5)
        assert np.mean(returns) == pytest.approx(10.66, abs=0.05)


@pytest.mark.parametrize("seed", range(8))
def test_the_solution_against_breadth_first_search(seed):
    """
    Search the environment's full states with all 54 actions. The search starts near the goal, after random moves that lead to
    states off the solution's way.
    """
    env = make_env(seed)
    while len(env.solution()) > 5:
        env.step(env.solution()[0])
    for move in np.random.default_rng(seed).permutation(4):
        if len(env.solution()) > 1:
            env.step(move)
    level, seen, length = [env], set(), 0
    while not any(state.position == GOAL for state in level):
        successors = {}
        for after in (copy_after(state, action) for state in level for action in range(54)):
            successors.setdefault((after.position, after.direction, *after.cells), after)
        level = [after for key, after in successors.items() if key not in seen]
        seen.update(successors)
        length += 1
    assert length == len(env.solution()) > 0


def test_no_action_shortens_the_solution_by_more_than_one():
    """Then no sequence of actions can be shorter than the solution."""
    rng = np.random.default_rng(0)
    for seed in range(40):
        env = make_env(seed)
        for _ in range(30):
            # Moves, and the tools that work on the mine in front
            front = env.cells[env.position + OFFSETS[env.direction]]
            working_tools = [4 + i for i, (source, _) in enumerate(env.tools) if source == front]
            if rng.random() < 0.2:
                shortest = len(env.solution())
                lengths = [len(copy_after(env, action).solution()) for action in (RIGHT, DOWN, LEFT, UP, *working_tools)]
                assert min(lengths) == shortest - 1
            env.step(rng.choice([*range(4), *working_tools]))
            if env.position == GOAL:
                break


def render_tiles(env):
    """:return: The part of the picture that shows each cell, (100, 32, 32, 3)"""
    picture = env.render()
    assert picture.shape == (320, 320, 3) and picture.dtype == np.uint8
    return picture.reshape(10, 32, 10, 32, 3).swapaxes(1, 2).reshape(100, 32, 32, 3)


def test_picture_distinguishes_all_contents_of_cells():
    env = empty_room()
    env.render_mode = "rgb_array"
    for category in range(15):
        env.cells[ROOM[16 + category]] = category
    tiles = render_tiles(env)
    positions = [0, START, GOAL, ROOM[-2], *ROOM[16:31]]
    assert len(np.unique(tiles[positions], axis=0)) == len(np.unique(tiles, axis=0)) == len(positions)


def test_picture_shows_position_and_direction():
    env = empty_room(right=0, down=8)
    env.render_mode = "rgb_array"
    before = render_tiles(env)
    agent = before[START]
    for move in (RIGHT, DOWN, LEFT, UP):
        env.step(move)
        np.testing.assert_array_equal(render_tiles(env)[START], np.rot90(agent, -move))
        assert move == RIGHT or (np.rot90(agent, -move) != agent).any()
    for action in (RIGHT, 4, 4 + env.tools[0][1], RIGHT):
        env.step(action)
    changed = (render_tiles(env) != before).any(axis=(1, 2, 3))
    assert np.flatnonzero(changed).tolist() == [START, START + 1]
    # An arrow that points to the right has most of its area on the left
    dark = render_tiles(env)[START + 1].sum(axis=-1) < 200
    assert dark[:, :16].sum() > dark[:, 16:].sum()


def test_text():
    env = empty_room(right=6, down=7)
    env.render_mode = "ansi"
    lines = env.render().split("\n")
    assert lines[0] == lines[9] == "# # # # # # # # # #"
    assert lines[1] == "# > g . . . . . . #"
    assert lines[2] == "# H . . . . . . . #"
    assert lines[8] == "# . . . . . . . * #"
    env.step(DOWN)
    assert env.render().split("\n")[1].startswith("# v g")


def test_render_without_a_render_mode():
    assert make_env().render() is None


def test_subprocesses_equal_one_process():
    results = []
    # Forked workers start at once; other start methods would import torch in every worker
    for vec_env_cls, vec_env_kwargs in ((DummyVecEnv, {}), (SubprocVecEnv, {"start_method": "fork"})):
        env = make_vec_env(ID, n_envs=2, seed=4, vec_env_cls=vec_env_cls, vec_env_kwargs=vec_env_kwargs)
        assert isinstance(env.action_space, EmbeddedDiscrete)
        rng = np.random.default_rng(0)
        steps = [env.reset()] + [env.step(rng.integers(54, size=2))[0] for _ in range(120)]
        solutions = env.env_method("solution")
        results.append((np.array(steps), solutions))
        env.close()
    (steps, solutions), (worker_steps, worker_solutions) = results
    np.testing.assert_array_equal(steps, worker_steps)
    assert solutions == worker_solutions


def test_dqn_trains():
    model = DQN("MlpPolicy", ID, learning_starts=100, seed=0, policy_kwargs={"net_arch": [16]})
    before = model.q_net.state_dict()["q_net.0.weight"].clone()
    model.learn(500)
    assert not before.equal(model.q_net.state_dict()["q_net.0.weight"])
    action, _ = model.predict(model.get_env().reset(), deterministic=True)
    assert model.action_space.contains(action[0])


@pytest.mark.parametrize("action", [-1, 54, 2.0, np.float32(1), np.array([1]), "right", None])
def test_bad_actions(action):
    env = make_env()
    with pytest.raises(ValueError, match=r"action=.* must be an integer from 0 to 53"):
        env.step(action)
    assert env.n_steps == 0


@pytest.mark.parametrize("dtype", [int, np.int64, np.uint8, np.array])
def test_actions_of_every_integer_type(dtype):
    env = empty_room()
    action = dtype(RIGHT + 1)
    env.step(action)
    assert env.position == START + OFFSETS[DOWN]
    assert action == DOWN


def test_steps_need_a_reset():
    with pytest.raises(ResetNeeded, match="call reset"):
        MiningExpedition().step(0)


@pytest.mark.parametrize(
    "kwargs, error, message",
    [
        ({"n_noise_dims": -1}, ValueError, "n_noise_dims=-1 is too small"),
        ({"n_noise_dims": 2.0}, TypeError, "n_noise_dims=2.0 is a float"),
        ({"items_seed": -3}, ValueError, "items_seed=-3 is too small"),
        ({"items_seed": None}, TypeError, "items_seed=None is a NoneType"),
        ({"randomize_positions": "no"}, ValueError, "randomize_positions='no' is not known"),
        ({"render_mode": "human"}, ValueError, "render_mode='human' is not known.*'ansi', 'rgb_array'"),
    ],
)
def test_bad_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        MiningExpedition(**kwargs)
