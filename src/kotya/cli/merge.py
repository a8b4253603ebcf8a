"""`kotya merge`."""

from pathlib import Path
from typing import Annotated

import typer

from kotya.cli.options import Base


def merge(
    adapters: Annotated[
        list[str],
        typer.Argument(
            metavar="ADAPTER[=WEIGHT]...", help="Folders of adapters of one base; weight 1 by default."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    base: Base = None,
) -> None:
    """Make an adapter part of its base: a whole model, as fast as the base alone. Several LoRAs add up.

    Example: kotya merge runs/hotels --output runs/ru-en-hotels

    Example: kotya merge runs/hotels=0.7 runs/news=0.3 --output runs/ru-en-both
    """
    import math

    from kotya.errors import KotyaError
    from kotya.training.merging import merge as merge_adapters

    chosen = []
    for word in adapters:
        name, equals, said = word.rpartition("=")
        if not equals or Path(word).exists():  # a folder's own name may hold a sign of equality
            chosen.append((Path(word), 1.0))
            continue
        try:
            weight = float(said)
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight):
            raise KotyaError(f"{word}: {said!r} is no weight; write ADAPTER=0.5")
        chosen.append((Path(name), weight))
    merge_adapters(chosen, output, base=base)
    print(f"{output}: {', '.join(adapters)} and their base, in one")
