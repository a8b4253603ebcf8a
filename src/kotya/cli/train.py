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
    task: Annotated[
        str | None,
        typer.Option(
            help="Instead of a recipe: classification, relevance, tagging, masked_lm or language_model, with --data."
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="A training file of the task, in its form (see docs/data.md); may be given again."),
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Its dev set; held out of the training data by default.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            help="What to start from: a model folder (with --source and --target a translator), or an encoder's of "
            "Hugging Face's."
        ),
    ] = None,
    dev_source: Annotated[
        Path | None, typer.Option(help="Held-out text; part of the rest by default.")
    ] = None,
    dev_target: Annotated[Path | None, typer.Option(help="Its translation.")] = None,
    vocabulary: Annotated[
        list[Path] | None,
        typer.Option(
            help="A tokenizer.json (or a model folder, for its own) instead of learning one from the text, for both "
            "languages; given twice: the source's, the target's."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The model folder; below runs/ by default: runs/ru-en for two files."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    device: Annotated[str, typer.Option(help="auto: a GPU where there is one; cpu, cuda, cuda:1 …")] = "auto",
    allow_code: AllowCode = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of recipes and leave.")
    ] = False,
) -> None:
    """Train a model as a recipe says, on two text files, or on the file of a task.

    Example: kotya train recipes/multi30k/transformer.yaml training.seed=2 --output runs/de-en

    Example: kotya train --source train.ru --target train.en --vocabulary tokenizer.json

    Example: kotya train --task tagging --data train.conll --base runs/minilm training.epochs=5

    Example: kotya train --task classification --data train.tsv --base runs/minilm adapt.kind=lora

    Example: kotya train --output runs/ru-en --resume training.epochs=100
    """
    import json

    from kotya import recipe as recipes
    from kotya.errors import KotyaError
    from kotya.interop.base import with_imported_base
    from kotya.training.automatic import recipe_for, run_name
    from kotya.training.flags import recipe_of_flags
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
    if task is None and (data or dev is not None):
        raise KotyaError("--data and --dev go with --task; a recipe has keys")
    if base is not None and task is None and source is None and target is None:
        raise KotyaError("--base goes with --task, or with --source and --target; a recipe has a key")
    if task is not None:
        if files or source is not None or target is not None or not data:
            raise KotyaError("--task goes with --data FILE, and with no recipe")
        if vocabulary or dev_source is not None or dev_target is not None:
            raise KotyaError(
                "--vocabulary, --dev-source and --dev-target are a translator's; a task has --dev"
            )
        chosen, why = recipe_of_flags(task, data, dev, base, overrides)
        for reason in why:
            terminal.say(reason)
        folder = output or Path("runs") / f"{task}-{data[0].name.partition('.')[0]}"
    elif source is not None or target is not None:
        if files or source is None or target is None:
            raise KotyaError("a recipe alone, or --source and --target together")
        if (dev_source is None) != (dev_target is None):
            raise KotyaError("--dev-source and --dev-target go together")
        held = (dev_source, dev_target) if dev_source is not None and dev_target is not None else None
        if len(vocabulary or []) > 2:
            raise KotyaError(
                "--vocabulary is given once for both languages, or twice: the source's, the target's"
            )
        if base is not None and vocabulary:
            raise KotyaError(f"the base {base} brings its own vocabulary; leave one of the two out")
        chosen, why = recipe_for(source, target, held, overrides, vocabularies=vocabulary or [], base=base)
        for reason in why:
            terminal.say(reason)
        folder = output or Path("runs") / run_name(source, target)
    elif vocabulary or dev_source is not None or dev_target is not None:
        raise KotyaError(
            "--vocabulary, --dev-source and --dev-target go with --source and --target; a recipe has keys"
        )
    elif files:
        chosen = recipes.read(files[0], overrides)
        folder = output or Path("runs") / files[0].parent.name / files[0].stem
    elif resume and output is not None:
        if not (output / "recipe.yaml").exists():
            raise KotyaError(f"{output}: there is no run to go on with: it has no recipe.yaml")
        chosen, folder = recipes.read(output / "recipe.yaml", overrides), output
    else:
        raise KotyaError(
            "what to train on? kotya train RECIPE; --source FILE --target FILE; --task TASK --data FILE"
        )
    chosen = with_imported_base(chosen, terminal.say)
    outcome = run(chosen, folder, reporter=terminal, resume=resume, device=device)
    metrics = ", ".join(f"{name} {value:.2f}" for name, value in outcome.metrics.items())
    print(f"{folder}: {outcome.update:,} updates" + (f"; dev {metrics}" if metrics else ""))
