"""A program for test_resume: a small run, killed before one operation on its files after another, and resumed.

Each attempt is a fork, so that nothing is imported twice. The one that is killed also gets a SIGTERM after an update
that was evaluated, so that checkpoints of both kinds are written. It prints how many operations there were.
"""

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from kotya import recipe as recipes
from kotya.training.progress import Silent
from kotya.training.run import train

KILLED = 9
STOPPED = 6
"""The update after which the first attempt is asked to stop."""


class Stopping(Silent):
    def step(self, update: int, record: dict[str, float]) -> None:
        if update == STOPPED:
            signal.raise_signal(signal.SIGTERM)


def attempt(recipe: Path, run: Path, kill_before: int | None, *, stop: bool) -> int:
    """The exit code of one attempt: 0, or KILLED before the operation of that number, counted from 1."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = kill_before

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if left is None or event not in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            return
        if str(run) in str(arguments[0]) or arguments[-1] not in (
            None,
            -1,
        ):  # rmtree names files by their folder
            left -= 1
            if left == 0:
                os._exit(KILLED)

    sys.addaudithook(count)
    code = 1
    try:
        train(recipes.read(recipe), run, reporter=Stopping() if stop else Silent(), resume=True)
        code = 0
    finally:
        os._exit(code)


def state(run: Path) -> tuple[bytes, list[str]]:
    """What must be the same: the weights, and the updates that were logged."""
    log = (run / "metrics.jsonl").read_text().splitlines()
    return (run / "model.safetensors").read_bytes(), [line.split(",")[0] for line in log]


def main(recipe: Path, folder: Path, stride: int) -> None:
    whole, killed = folder / "whole", folder / "killed"
    assert attempt(recipe, whole, None, stop=False) == 0
    number = 1
    while attempt(recipe, killed, number, stop=True) == KILLED:
        assert attempt(recipe, killed, None, stop=False) == 0, f"not resumed after operation {number}"
        assert state(killed) == state(whole), f"another end after operation {number}"
        shutil.rmtree(killed)
        number += stride
    print(number)


main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
