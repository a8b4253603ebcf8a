"""`kotya train`."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path | None, typer.Argument(help="The recipe, a YAML file.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.key=value, put over the recipe.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The model folder; runs/… of the recipe's name by default."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
) -> None:
    """Train a model as a recipe says.

    Example: kotya train recipes/multi30k/transformer.yaml training.seed=2 --output runs/de-en
    """
    from kotya import recipe as recipes
    from kotya.errors import KotyaError
    from kotya.training.progress import Terminal
    from kotya.training.run import train as run

    if recipe is None:
        raise KotyaError("which recipe? kotya train RECIPE")
    chosen = recipes.read(recipe, overrides or [])
    folder = output or Path("runs") / recipe.parent.name / recipe.stem
    outcome = run(chosen, folder, reporter=Terminal(), resume=resume, device=device)
    metrics = ", ".join(f"{name} {value:.2f}" for name, value in outcome.metrics.items())
    print(
        f"{folder}: {outcome.update:,} updates; dev {metrics}"
        if metrics
        else f"{folder}: {outcome.update:,} updates"
    )
