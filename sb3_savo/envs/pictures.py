"""Pictures for environments whose state has no other: bars for numbers, a map for a function of two variables."""

import numpy as np

from sb3_savo.extras import needs_extra

WIDTH, HEIGHT = 8, 96  # pixels of a bar
BACKGROUND, AXIS, POSITIVE, NEGATIVE = (250, 248, 243), (200, 195, 185), (46, 110, 165), (200, 80, 70)

CELLS, PIXELS = 96, 4  # cells along a side, pixels along a cell's
BEST, TAKEN = (255, 255, 255), (220, 50, 40)


def draw_bars(rows: np.ndarray) -> np.ndarray:
    """
    :param rows: Numbers in [-1, 1], (n_rows, n)
    :return: One row of bars above the other, up and blue from the middle for positive numbers, down and red for negative ones;
        (96 n_rows, 8 n, 3) in uint8
    """
    n_rows, n = rows.shape
    height = np.linspace(1, -1, HEIGHT)[None, :, None]
    values = rows[:, None, :]
    picture = np.full((n_rows, HEIGHT, n, 3), BACKGROUND, dtype=np.uint8)
    picture[:, HEIGHT // 2] = AXIS
    picture[(height > 0) & (height <= values)] = POSITIVE
    picture[(height < 0) & (height >= values)] = NEGATIVE
    picture = picture.repeat(WIDTH, axis=2)
    picture[:, :, WIDTH - 1 :: WIDTH] = BACKGROUND
    return picture.reshape(n_rows * HEIGHT, n * WIDTH, 3)


def draw_map(values: np.ndarray, points: list[tuple[np.ndarray, tuple[int, int, int]]]) -> np.ndarray:
    """
    :param values: In [0, 1], from -1 to 1 along both variables, the first to the right and the second upwards:
        (CELLS, CELLS), the rows from the second's -1 on
    :param points: Two coordinates in [-1, 1], and the colour of a square there
    :return: An image, (384, 384, 3) in uint8
    """
    with needs_extra("render", "The map of a landscape"):
        import matplotlib as mpl

    colours = mpl.colormaps["viridis"](values)[..., :3]
    picture = (255 * colours).astype(np.uint8).repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)
    for point, colour in points:
        x, y = ((np.asarray(point) + 1) / 2 * (len(picture) - 1)).round().astype(int)
        for half, fill in ((7, (0, 0, 0)), (5, colour)):
            picture[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1] = fill
    return picture[::-1]
