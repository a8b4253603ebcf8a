"""`kotya average`."""

from pathlib import Path
from typing import Annotated

import typer


def average(
    sources: Annotated[list[Path], typer.Argument(help="Model folders or checkpoints; a run with --last.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    last: Annotated[
        int | None, typer.Option(min=2, help="Average the last so many checkpoints of one run.")
    ] = None,
) -> None:
    """Average the weights of models of one architecture into a new model folder.

    Example: kotya average runs/ru-en --last 5 --output runs/ru-en-averaged
    """
    from kotya.training.averaging import average as average_models

    chosen = average_models(sources, output, last=last)
    print(f"{output}: the mean of {', '.join(path.name for path in chosen)}")
