"""Promise 6: killed at any moment and resumed, a run ends with the same weights, bit for bit, as one never killed."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from kotya import recipe as recipes
from kotya.errors import KotyaError
from kotya.tasks.translation_recipe import TranslationRecipe
from kotya.training.checkpoint import list_checkpoints
from kotya.training.loop import Loop
from kotya.training.progress import Silent
from kotya.training.run import train
from training_corpus import content, sentences, small_recipe, write

pytestmark = pytest.mark.usefixtures("unchecked")


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
    """One run is left alone; another is hit by one signal after the other, and resumed."""
    recipe = tmp_path / "recipe.yaml"
    plan = content(corpus, updates=32, evaluate_every=4, accumulate=2)
    recipe.write_text(yaml.safe_dump(plan), encoding="utf-8")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(recipes.read(recipe), whole, reporter=Silent())
    for sign, after in ((signal.SIGKILL, 4), (signal.SIGINT, 12)):
        process = run_command(recipe, killed)
        while process.poll() is None and steps(killed) < after:
            time.sleep(0.002)
        process.send_signal(sign)
        process.communicate()
        assert process.returncode == (-signal.SIGKILL if sign is signal.SIGKILL else 0)
        assert steps(killed) < 32
    assert train(recipes.read(recipe), killed, reporter=Silent(), resume=True).finished
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
    for changes, message in (
        (
            {"training": {"clip": 2.0, "seed": 3}},
            r"began with training\.clip=1\.0 \(now 2\.0\), training\.seed=1",
        ),
        ({"model": {"heads": 4}}, r"model\.heads=2 \(now 4\)"),
        ({"vocabulary": {"size": 290}}, r"vocabulary\.size=300 \(now 290\)"),
        (
            {"data": {"train": {"source": "dev.src", "target": "dev.tgt"}}},
            r"data\.train\.0\.source=train\.src",
        ),
        ({"training": {"updates": 11}}, r"training\.updates=12 \(now 11\)"),
    ):
        with pytest.raises(KotyaError, match=message):
            train(changed(corpus, changes), run, reporter=Silent(), resume=True)


def changed(corpus: Path, changes: dict[str, dict[str, Any]], **training: Any) -> TranslationRecipe:
    """The small recipe with other settings in its sections."""
    plan = content(corpus, **training)
    sections = {key: part if key == "task" else part | changes.get(key, {}) for key, part in plan.items()}
    return recipes.parse(sections, "test")


@pytest.mark.parametrize("name", ["train.src", "train.tgt", "dev.src", "dev.tgt"])
def test_other_data_under_the_same_name_is_refused(corpus: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    train(small_recipe(corpus), run, reporter=Silent())
    text = (corpus / name).read_text()
    (corpus / name).write_text(text.replace("o", "a", 1))
    with pytest.raises(KotyaError, match=rf"^{corpus / name}: changed since {run} began"):
        train(small_recipe(corpus, updates=16), run, reporter=Silent(), resume=True)
    (corpus / name).write_text(text)
    (run / "checkpoints/data.json").unlink()
    with pytest.raises(KotyaError, match="what data the run began with is not known"):
        train(small_recipe(corpus, updates=16), run, reporter=Silent(), resume=True)


def test_a_longer_budget_goes_on_to_where_the_longer_run_ends(corpus: Path, tmp_path: Path) -> None:
    """The data may lie elsewhere meanwhile, and what no update depends on may be another."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(small_recipe(corpus, updates=24), whole, reporter=Silent())
    train(small_recipe(corpus, updates=12), run, reporter=Silent())
    moved = corpus.rename(tmp_path / "moved")
    write(moved, "test", sentences(3, 5))
    test = {"data": content(moved)["data"] | {"test": {"source": "test.src", "target": "test.tgt"}}}
    longer = changed(moved, test, updates=24, minutes=10, patience=9)
    train(longer, run, reporter=Silent(), resume=True)
    assert same_weights(whole, run)
    assert log_of(whole) == log_of(run)
    assert recipes.read(run / "recipe.yaml") == longer


def test_a_run_that_stopped_early_is_over_until_it_may_be_more_patient(corpus: Path, tmp_path: Path) -> None:
    plan = {"learning_rate": 1e-12, "patience": 2, "updates": 20, "evaluate_every": 2}
    run = tmp_path / "run"
    for patience, update in ((2, 6), (2, 6), (3, 8)):
        recipe = small_recipe(corpus, **plan | {"patience": patience})
        assert train(recipe, run, reporter=Silent(), resume=True).update == update


class Dies(Silent):
    """Shows nothing, and fails at an update."""

    def __init__(self, last: int) -> None:
        self.last = last

    def step(self, update: int, record: dict[str, float]) -> None:
        if update == self.last:
            raise ZeroDivisionError


