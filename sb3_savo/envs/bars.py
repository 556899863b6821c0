"""A picture of numbers, for environments whose state has no other."""

import numpy as np

WIDTH, HEIGHT = 8, 96  # pixels of a bar
BACKGROUND, AXIS, POSITIVE, NEGATIVE = (250, 248, 243), (200, 195, 185), (46, 110, 165), (200, 80, 70)


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
