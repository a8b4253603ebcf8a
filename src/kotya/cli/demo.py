"""`kotya demo`."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the model, its data and the picture go.")
    ] = Path("kotya-demo"),
) -> None:
    """Train a small Russian-English translator in about a minute and see what it does.

    Needs no download: a grammar makes the sentences. Ends with an error where the held-out BLEU is under 90.

    Example:

        kotya demo
    """
    from kotya.demo.run import run
    from kotya.training.progress import Terminal

    terminal = Terminal()
    done = run(output, terminal, terminal.say)
    print()
    for pair, translation in done.translations:
        print(f"  {pair.russian}\n  → {translation}\n")
    print(f"Held-out BLEU over {done.test_size} sentences: {done.bleu.value:.1f} ({done.bleu.signature})")
    print(f"Trained in {done.training_seconds:.0f} s: {done.model}")
    print(f"Where the decoder looked: {done.picture}")
    kotya, data = command(), output / "data"
    print("\nTry next:")
    print(f'  echo "Девочка рисовала чёрного кота" | {kotya} translate {done.model}')
    print(f'  {kotya} show heads {done.model} "Я видел котю на мате" --output {output / "heads.png"}')
    print(f"  {kotya} evaluate {done.model}")
    print(f"  {kotya} benchmark {done.model}")
    print("and, with your own two files in place of these:")
    print(f"  {kotya} train --source {data / 'train.ru'} --target {data / 'train.en'} --output runs/ru-en")


def command() -> str:
    """How to call kotya from here: by name where the shell finds it, else by its path (after `make demo`)."""
    if shutil.which("kotya"):
        return "kotya"
    installed, here = Path(sys.executable).with_name("kotya"), Path.cwd()
    return str(installed.relative_to(here) if installed.is_relative_to(here) else installed)
