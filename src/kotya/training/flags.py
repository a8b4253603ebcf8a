"""A recipe for a task named on the command line, with its files: the settings of its paper, each to be set over."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from kotya import recipe as recipes
from kotya.errors import KotyaError
from kotya.tasks.settings import TaskRecipe

FRESH: dict[str, dict[str, Any]] = {
    "masked_lm": {
        "model": "bert-tiny",
        "training": {"epochs": 10, "warmup": 0.1, "schedule": "linear", "weight_decay": 0.01},
    },
    "language_model": {
        "model": {"size": 256, "heads": 4, "feed_forward": 1024, "layers": 4, "max_length": 256},
        "training": {"epochs": 10, "length": 256, "warmup": 0.1, "schedule": "cosine", "weight_decay": 0.01},
    },
}
"""What is trained from nothing unless a base is given, and how."""
TUNED: dict[str, Any] = {"training": {"epochs": 3}}
"""How the others are tuned (Devlin et al. 2019, appendix A.3); batches and learning rate are the recipe's own."""

ADAPTED = 5e-4
"""The learning rate of an adapter, ten times that of a whole model."""
CONTINUED = 1e-4
"""That of going on with what is trained already, a tenth of that from nothing."""


def put_over(content: dict[str, Any], overrides: Sequence[str]) -> None:
    """Settings given by hand over those that were chosen; of the two ends of training the one by hand stays."""
    if any(one.startswith("training.updates=") for one in overrides):
        del content["training"]["epochs"]
    for override in overrides:
        recipes.put(content, override)


def recipe_of_flags(
    task: str, data: Sequence[Path], dev: Path | None, base: Path | None, overrides: Sequence[str]
) -> tuple[TaskRecipe, list[str]]:
    """The recipe and, line by line, what was chosen. Raises KotyaError for a task or files that are bad input."""
    tasks = [name for name in recipes.RECIPES if name != "translation"]
    if task not in tasks:
        hint = "; two files make a translator: --source and --target" if task == "translation" else ""
        raise KotyaError(f"--task {task}: there are {', '.join(tasks)}{hint}")
    for path in [*data, *([dev] if dev is not None else [])]:
        if not path.is_file():
            raise KotyaError(f"{path}: there is no such file")
    given = any(one.startswith(("model=", "model.")) for one in overrides)
    if base is None and not given and task not in FRESH:
        raise KotyaError(
            f"--task {task} starts from a model: --base FOLDER; or from nothing: model=bert-tiny"
        )
    settings = deepcopy(FRESH.get(task, TUNED))  # what is set by hand is of this recipe alone
    files: dict[str, Any] = {"root": ".", "train": [str(path.absolute()) for path in data]}
    if dev is not None:
        files["dev"] = str(dev.absolute())
    content: dict[str, Any] = {"task": task, "data": files, "training": settings["training"]}
    if base is not None:
        content["base"] = str(base)
    elif "model" in settings:
        content["model"] = settings["model"]
    if base is not None or any(one.startswith(("model=", "model.max_length=")) for one in overrides):
        content["training"].pop("length", None)  # it is of the length that the model here reads
    if any(one.startswith("adapt") for one in overrides):
        content["training"]["learning_rate"] = ADAPTED
    elif base is not None and task in FRESH:
        content["training"]["learning_rate"] = CONTINUED
    put_over(content, overrides)
    why = [
        f"{task}: {base or content['model']}, "
        + ", ".join(f"{k}={v}" for k, v in content["training"].items()),
        *(f"set by hand: {override}" for override in overrides),
    ]
    return recipes.parse(content, "the recipe of these flags"), why
