"""`kotya show patterns`, `kotya show cost` and `kotya show approximation`."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from kotya.attention.packed import Packing
from kotya.attention.patterns import Global
from kotya.cli.main import run
from kotya.inference import attention_forms
from kotya.inference.attention_forms import SMALL
from kotya.models.bert import BertConfig
from kotya.pictures import patterns


def drawn(arguments: list[str], path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, str]]:
    """By the name above each picture: the share of its cells that are dark, and what is printed of it."""
    figures: list[Any] = []
    monkeypatch.setattr(patterns, "save", lambda figure, path: figures.append(figure))
    assert run(["show", "patterns", *arguments, "--output", str(path)]) == 0
    (figure,) = figures
    said = [text.get_text() for text in figure.texts]
    cells = [axis.images[0].get_array() for axis in figure.axes]
    shares = [float((one > 0).mean()) for one in cells]
    return {name: (share, text) for name, text, share in zip(said[::2], said[1::2], shares, strict=True)}


@pytest.mark.parametrize(
    ("arguments", "counts"),
    [
        (["{kind: window, left: 3, right: 0}"], [sum(min(q, 3) + 1 for q in range(24))]),
        (["{kind: window, left: 3, right: 2}", "--causal"], [sum(min(q, 3) + 1 for q in range(24))]),
        (["{kind: global, positions: 2}"], [2 * 24 + 22 * 2]),
        (["full", "full"], [24 * 24]),
        (["{kind: random, blocks: 1, size: 8}", "--heads", "2", "--layer", "3"], None),
        (["{kind: heads, of: [{kind: window, left: 0, right: 0}, full]}", "--heads", "8"], [24, 24 * 24]),
        # three blocks of 8 and a text of 3: the second of 3 blocks sees all three
        (["{kind: block_sparse, size: 8, random: 0}"], [24 * 24]),
        # of 6 blocks of 4 the first and the last see all; the second and the fifth 4; those between 5
        (["{kind: block_sparse, size: 4, random: 0}"], [16 * (6 + 6 + 4 + 5 + 5 + 4)]),
    ],
)
def test_patterns_show_the_share_of_pairs(
    arguments: list[str], counts: list[int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As counted by hand; of three random blocks two drew one before them, and are seen by it: 4 of 9 in every head."""
    found = drawn(arguments, tmp_path / "p.png", monkeypatch)
    counts = [4 * 64, 4 * 64] if counts is None else counts
    assert len(found) == len(counts)
    for (share, text), count in zip(found.values(), counts, strict=True):
        assert share == pytest.approx(count / 24**2, abs=1e-9)
        assert text == f"{100 * count / 24**2:.3g} % of pairs"


def test_the_masks_of_the_lecture_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = drawn([], tmp_path / "p.png", monkeypatch)
    assert list(found) == list(SMALL)
    for name, (pattern,) in SMALL.items():
        mask = pattern.bind(24, 24).mask()
        assert found[name][0] == pytest.approx(sum(map(sum, mask.tolist())) / 24**2, abs=1e-9)


