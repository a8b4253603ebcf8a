"""Options of commands that read word alignments off a model's attention, and how alignments are written."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kotya.cli.options import json_line
from kotya.errors import KotyaError

if TYPE_CHECKING:
    from kotya.inference.alignment import WordAlignment

Layer = Annotated[
    str | None,
    typer.Option(
        metavar="N|mean", help="Whose attention: from 1 at the bottom, -1 the last (default), or the mean."
    ),
]
Head = Annotated[
    str | None, typer.Option(metavar="N|mean", help="Which head of it, from 1; by default the mean.")
]
Symmetrize = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="MODEL",
        help="A model of the other direction; the two alignments become one. Given again, those models vote.",
    ),
]


class Step(StrEnum):
    """When a target word's attention is taken."""

    OUTPUT = "output"
    INPUT = "input"


AtStep = Annotated[
    Step | None,
    typer.Option(
        help="output: what was looked at while choosing a word (default); input: once it was read, "
        "often the better alignment of a Transformer (Chen et al. 2020)."
    ),
]


class Heuristic(StrEnum):
    """How two directions become one; the names of `text.symmetrization`."""

    GROW = "grow-diag-final-and"
    INTERSECTION = "intersection"
    UNION = "union"


class Format(StrEnum):
    """How an alignment is written."""

    PHARAOH = "pharaoh"
    JSON = "json"


def written(one: "WordAlignment", as_format: Format) -> str:
    """An alignment on one line."""
    from kotya.text.alignments import render

    if as_format is Format.JSON:
        return json_line(one.as_json())
    return render(one.links)


def reading_options(layer: str | None, head: str | None, step: Step | None) -> dict[str, Any]:
    """The options that were given, as `Translator.aligner` takes them."""
    given = {"layer": number(layer, "--layer"), "head": number(head, "--head"), "step": step and step.value}
    return {name: value for name, value in given.items() if value is not None}


def number(text: str | None, option: str) -> int | str | None:
    """A number, or `mean`."""
    if text is None or text == "mean":
        return text
    try:
        return int(text)
    except ValueError:
        raise KotyaError(f"{option} {text}: a number or mean is expected") from None


def read_pairs(file: Path | None) -> Iterator[tuple[str, str]]:
    """Source, tab, translation on every line of a file or of standard input."""
    from kotya.text.corpus import read_input

    for line_number, line in enumerate(read_input(file), start=1):
        source, tab, target = line.partition("\t")
        if not tab:
            place = f"{file}:{line_number}" if file else f"standard input, line {line_number}"
            raise KotyaError(f"{place}: no tab; source, tab, translation is expected")
        yield source, target
