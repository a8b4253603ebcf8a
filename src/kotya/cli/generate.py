"""`kotya generate`."""

from pathlib import Path
from typing import Annotated

import typer

from kotya.cli.options import Base, Device, Precision, finite


def generate(
    model: Annotated[Path, typer.Argument(help="The folder of a language model.")],
    prompt: Annotated[
        str | None,
        typer.Argument(help="What the text begins with; without it a prompt a line of standard input."),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            min=1, help="The most pieces that are added; 100 without it, or what the model still reads."
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Draw N texts; 1 without it.")
    ] = None,
    beam: Annotated[
        int | None, typer.Option(min=1, help="Search instead of drawing; 1 is greedy search.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=1e-3, callback=finite, help="Below 1 sharper, above 1 flatter; 1 without it."),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=0, help="Draw from the k likeliest pieces; all without it.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            min=1e-6, max=1, callback=finite, help="Draw from the likeliest that together have probability p."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of drawing; 1 without it.")] = None,
    base: Base = None,
    device: Device = "auto",
    precision: Precision = "float32",
) -> None:
    """Go on with a text, piece by piece, until the model ends it.

    Example: kotya generate runs/novels "It was a dark" --top-p 0.9 --sample 3
    """
    from kotya.cli.options import prepare_workers
    from kotya.errors import KotyaError
    from kotya.inference.generator import Generator
    from kotya.inference.loading import load_single
    from kotya.search.config import SamplingConfig
    from kotya.text.corpus import read_input

    drawing = {"samples": sample, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    given = {name: value for name, value in drawing.items() if value is not None}
    if beam is not None and given:
        raise KotyaError("--beam searches, and the options of sampling draw instead: one or the other")
    count = prepare_workers(1 if prompt is not None else None, device)
    generator = load_single(model, base=base, device=device, precision=precision)
    if not isinstance(generator, Generator):
        raise KotyaError(f"{model}: no language model; `kotya predict` asks models of the other tasks")
    sampling = None if beam is not None else SamplingConfig.model_validate(given)
    lines = [prompt] if prompt is not None else read_input(None)
    found = generator.continuations(lines, length=length, sampling=sampling, beam=beam or 1, workers=count)
    for some in found:
        for one in some:
            print(" ".join(one.text.splitlines()), flush=True)