@pytest.mark.parametrize("length", [100, 600, 4000])
def test_one_global_position_of_thousands_shows(length: int) -> None:
    cells = patterns.shades(Global((length // 3,)).bind(length, length).mask())
    line = len(cells) // 3
    assert float(cells[line].min()) > 0.3
    assert float(cells[:, line].min()) > 0.3
    assert int((cells > 0).sum()) <= 2 * 2 * len(cells)


def test_patterns_are_written(tmp_path: Path) -> None:
    file = tmp_path / "patterns.svg"
    for arguments in (["bigbird", "--keys", "9"], ["{kind: heads, of: [window, full]}", "--causal"]):
        assert run(["show", "patterns", *arguments, "--output", str(file)]) == 0
        file.unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sliding"], "is no attention"),
        (["linear"], "is no pattern"),
        (["{kind: window, left: -1}"], "left: -1 should be greater than or equal to 0"),
        (["{kind: any, of: [window, {kind: random, blocks: -3}]}"], "of.1: -3 should be"),
        (["{kind: window, lft: 1}"], "no key 'lft'; the nearest is 'left'"),
        (["{kind: random, size: 0}"], "no attention: size: 0 should be"),
        (["{kind: random, size: 1000000000000000000000}"], "size: 1000000000000000000000 should be"),
        (["{left: 1}"], "no attention: the key 'kind' is missing"),
        (["{kind: any, of: [window, {left: 1}]}"], "no attention: the key 'of.1.kind' is missing"),
        (["3"], "no attention: 3 should be"),
        (["{kind: window"], "no YAML"),
        (["{kind: global, positions: [3, 99]}"], "position 99 is to be global, and there are 24, from 0 on"),
        (["window", "--keys", "9", "--causal"], "a causal pattern is of one sequence"),
        (["block_sparse", "--causal"], "of a whole text that reads itself"),
        (["block_sparse", "--keys", "9"], "of a whole text that reads itself"),
        (["{kind: heads, of: [window, full]}", "--heads", "3"], "3 heads cannot share 2 patterns"),
    ],
)
def test_what_is_no_pattern(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["show", "patterns", *arguments, "--output", str(tmp_path / "p.png")]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_says_which_kernel_it_chose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    window = "{kind: window, left: 7, right: 31}"  # one that no other test has: each is told once
    arguments = ["show", "cost", window, "--lengths", "600", "--output", str(tmp_path / "cost.png")]
    assert run(["-v", *arguments]) == 0
    said = capsys.readouterr().err
    assert "Window(left=7, right=31, dilation=1) by kernel blocks" in said
    assert run(arguments) == 0
    assert "kernel" not in capsys.readouterr().err


def test_cost_is_measured_and_drawn(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = tmp_path / "cost.png"
    assert run(["show", "cost", "full", "window", "--lengths", "64,128", "--output", str(drawn)]) == 0
    assert drawn.stat().st_size > 5000
    assert "not tried" not in caplog.text
    monkeypatch.setattr(attention_forms, "SECONDS", 0.0)
    assert run(["show", "cost", "full", "--lengths", "64,128", "--output", str(drawn)]) == 0
    assert "full: not tried from 128 positions on" in caplog.text
    assert run(["show", "cost", "--lengths", "many", "--output", str(drawn)]) == 2
    assert "whole numbers" in capsys.readouterr().err


def test_approximation_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = tmp_path / "a.svg"
    few = ["--length", "16", "--size", "8", "--draws", "2", "--output", str(drawn)]
    assert run(["show", "approximation", "--features", "32,8", *few]) == 0
    assert capsys.readouterr().out == f"{drawn}\n"
    assert "independent" in drawn.read_text(encoding="utf-8")
    assert run(["show", "approximation", "--features", "0", *few]) == 2
    assert "numbers from 1 on" in capsys.readouterr().err
    assert run(["show", "approximation", "--features", "8,15", *few]) == 2
    assert "even numbers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("length", "kernel", "by"), [(30, "auto", "dense"), (600, "dense", "dense"), (30, "blocks", "blocks")]
)
def test_every_layer_says_once_by_which_kernel_its_pattern_is(
    length: int, kernel: str, by: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each case has windows that no other has: each is told once."""
    left = {30: 11, 600: 12}[length] + 10 * (kernel == "blocks")
    attention = [
        {"kind": "window", "left": left, "right": 1},
        "full",
        {"kind": "window", "left": left, "right": 2},
    ]
    config = BertConfig.model_validate(
        {
            "size": 8,
            "heads": 2,
            "feed_forward": 8,
            "layers": 3,
            "max_length": 600,
            "attention": attention,
            "kernel": kernel,
        }
    )
    model = config.build(9).eval()
    with caplog.at_level(logging.INFO, logger="kotya"), torch.no_grad():
        for _ in range(2):
            model(torch.zeros(length, dtype=torch.long), Packing.of([length]))
    said = [
        f"layer {layer}: Window(left={left}, right={right}, dilation=1) by kernel {by}"
        for layer, right in ((0, 1), (2, 2))
    ]
    assert caplog.messages == said
