"""What a run may go on under: the recipe it began with, a longer budget aside, and the same data.

Otherwise its weights would be those of no recipe. The data is known by the contents of its files, wherever they lie.
"""

import json
from pathlib import Path

from kotya import folder as folders
from kotya import recipe as recipes
from kotya.config import differences
from kotya.errors import KotyaError
from kotya.files import write_text
from kotya.tasks.settings import TaskRecipe
from kotya.text.cache import content_hash
from kotya.training.checkpoint import list_checkpoints

DATA = "checkpoints/data.json"
"""In the folder of a run: a hash of every file it learns from or is chosen by."""

FREE = ("data.root", "data.test", "training.minutes", "training.patience", "training.tensorboard")
"""Settings, or sections of them, that no update depends on."""
BUDGET = ("training.updates", "training.epochs")
"""Settings that may grow."""


def check_unchanged(recipe: TaskRecipe, stored: TaskRecipe, run: Path, *, growing: bool = False) -> None:
    """Raises KotyaError naming every setting that is not as the run began; with `growing` the budget may be larger."""
    free = (
        FREE if recipe.adapt is None else (*FREE, "base")
    )  # an adapter knows its base by content, wherever it lies
    changed = [
        f"{key}={before} (now {now})"
        for key, (before, now) in differences(stored, recipe).items()
        if not key.startswith(free) and not (growing and key in BUDGET and before and now and now > before)
    ]
    if changed:
        raise KotyaError(
            f"{run}: began with {', '.join(changed)}; --resume needs the same recipe "
            "(training.updates or epochs may grow)"
        )


def reopen(recipe: TaskRecipe, run: Path) -> list[str]:
    """Prepare a run to go on, and say what is new of it.

    Raises KotyaError, with nothing written, where it is no run, not this one, or an adapter whose base is another.
    """
    if not (run / "recipe.yaml").exists():
        raise KotyaError(f"{run}: no run of `kotya train`: it has no recipe.yaml; name another --output")
    stored = recipes.read(run / "recipe.yaml")
    check_unchanged(recipe, stored, run, growing=True)
    adapter = folders.read_config(run).adapter
    if adapter is not None:
        folders.base_of(run, adapter, recipe.base)
    if list_checkpoints(run):
        check_data(recipe, run)
    else:
        note_data(recipe, run)
    if recipe == stored:
        return []
    write_text(run / "recipe.yaml", recipe.to_yaml())
    schedule = recipe.training.schedule
    if schedule in ("cosine", "linear") and any(key in BUDGET for key in differences(stored, recipe)):
        return [f"the budget has grown: the {schedule} schedule goes on as that of the longer run"]
    return []


def note_data(recipe: TaskRecipe, run: Path) -> None:
    """Write down what the data of a run is."""
    (run / DATA).parent.mkdir(exist_ok=True)
    write_text(run / DATA, json.dumps(hashes(recipe), indent=1) + "\n")


def check_data(recipe: TaskRecipe, run: Path) -> None:
    """Raises KotyaError naming the files whose contents are not those that the run began with."""
    try:
        began = dict[str, str](json.loads((run / DATA).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        raise KotyaError(
            f"{run / DATA}: missing or broken: what data the run began with is not known; train anew"
        ) from None
    files = recipe.data.learned_from(recipe.data_root())
    changed = [str(files[key]) for key, now in hashes(recipe).items() if began.get(key) != now]
    if changed:
        raise KotyaError(
            f"{', '.join(changed)}: changed since {run} began; --resume needs the data as it was; "
            "to train on what it is now, name another --output"
        )


def hashes(recipe: TaskRecipe) -> dict[str, str]:
    """Of the files that a run learns from or is chosen by, by their place in the recipe."""
    files = recipe.data.learned_from(recipe.data_root())
    return {key: content_hash(path) for key, path in files.items()}
