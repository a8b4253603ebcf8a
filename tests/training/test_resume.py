"""Promise 6: killed at any moment and resumed, a run ends with the same weights, bit for bit, as one never killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from kotya.errors import KotyaError
from kotya.training.progress import Silent
from kotya.training.run import train
from training_corpus import content, small_recipe


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def log_of(run: Path) -> list[tuple[int, bool]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [(json.loads(line)["update"], "dev" in line) for line in lines]


def run_command(recipe: Path, run: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kotya", "train", str(recipe), "--output", str(run), "--resume"]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(corpus: Path, tmp_path: Path) -> None:
    """One run is left alone; another is hit by every signal in turn, and resumed."""
    recipe = tmp_path / "recipe.yaml"
    plan = content(corpus, updates=60, evaluate_every=7, accumulate=2)
    recipe.write_text(yaml.safe_dump(plan), encoding="utf-8")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_command(recipe, whole).wait() == 0
    for sign, after in ((signal.SIGTERM, 8), (signal.SIGKILL, 20), (signal.SIGINT, 30)):
        process = run_command(recipe, killed)
        while process.poll() is None and steps(killed) < after:
            time.sleep(0.002)
        process.send_signal(sign)
        process.communicate()
        assert process.returncode == (-signal.SIGKILL if sign is signal.SIGKILL else 0)
        assert steps(killed) < 60
    assert run_command(recipe, killed).wait() == 0
    assert same_weights(whole, killed)
    assert log_of(whole) == log_of(killed)


def steps(run: Path) -> int:
    """The update of the newest whole checkpoint."""
    return max((int(path.name) for path in (run / "checkpoints").glob("[0-9]*")), default=0)


def test_a_run_is_not_overwritten_nor_resumed_under_another_recipe(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(small_recipe(corpus), run, reporter=Silent())
    with pytest.raises(KotyaError, match="--resume"):
        train(small_recipe(corpus), run, reporter=Silent())
    with pytest.raises(KotyaError, match=r"training\.clip=1\.0"):
        train(small_recipe(corpus, clip=2.0), run, reporter=Silent(), resume=True)


def test_the_written_recipe_rebuilds_the_run_by_itself(corpus: Path, tmp_path: Path) -> None:
    from kotya import recipe as recipes

    train(small_recipe(corpus), tmp_path / "first", reporter=Silent())
    again = recipes.read(tmp_path / "first" / "recipe.yaml")
    train(again, tmp_path / "second", reporter=Silent())
    assert same_weights(tmp_path / "first", tmp_path / "second")
