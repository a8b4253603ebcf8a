"""`kotya show patterns` and `kotya show cost`."""

from pathlib import Path

import pytest

from kotya.cli.main import run


def test_patterns_are_drawn_by_name_and_by_parts(tmp_path: Path) -> None:
    drawn = tmp_path / "patterns.svg"
    for arguments in (
        [],
        ["longformer", "{kind: window, left: 3, right: 0, dilation: 2}", "--causal"],
        ["bigbird", "--keys", "9"],
    ):
        assert run(["show", "patterns", *arguments, "--output", str(drawn)]) == 0
        assert "% of pairs" in drawn.read_text() or drawn.stat().st_size > 5000
        drawn.unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sliding"], "is no attention"),
        (["linear"], "is no pattern"),
        (["{kind: window, left: -1}"], "greater than or equal to 0"),
        (["{kind: global, positions: [99]}"], "past the end of a text of 24"),
        (["window", "--keys", "9", "--causal"], "a causal pattern is of one sequence"),
    ],
)
def test_what_is_no_pattern(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["show", "patterns", *arguments, "--output", str(tmp_path / "p.png")]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_cost_is_measured_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = tmp_path / "cost.png"
    assert run(["show", "cost", "full", "window", "--lengths", "64,128", "--output", str(drawn)]) == 0
    assert drawn.stat().st_size > 5000
    assert run(["show", "cost", "--lengths", "many", "--output", str(drawn)]) == 2
    assert "whole numbers" in capsys.readouterr().err
