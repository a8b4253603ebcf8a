"""`kotya align`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kotya.cli.alignments import AtStep, Format, Head, Heuristic, Layer, Symmetrize
from kotya.cli.options import AllowCode, Base, Device, Ensemble, Precision

if TYPE_CHECKING:
    from kotya.inference.alignment import WordAlignment


def align(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    file: Annotated[
        Path | None, typer.Argument(help="Source, tab, translation on each line; standard input without it.")
    ] = None,
    ensemble: Ensemble = None,
    layer: Layer = None,
    head: Head = None,
    step: AtStep = None,
    symmetrize: Symmetrize = None,
    heuristic: Annotated[
        Heuristic | None,
        typer.Option(help=f"How the two directions become one; {Heuristic.GROW.value} without it."),
    ] = None,
    as_format: Annotated[
        Format, typer.Option("--format", help="Links i-j, or words, weights and links as JSON.")
    ] = Format.PHARAOH,
    picture: Annotated[
        Path | None, typer.Option(help="Draw it too: .png, .svg or .pdf of one pair, .html of any number.")
    ] = None,
    base: Base = None,
    device: Device = "auto",
    allow_code: AllowCode = False,
    precision: Precision = "float32",
) -> None:
    """Align the words of sources and given translations by the model's attention, a line each.

    Words are what stands between spaces, counted from 0. Weights of pieces are summed over a source word and averaged
    over a target word, which is then linked to the source word it looked at most.

    Examples:

        kotya align kotya-demo/model pairs.tsv > pairs.align
        kotya align runs/en-cs pairs.tsv --step input --symmetrize runs/cs-en --picture pairs.html
    """
    from kotya.cli.alignments import read_pairs, reading_options
    from kotya.cli.options import prepare_workers
    from kotya.errors import KotyaError
    from kotya.inference.alignment import symmetrized
    from kotya.inference.illustration import check_illustration, illustrate
    from kotya.inference.loading import load_translator

    if heuristic is not None and symmetrize is None:
        raise KotyaError("--heuristic joins two directions: add --symmetrize MODEL")
    options = reading_options(layer, head, step)
    pairs = read_pairs(file)
    if picture is not None:
        pairs = check_illustration(picture, pairs)
    prepare_workers(1, device)
    paths = [model, *(ensemble or [])]
    aligner = load_translator(paths, base=base, device=device, precision=precision).aligner(**options)
    if symmetrize is None:
        found = aligner.align(pairs)
    else:
        reverse = load_translator(symmetrize, device=device, precision=precision).aligner(**options)
        found = symmetrized(aligner, reverse, pairs, (heuristic or Heuristic.GROW).value)
    found = printed(found, as_format)
    if picture is not None:
        title = f"Alignments of {model}" + (f" and {', '.join(map(str, symmetrize))}" if symmetrize else "")
        illustrate(found, picture, title, aligner.reading, framed=symmetrize is not None)
    for _ in found:
        pass


def printed(found: "Iterator[WordAlignment]", as_format: Format) -> "Iterator[WordAlignment]":
    """Alignments, each printed as it passes."""
    from kotya.cli.alignments import written

    for one in found:
        print(written(one, as_format), flush=True)
        yield one
