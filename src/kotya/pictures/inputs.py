"""What goes into an encoder, as in figure 2 of Devlin et al. 2019: for every piece a token, a segment and a position
embedding, and their sum. A column is a piece, a cell one of its first features.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kotya.pictures.canvas import FAINT, INK, RULE, SIGNED, legible, new_figure, save, scale

FEATURES = 24
CELL = 0.62
"""Inches of a piece, across."""
STRIP, GAP = 1.15, 0.5
"""Inches of a part, downwards, and between two."""


def draw_inputs(
    pieces: Sequence[str], segments: Sequence[int], parts: Mapping[str, NDArray[np.floating]], path: Path
) -> None:
    """`parts`: vectors [pieces, size] by name; what a model lacks is not drawn."""
    shown = {**parts, "sum": np.sum(list(parts.values()), axis=0)} if len(parts) > 1 else dict(parts)
    wide = max(CELL, 0.11 * max(map(len, pieces)))
    width, height = 1.5 + wide * len(pieces) + 0.3, 0.9 + len(shown) * (STRIP + GAP)
    figure = new_figure(width, height)
    for row, (name, vectors) in enumerate(shown.items()):
        top = height - 0.6 - row * (STRIP + GAP)
        box = (1.5 / width, (top - STRIP) / height, wide * len(pieces) / width, STRIP / height)
        axis = figure.add_axes(box)
        values = vectors[:, :FEATURES].T
        most = float(np.abs(values).max()) or 1.0
        axis.imshow(values, cmap=scale(SIGNED), vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
        axis.set_yticks([])
        axis.set_xticks(range(len(pieces)), names(name, pieces, segments), fontsize=8.5, color=INK)
        axis.xaxis.tick_top()
        axis.tick_params(which="both", length=0)
        axis.set_xticks(np.arange(1, len(pieces)) - 0.5, minor=True)
        axis.grid(which="minor", color="white", linewidth=2)
        for spine in axis.spines.values():
            spine.set_color(RULE)
        sign = "" if row == 0 else ("=" if name == "sum" else "+")
        middle = 1 - (height - top + STRIP / 2) / height
        figure.text(0.2 / width, middle, f"{sign} {name}".strip(), fontsize=11, color=INK, va="center")
    figure.text(
        1.5 / width,
        0.12 / height,
        f"Each column a piece, each cell one of its first {FEATURES} features: red below 0, blue above.",
        fontsize=8,
        color=FAINT,
    )
    save(figure, path)


def names(part: str, pieces: Sequence[str], segments: Sequence[int]) -> list[str]:
    """What stands above the columns of a part."""
    if part == "segment":
        return ["$E_{" + "AB"[segment] + "}$" for segment in segments]
    if part == "position":
        return ["$E_{" + str(number) + "}$" for number in range(len(pieces))]
    return [legible(piece) for piece in pieces]
