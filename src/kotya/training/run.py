"""A run from its recipe: prepare the task, make or reopen the folder, and hand both to the loop."""

import os
from pathlib import Path

import torch

from kotya import folder as folders
from kotya.errors import KotyaError
from kotya.tasks.settings import Known, TaskRecipe
from kotya.text.vocabularies import Vocabularies
from kotya.training.loop import Loop, Outcome
from kotya.training.progress import Reporter, import_tensorboard
from kotya.training.resuming import note_data, reopen


def train(
    recipe: TaskRecipe, run: Path, *, reporter: Reporter, resume: bool = False, device: str = "cpu"
) -> Outcome:
    """Train what the recipe says into the folder `run`. Raises KotyaError where the folder holds another run."""
    place = folders.find_device(device)
    recipe.check()
    if recipe.training.tensorboard:
        import_tensorboard()
    known = None
    if not folders.is_free(run):
        if not resume:
            raise KotyaError(
                f"{run}: there is something already; --resume goes on with a run, or name another --output"
            )
        for line in reopen(recipe, run):
            reporter.say(line)
        known = Known(folders.read_config(run), folders.read_vocabularies(run))
    elif resume:
        reporter.say(f"{run}: there is no run to go on with; one begins")
    prepared = recipe.prepare(known, cache_folder(), reporter.say)
    torch.manual_seed(recipe.training.seed)
    model = prepared.config.build(prepared.vocabularies)
    count = sum(parameter.numel() for parameter in model.parameters())
    reporter.say(f"model: {count:,} parameters; {sizes(prepared.vocabularies)}")
    if known is None:
        folders.create(
            run, config=prepared.config, vocabularies=prepared.vocabularies, recipe=recipe, model=None
        )
        note_data(recipe, run)
    loop = Loop(model, prepared.task, recipe.training, run, place, reporter)
    if known is not None:
        loop.resume()
    return loop.train()


def sizes(vocabularies: Vocabularies) -> str:
    """How many pieces there are, for the person."""
    source, target = vocabularies
    if source is target:
        return f"a vocabulary of {len(source):,} pieces"
    return f"vocabularies of {len(source):,} and {len(target):,} pieces"


def cache_folder() -> Path:
    """Where token caches are kept: below XDG_CACHE_HOME, else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kotya" / "tokens"
