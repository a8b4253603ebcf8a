"""What attention costs, in time and in memory, against the length of the text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kotya.pictures.canvas import INK, save
from kotya.pictures.lengths import Curve, colours_of, draw_curve, name_curves, two_panels


def draw_cost(seconds: Sequence[Curve], memory: Sequence[Curve], path: Path, caption: str = "") -> None:
    """Milliseconds on the left, MiB on the right; both scales by doubling, so that a straight line is a power."""
    names = dict.fromkeys(curve.name for curve in seconds)
    figure, left, right = two_panels(caption, names)
    colours = colours_of(names)
    panels = (
        (left, seconds, "Time, there and back", "milliseconds"),
        (right, memory, "Memory beside q, k and v", "MiB"),
    )
    for axis, curves, title, unit in panels:
        for curve in curves:
            draw_curve(axis, curve, colours[curve.name])
        _finish(axis, curves, title, unit)
        name_curves(axis, curves, colours)
    save(figure, path)


def _finish(axis: Any, curves: Sequence[Curve], title: str, unit: str) -> None:
    axis.set_title(title, color=INK, loc="left", fontweight="bold", fontsize=12)
    axis.set_xlabel("positions", color=INK)
    axis.set_ylabel(unit, color=INK)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    ticks = sorted({x for curve in curves for x in curve.x})
    axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
