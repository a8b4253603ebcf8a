"""`kotya show`: a picture where it was asked for, one line and 2 otherwise."""

import json
from pathlib import Path

import pytest

from kotya.cli.main import run

TRACE = {
    "line": 0,
    "source": ["▁a"],
    "prefix": [],
    "steps": [
        {
            "open": [],
            "extensions": [
                {"id": 1, "parent": 0, "piece": "▁b", "sum": -0.1, "score": -0.1, "fate": "open"},
                {
                    "id": 2,
                    "parent": 0,
                    "piece": "▁c",
                    "sum": -3.0,
                    "score": -3.0,
                    "fate": "pruned: beyond the beam",
                },
            ],
        },
        {
            "open": [],
            "extensions": [
                {"id": 3, "parent": 1, "piece": "</s>", "sum": -0.3, "score": -0.15, "fate": "finished"}
            ],
        },
    ],
    "hypotheses": [{"pieces": ["▁b"], "log_probability": -0.3, "score": -0.15, "finished": True}],
}


def test_beams(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, picture = tmp_path / "trace.json", tmp_path / "b.svg"
    trace.write_text(json.dumps(TRACE) + "\n", encoding="utf-8")
    assert run(["show", "beams", str(trace), "-o", str(picture)]) == 0
    assert capsys.readouterr().out == f"{picture}\n"
    assert picture.stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["beams", "none.json"], "none.json"),
        (["beams", "trace.json", "--line", "2"], "there is no line 2"),
        (["beams", "trace.json", "-o", "b.gif"], "a picture is a .png"),
        (["lengths"], "model"),
        (["lengths", "none"], "there is no such model folder"),
        (["lengths", "none", "--source", "a"], "--source goes with --target"),
        (["positions", "-o", "none/p.png"], "no such folder"),
    ],
)
def test_refused(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("trace.json").write_text(json.dumps(TRACE) + "\n", encoding="utf-8")
    assert run(["show", *arguments]) == 2
    output = capsys.readouterr()
    assert len(output.err.splitlines()) == 1
    assert said in output.err.lower()
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]
