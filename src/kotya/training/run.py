"""A run from its recipe: prepare the task, make or reopen the folder, and hand both to the loop."""

import os
from pathlib import Path

import torch

from kotya import folder as folders
from kotya.attention.reading import check_reading
from kotya.errors import KotyaError
from kotya.folder import FolderConfig
from kotya.recipe import Recipe
from kotya.tasks.guidance import Guidance
from kotya.tasks.translation import Translation, prepare, roles_of
from kotya.text.cleaning import describe
from kotya.training.loop import Loop, Outcome
from kotya.training.progress import Reporter, import_tensorboard
from kotya.training.resuming import note_data, reopen

_HELD_OUT = 1000
_SMALL = 8
"""Pieces of a model that is built only to see whether it can be."""


def train(
    recipe: Recipe, run: Path, *, reporter: Reporter, resume: bool = False, device: str = "cpu"
) -> Outcome:
    """Train what the recipe says into the folder `run`. Raises KotyaError where the folder holds another run."""
    training = recipe.training
    place = folders.find_device(device)
    check_parts(recipe)
    known = None
    if not folders.is_free(run):
        if not resume:
            raise KotyaError(
                f"{run}: there is something already; --resume goes on with a run, or name another --output"
            )
        for line in reopen(recipe, run):
            reporter.say(line)
        known = folders.read_vocabularies(run)
    elif resume:
        reporter.say(f"{run}: there is no run to go on with; one begins")
    vocabularies, tokens, dev = prepare(
        recipe.data, recipe.vocabulary, cache_folder(), recipe.data_root(), vocabularies=known, progress=True
    )
    reporter.say(f"training data: {describe(tokens.report)}")
    guided, guidance = training.guided_alignment, None
    if guided is not None:
        corpora = [files.corpus(recipe.data_root()) for files in recipe.data.train]
        guidance = Guidance.read(guided, corpora, tokens)
    task = Translation(
        vocabularies,
        tokens,
        dev,
        tokens=training.tokens,
        seed=training.seed,
        smoothing=training.label_smoothing,
        r_drop=training.r_drop,
        dropout=recipe.vocabulary.dropout,
        held_out=0 if dev else min(_HELD_OUT, len(tokens) // 10),
        guidance=guidance,
    )
    torch.manual_seed(training.seed)
    source, target = vocabularies
    model = recipe.model.build(len(source), len(target))
    count = sum(parameter.numel() for parameter in model.parameters())
    reporter.say(f"model: {count:,} parameters; vocabularies of {len(source):,} and {len(target):,} pieces")
    if known is None:
        config = FolderConfig(
            task=recipe.task, model=recipe.model, search=recipe.search, banned=list(roles_of(target).banned)
        )
        folders.create(run, config=config, vocabularies=vocabularies, recipe=recipe, model=None)
        note_data(recipe, run)
    loop = Loop(model, task, training, run, place, reporter)
    if known is not None:
        loop.resume()
    return loop.train()


def check_parts(recipe: Recipe) -> None:
    """Raises KotyaError where the parts of the model do not fit, before any work and before there is a folder."""
    model = folders.build_empty(recipe.model, _SMALL, _SMALL)
    if recipe.training.guided_alignment is not None:
        check_reading(model.decoder, recipe.training.guided_alignment)
    if recipe.training.tensorboard:
        import_tensorboard()


def cache_folder() -> Path:
    """Where token caches are kept: below XDG_CACHE_HOME, else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kotya" / "tokens"
