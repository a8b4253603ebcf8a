"""No word of an alignment picture is cut at its edge."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kotya.pictures import alignment


@pytest.mark.parametrize("words", [["a", "b", "of" * 14], ["word"] * 3, ["of" * 14, "a", "the"]])
def test_every_word_is_inside_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(alignment, "save", lambda figure, path: drawn.append(figure))
    alignment.draw_alignment(np.eye(3), words, words, tmp_path / "a.png")
    [figure] = drawn
    figure.savefig(tmp_path / "a.png")
    [axis] = figure.axes
    for label in [*axis.get_xticklabels(), *axis.get_yticklabels()]:
        box = label.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
