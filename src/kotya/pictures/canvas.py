"""What the pictures share: ink, colour scales, a grid of shaded cells with words beside it, and saving.

Shades run from white (0) to dark (1), so that a picture can be read in grey.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kotya.errors import KotyaError
from kotya.files import check_file, replacing
from kotya.pictures.fonts import legible_words

INK, FAINT, RULE, LINK = "#22303c", "#8794a1", "#e3e8ec", "#c8553d"
SHADES = ("#ffffff", "#dcebee", "#9cc7cf", "#4c93a8", "#1d5c7a", "#0c2f45")
SIGNED = ("#8f2d37", "#d98a83", "#ffffff", "#7fb3c4", "#1d5c7a")
FORMATS = (".png", ".svg", ".pdf")
LARGEST = 60.0
"""Inches; a larger picture is not looked at, it is scrolled through."""


def new_figure(width: float, height: float, *, smaller: str = "give a shorter sentence") -> Any:
    """An empty white figure in inches. Raises KotyaError for one too large to look at, saying what makes it smaller."""
    if max(width, height) > LARGEST:
        raise KotyaError(f"the picture would be over a metre and a half; {smaller}")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="white")


def check_path(path: Path) -> None:
    """Raises KotyaError where the name is no picture's, or no file can be written there."""
    if path.suffix not in FORMATS:
        raise KotyaError(f"{path}: a picture is a {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    check_file(path)


def save(figure: Any, path: Path) -> None:
    """Write the picture, as large as its words need. Raises as `check_path`, and where no font has its letters."""
    check_path(path)
    with replacing(path) as partial, legible_words(figure, path):
        figure.savefig(
            partial, dpi=160, format=path.suffix.removeprefix("."), bbox_inches="tight", pad_inches=0.15
        )


def scale(colours: Sequence[str]) -> Any:
    """A colour map through these colours, in even steps."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("kotya", list(colours))


def shade(axis: Any, weights: NDArray[np.floating[Any]], rules: bool = True) -> Any:
    """Weights from 0 to 1 as cells, first row on top, thin lines between them."""
    rows, columns = weights.shape
    image = axis.imshow(weights, cmap=scale(SHADES), vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    for spine in axis.spines.values():
        spine.set_color(RULE)
    axis.tick_params(length=0, colors=INK)
    axis.set_xticks([])
    axis.set_yticks([])
    if rules:
        axis.set_xticks(np.arange(1, columns) - 0.5, minor=True)
        axis.set_yticks(np.arange(1, rows) - 0.5, minor=True)
        axis.grid(which="minor", color=RULE, linewidth=0.6)
        axis.tick_params(which="minor", length=0)
    return image


def legible(text: str) -> str:
    """Text as matplotlib is to draw it: control characters written out as escapes, a dollar sign no formula."""
    drawn = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return drawn.replace("$", r"\$")


def label(axis: Any, rows: Sequence[str], columns: Sequence[str], size: float) -> None:
    """Words at every row, on the left, and at every column, on top."""
    rows, columns = ([legible(word) for word in words] for words in (rows, columns))
    axis.set_yticks(range(len(rows)), rows, fontsize=size)
    axis.xaxis.tick_top()
    slanted = max(map(len, columns), default=0) > 2
    axis.set_xticks(
        range(len(columns)),
        columns,
        fontsize=size,
        rotation=45 if slanted else 0,
        ha="left" if slanted else "center",
        rotation_mode="anchor" if slanted else None,
    )
