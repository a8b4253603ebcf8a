"""The two figures on length: the very points, a colour a model in both, every name beside its curve and readable."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caught import Catch
from kotya.pictures import cost, lengths
from kotya.pictures.cost import draw_cost
from kotya.pictures.lengths import Curve, draw_lengths, spread

X, N = [5.5, 9.0, 14.2, 22.0], [4, 32, 512]
NAMES = ["rnn", "bahdanau", "luong-dot", "luong-bilinear", "cnn", "transformer"]
QUALITY = [
    Curve(name, X, y := [40 - i / 10 - x / 2 for x in X], [v - 2 for v in y], [v + 2 for v in y])
    for i, name in enumerate(NAMES)
]
TIMES = [Curve(name, N, [1 + i / 100 + n / 20 for n in N]) for i, name in enumerate(NAMES)]


def panels(catch: Catch) -> tuple[Any, Any, Any]:
    figures = catch(lengths)
    draw_lengths(QUALITY, TIMES, Path("l.png"), "costs $5 or $6")
    [figure] = figures
    return figure, *figure.axes


def test_the_points_are_the_curves(catch: Catch) -> None:
    _, *axes = panels(catch)
    for axis, curves in zip(axes, (QUALITY, TIMES), strict=True):
        lines = {line.get_gid(): line for line in axis.lines if line.get_gid()}
        assert list(lines) == NAMES
        for curve in curves:
            np.testing.assert_array_equal(lines[curve.name].get_xdata(), curve.x)
            np.testing.assert_array_equal(lines[curve.name].get_ydata(), curve.y)
    colours = [[line.get_color() for line in axis.lines if line.get_gid()] for axis in axes]
    assert colours[0] == colours[1]
    assert len(set(colours[0])) == len(NAMES)


def test_names_do_not_cover_each_other_and_are_in_their_colour(catch: Catch) -> None:
    figure, *axes = panels(catch)
    for axis in axes:
        names = [text for text in axis.texts if text.get_text() in NAMES]
        assert [text.get_text() for text in names] == NAMES
        boxes = [text.get_window_extent() for text in names]
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[i + 1 :])
            assert box.x1 <= figure.bbox.x1
        lines = {line.get_gid(): line.get_color() for line in axis.lines if line.get_gid()}
        assert {text.get_text(): text.get_color() for text in names} == lines


def test_all_that_is_drawn_can_be_seen(catch: Catch) -> None:
    _, quality, times = panels(catch)
    assert quality.get_ylim()[0] == 0
    assert quality.get_ylim()[1] > max(max(curve.high or ()) for curve in QUALITY)
    low, high = times.get_ylim()
    assert low < min(min(curve.y) for curve in TIMES)
    assert high > max(max(curve.y) for curve in TIMES)
    assert [label.get_text() for label in times.get_xticklabels()] == [str(n) for n in N]
    [rule] = [line for line in times.lines if line.get_linestyle() == ":"]
    x, y = rule.get_data()
    assert y[1] / y[0] == pytest.approx(x[1] / x[0])  # double length, double time


@pytest.mark.parametrize(
    "places", [[0.5], [0.1, 0.9], [0.5, 0.5, 0.5], [0.9, 0.1, 0.12, 0.11], [0.3, 0.2, 0.1]]
)
def test_spread(places: list[float]) -> None:
    moved = spread(places, 0.05)
    assert np.all(np.diff(np.sort(moved)) >= 0.05 - 1e-9)
    assert np.array_equal(np.argsort(moved, kind="stable"), np.argsort(places, kind="stable"))
    assert np.mean(moved) == pytest.approx(np.mean(places))
    if np.all(np.diff(np.sort(places)) >= 0.05):
        assert moved == pytest.approx(places)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"l{suffix}"
    draw_lengths(QUALITY[:1], TIMES[:1], path)
    assert path.stat().st_size > 5000


def test_more_forms_than_looks_and_long_names(catch: Catch) -> None:
    names = [f"{{kind: linear, features: favor, size: {100 + i}}}" for i in range(9)]
    curves = [Curve(name, [1024, 2048], [1.0 + i, 2.0 + i]) for i, name in enumerate(names)]
    figures = catch(cost)
    draw_cost(curves, curves, Path("unused.png"))
    [figure] = figures
    axes = figure.axes
    for axis in axes:
        boxes = [text.get_window_extent() for text in axis.texts if text.get_text() in names]
        assert len(boxes) == 9
        others = [other.get_window_extent() for other in axes if other is not axis]
        assert all(box.x1 <= figure.bbox.x1 for box in boxes)
        assert not any(box.overlaps(other) for box in boxes for other in others)
