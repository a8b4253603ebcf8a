"""Models averaged into one: the mean of their weights (Vaswani et al. 2017, section 6.1)."""

from collections.abc import Sequence
from pathlib import Path

from kotya import folder as folders
from kotya.errors import KotyaError
from kotya.training import checkpoint


def average(sources: Sequence[Path], output: Path, *, last: int | None = None) -> list[Path]:
    """Write the mean of model folders or checkpoints (with `last`: of one run's last ones) as a new model folder.

    Returns what was averaged. Raises KotyaError where there are fewer than two, or their weights differ in shape.
    """
    chosen = list(sources)
    if last is not None:
        if len(chosen) != 1:
            raise KotyaError("--last takes one run")
        chosen = checkpoint.list_checkpoints(chosen[0])[-last:]
    if len(chosen) < 2:
        raise KotyaError(f"to average takes two models or checkpoints at least; there are {len(chosen)}")
    run = owner(chosen[0])
    tensors = checkpoint.average(chosen)
    config, vocabularies = folders.read_config(run), folders.read_vocabularies(run)
    model = folders.build_empty(config.model, *(len(vocabulary) for vocabulary in vocabularies))
    folders.assign(model, tensors, run)
    folders.create(
        output, config=config, vocabularies=vocabularies, recipe=folders.read_recipe(run), model=model
    )
    return chosen


def owner(path: Path) -> Path:
    """The model folder a checkpoint belongs to; a model folder itself."""
    return path.parent.parent if path.parent.name == "checkpoints" else path
