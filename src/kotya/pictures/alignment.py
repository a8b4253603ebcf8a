"""The alignment picture: which source word each target word looked at while it was being chosen.

Rows are the words of the translation from top to bottom, columns those of the source; a row's cells sum to 1
(Bahdanau, Cho and Bengio 2015, figure 3).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kotya.pictures.canvas import FAINT, INK, label, new_figure, save, shade

CELL = 0.62


def join_pieces(
    weights: NDArray[np.floating[Any]], source: Sequence[int], target: Sequence[int]
) -> NDArray[np.floating[Any]]:
    """From pieces to words: a source word gets the sum of its pieces, a target word the mean of its pieces.

    `weights` is target pieces × source pieces; `source` and `target` say which word, from 0, each piece belongs to.
    So the rows still sum to 1.
    """
    columns = np.zeros((len(source), max(source) + 1))
    columns[np.arange(len(source)), list(source)] = 1
    rows = np.zeros((max(target) + 1, len(target)))
    rows[list(target), np.arange(len(target))] = 1
    return np.asarray((rows / rows.sum(1, keepdims=True)) @ weights @ columns)


def draw_alignment(
    weights: NDArray[np.floating[Any]], source: Sequence[str], target: Sequence[str], path: Path
) -> None:
    """Draw a heat map, target × source, each cell with its weight where it is a tenth or more."""
    left = 0.55 + 0.115 * max(map(len, target))
    top = 0.4 + 0.085 * max(map(len, source))
    width, height = left + CELL * len(source) + 0.75, top + CELL * len(target) + 0.45
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
    figure.text(
        left / width,
        0.17 / height,
        "each row: where the decoder looked for that word",
        fontsize=8.5,
        color=FAINT,
    )
    save(figure, path)
