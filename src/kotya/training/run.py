"""A run from its recipe: prepare the task, make or reopen the folder, and hand both to the loop."""

from pathlib import Path

import torch
from torch import nn

from kotya import folder as folders
from kotya.errors import KotyaError
from kotya.models.packed_layers import stretched
from kotya.tasks.settings import Known, TaskRecipe
from kotya.text.cache import cache_folder
from kotya.text.vocabularies import Vocabularies
from kotya.training.checkpoint import list_checkpoints
from kotya.training.loop import Loop, Outcome
from kotya.training.progress import Reporter, import_tensorboard
from kotya.training.resuming import note_data, reopen

ENCODER, POOLER, FORM = "encoder.", "encoder.pooler.", ".attention.form."
"""What the names of an encoder's weights begin with in every model over one; what a base may lack."""


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
    base = recipe.starts_from()
    origin = known
    if origin is None and base is not None:
        origin = Known(folders.read_config(base), folders.read_vocabularies(base))
    prepared = recipe.prepare(origin, cache_folder(), reporter.say)
    torch.manual_seed(recipe.training.seed)
    model = prepared.config.build(prepared.vocabularies)
    count = sum(parameter.numel() for parameter in model.parameters())
    reporter.say(f"model: {count:,} parameters; {sizes(prepared.vocabularies)}")
    if base is not None and not list_checkpoints(run):
        reporter.say(adopt(model, base))
    if known is None:
        folders.create(
            run, config=prepared.config, vocabularies=prepared.vocabularies, recipe=recipe, model=None
        )
        note_data(recipe, run)
    loop = Loop(model, prepared.task, recipe.training, run, place, reporter)
    if known is not None:
        loop.resume()
    return loop.train()


def adopt(model: nn.Module, base: Path) -> str:
    """Give a model the weights of its base that it has a place for, all of the encoder's; says what is left fresh."""
    wanted = dict(model.named_parameters())
    tensors = stretched(folders.read_weights(base / folders.WEIGHTS), wanted)
    taken = {
        name: tensors[name]
        for name, parameter in wanted.items()
        if name in tensors and tensors[name].shape == parameter.shape
    }
    missing = [
        name
        for name in wanted
        if name.startswith(ENCODER) and name not in taken and POOLER not in name and FORM not in name
    ]
    if missing:
        name = missing[0]
        if name not in tensors:
            raise KotyaError(f"{base / folders.WEIGHTS}: the encoder's weight {name} is missing")
        found, needed = (" × ".join(map(str, one.shape)) for one in (tensors[name], wanted[name]))
        raise KotyaError(
            f"{base}: {name} is {found}, but config.json and tokenizer.json make it {needed}; "
            "the files of this base do not belong together"
        )
    with torch.no_grad():
        for name, tensor in taken.items():
            wanted[name].copy_(tensor)
    fresh = dict.fromkeys(name.rpartition(".")[0] or name for name in wanted if name not in taken)
    return f"weights of {base}; fresh: {', '.join(fresh) or 'none'}"


def sizes(vocabularies: Vocabularies) -> str:
    """How many pieces there are, for the person."""
    source, target = vocabularies
    if source is target:
        return f"a vocabulary of {len(source):,} pieces"
    return f"vocabularies of {len(source):,} and {len(target):,} pieces"
