"""Promise 6: killed at any moment and resumed, a run ends with the same weights, bit for bit, as one never killed."""

import json
import os
import random
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


def command(recipe: Path, run: Path) -> list[str]:
    return [sys.executable, "-m", "kotya", "train", str(recipe), "--output", str(run), "--resume"]


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    corpus: Path, tmp_path: Path, sign: signal.Signals
) -> None:
    torch.set_num_threads(1)
    recipe = tmp_path / "recipe.yaml"
    plan = content(corpus, updates=60, evaluate_every=7, accumulate=2)
    recipe.write_text(yaml.safe_dump(plan), encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(recipe, whole), env=environment, check=True, capture_output=True)
    process = subprocess.Popen(command(recipe, killed), env=environment, stderr=subprocess.PIPE)
    generator, log = random.Random(int(sign)), killed / "metrics.jsonl"
    until = generator.randint(8, 40)
    while process.poll() is None and not (
        log.exists() and list_checkpoints(killed) >= 1 and steps(killed) >= until
    ):
        time.sleep(0.005)
    process.send_signal(sign)
    process.communicate()
    if sign is not signal.SIGKILL:
        assert process.returncode == 0
    subprocess.run(command(recipe, killed), env=environment, check=True, capture_output=True)
    assert same_weights(whole, killed)
    assert log_of(whole) == log_of(killed)


def list_checkpoints(run: Path) -> int:
    return len(list((run / "checkpoints").glob("[0-9]*"))) if (run / "checkpoints").exists() else 0


def steps(run: Path) -> int:
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
