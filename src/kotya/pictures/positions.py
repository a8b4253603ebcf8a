"""The position encoding as a picture: every row a position, every column a feature, and some features as waves.

PE(pos, 2i) = sin(pos / 10000^(2i/size)), PE(pos, 2i+1) = cos(pos / 10000^(2i/size))  (Vaswani et al. 2017, 3.5).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kotya.pictures.canvas import FAINT, INK, RULE, SIGNED, new_figure, save, scale

WAVES = ("#1d5c7a", "#bc4b51", "#c9a227", "#5b8e7d")


def draw_positions(table: NDArray[np.floating[Any]], path: Path) -> None:
    """Draw a table, positions × features, with values from -1 to 1."""
    length = len(table)
    figure = new_figure(10.5, 7.6)
    axis = figure.add_axes((0.08, 0.42, 0.8, 0.5))
    image = axis.imshow(table, cmap=scale(SIGNED), vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    axis.set_title(
        "Position encoding: a row is what is added to the word at that position", color=INK, loc="left"
    )
    axis.set_ylabel("position", color=INK)
    axis.set_xlabel("feature", color=INK)
    bar = figure.colorbar(image, cax=figure.add_axes((0.9, 0.42, 0.015, 0.5)), ticks=[-1, 0, 1])
    bar.outline.set_visible(False)
    waves = figure.add_axes((0.08, 0.08, 0.8, 0.24))
    draw_waves(waves, table)
    waves.set_xlim(0, length - 1)
    for one in (axis, waves, bar.ax):
        one.tick_params(colors=INK, length=3)
        for spine in one.spines.values():
            spine.set_color(RULE)
    save(figure, path)


def draw_waves(axis: Any, table: NDArray[np.floating[Any]]) -> None:
    """A few features along the positions: the first ones turn fast, the later ones slowly."""
    size = table.shape[1]
    shown = sorted({0, size // 8, size // 4, size // 2} - {size})[:4]
    for colour, feature in zip(WAVES, shown, strict=False):
        axis.plot(table[:, feature], color=colour, linewidth=1.6, label=f"feature {feature}")
    axis.set_ylim(-1.1, 1.1)
    axis.set_yticks([-1, 0, 1])
    axis.set_xlabel("position", color=INK)
    axis.axhline(0, color=FAINT, linewidth=0.5)
    axis.legend(loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False, fontsize=8.5, labelcolor=INK)
