"""A run from its recipe: prepare the task, make or reopen the folder, and hand both to the loop."""

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from kotya import folder as folders
from kotya.adapt.attach import attach, own
from kotya.errors import KotyaError
from kotya.tasks.settings import Known, TaskRecipe
from kotya.text.cache import cache_folder
from kotya.text.vocabularies import Vocabularies
from kotya.training.checkpoint import list_checkpoints
from kotya.training.loop import Loop, Outcome
from kotya.training.progress import Reporter, import_tensorboard
from kotya.training.resuming import note_data, reopen


def train(
    recipe: TaskRecipe, run: Path, *, reporter: Reporter, resume: bool = False, device: str = "auto"
) -> Outcome:
    """Train what the recipe says into the folder `run`. Raises KotyaError where the folder holds another run."""
    place = folders.find_device(device)
    if place.type == "cuda":
        reporter.say(f"device: {torch.cuda.get_device_name(place)}")
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
        known = Known(folders.read_config(run), folders.read_vocabularies(run, recipe.base))
    elif resume:
        reporter.say(f"{run}: there is no run to go on with; one begins")
    base = recipe.base
    origin = known
    if origin is None and base is not None:
        folders.check_whole(base)
        origin = Known(folders.read_config(base), folders.read_vocabularies(base))
    prepared = recipe.prepare(origin, cache_folder(), reporter.say)
    torch.manual_seed(recipe.training.seed)
    model = prepared.config.build(prepared.vocabularies)
    count = sum(parameter.numel() for parameter in model.parameters())
    reporter.say(f"model: {count:,} parameters; {sizes(prepared.vocabularies)}")
    taken: dict[str, Tensor] = {}
    if base is not None and (recipe.adapt is not None or not list_checkpoints(run)):
        taken = folders.base_weights(model, base, prepared.config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(taken.get(name, parameter))
    fresh = [name for name, _ in model.named_parameters() if name not in taken]
    if taken:
        layers = dict.fromkeys(name.rpartition(".")[0] or name for name in fresh)
        reporter.say(f"weights of {base}; fresh: {', '.join(layers) or 'none'}")
    config, learned = prepared.config, dict(model.named_parameters())
    if base is not None and recipe.adapt is not None:
        config = config.model_copy(update={"adapter": folders.describe_base(base, run, recipe.adapt)})
        if known is not None and known.config.adapter != config.adapter:  # the base lies elsewhere now
            folders.save_config(run, config)
        beside = folders.trained_beside(model, taken)
        attach(model, recipe.adapt, fresh=beside)
        learned = own(model, fresh=beside)
        if not learned:
            raise KotyaError(
                f"adapt: nothing would be trained, this task has no head beside {base}; name another kind than head"
            )
        reporter.say(weigh(learned, beside, count))
    if known is None:
        folders.create(run, config=config, vocabularies=prepared.vocabularies, recipe=recipe, tensors=None)
        note_data(recipe, run)
    loop = Loop(model, learned, prepared.task, recipe.training, run, place, reporter)
    if known is not None:
        loop.resume()
    return loop.train()


def weigh(own: dict[str, nn.Parameter], fresh: Collection[str], count: int) -> str:
    """What an adapter trains, and what it takes on the disk, for the person.

    `count`: parameters of the model without it, the fresh ones among them.
    """
    kept = sum(parameter.numel() for parameter in own.values())
    trained = sum(parameter.numel() for parameter in own.values() if parameter.requires_grad)
    count += sum(parameter.numel() for name, parameter in own.items() if name not in fresh)
    return (
        f"adapter: {trained:,} of {count:,} parameters are trained ({100 * trained / count:.2f} %), "
        f"{4 * kept / 1e6:.2f} MB on the disk"
    )


def sizes(vocabularies: Vocabularies) -> str:
    """How many pieces there are, for the person."""
    source, target = vocabularies
    if source is target:
        return f"a vocabulary of {len(source):,} pieces"
    return f"vocabularies of {len(source):,} and {len(target):,} pieces"
