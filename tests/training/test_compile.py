"""torch.compile as an option of training: the same losses as without."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from training_corpus import content


def losses(corpus: Path, run: Path, *, compile: bool) -> list[float]:
    """Of every update of a run of the command, in a process where types are not checked: that does not compile."""
    plan = content(corpus, updates=6, evaluate_every=10)
    plan["model"] |= {"dropout": 0.0, "attention_dropout": 0.0, "feed_forward_dropout": 0.0}
    plan["training"]["compile"] = compile
    recipe = run.with_suffix(".yaml")
    recipe.write_text(yaml.safe_dump(plan), encoding="utf-8")
    command = [sys.executable, "-m", "kotya", "train", str(recipe), "--output", str(run)]
    subprocess.run(command, check=True, capture_output=True)
    records = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [record["loss"] for record in records if "loss" in record]


@pytest.mark.slow
def test_a_compiled_model_learns_the_same(corpus: Path, tmp_path: Path) -> None:
    eager = losses(corpus, tmp_path / "eager", compile=False)
    assert len(eager) == 6
    assert losses(corpus, tmp_path / "compiled", compile=True) == pytest.approx(eager, rel=1e-4)
