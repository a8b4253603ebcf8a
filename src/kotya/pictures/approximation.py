"""How the error of random features falls as there are more of them."""

from collections.abc import Sequence
from pathlib import Path

from kotya.pictures.canvas import FAINT, INK, save
from kotya.pictures.lengths import Curve, draw_curve, name_curves, two_panels


def draw_approximation(
    by_spread: Sequence[Curve], by_drawing: Sequence[Curve], path: Path, caption: str = ""
) -> None:
    """Errors against the number of features, both by doubling, and the line of 1/√r; medians and quartiles."""
    figure, left, right = two_panels(caption, [curve.name for curve in (*by_spread, *by_drawing)])
    panels = (
        (left, "The sharper the attention, the harder", by_spread, 0),
        (right, "Orthogonal features and independent ones", by_drawing, len(by_spread)),
    )
    for axis, title, curves, first in panels:
        colours = {curve.name: first + i for i, curve in enumerate(curves)}
        for curve in curves:
            draw_curve(axis, curve, colours[curve.name])
        axis.set_title(title, color=INK, loc="left", fontweight="bold", fontsize=12)
        axis.set_xlabel("random features", color=INK)
        axis.set_ylabel("share of the weight that lies elsewhere", color=INK)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        ticks = list(curves[0].x)
        axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
        line = [0.7 * min(curve.y[0] for curve in curves) * (ticks[0] / x) ** 0.5 for x in ticks]
        lowest = min(line[-1], *(min(curve.low or curve.y) for curve in curves))
        axis.set_ylim(0.8 * lowest, 1.3 * max(max(curve.high or curve.y) for curve in curves))
        axis.plot(ticks, line, color=FAINT, linewidth=1, linestyle=":")
        axis.annotate("1/√r", (ticks[0], line[0]), xytext=(0, -14), textcoords="offset points", color=FAINT)
        name_curves(axis, curves, colours)
    save(figure, path)