def test_no_curve_of_tensorboard_runs_twice(corpus: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run, recipe = tmp_path / "run", small_recipe(corpus, tensorboard=True, updates=42, evaluate_every=16)
    for last in (30, 50):
        with suppress(ZeroDivisionError):
            train(recipe, run, reporter=Dies(last), resume=True)
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [one.step for one in events.Scalars("train/loss")] == [20, 40]
    assert [one.step for one in events.Scalars("dev/BLEU")] == [16, 32, 42]


class Says(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said = ""

    def say(self, text: str) -> None:
        self.said += text + "\n"


def test_what_is_there_to_resume_is_said(corpus: Path, tmp_path: Path) -> None:
    run, says = tmp_path / "run", Says()
    run.mkdir()
    assert train(small_recipe(corpus), run, reporter=says, resume=True).finished
    assert f"{run}: there is no run to go on with" in says.said
    train(small_recipe(corpus, schedule="cosine"), tmp_path / "other", reporter=Silent())
    train(small_recipe(corpus, schedule="cosine", updates=16), tmp_path / "other", reporter=says, resume=True)
    assert "resuming after update 12" in says.said
    assert "the cosine schedule goes on as that of the longer run" in says.said
    (run / "recipe.yaml").unlink()
    with pytest.raises(KotyaError, match=r"it has no recipe\.yaml"):
        train(small_recipe(corpus), run, reporter=Silent(), resume=True)


def test_the_written_recipe_rebuilds_the_run_by_itself(corpus: Path, tmp_path: Path) -> None:
    train(small_recipe(corpus), tmp_path / "first", reporter=Silent())
    again = recipes.read(tmp_path / "first" / "recipe.yaml")
    train(again, tmp_path / "second", reporter=Silent())
    assert same_weights(tmp_path / "first", tmp_path / "second")


class Killed(BaseException):
    """What no code catches."""


def die(_: Loop) -> None:
    raise Killed


class Stopping(Silent):
    """Asks the run to stop after an update."""

    def __init__(self, update: int) -> None:
        self.update = update

    def step(self, update: int, record: dict[str, float]) -> None:
        if update == self.update:
            signal.raise_signal(signal.SIGTERM)


def patient(corpus: Path, average: int) -> TranslationRecipe:
    """At a learning rate that changes next to nothing no evaluation is better than the first."""
    return small_recipe(
        corpus, updates=100, evaluate_every=2, learning_rate=1e-12, patience=2, average=average
    )


@pytest.mark.parametrize("average", [1, 2])
def test_patience_ends_a_resumed_run_where_it_ends_an_undisturbed_one(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: int
) -> None:
    """Resumed after its end, after a signal on the way, and where it was killed with patience at its end."""
    recipe, whole, stopped, cut = (patient(corpus, average), *(tmp_path / name for name in "abc"))
    outcome = train(recipe, whole, reporter=Silent())
    assert (outcome.update, outcome.finished) == (6, True)
    log = log_of(whole)
    assert not train(recipe, stopped, reporter=Stopping(4)).finished
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_finish", die)
        with pytest.raises(Killed):
            train(recipe, cut, reporter=Silent())
    before = (whole / "model.safetensors").read_bytes()
    for run in (whole, stopped, cut):
        assert train(recipe, run, reporter=Silent(), resume=True) == outcome
        assert log_of(run) == log
        assert (run / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("stride", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_before_any_operation_on_files_loses_nothing(
    corpus: Path, tmp_path: Path, stride: int
) -> None:
    recipe = tmp_path / "recipe.yaml"
    plan = content(corpus, updates=8, evaluate_every=2)
    recipe.write_text(yaml.safe_dump(plan), encoding="utf-8")
    command = [sys.executable, Path(__file__).with_name("killed_anywhere.py"), recipe, tmp_path, str(stride)]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 25


@pytest.fixture
def halfway(corpus: Path, tmp_path: Path) -> tuple[TranslationRecipe, Path]:
    """A run that was stopped after update 6 of 12; its checkpoints are 4, of weights alone, and 6."""
    recipe, run = small_recipe(corpus), tmp_path / "halfway"
    train(recipe, run, reporter=Stopping(6))
    names = {path.name: (path / "optimizer.safetensors").exists() for path in list_checkpoints(run)}
    assert names == {"0000004": False, "0000006": True}
    return recipe, run


@pytest.mark.parametrize(
    "cut", ['{"update": 7, "loss": 4.', '{"update": 8, "dev": {"BLEU": 0.5}', "\x00\x00"]
)
def test_a_log_line_that_a_kill_cut_short_is_taken_back(
    halfway: tuple[TranslationRecipe, Path], cut: str
) -> None:
    recipe, run = halfway
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as log:
        log.write(cut)
    assert train(recipe, run, reporter=Silent(), resume=True).update == 12
    assert [update for update, dev in log_of(run) if not dev] == list(range(1, 13))


def test_a_damaged_log_or_checkpoint_is_named(halfway: tuple[TranslationRecipe, Path]) -> None:
    recipe, run = halfway
    log, progress = run / "metrics.jsonl", run / "checkpoints" / "0000006" / "progress.json"
    logged, stood = log.read_text(), progress.read_text()
    log.write_text("nonsense\n" + logged)
    with pytest.raises(KotyaError, match=r"metrics\.jsonl:1: not a record"):
        train(recipe, run, reporter=Silent(), resume=True)
    log.write_text(logged)
    progress.write_text(stood[:-3])
    with pytest.raises(KotyaError, match=r"0000006/progress\.json: broken or cut short"):
        train(recipe, run, reporter=Silent(), resume=True)


def test_a_run_goes_on_from_the_newest_checkpoint_with_an_optimizer(
    halfway: tuple[TranslationRecipe, Path],
) -> None:
    recipe, run = halfway
    whole = run / "checkpoints" / "0000006"
    later = whole.with_name("0000007")
    later.mkdir()
    for name in ("model.safetensors", "progress.json"):
        (later / name).write_bytes((whole / name).read_bytes())
    assert train(recipe, run, reporter=Silent(), resume=True).update == 12
    for optimizer in (run / "checkpoints").rglob("optimizer.safetensors"):
        optimizer.unlink()
    with pytest.raises(KotyaError, match="no checkpoint is whole"):
        train(recipe, run, reporter=Silent(), resume=True)
