"""Attention patterns as the lecture draws them: a row a query, a column a key, dark where it is seen."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from kotya.pictures.canvas import FAINT, INK, legible, new_figure, save, shade

_CELL, _MOST = 0.11, 3.2
"""Inches of a cell, and of a mask at most."""
_GAP, _TITLE, _MARGIN = 0.45, 0.55, 0.3
_ACROSS = 4
_CELLS = 256
"""Of a mask, a side, at most: more would be too fine to see, and some lines of them not drawn at all."""


def draw_patterns(masks: Sequence[tuple[str, Bool[Tensor, "queries keys"]]], path: Path) -> None:
    """Named masks side by side, four in a row, each with the share of pairs that it keeps."""
    queries = max(mask.shape[0] for _, mask in masks)
    keys = max(mask.shape[1] for _, mask in masks)
    cell = min(_CELL, _MOST / max(queries, keys))
    width, height = max(keys * cell, 1.2), max(queries * cell, 0.6)
    across = min(_ACROSS, len(masks))
    down = math.ceil(len(masks) / across)
    total = (2 * _MARGIN + across * width + (across - 1) * _GAP, 2 * _MARGIN + down * (height + _TITLE))
    figure = new_figure(*total, smaller="give a smaller --length")
    for number, (name, mask) in enumerate(masks):
        row, column = divmod(number, across)
        left = _MARGIN + column * (width + _GAP)
        bottom = total[1] - _MARGIN - row * (height + _TITLE) - _TITLE - height
        axis = figure.add_axes(
            (left / total[0], bottom / total[1], width / total[0], height / total[1]), anchor="NW"
        )
        shade(axis, shades(mask).mul(0.8).numpy(), rules=max(mask.shape) <= 64)
        kept = float(mask.float().mean()) if mask.numel() else 0.0
        top = (bottom + height + 0.24) / total[1]
        figure.text(left / total[0], top, legible(name), fontsize=9.5, color=INK, fontweight="bold")
        below = (bottom + height + 0.07) / total[1]
        figure.text(left / total[0], below, f"{100 * kept:.3g} % of pairs", fontsize=8, color=FAINT)
    save(figure, path)


def shades(mask: Bool[Tensor, "queries keys"]) -> Float[Tensor, "rows columns"]:
    """What is seen as cells from 0 to 1.

    A cell of several pairs is as dark as the cube root of their share that is seen, so that a single line shows.
    """
    cells = min(mask.shape[0], _CELLS), min(mask.shape[1], _CELLS)
    return F.adaptive_avg_pool2d(mask[None].float(), cells)[0].pow(1 / 3) if mask.numel() else mask.float()
