"""Pictures for environments whose state has no natural one: bars for a vector, a heatmap for a function of two variables."""

import numpy as np

from sb3_savo.extras import needs_extra

Color = tuple[int, int, int]

BAR_WIDTH, BAR_HEIGHT = 8, 96  # in pixels
BACKGROUND_COLOR, AXIS_COLOR = (250, 248, 243), (200, 195, 185)
POSITIVE_COLOR, NEGATIVE_COLOR = (46, 110, 165), (200, 80, 70)

HEATMAP_CELLS, PIXELS_PER_CELL = 96, 4  # along one side
MARKER_RADIUS, MARKER_BORDER, BORDER_COLOR = 5, 2, (0, 0, 0)  # in pixels


def draw_bars(rows: np.ndarray) -> np.ndarray:
    """
    Draw every number as a bar: blue and upward for a positive one, red and downward for a negative one.

    :param rows: Numbers in [-1, 1], (n_rows, n)
    :return: An image with one row of bars below the other, (96 n_rows, 8 n, 3) in uint8
    """
    n_rows, n = rows.shape
    height = np.linspace(1, -1, BAR_HEIGHT)[None, :, None]
    values = rows[:, None, :]
    picture = np.full((n_rows, BAR_HEIGHT, n, 3), BACKGROUND_COLOR, dtype=np.uint8)
    picture[:, BAR_HEIGHT // 2] = AXIS_COLOR
    picture[(height > 0) & (height <= values)] = POSITIVE_COLOR
    picture[(height < 0) & (height >= values)] = NEGATIVE_COLOR
    picture = picture.repeat(BAR_WIDTH, axis=2)
    picture[:, :, BAR_WIDTH - 1 :: BAR_WIDTH] = BACKGROUND_COLOR
    return picture.reshape(n_rows * BAR_HEIGHT, n * BAR_WIDTH, 3)


def draw_heatmap(values: np.ndarray, markers: list[tuple[np.ndarray, Color]]) -> np.ndarray:
    """
    Draw a function of x and y, both from -1 to 1, with x to the right and y upward.

    :param values: The function's values in [0, 1] on a regular grid, one row per y from -1 upward, (96, 96)
    :param markers: Squares to draw on top: the point (x, y) and the color of each
    :return: An image, (384, 384, 3) in uint8
    """
    with needs_extra("render", "The map of a landscape"):
        import matplotlib as mpl

    colors = mpl.colormaps["viridis"](values)[..., :3]
    picture = (255 * colors).astype(np.uint8).repeat(PIXELS_PER_CELL, axis=0).repeat(PIXELS_PER_CELL, axis=1)
    for point, color in markers:
        x, y = ((np.asarray(point) + 1) / 2 * (len(picture) - 1)).round().astype(int)
        for radius, fill in ((MARKER_RADIUS + MARKER_BORDER, BORDER_COLOR), (MARKER_RADIUS, color)):
            picture[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1] = fill
    return picture[::-1]
