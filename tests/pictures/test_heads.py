"""The picture of heads: a map a head, in its place, with its weights, words where they can be read, nothing cut off."""

from pathlib import Path

import numpy as np
import pytest

from caught import Catch
from kotya.pictures import heads
from kotya.pictures.heads import HeadMaps

SOURCE, TARGET = ["Я", "видел", "котю", "‹end›"], ["‹begin›", "I", "saw", "a", "cat"]


def kind(name: str, queries: list[str], keys: list[str], layers: int, count: int) -> HeadMaps:
    generator = np.random.default_rng(len(name))
    weights = generator.dirichlet(np.ones(len(keys)), size=(layers, count, len(queries)))
    return HeadMaps(name, queries, keys, list(weights))


KINDS = [kind("Encoder", SOURCE, SOURCE, 2, 3), kind("Cross", TARGET, SOURCE, 1, 3)]


def test_a_map_a_head_in_order(catch: Catch) -> None:
    figures = catch(heads)
    heads.draw_heads(KINDS, Path("h.png"), "a title")
    [figure] = figures
    expected = [weights for one in KINDS for layer in one.layers for weights in layer]
    assert len(figure.axes) == len(expected)
    for axis, weights in zip(figure.axes, expected, strict=True):
        [image] = axis.images
        np.testing.assert_array_equal(image.get_array(), weights)
        assert image.get_clim() == (0, 1)


def test_layers_go_down_and_heads_across(catch: Catch) -> None:
    figures = catch(heads)
    heads.draw_heads(KINDS, Path("h.png"))
    boxes = [axis.get_position() for axis in figures[0].axes]
    first, second, cross = boxes[:3], boxes[3:6], boxes[6:]
    for row in (first, second, cross):
        assert [box.x0 for box in row] == sorted(box.x0 for box in row)
        assert len({round(box.y0, 9) for box in row}) == 1
    assert first[0].y0 > second[0].y1 > second[0].y0 > cross[0].y1
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_words_stand_at_the_first_map_of_a_row_and_of_a_column(catch: Catch) -> None:
    figures = catch(heads)
    heads.draw_heads(KINDS, Path("h.png"))
    axes = figures[0].axes

    def words(axis: object, which: str) -> list[str]:
        return [label.get_text() for label in getattr(axis, f"get_{which}ticklabels")()]

    assert words(axes[0], "y") == SOURCE == words(axes[0], "x") == words(axes[2], "x")
    assert words(axes[1], "y") == [] == words(axes[3], "x")
    assert words(axes[6], "y") == TARGET
    texts = [text.get_text() for text in figures[0].texts]
    assert [text for text in texts if text.startswith("layer")] == ["layer 1", "layer 2", "layer 1"]
    assert texts.count("head 3") == 2


@pytest.mark.parametrize("word", ["a", "Donaudampfschifffahrt", "достопримечательность"])
def test_nothing_is_cut_off(catch: Catch, word: str) -> None:
    figures = catch(heads)
    heads.draw_heads([kind("Encoder", [word] * 4, [word] * 4, 1, 2)], Path("h.png"), "a title")
    [figure] = figures
    page = figure.bbox
    for axis in figure.axes:
        box = axis.get_tightbbox()
        assert page.x0 <= box.x0
        assert page.y0 <= box.y0
        assert box.x1 <= page.x1
        assert box.y1 <= page.y1
