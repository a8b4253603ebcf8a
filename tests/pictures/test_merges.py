"""The picture of merges: drawn for every kind of file, and one clear error otherwise."""

from pathlib import Path

import pytest

from kotya.errors import KotyaError
from kotya.pictures.merges import draw_merges
from kotya.text.bpe import learn_steps, segment_steps

WORDS = {"cat": 4, "mat": 5, "ate": 3}


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_drawn(tmp_path: Path, suffix: str) -> None:
    steps = list(learn_steps(WORDS))
    path = tmp_path / f"merges{suffix}"
    draw_merges(WORDS, steps, segment_steps("mates", [step.chosen for step in steps]), path)
    assert path.stat().st_size > 10_000
    draw_merges(WORDS, steps, [], path)


def test_errors(tmp_path: Path) -> None:
    steps = list(learn_steps(WORDS))
    with pytest.raises(KotyaError, match=r"a picture is a .png, .svg or .pdf"):
        draw_merges(WORDS, steps, [], tmp_path / "merges.txt")
    with pytest.raises(KotyaError, match="nothing to merge"):
        draw_merges({"a": 1}, [], [], tmp_path / "merges.png")
    many = {f"word{number}": 1 for number in range(200)}
    with pytest.raises(KotyaError, match="fewer words"):
        draw_merges(many, list(learn_steps(many, 1)), [], tmp_path / "merges.png")
