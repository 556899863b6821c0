"""A picture of a function of two variables, with some points on it."""

import matplotlib as mpl
import numpy as np

CELLS, PIXELS = 96, 4  # cells along a side, pixels along a cell's
BEST, TAKEN = (255, 255, 255), (220, 50, 40)


def draw_map(values: np.ndarray, points: list[tuple[np.ndarray, tuple[int, int, int]]]) -> np.ndarray:
    """
    :param values: In [0, 1], from -1 to 1 along both variables, the first to the right and the second upwards:
        (CELLS, CELLS), the rows from the second's -1 on
    :param points: Two coordinates in [-1, 1], and the colour of a square there
    :return: An image, (384, 384, 3) in uint8
    """
    colours = mpl.colormaps["viridis"](values)[..., :3]
    picture = (255 * colours).astype(np.uint8).repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)
    for point, colour in points:
        x, y = ((np.asarray(point) + 1) / 2 * (len(picture) - 1)).round().astype(int)
        for half, fill in ((7, (0, 0, 0)), (5, colour)):
            picture[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1] = fill
    return picture[::-1]
