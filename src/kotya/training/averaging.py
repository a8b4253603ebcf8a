"""Models averaged into one: the mean of their weights (Vaswani et al. 2017, section 6.1)."""

from collections.abc import Sequence
from pathlib import Path

from kotya import folder as folders
from kotya.adapt.lora import LoRAConfig
from kotya.config import differences
from kotya.errors import KotyaError
from kotya.models.empty import build_empty
from kotya.training import checkpoint


def average(sources: Sequence[Path], output: Path, *, last: int | None = None) -> list[Path]:
    """Write the mean of model folders or checkpoints (with `last`: of one run's last ones) as a new model folder.

    Returns what was averaged. Raises KotyaError where there are fewer than two, or they are not of one architecture and
    vocabulary.
    """
    folders.check_free(output)
    chosen = list(sources)
    if last is not None:
        chosen = last_checkpoints(chosen, last)
    if len(chosen) < 2:
        raise KotyaError(f"to average takes two models or checkpoints at least; there is {len(chosen)}")
    check_alike(chosen)
    run = owner(chosen[0])
    config, vocabularies = folders.read_config(run), folders.read_vocabularies(run)
    model = build_empty(lambda: config.build(vocabularies))
    tensors = checkpoint.average(chosen, checkpoint.untrained(dict(model.named_parameters())))
    if config.adapter is None:
        folders.assign(model, tensors, run)
    else:
        base = folders.base_of(run, config.adapter)
        folders.adapt(model, config.adapter.adapt, tensors, base, run)
        config = config.model_copy(
            update={"adapter": folders.describe_base(base, output, config.adapter.adapt)}
        )
    folders.create(
        output, config=config, vocabularies=vocabularies, recipe=folders.read_recipe(run), tensors=tensors
    )
    return chosen


def last_checkpoints(runs: Sequence[Path], last: int) -> list[Path]:
    """The last so many of one run."""
    if len(runs) != 1:
        raise KotyaError(f"--last takes one run; there are {len(runs)}")
    [run] = runs
    folders.read_config(run)
    found = checkpoint.list_checkpoints(run)
    if len(found) < last:
        raise KotyaError(
            f"{run}: there are {len(found)} checkpoints, fewer than --last {last}; "
            "training.average says how many are kept"
        )
    return found[-last:]


def check_alike(sources: Sequence[Path]) -> None:
    """Raises KotyaError naming one that is no model, or what of its config or vocabulary is not as in the first."""
    first = owner(sources[0])
    config, vocabularies = folders.read_config(first), folders.read_vocabularies(first)
    for source in sources[1:]:
        run = owner(source)
        if run == first:
            continue
        other = folders.read_config(run)
        if (config.adapter and config.adapter.content) != (other.adapter and other.adapter.content):
            raise KotyaError(
                f"{source}: its base is not that of {sources[0]}; only equal models are averaged"
            )
        if isinstance(config.adapter and config.adapter.adapt, LoRAConfig):
            raise KotyaError(
                f"{source}: a LoRA of another run than {sources[0]}: the mean of factors is not that of what they "
                "change; kotya merge adds them, each with a weight"
            )
        unlike = differences(config.model, other.model)
        if config.adapter is not None and other.adapter is not None:
            unlike |= differences(config.adapter.adapt, other.adapter.adapt)
        if unlike:
            found = ", ".join(f"{key}={theirs}, not {mine}" for key, (mine, theirs) in unlike.items())
            raise KotyaError(f"{source}: its model is not that of {sources[0]}: {found}")
        for side, mine, theirs in zip(
            ("source", "target"), vocabularies, folders.read_vocabularies(run), strict=True
        ):
            if mine.fingerprint != theirs.fingerprint:
                raise KotyaError(
                    f"{source}: its {side} vocabulary is not that of {sources[0]}; only equal models are averaged"
                )


def owner(path: Path) -> Path:
    """The model folder a checkpoint belongs to; a model folder itself."""
    return path.parent.parent if path.parent.name == "checkpoints" else path
