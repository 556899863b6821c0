"""The chain of surrogates of one state over the checkpoints of a run, as a GIF."""

from collections.abc import Sequence
from pathlib import Path

from sb3_savo.analysis.figures import new_figure, picture_size, plot_strip
from sb3_savo.analysis.panels import Limits, strip_panels
from sb3_savo.analysis.state_landscape import StateLandscape
from sb3_savo.extras import needs_extra

FRAMES_PER_SECOND = 2
LAST_FRAMES = 4  # how often the last picture is repeated, so that the eye can rest on it
DPI = 100


def animate_strip(landscapes: Sequence[StateLandscape], titles: Sequence[str], path: str | Path) -> None:
    """
    Write one frame per landscape, all with the same scale of values.

    :param landscapes: The landscape of the same state under every checkpoint, in the order of the training; at least one
    :param titles: Title of each frame
    :param path: The GIF to write
    :raises ValueError: if there is no landscape, or not one title for each
    :raises ImportError: if matplotlib is not installed
    """
    if not landscapes or len(titles) != len(landscapes):
        raise ValueError(f"titles has {len(titles)} entries for {len(landscapes)} landscapes: give one for each.")
    figure = new_figure(*picture_size(strip_panels(landscapes[0])))
    with needs_extra("plots", "An animation"):
        from matplotlib.animation import PillowWriter
    limits = Limits.of(landscapes)
    writer = PillowWriter(fps=FRAMES_PER_SECOND)
    with writer.saving(figure, str(path), DPI):
        for i, (landscape, title) in enumerate(zip(landscapes, titles, strict=True)):
            figure.clear()
            plot_strip(landscape, title, limits, figure)
            for _ in range(LAST_FRAMES if i == len(landscapes) - 1 else 1):
                writer.grab_frame()
