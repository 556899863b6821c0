"""Mining Expedition (paper, §5 and §11.1): walk through a room to the goal, and break the mines on the way with tools."""

import functools
import itertools
from heapq import heappop, heappush
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from sb3_savo.actions.spaces import EmbeddedDiscrete
from sb3_savo.arguments import MAX_UNITS, check_choice, check_flag, check_integer

# Contents of a cell: a mine of a bottom category 0 … 6 or a top category 7 … 14, nothing, or a wall
N_BOTTOM, N_CATEGORIES = 7, 15
FREE, WALL = N_CATEGORIES, N_CATEGORIES + 1
N_MOVES, N_TOOLS = 4, 50
MINE_PROBABILITY = 0.7

# Cells are numbered row by row, walls included, so that every cell of the room has four neighbors
SIZE = 8
WIDTH = SIZE + 2
START, GOAL = WIDTH + 1, WIDTH * SIZE + SIZE
OFFSETS = (1, WIDTH, -1, -WIDTH)  # right, down, left, up

# Eq. 11
R_GOAL, R_STEP, R_TOOL, R_BONUS = 10.0, 0.1, 0.1, 0.1
LAMBDA_GOAL, N_MAX = 0.9, 100


class MiningExpedition(gym.Env):
    """
    An agent walks from the top left of a room of 8 x 8 cells to the bottom right. Each other cell holds, with probability 0.7,
    a mine of one of K = 15 categories: 7 bottom and 8 top categories. A tool works on the mine in front of the agent if the
    mine has the one category that the tool is for. It turns a bottom category into a top category, and breaks a top category.

    **Actions**: 0 … 3 turn the agent right, down, left and up, and move it one step if the cell there is free. 4 … 53 are the
    tools; the first 15 tools are for the categories 0 … 14. Embeddings, (54, 4 + n_noise_dims): is it a tool, move / 3,
    from / K, to / K (where K stands for "broken"), with 0 for entries that do not apply; then noise, uniform in [-1, 1].

    **Observations**: 23 numbers in [0, 1]: x / 7 and y / 7 from the top left, direction / 3, whether the cells to the right,
    below, to the left and above are free, and a one-hot vector of the category of the mine in front, whose last entry means
    no mine (a free cell or a wall).

    **Rewards**: Eq. 11. Its distance is the Manhattan distance to the goal, whatever is on the way. Its number of steps
    includes the step that reaches the goal. Its N_max is 100, the time limit of ``MiningExpedition-v0``; with a longer time
    limit, reaching the goal from step 112 on would give a negative reward.

    Reaching the goal ends an episode (``terminated``). ``info["is_success"]`` says at every step whether it was reached.

    Every reset draws a new layout, from the generator that ``reset(seed=...)`` seeds; the agent faces right.

    :param randomize_positions: Whether a layout draws both positions and categories of the mines (True), or only the
        categories, at positions that ``items_seed`` fixes (False)
    :param n_noise_dims: Number of dimensions of noise in the embeddings, at least 0
    :param items_seed: Seed of the tools and the noise, at least 0
    :param render_mode: ``"rgb_array"``: an image, (320, 320, 3) in uint8, with discs for bottom categories and diamonds for
        top categories; ``"ansi"``: a string, with ``a`` … ``g`` for bottom categories, ``H`` … ``O`` for top categories, ``S``
        for the start and ``*`` for the goal; None: :meth:`render` returns None
    :raises TypeError: if a number is not an integer
    :raises ValueError: if a number is too small, or an argument is not one of its choices
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}  # noqa: RUF012 (Gymnasium's attribute)

    def __init__(
        self,
        randomize_positions: bool = True,
        n_noise_dims: int = 5,
        items_seed: int = 0,
        render_mode: str | None = None,
    ):
        check_flag("randomize_positions", randomize_positions)
        check_integer("n_noise_dims", n_noise_dims, low=0, high=MAX_UNITS)
        check_integer("items_seed", items_seed, low=0)
        check_choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.randomize_positions = randomize_positions
        self.render_mode = render_mode

        items = make_items(n_noise_dims, items_seed)
        self.tools, self._has_mine = items.tools, items.has_mine
        self.action_space = EmbeddedDiscrete(items.embeddings)
        self.observation_space = spaces.Box(0.0, 1.0, (8 + N_CATEGORIES,), np.float32)

        # Until the first reset, the state is that of a finished episode, so that a step raises ResetNeeded
        self.cells = add_walls(np.full((SIZE, SIZE), FREE))
        self.position, self.direction, self.n_steps = GOAL, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        # The goal can always be reached, because at most two tools break any mine. The way along the walls takes at most
        # 41 actions: 14 steps, 2 tools for each of 13 mines, and a turn.
        has_mine = self._has_mine
        if self.randomize_positions:
            has_mine = self.np_random.random((SIZE, SIZE)) < MINE_PROBABILITY
        self.cells = add_walls(np.where(has_mine, self.np_random.integers(N_CATEGORIES, size=(SIZE, SIZE)), FREE))
        self.cells[START] = self.cells[GOAL] = FREE
        self.position, self.direction, self.n_steps = START, 0, 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        :param action: Index of the move or tool, 0 … 53
        :raises ValueError: if there is no such action
        :raises ResetNeeded: if the goal has been reached, or before the first reset
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action={action!r} is not known: it must be an integer from 0 to {N_MOVES + N_TOOLS - 1}.")
        if self.position == GOAL:
            raise ResetNeeded("No episode is under way: call reset() before step().")
        action = int(action)
        self.n_steps += 1
        reward = 0.0
        if action < N_MOVES:
            self.direction = action
            target = self.position + OFFSETS[action]
            if self.cells[target] == FREE:
                reward += R_STEP * (distance_to_goal(self.position) - distance_to_goal(target))
                self.position = target
        else:
            target = self.position + OFFSETS[self.direction]
            source, result = self.tools[action - N_MOVES]
            if self.cells[target] == source:
                self.cells[target] = result
                reward += R_TOOL
                if result == FREE:
                    reward += R_BONUS
        success = self.position == GOAL
        if success:
            reward += R_GOAL * (1 - LAMBDA_GOAL * self.n_steps / N_MAX)
        return self._observation(), reward, success, False, {"is_success": success}

    def _observation(self) -> np.ndarray:
        y, x = divmod(self.position, WIDTH)
        neighbors = [self.cells[self.position + offset] for offset in OFFSETS]
        obs = np.zeros(8 + N_CATEGORIES, dtype=np.float32)
        obs[:3] = (x - 1) / (SIZE - 1), (y - 1) / (SIZE - 1), self.direction / (N_MOVES - 1)
        obs[3:7] = [cell == FREE for cell in neighbors]
        obs[7 + min(neighbors[self.direction], FREE)] = 1.0
        return obs

    def solution(self) -> list[int]:
        """
        Find a shortest way to the goal: Dijkstra's algorithm over cells and directions.

        A move to a free cell turns and steps at once. A mine must be broken first, which takes its tools and, unless the agent
        faces it already, a move that only turns. The choice among the tools of a category does not matter: each one takes the
        mine one level up.

        :return: A shortest sequence of actions from the current state to the goal; empty at the goal. Its return is not always
            the highest, because tools off the way are rewarded too.
        """
        tools_to_break: list[list[int]] = [[] for _ in range(FREE + 1)]
        for category in reversed(range(N_CATEGORIES)):
            tools_to_break[category] = [N_MOVES + category, *tools_to_break[self.tools[category][1]]]
        heap: list[tuple[int, int, int, list[int]]] = [(0, self.position, self.direction, [])]
        visited = set()
        while True:
            _, position, direction, actions = heappop(heap)
            if position == GOAL:
                return actions
            if (position, direction) in visited:
                continue
            visited.add((position, direction))
            for move, offset in enumerate(OFFSETS):
                cell = self.cells[position + offset]
                if cell != WALL:
                    turn = [move] if cell != FREE and move != direction else []
                    path = [*actions, *turn, *tools_to_break[cell], move]
                    heappush(heap, (len(path), position + offset, move, path))

    def render(self) -> str | np.ndarray | None:
        if self.render_mode == "ansi":
            symbols = ["abcdefgHIJKLMNO.#"[cell] for cell in self.cells]
            symbols[START], symbols[GOAL] = "S*"
            symbols[self.position] = ">v<^"[self.direction]
            return "\n".join(" ".join(row) for row in np.reshape(symbols, (WIDTH, WIDTH)))
        if self.render_mode == "rgb_array":
            return draw_room(self.cells, self.position, self.direction)
        return None


def distance_to_goal(position: int) -> int:
    """
    :param position: A cell of the room
    :return: Its Manhattan distance to the goal
    """
    # No cell of the room is to the right of the goal or below it
    return sum(divmod(GOAL - position, WIDTH))


def add_walls(room: np.ndarray) -> list[int]:
    """
    :param room: Contents of the room's cells, (8, 8)
    :return: Contents of the room and the walls around it, row by row, 100 numbers
    """
    cells = np.full((WIDTH, WIDTH), WALL)
    cells[1:-1, 1:-1] = room
    return cells.ravel().tolist()


class Items(NamedTuple):
    """The constants that ``items_seed`` fixes."""

    tools: tuple[tuple[int, int], ...]
    """(from, to) of each of the 50 tools"""
    has_mine: np.ndarray
    """Positions of the mines with ``randomize_positions=False``, (8, 8)"""
    embeddings: np.ndarray
    """Embeddings of the actions, (54, 4 + n_noise_dims), float32"""


@functools.lru_cache
def make_items(n_noise_dims: int, items_seed: int) -> Items:
    """
    Draw the tools, the mines' positions and the embeddings. The noise is drawn last, so that ``n_noise_dims`` does not change
    anything else.

    :param n_noise_dims: Number of dimensions of noise in the embeddings
    :param items_seed: Seed of all draws
    :return: The items, in read-only arrays, because all environments of a process share them
    """
    rng = np.random.default_rng(items_seed)
    bottom, top = range(N_BOTTOM), range(N_BOTTOM, N_CATEGORIES)
    tools = [(category, int(rng.choice(top))) for category in bottom] + [(category, FREE) for category in top]
    unused = [pair for pair in itertools.product(bottom, top) if pair not in tools]
    tools += [unused[i] for i in rng.choice(len(unused), N_TOOLS - len(tools), replace=False)]
    has_mine = rng.random((SIZE, SIZE)) < MINE_PROBABILITY

    embeddings = np.zeros((N_MOVES + N_TOOLS, 4 + n_noise_dims), dtype=np.float32)
    embeddings[:N_MOVES, 1] = np.arange(N_MOVES) / (N_MOVES - 1)
    embeddings[N_MOVES:, 0] = 1.0
    embeddings[N_MOVES:, 2:4] = np.array(tools) / N_CATEGORIES
    embeddings[:, 4:] = rng.uniform(-1.0, 1.0, (len(embeddings), n_noise_dims))
    for array in (has_mine, embeddings):
        array.setflags(write=False)
    return Items(tuple(tools), has_mine, embeddings)


# Rendering

CELL_PIXELS, SUBPIXELS = 32, 4
START_TILE, GOAL_TILE = WALL + 1, WALL + 2
CATEGORY_COLORS = ("4e79a7", "f28e2b", "59a14f", "e15759", "b07aa1", "edc948", "76b7b2", "ff9da7")


def draw_room(cells: list[int], position: int, direction: int) -> np.ndarray:
    """
    :param cells: Contents of the cells, 100 numbers
    :param position: The agent's cell
    :param direction: The agent's direction
    :return: An image, (320, 320, 3) in uint8
    """
    tiles, agent, opacity = make_sprites()
    codes = np.array(cells)
    codes[[START, GOAL]] = START_TILE, GOAL_TILE
    picture = tiles[codes]
    picture[position] = picture[position] * (1 - np.rot90(opacity, -direction)) + np.rot90(agent, -direction)
    rows = picture.reshape(WIDTH, WIDTH, CELL_PIXELS, CELL_PIXELS, 3).swapaxes(1, 2)
    return rows.reshape(WIDTH * CELL_PIXELS, WIDTH * CELL_PIXELS, 3).round().astype(np.uint8)


@functools.lru_cache
def make_sprites() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    :return: One tile per content of a cell, then one for the start and one for the goal, (19, 32, 32, 3); the agent facing
        right, and its opacity, both (32, 32, 3)
    """
    side = np.linspace(-1, 1, CELL_PIXELS * SUBPIXELS)
    x, y = side, side[:, None]
    everywhere = np.ones((len(side), len(side)), dtype=bool)
    grid = (np.maximum(abs(x), abs(y)) > 0.96, "d9d2c3")
    floor = [(everywhere, "efeae0"), grid]

    def disc(radius: float, center_x: float = 0.0, center_y: float = 0.0) -> np.ndarray:
        return (x - center_x) ** 2 + (y - center_y) ** 2 < radius**2

    def diamond(radius: float, center_y: float = 0.0) -> np.ndarray:
        return abs(x) + abs(y - center_y) < radius

    def arrow(scale: float) -> np.ndarray:
        return (abs(y) < 0.5 * (scale - x)) & (x > -scale + 0.35 * (scale - abs(y)))

    def bottom_mine(color: str) -> list[tuple[np.ndarray, str]]:
        shadow, glint = disc(0.7, center_y=0.08), disc(0.16, -0.2, -0.22)
        return [(shadow, "b9b1a0"), (disc(0.66), "4a4438"), (disc(0.58), color), (glint, "ffffff")]

    def top_mine(color: str) -> list[tuple[np.ndarray, str]]:
        shadow, glint = diamond(0.92, center_y=0.08), diamond(0.58) & ~diamond(0.42) & (x < -0.06) & (y < -0.06)
        return [(shadow, "b9b1a0"), (diamond(0.88), "4a4438"), (diamond(0.76), color), (glint, "ffffff")]

    bricks = ((y + 1) % 0.5 < 0.06) | ((x + 1 + 0.5 * (np.floor((y + 1) / 0.5) % 2)) % 1.0 < 0.06)
    pole = (abs(x + 0.4) < 0.07) & (abs(y) < 0.75)
    flag = (x > -0.33) & (x < 0.65 - 2.2 * abs(y + 0.3))
    layers = [
        *(floor + bottom_mine(color) for color in CATEGORY_COLORS[:N_BOTTOM]),
        *(floor + top_mine(color) for color in CATEGORY_COLORS),
        floor,
        [(everywhere, "4b5162"), (bricks, "3a3f4d")],
        [(everywhere, "d5e3f2"), grid],
        [(everywhere, "d3ecd0"), grid, (pole, "4a4438"), (flag, "2f9e44")],
    ]
    outline, body = arrow(0.85), arrow(0.68)
    agent = paint_tile([(outline, "ffffff"), (body, "1f2a44")])
    return np.stack([paint_tile(layer) for layer in layers]), agent, paint_tile([(outline, "ffffff")]) / 255


def paint_tile(layers: list[tuple[np.ndarray, str]]) -> np.ndarray:
    """
    Paint layers over one another on black, at four times the resolution of the tile to smooth its edges.

    :param layers: A mask, (128, 128), and its hexadecimal color, for each layer
    :return: The tile, (32, 32, 3)
    """
    canvas = np.zeros((CELL_PIXELS * SUBPIXELS, CELL_PIXELS * SUBPIXELS, 3), dtype=np.float32)
    for mask, color in layers:
        canvas[mask] = tuple(bytes.fromhex(color))
    return canvas.reshape(CELL_PIXELS, SUBPIXELS, CELL_PIXELS, SUBPIXELS, 3).mean(axis=(1, 3))
