"""`kotya train`."""

from pathlib import Path
from typing import Annotated

import typer

from kotya.cli.options import AllowCode


def train(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [SECTION.KEY=VALUE]...", help="A YAML file, and what is put over it."
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="Instead of a recipe: a text file, a sentence a line.")
    ] = None,
    target: Annotated[Path | None, typer.Option(help="Its translation, line by line.")] = None,
    dev_source: Annotated[
        Path | None, typer.Option(help="Held-out text; part of the rest by default.")
    ] = None,
    dev_target: Annotated[Path | None, typer.Option(help="Its translation.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The model folder; below runs/ by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
    allow_code: AllowCode = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of recipes and leave.")
    ] = False,
) -> None:
    """Train a model as a recipe says, or on two text files.

    Example: kotya train recipes/multi30k/transformer.yaml training.seed=2 --output runs/de-en

    Example: kotya train --source train.ru --target train.en --output runs/ru-en
    """
    import json

    from kotya import recipe as recipes
    from kotya.errors import KotyaError
    from kotya.training.automatic import recipe_for
    from kotya.training.progress import Terminal
    from kotya.training.run import train as run

    if schema:
        print(json.dumps(recipes.schema(), indent=1))
        return
    terminal = Terminal()
    files = [Path(word) for word in recipe or [] if "=" not in word]
    overrides = [word for word in recipe or [] if "=" in word]
    if len(files) > 1:
        raise KotyaError(f"one recipe at a time; {files[1]} is the second")
    if source is not None or target is not None:
        if files or source is None or target is None:
            raise KotyaError("a recipe alone, or --source and --target together")
        if (dev_source is None) != (dev_target is None):
            raise KotyaError("--dev-source and --dev-target go together")
        dev = (dev_source, dev_target) if dev_source is not None and dev_target is not None else None
        chosen, why = recipe_for(source, target, dev, overrides)
        for reason in why:
            terminal.say(reason)
        folder = output or Path("runs") / f"{source.stem}-{target.suffix.lstrip('.')}"
    elif files:
        chosen = recipes.read(files[0], overrides)
        folder = output or Path("runs") / files[0].parent.name / files[0].stem
    elif resume and output is not None:
        chosen, folder = recipes.read(output / "recipe.yaml", overrides), output
    else:
        raise KotyaError("what to train on? kotya train RECIPE, or kotya train --source FILE --target FILE")
    outcome = run(chosen, folder, reporter=terminal, resume=resume, device=device)
    metrics = ", ".join(f"{name} {value:.2f}" for name, value in outcome.metrics.items())
    print(f"{folder}: {outcome.update:,} updates" + (f"; dev {metrics}" if metrics else ""))
