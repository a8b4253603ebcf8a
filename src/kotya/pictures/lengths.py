"""Two figures on length: BLEU against the length of the source (Bahdanau, Cho and Bengio 2015, figure 2), and the time
an encoder takes to read one sentence against its length."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kotya.pictures.canvas import FAINT, INK, RULE, legible, new_figure, save
from kotya.pictures.fonts import width as columns_of

COLOURS = ("#1d5c7a", "#bc4b51", "#c9a227", "#5b8e7d", "#8e6c9e", "#d17a3f", "#6b7a88", "#3f9aa3")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "h")
# All in inches.
WIDTH, HEIGHT, PANEL, DEEP, LEFT, BOTTOM, BESIDE = 13.0, 4.4, 4.3, 3.1, 0.75, 0.85, 1.35
LINE = 0.19
"""Between two names beside a panel."""


@dataclass(frozen=True)
class Curve:
    """A model: where its points stand, and how far each may be off."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def draw_lengths(quality: Sequence[Curve], times: Sequence[Curve], path: Path, caption: str = "") -> None:
    """Draw BLEU against words on the left, milliseconds against pieces on the right; a colour is a model."""
    names = dict.fromkeys(curve.name for curve in [*quality, *times])
    figure, left, right = two_panels(caption, names)
    colours = colours_of(names)
    for curve in quality:
        draw_curve(left, curve, colours[curve.name])
    for curve in times:
        draw_curve(right, curve, colours[curve.name])
    finish_quality(left, quality)
    finish_times(right, times)
    for axis, curves in ((left, quality), (right, times)):
        name_curves(axis, curves, colours)
    save(figure, path)


def colours_of(names: Iterable[str]) -> dict[str, int]:
    """Which look each has; they come again where there are more names than looks."""
    return {name: i % len(COLOURS) for i, name in enumerate(names)}


def two_panels(caption: str, names: Iterable[str]) -> tuple[Any, Any, Any]:
    """A figure, two axes side by side in it with room beside them for the names of curves, and a line below."""
    beside = max(BESIDE, 0.3 + 0.09 * max(map(columns_of, names), default=0))
    width = WIDTH + 2 * (beside - BESIDE)
    figure = new_figure(width, HEIGHT)
    left, right = add_panel(figure, LEFT, width), add_panel(figure, LEFT + PANEL + beside + LEFT, width)
    figure.text(LEFT / width, 0.16 / HEIGHT, legible(caption), fontsize=8, color=FAINT, va="center")
    return figure, left, right


def add_panel(figure: Any, x: float, width: float) -> Any:
    """An axis with room below, in a figure of that width."""
    axis = figure.add_axes((x / width, BOTTOM / HEIGHT, PANEL / width, DEEP / HEIGHT))
    axis.tick_params(colors=INK, length=3, labelsize=9)
    for side, spine in axis.spines.items():
        spine.set_color(RULE)
        spine.set_visible(side in ("left", "bottom"))
    axis.grid(color=RULE, linewidth=0.7)
    axis.set_axisbelow(True)
    return axis


def draw_curve(axis: Any, curve: Curve, look: int) -> None:
    """Points, a line through them, and a pale band where they may be."""
    colour = COLOURS[look]
    if curve.low is not None and curve.high is not None:
        axis.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.1, linewidth=0)
    axis.plot(curve.x, curve.y, color=colour, marker=MARKS[look], markersize=5, linewidth=1.9, gid=curve.name)


def finish_quality(axis: Any, curves: Sequence[Curve]) -> None:
    """Titles; BLEU from 0 on, so that a fall looks as large as it is."""
    axis.set_title("Quality", color=INK, loc="left", fontweight="bold", fontsize=12)
    axis.set_xlabel("words of the source", color=INK)
    axis.set_ylabel("BLEU", color=INK)
    axis.set_ylim(0, 1.05 * max(1.0, *(max(curve.high or curve.y) for curve in curves)))


def finish_times(axis: Any, curves: Sequence[Curve]) -> None:
    """Titles, both scales by doubling, and a dotted line on which double the length takes double the time."""
    axis.set_title(
        "Time to read one sentence (encoder)", color=INK, loc="left", fontweight="bold", fontsize=12
    )
    axis.set_xlabel("pieces of the source", color=INK)
    axis.set_ylabel("milliseconds", color=INK)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    ticks = sorted({x for curve in curves for x in curve.x})
    axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.minorticks_off()
    low, high = min(min(curve.y) for curve in curves), max(max(curve.y) for curve in curves)
    axis.set_ylim(low / 1.6, high * 1.6)
    last = ticks[-1]
    end = 0.45 * min(curve.y[-1] for curve in curves)  # below all the curves
    axis.plot([ticks[0], last], [end * ticks[0] / last, end], color=FAINT, linewidth=1, linestyle=":")
    axis.annotate(
        "double length, double time",
        (last / 3, end / 3),
        xytext=(6, -2),
        textcoords="offset points",
        fontsize=7.5,
        color=FAINT,
        va="top",
    )


def name_curves(axis: Any, curves: Sequence[Curve], colours: dict[str, int]) -> None:
    """Each name at the right end of its curve, in its colour; moved apart where ends are close."""
    axis.figure.canvas.draw()
    ends = [
        axis.transAxes.inverted().transform(axis.transData.transform((c.x[-1], c.y[-1])))[1] for c in curves
    ]
    for curve, y, end in zip(curves, spread(ends, LINE / DEEP), ends, strict=True):
        colour = COLOURS[colours[curve.name]]
        axis.plot(
            [1.005, 1.035], [end, y], transform=axis.transAxes, color=colour, linewidth=0.8, clip_on=False
        )
        axis.text(
            1.045,
            y,
            legible(curve.name),
            transform=axis.transAxes,
            color=colour,
            fontsize=9.5,
            fontweight="bold",
            va="center",
        )


def spread(places: Sequence[float], least: float) -> list[float]:
    """The places, moved as little as it takes to be so far apart; their order stays."""
    order = np.argsort(places, kind="stable")
    sorted_places = np.array(places)[order]
    steps = least * np.arange(len(places))
    # without the steps the places need only not fall: the nearest such sequence, pooling neighbours that do
    blocks: list[tuple[float, int]] = []
    for value in sorted_places - steps:
        mean, count = float(value), 1
        while blocks and blocks[-1][0] > mean:
            before, many = blocks.pop()
            mean, count = (mean * count + before * many) / (count + many), count + many
        blocks.append((mean, count))
    moved = np.concatenate([np.full(count, mean) for mean, count in blocks]) + steps
    result = np.empty(len(places))
    result[order] = moved
    return result.tolist()
