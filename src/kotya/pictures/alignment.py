"""The alignment picture: which source word each target word looked at while it was being chosen.

Rows are the words of the translation from top to bottom, columns those of the source; a row's cells sum to 1
(Bahdanau, Cho and Bengio 2015, figure 3).
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kotya.pictures.canvas import FAINT, INK, LINK, label, new_figure, save, shade
from kotya.pictures.fonts import width as columns_of

CELL = 0.62
CAPTION = "each row: where the decoder looked for that word"


def draw_alignment(
    weights: NDArray[np.floating[Any]],
    source: Sequence[str],
    target: Sequence[str],
    path: Path,
    *,
    links: AbstractSet[tuple[int, int]] = frozenset(),
    caption: str = CAPTION,
) -> None:
    """Draw a heat map, target × source, each cell with its weight where it is a tenth or more; links are framed."""
    left = 0.55 + 0.115 * max(map(columns_of, target))
    slanted = [0.085 * columns_of(word) for word in source]
    top = 0.4 + max(slanted)
    right = 0.45 + max(reach - CELL * after for after, reach in enumerate(reversed(slanted)))
    width, height = left + CELL * len(source) + max(right, 0.75), top + CELL * len(target) + 0.45
    figure = new_figure(width, height)
    axis = figure.add_axes(
        (left / width, 0.45 / height, CELL * len(source) / width, CELL * len(target) / height)
    )
    shade(axis, weights)
    label(axis, target, source, size=13)
    for row, column in zip(*np.nonzero(weights >= 0.095), strict=True):
        weight = float(weights[row, column])
        axis.text(
            column,
            row,
            f"{weight:.1f}".replace("0.", "."),
            ha="center",
            va="center",
            fontsize=9,
            color="white" if weight > 0.45 else INK,
        )
    for column, row in links:
        frame(axis, column, row)
    figure.text(left / width, 0.17 / height, caption, fontsize=8.5, color=FAINT)
    save(figure, path)


def frame(axis: Any, column: int, row: int) -> None:
    """A frame inside a cell."""
    from matplotlib.patches import Rectangle

    corner, size = (column - 0.43, row - 0.43), 0.86
    axis.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=LINK, linewidth=1.6))
