"""Training what is missing and measuring it: a rung that was climbed leaves a record in its model folder.

A rung that was stopped goes on where it stopped; one whose record is there is not touched again.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from kotya import folder as folders
from kotya import recipe as recipes
from kotya.errors import KotyaError
from kotya.files import write_text
from kotya.folder import read_weights
from kotya.inference.benchmark import machine
from kotya.inference.evaluation import evaluate, recipe_set
from kotya.inference.loading import load_translator
from kotya.inference.translator import Choice
from kotya.metrics import Score
from kotya.training.progress import Reporter
from kotya.training.resuming import check_unchanged
from kotya.training.run import train

RECORD = "ladder.json"


@dataclass(frozen=True)
class Record:
    """What a rung came to."""

    rung: str
    parameters: int
    updates: int
    minutes: float
    """Wall time of the loop, evaluations on the dev set included."""
    tokens_per_second: float
    """Target tokens, while it trained."""
    trained_on: str
    seed: int
    test: str
    lines: int
    beam: int
    scores: tuple[Score, ...]
    date: str

    @classmethod
    def read(cls, path: Path) -> "Record":
        """A record that was written. Raises KotyaError where it is none."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            scores = tuple(Score(**one) for one in content.pop("scores"))
            return cls(scores=scores, **content)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise KotyaError(
                f"{path}: not the record of a rung; remove it, and it is measured anew"
            ) from None

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        write_text(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def climb(
    rung: str, recipe_file: Path, run: Path, reporter: Reporter, *, device: str, workers: int
) -> tuple[Record, bool]:
    """The record of a rung, and whether it was made only now.

    Raises KotyaError where the run in the folder began under another recipe, and where training was stopped.
    """
    recipe = recipes.read(recipe_file)
    record = run / RECORD
    if record.exists():
        try:
            check_unchanged(recipe, recipes.read(run / "recipe.yaml"), run)
        except KotyaError as error:
            raise KotyaError(f"{error}; remove the folder to train it anew") from None
        return Record.read(record), False
    reporter.say(f"{rung}: {'goes on' if run.exists() else 'begins'} in {run}")
    outcome = train(recipe, run, reporter=reporter, resume=run.exists(), device=device)
    if not outcome.finished:
        raise KotyaError(f"{rung}: stopped after update {outcome.update:,}; the same command goes on there")
    made = measure(rung, run, outcome.update, recipe.training.seed, device=device, workers=workers)
    made.write(record)
    return made, True


def measure(rung: str, run: Path, updates: int, seed: int, *, device: str, workers: int) -> Record:
    """A finished run on its test set."""
    sources, references = recipe_set(run, "test")
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)  # as `kotya evaluate` does: a batch a core
    translator = load_translator(run, device=device)
    report = evaluate(translator, sources, references, Choice(translator.search), workers=workers)
    torch.set_num_threads(threads)
    minutes, speed = times(run / "metrics.jsonl")
    about = machine(device)
    return Record(
        rung=rung,
        parameters=sum(tensor.numel() for tensor in read_weights(run / folders.WEIGHTS).values()),
        updates=updates,
        minutes=minutes,
        tokens_per_second=speed,
        trained_on=f"{threads} core{'s' * (threads > 1)} of {about['cpu']}"
        if device == "cpu"
        else about["device"],
        seed=seed,
        test=sources.paths[0].stem,
        lines=report.lines,
        beam=translator.search.beam,
        scores=tuple(report.scores),
        date=datetime.now(UTC).date().isoformat(),
    )


def times(log: Path) -> tuple[float, float]:
    """Minutes that the loop took, and tokens a second between evaluations, from metrics.jsonl."""
    records: Sequence[dict[str, Any]] = [
        json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()
    ]
    steps = [one for one in records if "tokens" in one]
    seconds = sum(one["seconds_per_update"] for one in steps)
    return steps[-1]["seconds"] / 60, sum(one["tokens"] for one in steps) / seconds
