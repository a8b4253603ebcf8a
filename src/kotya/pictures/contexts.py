"""One word in several sentences, layer by layer: where its vector lies, and how alike it is from sentence to sentence.

On top each layer's vectors in the plane of their two main directions (principal components), in units of the mean
length of a vector; below the cosine of every two.
"""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kotya.pictures.canvas import FAINT, INK, RULE, legible, new_figure, save, shade

COLOURS = ("#1d5c7a", "#bc4b51", "#c9a227", "#5b8e7d", "#7a4b94", "#3d3d3d", "#d07a2e", "#4c93a8")
PANEL, GAP, LINE = 1.9, 0.3, 0.24
LETTERS = 12
"""Of the sentences below, an inch."""


def draw_contexts(
    word: str, sentences: Sequence[str], vectors: NDArray[np.floating[Any]], path: Path
) -> None:
    """`vectors`: [1 + layers, sentences, size], the embeddings first."""
    layers = len(vectors)
    width = max(0.5 + layers * (PANEL + GAP), 6.0)
    listed = [wrap(legible(sentence), int(LETTERS * width)) or [""] for sentence in sentences]
    lines = sum(map(len, listed))
    height = 1.0 + 2 * (PANEL + 0.5) + LINE * lines
    figure = new_figure(width, height, smaller="give fewer sentences, or a model of fewer layers")
    figure.text(0.3 / width, 1 - 0.3 / height, legible(f"“{word}” by its sentence"), fontsize=12, color=INK)
    points = [plane(layer) for layer in vectors]
    alike = [cosines(layer) for layer in vectors]
    least = min(float(one.min()) for one in alike)
    far = 1.25 * max(float(np.abs(one).max()) for one in points) or 1.0
    for depth, (one, values) in enumerate(zip(points, alike, strict=True)):
        x = (0.3 + depth * (PANEL + GAP)) / width
        top = height - 0.8 - PANEL
        axis = figure.add_axes((x, top / height, PANEL / width, PANEL / height))
        draw_points(axis, one, far)
        axis.set_title("embeddings" if depth == 0 else f"layer {depth}", fontsize=9, color=INK)
        low = top - 0.4 - PANEL
        axis = figure.add_axes((x, low / height, PANEL / width, PANEL / height))
        draw_cosines(axis, values, least)
    y = 0.15 + LINE * lines
    for number, parts in enumerate(listed):
        colour = COLOURS[number % len(COLOURS)]
        figure.text(
            0.3 / width, (y - LINE) / height, f"{number + 1}", fontsize=9, color=colour, fontweight="bold"
        )
        for part in parts:
            y -= LINE
            figure.text(0.6 / width, y / height, part, fontsize=9, color=INK)
    save(figure, path)


def plane(vectors: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """[sentences, 2]: vectors about their mean along their two main directions, by the mean length of a vector."""
    centred = vectors - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    two = (left * sizes)[:, :2] / np.linalg.norm(vectors, axis=1).mean()
    # a direction may point either way: the first sentence is on the left and on top
    return np.asarray(two * np.where(two[0] * (1, -1) > 0, -1, 1))


def cosines(vectors: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """[sentences, sentences]."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)


def draw_points(axis: Any, points: NDArray[np.floating[Any]], far: float) -> None:
    """One plane; the scale is that of all layers."""
    axis.axhline(0, color=RULE, linewidth=0.6)
    axis.axvline(0, color=RULE, linewidth=0.6)
    for together in near(points, 0.04 * far):
        x, y = points[together[0]]
        axis.text(
            x,
            y,
            ", ".join(str(number + 1) for number in together),
            color=COLOURS[together[0] % len(COLOURS)],
            fontsize=11,
            fontweight="bold",
            ha="center",
            va="center",
        )
    axis.set_xlim(-far, far)
    axis.set_ylim(-far, far)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color(RULE)


def near(points: NDArray[np.floating[Any]], distance: float) -> list[list[int]]:
    """The points by number, those together that could not be told apart: each with the first it is so near to."""
    groups: list[list[int]] = []
    for number, point in enumerate(points):
        found = (one for one in groups if np.linalg.norm(points[one[0]] - point) < distance)
        group = next(found, None)
        if group is None:
            groups.append([number])
        else:
            group.append(number)
    return groups


def draw_cosines(axis: Any, values: NDArray[np.floating[Any]], least: float) -> None:
    """A matrix with its numbers; white is the least of all layers, where it is less than 1 by what is seen."""
    shades = np.clip(1 - (1 - values) / max(1 - least, 0.01), 0, 1)
    shade(axis, shades)
    count = len(values)
    axis.set_xticks(range(count), [str(number + 1) for number in range(count)], fontsize=8, color=FAINT)
    axis.set_yticks(range(count), [str(number + 1) for number in range(count)], fontsize=8, color=FAINT)
    for row in range(count):
        for column in range(count):
            ink = "white" if shades[row, column] > 0.55 else INK
            axis.text(
                column, row, f"{values[row, column]:.2f}", color=ink, fontsize=7, ha="center", va="center"
            )
