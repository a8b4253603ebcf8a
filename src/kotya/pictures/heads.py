"""Every head of every layer as a small map: rows are queries, columns are keys, layers go down, heads across."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kotya.pictures.canvas import FAINT, INK, label, legible, new_figure, save, shade

CELL = 0.2
GAP = 0.22
SECTION = 0.42


@dataclass(frozen=True)
class HeadMaps:
    """The attention of one kind (encoder, decoder, cross): [heads, queries, keys] a layer, and what stands at each."""

    name: str
    queries: Sequence[str]
    keys: Sequence[str]
    layers: Sequence[NDArray[np.floating[Any]]]

    @property
    def size(self) -> tuple[float, float]:
        """Inches of the words beside the maps: on the left, on top."""
        return 0.45 + 0.075 * max(map(len, self.queries)), 0.12 + 0.06 * max(map(len, self.keys))

    @property
    def overhang(self) -> float:
        """Inches by which the slanted words on top reach beyond the last map."""
        return max(0.065 * len(key) - CELL * (after + 0.5) for after, key in enumerate(reversed(self.keys)))

    @property
    def map_size(self) -> tuple[float, float]:
        """Inches of one map, across and down."""
        return CELL * len(self.keys), CELL * len(self.queries)


def draw_heads(kinds: Sequence[HeadMaps], path: Path, title: str = "") -> None:
    """Draw all the kinds, one below another."""
    left = max(kind.size[0] for kind in kinds) + 0.35
    width = left + max(
        len(kind.layers[0]) * (kind.map_size[0] + GAP) - GAP + max(0.35, kind.overhang) + GAP
        for kind in kinds
    )
    height = 0.6 + sum(section_height(kind) for kind in kinds)
    figure = new_figure(max(width, 4.0), height)
    width = max(width, 4.0)
    figure.text(
        0.2 / width, 1 - 0.3 / height, legible(title), fontsize=12, fontweight="bold", color=INK, va="center"
    )
    y = 0.6
    for kind in kinds:
        draw_kind(figure, kind, left, y, width, height)
        y += section_height(kind)
    save(figure, path)


def section_height(kind: HeadMaps) -> float:
    """Inches that a kind takes downwards."""
    return SECTION + kind.size[1] + len(kind.layers) * (kind.map_size[1] + GAP) + 0.15


def draw_kind(figure: Any, kind: HeadMaps, left: float, y: float, width: float, height: float) -> None:
    """The maps of one kind from y (inches from the top) on; words stand at the first map of a row and of a column."""
    across, down = kind.map_size
    figure.text(
        0.2 / width,
        1 - (y + 0.12) / height,
        kind.name,
        fontsize=11,
        fontweight="bold",
        color=INK,
        va="center",
    )
    top = y + SECTION + kind.size[1]
    for layer, maps in enumerate(kind.layers):
        for head, weights in enumerate(maps):
            x = left + head * (across + GAP)
            place = top + layer * (down + GAP)
            axis = figure.add_axes((x / width, 1 - (place + down) / height, across / width, down / height))
            shade(axis, weights, rules=False)
            label(axis, kind.queries if head == 0 else [], kind.keys if layer == 0 else [], size=7)
            if layer == 0:
                figure.text(
                    (x + across / 2) / width,
                    1 - (y + SECTION - 0.1) / height,
                    f"head {head + 1}",
                    fontsize=8,
                    color=FAINT,
                    ha="center",
                )
        middle = top + layer * (down + GAP) + down / 2
        figure.text(
            0.2 / width,
            1 - middle / height,
            f"layer {layer + 1}",
            fontsize=8,
            color=FAINT,
            rotation=90,
            ha="center",
            va="center",
        )
